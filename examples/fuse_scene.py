"""Sharpen a multispectral image with a panchromatic one of any size.

Without a trained weight for the sensor, a network is first trained on the scene itself, at reduced resolution (Wald's
protocol). Without files, a synthetic scene is taken.

python examples/fuse_scene.py [PAN MS] [--model NAME] [--sensor WV3] [--epochs 10] [--out fused.tif]
"""

import argparse
from pathlib import Path

import numpy as np

import hsmamba
from hsmamba.data import open_image, wald_pairs
from hsmamba.data.writers import write_raster


def synthetic(height: int = 96, width: int = 128, ratio: int = 4) -> tuple[np.ndarray, np.ndarray]:
    """PAN (ratio height, ratio width) and MS (height, width, 4) of fields and tracks, uint16 digital numbers."""
    rng = np.random.default_rng(0)
    y, x = np.mgrid[: ratio * height, : ratio * width]
    fields = (y // 37 * 31 + x // 53 * 17 + (y + x) // 91 * 7) % 6
    fields[(y + 2 * x) % 113 < 3] = 6
    colours = rng.uniform(200, 1200, (7, 1)) * rng.uniform(0.8, 1.25, (7, 4))
    furrows = 1 + 0.1 * np.sin(0.7 * x + 0.4 * y * (fields - 3)) + rng.normal(0, 0.02, fields.shape)
    sharp = colours[fields] * furrows[..., None]
    coarse = sharp.reshape(height, ratio, width, ratio, 4).mean((1, 3))
    return sharp.mean(2).astype(np.uint16), coarse.astype(np.uint16)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("images", nargs="*", help="PAN and MS, GeoTIFF or .npy; default a synthetic pair")
    parser.add_argument("--model", help="a trained weight; default: train RAMSF on the scene itself")
    parser.add_argument("--sensor", default="QB", help="whose MTF simulates the training pairs")
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--steps", type=int, default=50, help="of an epoch")
    parser.add_argument("--out", type=Path, default=Path("fused.npy"))
    args = parser.parse_args()

    pan, ms = map(open_image, args.images) if args.images else synthetic()
    if args.model:
        model = hsmamba.create_model(args.model, pretrained=True)
    else:
        model = hsmamba.create_model("ramsf", in_chans=ms.shape[2], dim=16, mlp_dims=(32, 32))
        pairs = wald_pairs(ms, pan, sensor=args.sensor, test=0)
        hsmamba.finetune(model, pairs, epochs=args.epochs, steps=args.steps)
    fused = hsmamba.fuse(model, ms, pan)
    if args.out.suffix == ".npy":
        np.save(args.out, fused)
    else:
        write_raster(args.out, fused)
    print(f"wrote {args.out}: {fused.shape[0]} x {fused.shape[1]} pixels, {fused.shape[2]} bands, {fused.dtype}")


if __name__ == "__main__":
    main()
