"""Sharpen a multispectral image with a panchromatic one of any size, with a pretrained weight.

python examples/fuse_scene.py [MS PAN] [--model ramsf.ikonos] [--out fused.npy]

Without files, a synthetic scene of four bands is taken.
"""

import argparse
from pathlib import Path

import numpy as np

import hsmamba
from hsmamba.data import open_image
from hsmamba.data.writers import write_raster


def synthetic(height: int = 48, width: int = 64, ratio: int = 4) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """PAN (ratio height, ratio width), MS (height, width, 4) and the truth of fields and tracks, digital numbers."""
    rng = np.random.default_rng(0)
    y, x = np.mgrid[: ratio * height, : ratio * width]
    fields = (y // 37 * 31 + x // 53 * 17 + (y + x) // 91 * 7) % 6
    fields[(y + 2 * x) % 113 < 3] = 6
    colours = rng.uniform(200, 1200, (7, 1)) * rng.uniform(0.8, 1.25, (7, 4))
    furrows = 1 + 0.1 * np.sin(0.1 * x + 0.05 * y * (fields - 3)) + rng.normal(0, 0.01, fields.shape)
    truth = colours[fields] * furrows[..., None]
    coarse = truth.reshape(height, ratio, width, ratio, 4).mean((1, 3))
    return truth.mean(2).astype(np.uint16), coarse.astype(np.uint16), truth


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("images", nargs="*", help="MS and PAN, GeoTIFF or .npy; default a synthetic pair")
    parser.add_argument("--model", default="ramsf.ikonos")
    parser.add_argument("--out", type=Path, default=Path("fused.npy"), help=".npy, or .tif for georeferenced images")
    args = parser.parse_args()

    truth = None
    if args.images:
        ms, pan = map(open_image, args.images)
    else:
        pan, ms, truth = synthetic()
    fused = hsmamba.fuse(hsmamba.create_model(args.model, pretrained=True), ms, pan)
    if args.out.suffix == ".npy":
        np.save(args.out, fused)
    else:
        write_raster(args.out, fused)
    print(f"wrote {args.out}: {fused.shape[0]} x {fused.shape[1]} pixels, {fused.shape[2]} bands, {fused.dtype}")
    if truth is not None:
        blocks = ms.repeat(4, axis=0).repeat(4, axis=1)
        errors = (float(np.sqrt(np.mean((image - truth) ** 2))) for image in (blocks, fused))
        print("root mean square error of MS {:.0f}, of the fused image {:.0f}".format(*errors))


if __name__ == "__main__":
    main()
