"""Compare windows of global fusion networks on the validation images of their recipes: figures and processor time.

Run from the repository's root, in a source checkout:

    python tools/compare_windows.py [--data FOLDER] [--windows 12:1 16:2 ...] [NAME ...]

One call on the whole image, the tiling of LE-Mamba's authors (16:12) and the network's own windows are always there;
SIDE:OVERLAP adds others, in coarse pixels. The rim where up-sampling wraps around is left out.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator
from typing import Any

import torch

from hsmamba.data import load_pairs
from hsmamba.data.pairs import FusionPairs
from hsmamba.engine.fusion.evaluate import predict
from hsmamba.engine.fusion.overlap import usual_overlap
from hsmamba.engine.recipe import load_recipe
from hsmamba.metrics import fusion as metrics
from hsmamba.models import FusionNetwork, as_fusion_network
from hsmamba.zoo.factory import create_model
from hsmamba.zoo.manifest import load_manifest


def ways(network: FusionNetwork, others: list[str]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Name the ways to run a network, and say how `predict` is told."""
    yield "whole", {"whole": True}
    own = f"{network.window}:{usual_overlap(network.window)}"
    for text in dict.fromkeys(["16:12", own, *others]):
        side, shared = map(int, text.split(":"))
        yield text, {"tile": side, "overlap": shared}


def figures(network: FusionNetwork, pairs: FusionPairs, options: dict[str, Any]) -> dict[str, float]:
    """Return means over the validation images, and the processor's seconds for all of them."""
    found = {"PSNR": 0.0, "SAM": 0.0, "ERGAS": 0.0}
    seconds = 0.0
    for pair in pairs.val:
        start = time.process_time()
        fused = predict(network, pair, gains=None, **options)
        seconds += time.process_time() - start
        rim = min(2 * pairs.ratio, min(pair.guide.shape[-2:]) // 4)
        truth, result = (image[None, :, rim:-rim, rim:-rim] for image in (torch.as_tensor(pair.gt), fused))
        found["PSNR"] += float(metrics.psnr(truth, result, data_range=1.0)) / len(pairs.val)
        found["SAM"] += float(metrics.sam(truth, result)) / len(pairs.val)
        found["ERGAS"] += float(metrics.ergas(truth, result, ratio=pairs.ratio)) / len(pairs.val)
    return {**found, "seconds": seconds}


def main() -> None:
    """Compare."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", help="weights; default all of global fusion networks")
    parser.add_argument("--data", help="folder of the data; default HSMAMBA_DATA")
    parser.add_argument("--windows", nargs="*", default=[], metavar="SIDE:OVERLAP", help="other windows")
    arguments = parser.parse_args()
    print(f"{'weight':18} {'windows':>8} {'PSNR':>8} {'SAM':>8} {'ERGAS':>8} {'CPU s':>7}")
    for name in arguments.names or list(load_manifest()):
        recipe: Any = load_recipe(name)
        if recipe.task != "fusion":
            continue
        network = as_fusion_network(create_model(name, pretrained=True))
        if network.margin is not None:
            continue
        pairs = load_pairs(recipe.dataset, arguments.data, **recipe.pairs)
        for way, options in ways(network, arguments.windows):
            row = figures(network, pairs, options)
            numbers = f"{row['PSNR']:8.3f} {row['SAM']:8.3f} {row['ERGAS']:8.3f} {row['seconds']:7.2f}"
            print(f"{name:18} {way:>8} {numbers}", flush=True)


if __name__ == "__main__":
    main()
