"""Put the weight of a finished recipe into the package: its tensors, its record in the manifest, its results.

Run from the repository's root, in a source checkout: python tools/record_weight.py RECIPE [--runs runs] [--hub-only]

With --hub-only the tensors go to hub_weights/, which git and the wheel leave out: tools/publish.py takes them from
there, and users fetch them. That is for weights beyond what the wheel may hold.
"""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
from pathlib import Path

from hsmamba.engine.recipe import load_recipe, publish
from hsmamba.zoo.manifest import load_manifest, write_manifest
from hsmamba.zoo.source import read_folder, record_of

ROOT = Path(__file__).resolve().parents[1]
EMBEDDED_MB = 36  # of the 40 that a wheel may have; code, kernels and sample scenes take the rest


def place_for(name: str, size: int, weights: Path, hub_only: Path | None) -> Path:
    """Choose the folder of a weight's tensors.

    Args:
        name: The weight.
        size: Bytes of its files.
        weights: Folder of the weights that the wheel carries.
        hub_only: Folder of those that lie on the Hub alone; None for a weight of the wheel.
    """
    if hub_only is not None:
        return hub_only / name
    others = (path for path in weights.glob("*/*.safetensors") if path.parent.name != name)
    total = size + sum(path.stat().st_size for path in others)
    if total > EMBEDDED_MB * 1e6:
        sys.exit(
            f"with {name} the weights of the wheel would have {total / 1e6:.1f} MB, {EMBEDDED_MB} at most: "
            "give --hub-only"
        )
    return weights / name


def main() -> None:
    """Record the weight."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("recipe", help="name or .toml file")
    parser.add_argument("--runs", type=Path, default=Path("runs"), help="folder of `hsmamba train`")
    parser.add_argument("--hub-only", action="store_true", help="leave the tensors out of the wheel")
    args = parser.parse_args()
    recipe = load_recipe(args.recipe)
    runs = args.runs / recipe.name
    results = ROOT / "docs" / "results" / ("" if recipe.task == "classification" else recipe.task)
    with tempfile.TemporaryDirectory() as made:
        folder = read_folder(publish(recipe, runs, made))
        record = record_of(folder, recipe.name.partition(".")[2])
        size = sum(path.stat().st_size for path in folder.files.values())
        hub_only = ROOT / "hub_weights" if args.hub_only else None
        place = place_for(record.name, size, ROOT / "hsmamba" / "weights", hub_only)
        place.mkdir(parents=True, exist_ok=True)
        for path in folder.files.values():
            shutil.copyfile(path, place / path.name)
    manifest = ROOT / "weights_manifest.json"
    write_manifest((load_manifest(manifest) | {record.name: record}).values(), manifest)
    results.mkdir(exist_ok=True)
    shutil.copyfile(runs / "results.csv", results / f"{recipe.name}.csv")
    if (runs / "baselines.csv").is_file():
        (results / "baselines").mkdir(exist_ok=True)
        shutil.copyfile(runs / "baselines.csv", results / "baselines" / f"{recipe.name}.csv")
    publish_it = "python tools/publish.py OWNER --push and " if args.hub_only else ""
    print(f"recorded {record.name}: now run {publish_it}python tools/make_tables.py")


if __name__ == "__main__":
    main()
