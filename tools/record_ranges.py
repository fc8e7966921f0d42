"""Record beside every weight how its training data are distributed, and their wavelengths and quantity.

Run from the repository's root, in a source checkout: python tools/record_ranges.py [--data FOLDER] [NAME ...]

What `finetune` notes by itself since the doors look at units and bands: it is added to the transforms of weights that
were trained before. Tensors and fitted steps are not touched.
"""

from __future__ import annotations

import argparse
from dataclasses import asdict, replace
from typing import Any

import numpy as np

from hsmamba.data import Compose, Split, load_pairs, load_scenes
from hsmamba.data.transforms.gathering import gather
from hsmamba.engine.recipe import load_recipe
from hsmamba.zoo.files import entry_of
from hsmamba.zoo.manifest import load_manifest, manifest_path, weights_folder, write_manifest
from hsmamba.zoo.records import WeightRecord


def of_scenes(recipe: Any, transform: Compose, split: Split, data: str | None) -> Any:
    """Note the ranges of a classifier's training pixels; return the wavelengths."""
    found = load_scenes(recipe.scene, data)
    scenes = found if isinstance(found, list) else [found]
    sources: Any = ("hsi",) if scenes[0].aux is None else ("hsi", "aux")
    pixels, _ = gather(scenes, split.train, {on: transform.input_bands(on) for on in sources}, {}, "raise")
    for on in sources:
        transform.note_range(on, pixels[on])
    transform.wavelengths, transform.fwhm = scenes[0].wavelengths, scenes[0].fwhm
    return scenes[0].wavelengths


def of_pairs(recipe: Any, transform: Compose, data: str | None) -> Any:
    """Note the ranges of a fusion network's training images; return the wavelengths."""
    pairs = load_pairs(recipe.dataset, data, **recipe.pairs)
    sources: Any = ("hsi", "aux")
    for on, pixels, means in zip(sources, pairs.spectra(), pairs.means(), strict=True):
        transform.note_range(on, pixels, means)
    return np.array(pairs.wavelengths or pairs.sensor.wavelengths)


def updated(record: WeightRecord, data: str | None) -> WeightRecord:
    """Write a weight's transform anew; return its record."""
    recipe, folder = load_recipe(record.name), weights_folder() / record.name
    path = folder / "transform.safetensors"
    transform = Compose.load(path)
    if recipe.task == "classification":
        wavelengths = of_scenes(recipe, transform, Split.load(folder / "split.safetensors"), data)
    else:
        wavelengths = of_pairs(recipe, transform, data)
    transform.save(path)
    return replace(
        record,
        transform=entry_of(path),
        wavelengths=None if wavelengths is None else tuple(float(nm) for nm in wavelengths),
        data={**record.data, "quantity": recipe.data["quantity"]},
    )


def main() -> None:
    """Update the weights that are named, or all."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", help="weights; default all of the manifest")
    parser.add_argument("--data", help="folder of the data; default HSMAMBA_DATA")
    arguments = parser.parse_args()
    records = load_manifest()
    for name in arguments.names or list(records):
        records[name] = updated(records[name], arguments.data)
        write_manifest(records.values(), manifest_path())
        print(name, asdict(records[name])["transform"], flush=True)


if __name__ == "__main__":
    main()
