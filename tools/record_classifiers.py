"""Judge the classical classifiers beside the weights of classifiers: in the manifest and in docs/results/baselines.

Run from the repository's root, in a source checkout: python tools/record_classifiers.py [--data FOLDER] [NAME ...]

What `hsmamba train` notes by itself: random forests, SVMs and LDA on the splits and seeds of each weight's recipe,
fitted on all pixels that train the weight. The figures of the networks are not touched; afterwards run
tools/make_tables.py. A file that is there is taken as it is: remove it where a classifier has changed.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path

from hsmamba.data import load_scenes
from hsmamba.engine.classification.recipe import Recipe, baseline_rows, summarise_baselines
from hsmamba.engine.recipe import load_recipe
from hsmamba.engine.results import Row, read_results, write_results
from hsmamba.zoo.manifest import load_manifest, manifest_path, write_manifest

RESULTS = Path(__file__).resolve().parents[1] / "docs" / "results" / "baselines"


def judged(recipe: Recipe, data: str | None) -> list[Row]:
    """Return the rows of a recipe, of the file where it has them."""
    path = RESULTS / f"{recipe.name}.csv"
    rows = read_results(path)
    scenes = load_scenes(recipe.scene, data)
    for split in recipe.splits:
        for seed in recipe.seeds:
            if not any(row["split"] == split and row["seed"] == seed for row in rows):
                rows += baseline_rows(recipe, scenes, split, seed)
                path.parent.mkdir(exist_ok=True)
                write_results(path, rows)
                print(recipe.name, split, seed, flush=True)
    return rows


def main() -> None:
    """Update the weights that are named, or all classifiers."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", help="weights; default every classifier of the manifest")
    parser.add_argument("--data", help="folder of the data; default HSMAMBA_DATA")
    arguments = parser.parse_args()
    for name in arguments.names or list(load_manifest()):
        recipe = load_recipe(name)
        if isinstance(recipe, Recipe):
            summary = summarise_baselines(judged(recipe, arguments.data))
            records = load_manifest(manifest_path())  # anew: without a path it is read once in a process
            records[name] = replace(records[name], data={**records[name].data, "baselines": summary})
            write_manifest(records.values(), manifest_path())


if __name__ == "__main__":
    main()
