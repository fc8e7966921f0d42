"""Draw what weights make of scenes whose terms allow it: python tools/draw_families.py [NAME ...] [--data DATA].

Classifiers map ground of the data set that they were trained on, beside its composite: Indian Pines, and test plots of
IDTReeS. Fusion networks of four bands sharpen a Sentinel-2 scene that was brought to 40 m, with the mean of its 10 m
bands; those of 31 bands the bundled MUUFL crop, brought to 4 m and to the bands of CAVE, with the colour image of a
camera's response. Models without weights are fitted on what comes with the package: a dozen labels a class of the MUUFL
crop, and the Landsat-8 pair; what they reach there goes to docs/results/fitted.json. Pictures go to
docs/images/families, one a weight or model; without names, all that the pages show are drawn.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from make_tables import CARDS, FITTED
from numpy.typing import NDArray
from PIL import Image

import hsmamba
from hsmamba import viz
from hsmamba._files import atomic_path, write_text
from hsmamba.data import (
    Scene,
    Split,
    degrade_ms,
    load_sample_pair,
    load_scenes,
    load_split,
    nikon_d700,
    open_image,
    random_split,
    simulate_bands,
    wald_pairs,
)
from hsmamba.data.colours import class_colours
from hsmamba.data.sets.catalog import find_data
from hsmamba.models import Classifier, FusionNetwork

ROOT = Path(__file__).resolve().parents[1]
OUT = ROOT / "docs" / "images" / "families"
FIGURES = ROOT / "docs" / "results" / "fitted.json"
_SIDE = 360  # pixels of each of the two pictures
_INDIAN_PINES = (slice(30, 78), slice(22, 70))
_SENTINEL2 = (slice(224, 352), slice(240, 368))  # of the 10 m bands: fields, a river and marsh
_ACROSS = 3  # test plots of IDTReeS in a row
Picture = NDArray[np.float64]


def draw(name: str, data: Path | None) -> Image.Image:
    """Draw the ground of a weight, or of a model that is fitted first, before and after, side by side."""
    if name in FITTED:
        before, after = _residual() if name == "residual" else _few_labels(name)
    elif isinstance(model := hsmamba.create_model(name, pretrained=True), FusionNetwork):
        before, after = _sharpened(model, data)
    else:
        before, after = _plots(model, data) if name.endswith("idtrees2020") else _mapped(model, _indian_pines())
    gap = np.ones((_SIDE, 6, 3))
    row = np.concatenate([_enlarged(before), gap, _enlarged(after)], axis=1)
    return Image.fromarray((row * 255).round().astype(np.uint8))


def _enlarged(picture: Picture) -> Picture:
    rows = np.arange(_SIDE) * picture.shape[0] // _SIDE
    columns = np.arange(_SIDE) * picture.shape[1] // _SIDE
    return np.asarray(picture[rows][:, columns], np.float64)


def _indian_pines() -> Scene:
    scene = hsmamba.load_scene("indian_pines")
    return Scene(scene.hsi[_INDIAN_PINES], wavelengths=scene.wavelengths, class_names=scene.class_names)


def _mapped(model: Classifier, scene: Scene) -> tuple[Picture, Picture]:
    labels, _ = hsmamba.classify(model, scene, progress=False)
    return viz.composite(scene.hsi, wavelengths=scene.wavelengths), class_colours(model.num_classes)[np.asarray(labels)]


def _plots(model: Classifier, data: Path | None) -> tuple[Picture, Picture]:
    """Test plots in a square, their crowns' ground mapped."""
    plots = load_scenes("idtrees2020", data)
    sizes = np.cumsum([0, *(plot.shape[0] * plot.shape[1] for plot in plots)])
    tested = np.unique(np.searchsorted(sizes, load_split("idtrees2020").test, side="right") - 1)[: _ACROSS**2]
    pictures = [_mapped(model, plots[number]) for number in tested]
    before, after = (
        np.stack(images).reshape(_ACROSS, _ACROSS, *images[0].shape) for images in zip(*pictures, strict=True)
    )
    return _in_square(before), _in_square(after)


def _in_square(pictures: Picture) -> Picture:
    """Lay pictures (n, n, H, W, 3) out as one (n H, n W, 3)."""
    across, _, height, width, _ = pictures.shape
    return pictures.transpose(0, 2, 1, 3, 4).reshape(across * height, across * width, 3)


def _few_labels(name: str) -> tuple[Picture, Picture]:
    """Fit a classifier on a dozen labels a class of the MUUFL crop; note its OA on all others."""
    torch.manual_seed(0)
    scene = hsmamba.load_scene("muufl_crop")
    split = random_split(scene.labels, count=12, seed=0, cap=True)
    model = _ensemble(scene, split) if name == "ensemble" else _finetuned(name, scene, split)
    report = hsmamba.evaluate(model, scene, split)
    members = "".join(
        f"; {member.architecture} alone {100 * hsmamba.evaluate(member, scene, split).oa:.1f} %"
        for member in getattr(model, "trained", ())
    )
    _note(name, f"MUUFL Gulfport crop, 12 labels a class: OA {100 * report.oa:.1f} %{members}")
    return _mapped(model, scene)


def _finetuned(name: str, scene: Scene, split: Split, **options: Any) -> Classifier:
    sizes = {key: options.pop(key) for key in ("in_chans", "patch_size") if key in options}
    model = hsmamba.create_model(name, num_classes=scene.num_classes, **sizes)
    hsmamba.finetune(model, scene, split, progress=False, **options)
    return model


def _ensemble(scene: Scene, split: Split) -> Classifier:
    """A network and a linear classifier that see the same components."""
    linear = _finetuned("lda", scene, split)
    network = _finetuned(
        "md2f_mamba", scene, split, in_chans=linear.in_chans, patch_size=11, epochs=60, transform=linear.transform
    )
    both = hsmamba.ensemble([network, linear])
    both.trained = (network, linear)
    return both


def _residual() -> tuple[Picture, Picture]:
    """Train a correction of the regression-based GLP on the Landsat-8 pair, and note its SAM on held-out rows."""
    torch.manual_seed(0)
    ms, pan = load_sample_pair()
    pairs = wald_pairs(ms, pan, sensor="generic", ratio=2)
    model = hsmamba.create_model("residual", network="rsanet", in_chans=7, scale=2, sensor="generic")
    hsmamba.finetune(model, pairs, epochs=20, steps=16, progress=False)
    figures = hsmamba.evaluate(model, pairs).mean()
    base = figures["MTF-GLP-FS"]
    mine = figures["residual"]
    told = ", ".join(
        f"{key} {mine[key]:.{digits}f} ({base[key]:.{digits}f})" for key, digits in (("SAM", 3), ("ERGAS", 3))
    )
    _note("residual", f"Landsat-8 pair, held-out rows, beside the GLP that it corrects: {told}")
    sharp = np.asarray(hsmamba.fuse(model, ms, pan, progress=False), np.float64)
    bands = [3, 2, 1]
    low, high = np.percentile(ms[..., bands], (2, 98), axis=(0, 1))
    before, after = (np.clip((image[..., bands] - low) / (high - low), 0, 1) for image in (ms, sharp))
    return before[16:80, 32:96], after[32:160, 64:192]


def _note(name: str, figure: str) -> None:
    """Keep what a model reached."""
    known = json.loads(FIGURES.read_text(encoding="utf-8")) if FIGURES.exists() else {}
    write_text(FIGURES, json.dumps(dict(sorted({**known, name: figure}.items())), indent=2, ensure_ascii=False) + "\n")


def _sharpened(model: FusionNetwork, data: Path | None) -> tuple[Picture, Picture]:
    model = model.resized(4, 1, 4) if model.any_sizes else model
    truth, guide, bands, unit = _sentinel2(data) if model.in_chans == 4 else _muufl()
    cube = torch.from_numpy(truth).permute(2, 0, 1)[None].double()
    coarse = degrade_ms(cube, ratio=model.scale, sensor="IKONOS" if model.in_chans == 4 else "generic")
    ms = coarse[0].permute(1, 2, 0).float().numpy()
    sharp = hsmamba.fuse(model, ms, guide, maximum=unit, progress=False)
    low, high = np.percentile(truth[..., bands], (2, 98), axis=(0, 1))
    before, after = (np.clip((image[..., bands] - low) / (high - low), 0, 1) for image in (ms, sharp))
    return before, after


def _sentinel2(data: Path | None) -> tuple[NDArray[np.float32], NDArray[np.float32], list[int], float]:
    """Blue, green, red and near infrared, the bands of IKONOS, with their mean as the panchromatic image."""
    folder = find_data("sentinel2", data)
    images = [open_image(folder / f"s2_{band}.tif") for band in ("B02", "B03", "B04", "B08")]
    truth = np.stack([np.asarray(image, np.float32)[..., 0][_SENTINEL2] for image in images], axis=-1)
    return truth, truth.mean(axis=-1), [2, 1, 0], 10000.0


def _muufl() -> tuple[NDArray[np.float32], NDArray[np.float32], list[int], float]:
    """31 bands from 400 to 700 nm, and what a Nikon D700 sees of them."""
    scene = hsmamba.load_scene("muufl_crop")
    cube = np.asarray(scene.hsi, np.float32)[:88, :88]
    nm = np.arange(400, 701, 10)
    truth = np.apply_along_axis(lambda spectrum: np.interp(nm, scene.wavelengths, spectrum), 2, cube).astype(np.float32)
    truth /= truth.max()
    rgb = simulate_bands(torch.from_numpy(truth).permute(2, 0, 1)[None], nikon_d700())
    return truth, rgb[0].permute(1, 2, 0).numpy(), [25, 15, 5], 1.0


def main() -> None:
    """Draw."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("names", nargs="*", default=[*CARDS, *FITTED], help="weights and models")
    parser.add_argument("--data", type=Path, help="folder of data; default HSMAMBA_DATA")
    args = parser.parse_args()
    OUT.mkdir(parents=True, exist_ok=True)
    for name in args.names:
        path = OUT / f"{name}.webp"
        picture = draw(name, args.data)
        with atomic_path(path) as temporary:
            picture.save(temporary, "WEBP", quality=88, method=6)
        print(f"{path.relative_to(ROOT)}: {path.stat().st_size // 1024} KB", flush=True)


if __name__ == "__main__":
    main()
