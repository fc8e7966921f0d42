"""Put the weight of a finished recipe into the package: model folder, manifest record, results, tables.

Run from the repository's root, in a source checkout: python tools/publish_weight.py RECIPE [--runs runs]
"""

from __future__ import annotations

import argparse
import shutil
from pathlib import Path

from hsmamba._files import write_text
from hsmamba.engine.recipe import load_recipe, publish
from hsmamba.zoo.card import model_card
from hsmamba.zoo.folder import read_folder
from hsmamba.zoo.hub import record_of
from hsmamba.zoo.manifest import load_manifest, write_manifest

ROOT = Path(__file__).resolve().parents[1]


def main() -> None:
    """Publish."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("recipe", help="name or .toml file")
    parser.add_argument("--runs", type=Path, default=Path("runs"), help="folder of `hsmamba train`")
    args = parser.parse_args()
    recipe = load_recipe(args.recipe)
    runs = args.runs / recipe.name
    folder = publish(recipe, runs, ROOT / "hsmamba" / "weights" / recipe.name)
    results = ROOT / "docs" / "results" / {"classification": "", "fusion": "fusion"}[recipe.task]
    record = record_of(read_folder(folder), recipe.name.partition(".")[2])
    manifest = ROOT / "weights_manifest.json"
    write_manifest((load_manifest(manifest) | {record.name: record}).values(), manifest)
    write_text(folder / "README.md", model_card(record))  # which names it as the manifest does
    results.mkdir(exist_ok=True)
    shutil.copyfile(runs / "results.csv", results / f"{recipe.name}.csv")
    print(f"published {record.name}: now run python tools/make_tables.py")


if __name__ == "__main__":
    main()
