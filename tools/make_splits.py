"""Make the fixed splits that come with the package: indices of pixels and their hashes, no data.

Run from the repository's root: python tools/make_splits.py DATA, where DATA holds `splits/IP/{TRAIN,TEST}_GT.mat` (the
maps of the literature's fixed split of Indian Pines), `dfc2018_houston_crop/`, `idtrees2020/` and `enmap_potsdam/`. The
files made are the same, byte for byte, on every machine; a test compares them where the data are there.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path

import numpy as np
import scipy.io

from hsmamba.data import Split, block_split, group_split, load_scene, load_scenes, split_from_maps
from hsmamba.data.arrays import write_arrays
from hsmamba.data.sets.enmap_potsdam import enmap_parts

OUT = Path(__file__).resolve().parents[1] / "hsmamba" / "splits"
# Class k of the maps is class USUAL[k] of the usual label image.
USUAL = np.array([0, 2, 3, 4, 5, 6, 8, 10, 11, 12, 13, 14, 15, 16, 1, 7, 9])


def indian_pines_fixed(data: Path, out: Path) -> None:
    """Write the fixed split of 695 and 9671 pixels, and the labels of its pixels where the usual map has another."""
    folder = data / "splits" / "IP"
    maps = [scipy.io.loadmat(folder / f"{part}_GT.mat")[key] for part, key in (("TRAIN", "TR"), ("TEST", "TE"))]
    split_from_maps(*maps, name="indian_pines_fixed").save(out / "indian_pines_fixed.safetensors")
    labels = USUAL[maps[0] + maps[1]]
    usual = load_scene("indian_pines").labels
    pixels = np.flatnonzero((labels != usual) & (labels > 0))
    arrays = {"pixels": pixels, "labels": labels.ravel()[pixels].astype(np.uint8)}
    write_arrays(out / "indian_pines_fixed.labels", arrays, kind="labels", config={"scene": "indian_pines"})


def dfc2018_houston_crop(data: Path, out: Path) -> None:
    """Write a split into blocks far enough apart for patches of 11 x 11 pixels, a tenth of each class to train on."""
    labels = np.asarray(load_scene("dfc2018_houston_crop", data).labels)
    split = block_split(labels, patch_size=11, fraction=0.1, seed=0, strict=False)
    replace(split, id=f"dfc2018_houston_crop-{split.id}").save(out / "dfc2018_houston_crop.safetensors")


def idtrees2020(data: Path, out: Path) -> None:
    """Write a split by plot: about three tenths of each class to test on, a seventh to validate on.

    Plots that share ground are kept together.
    """
    plots = load_scenes("idtrees2020", data)
    corners = [(float(plot.hsi.x[0]), float(plot.hsi.y[0])) for plot in plots]
    groups = np.repeat([corners.index(corner) for corner in corners], [np.asarray(p.labels).size for p in plots])
    labels = np.concatenate([np.asarray(plot.labels).ravel() for plot in plots])
    group_split(labels, groups, test=0.3, val=0.15, name="idtrees2020-plots").save(out / "idtrees2020.safetensors")


def enmap_potsdam(data: Path, out: Path) -> None:
    """Write the split by tile that comes with the set: 14 tiles train, 2 test."""
    tiles = load_scenes("enmap_potsdam", data)
    labels = np.concatenate([np.asarray(tile.labels).ravel() for tile in tiles])
    trains = [part == "train" for part in enmap_parts(data).values()]
    train = np.repeat(trains, [np.asarray(tile.labels).size for tile in tiles])
    parts = (np.flatnonzero((labels > 0) & side) for side in (train, ~train))
    split = Split(*parts, np.empty(0, np.int64), (1, labels.size), "enmap_potsdam-tiles")
    split.save(out / "enmap_potsdam.safetensors")


def main() -> None:
    """Write all of them."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path)
    parser.add_argument("--out", type=Path, default=OUT)
    args = parser.parse_args()
    for make in (indian_pines_fixed, dfc2018_houston_crop, idtrees2020, enmap_potsdam):
        make(args.data, args.out)


if __name__ == "__main__":
    main()
