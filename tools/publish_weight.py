"""Put the weight of a finished recipe into the package: its tensors, its record in the manifest, its results.

Run from the repository's root, in a source checkout: python tools/publish_weight.py RECIPE [--runs runs]
"""

from __future__ import annotations

import argparse
import shutil
import tempfile
from pathlib import Path

from hsmamba.engine.recipe import load_recipe, publish
from hsmamba.zoo.manifest import load_manifest, write_manifest
from hsmamba.zoo.source import read_folder, record_of

ROOT = Path(__file__).resolve().parents[1]


def main() -> None:
    """Publish."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("recipe", help="name or .toml file")
    parser.add_argument("--runs", type=Path, default=Path("runs"), help="folder of `hsmamba train`")
    args = parser.parse_args()
    recipe = load_recipe(args.recipe)
    runs = args.runs / recipe.name
    results = ROOT / "docs" / "results" / {"classification": "", "fusion": "fusion"}[recipe.task]
    with tempfile.TemporaryDirectory() as made:
        folder = read_folder(publish(recipe, runs, made))
        record = record_of(folder, recipe.name.partition(".")[2])
        place = ROOT / "hsmamba" / "weights" / record.name
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
    print(f"published {record.name}: now run python tools/make_tables.py")


if __name__ == "__main__":
    main()
