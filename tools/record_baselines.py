"""Compute the classical methods' figures anew beside every fusion weight: in the manifest and in docs/results/fusion.

Run from the repository's root, in a source checkout:

    python tools/record_baselines.py [--data FOLDER] [--networks | --networks-alone] [NAME ...]

After a method was added or changed; with --networks after `evaluate` has changed, too, for the figures of the networks,
and with --networks-alone after what runs them has changed. Afterwards run tools/make_tables.py.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

from hsmamba.data import load_pairs
from hsmamba.engine.fusion.evaluate import classical_figures, evaluate_fusion
from hsmamba.engine.fusion.recipe import COLUMNS, baselines_of, metrics_of, rows_of
from hsmamba.engine.recipe import load_recipe
from hsmamba.engine.results import Row, read_results, write_results
from hsmamba.metrics import FusionReport
from hsmamba.zoo.factory import create_model
from hsmamba.zoo.manifest import load_manifest, manifest_path, write_manifest

RESULTS = Path(__file__).resolve().parents[1] / "docs" / "results" / "fusion"


@cache
def figures(dataset: str, data: str | None, pairs: str, consistent: bool) -> FusionReport:
    """Judge the classical methods on a data set's test images; `pairs` are the reader's arguments as JSON."""
    return classical_figures(load_pairs(dataset, data, **json.loads(pairs)), consistent=consistent)


def judged(name: str, recipe: Any, data: str | None) -> FusionReport:
    """Judge a weight alone."""
    pairs = load_pairs(recipe.dataset, data, **recipe.pairs)
    consistent = bool(recipe.data.get("consistent"))
    return evaluate_fusion(create_model(name, pretrained=True), pairs, baselines=False, consistent=consistent)


def rows_with(rows: list[Row], own: str, classical: list[Row]) -> list[Row]:
    """Put new rows of the classical methods before the network's own row of each resolution and image."""
    result = []
    for row in (row for row in rows if row["method"] == own):
        place = row["resolution"], row["image"]
        result += [new for new in classical if (new["resolution"], new["image"]) == place] + [row]
    return result


def main() -> None:
    """Update the weights that are named, or all of fusion."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", help="weights; default all fusion weights of the manifest")
    parser.add_argument("--data", help="folder of the data; default HSMAMBA_DATA")
    whose = parser.add_mutually_exclusive_group()
    whose.add_argument("--networks", action="store_true", help="the networks' figures, too")
    whose.add_argument("--networks-alone", action="store_true", help="the networks' figures and no others")
    arguments = parser.parse_args()
    records = load_manifest()
    for name in arguments.names or list(records):
        recipe: Any = load_recipe(name)
        if recipe.task != "fusion":
            continue
        path = RESULTS / f"{name}.csv"
        own = read_results(path)
        if arguments.networks_alone:
            classical = [row for row in own if row["method"] != recipe.architecture]
        else:
            consistent = bool(recipe.data.get("consistent"))
            report = figures(recipe.dataset, arguments.data, json.dumps(dict(recipe.pairs), sort_keys=True), consistent)
            said = {**records[name].data, "baselines": baselines_of(report)}
            records[name] = replace(records[name], data=said | ({"consistent": True} if consistent else {}))
            classical = rows_of(report)
        if arguments.networks or arguments.networks_alone:
            found = judged(name, recipe, arguments.data)
            own = rows_of(found)
            records[name] = replace(records[name], metrics=metrics_of(found))
        write_results(path, rows_with(own, recipe.architecture, classical), COLUMNS)
        write_manifest(records.values(), manifest_path())
        print(name, flush=True)


if __name__ == "__main__":
    main()
