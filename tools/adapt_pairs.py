"""Measure what `adapt` gains: tune networks on the upper rows of every pair, judge them on the lower ones.

    python tools/adapt_pairs.py DATA OUT.csv --seconds 120 --pairs quickbird ikonos --networks ramsf cf2n

DATA is the folder of data (HSMAMBA_DATA). The rows of OUT.csv, one for each pair, network and method, say how the
network as it was, what `adapt` chose and the classical methods do on the test rows, which `adapt` has not seen: the
methods as the field's toolbox has them, and with the border repeated where its up-sampling wraps around. With
--from-coarse it does not see the upper rows either: it tunes on the coarse image and the guide of the test rows, a
scale below the one that is judged, as `hsmamba.fuse` does with a user's pair; with --noise 0.01 that coarse image has
white noise of a hundredth of each band's mean, for all methods alike. What is there already is not measured again.
"""

from __future__ import annotations

import argparse
import csv
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from hsmamba import create_model
from hsmamba.data import load_pairs
from hsmamba.data.degrade import upsample
from hsmamba.data.pairs import FusionPair, FusionPairs
from hsmamba.engine.fusion.adapt import Adaptation, adapt_to, adapt_to_pairs
from hsmamba.engine.fusion.asked import Adapt
from hsmamba.engine.fusion.classical import methods_for
from hsmamba.engine.fusion.evaluate import predict
from hsmamba.engine.fusion.images import Image, Images
from hsmamba.engine.results import Row, write_results
from hsmamba.metrics import fusion as metrics
from hsmamba.models import as_fusion_network

PAIRS = (
    "worldview2", "ikonos", "quickbird", "landsat8", "eo1", "sentinel2",
    "hsi_chikusei", "hsi_dc_mall", "hsi_beltsville", "hsi_cuprite",
)  # fmt: skip
NETWORKS = ("ramsf", "cf2n", "mmapp", "rsanet")
BORDER = ", border repeated"


def main() -> None:
    """Read the command line and measure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--pairs", nargs="+", default=PAIRS)
    parser.add_argument("--networks", nargs="+", default=NETWORKS)
    parser.add_argument("--seconds", type=float, default=None)
    parser.add_argument("--steps", type=int, default=None)
    parser.add_argument("--from-coarse", action="store_true")
    parser.add_argument("--noise", type=float, default=0.0)
    given = parser.parse_args()
    if given.noise and not given.from_coarse:
        parser.error("--noise is of the coarse image that --from-coarse tunes on; give both")
    tuned_on = "coarse test rows" if given.from_coarse else "upper rows"
    tuned_on += f", noise of {given.noise:g}" if given.noise else ""
    rows: list[Row] = list(csv.DictReader(given.out.open())) if given.out.is_file() else []
    for name in given.pairs:
        pairs = load_pairs(name, given.data, val=0, test=0.3)
        pairs = replace(pairs, test=tuple(noisy(pair, pairs.ratio, given.noise) for pair in pairs.test))
        for network in given.networks:
            if any((row["pair"], row["network"], row["tuned_on"]) == (name, network, tuned_on) for row in rows):
                continue
            how = Adapt(seconds=given.seconds, steps=given.steps, sensor=pairs.sensor)
            if found := measured(name, pairs, network, how, tuned_on):
                rows += found
                write_results(given.out, rows)


def noisy(pair: FusionPair, ratio: int, share: float) -> FusionPair:
    """Add noise to a coarse image, of so much of the mean of each band."""
    drawn = torch.randn(pair.ms.shape, generator=torch.Generator().manual_seed(0))
    ms = pair.ms + share * pair.ms.mean(dim=(1, 2), keepdim=True) * drawn
    return pair._replace(ms=ms, ms_up=upsample(ms[None], ratio)[0])


def measured(name: str, pairs: FusionPairs, architecture: str, how: Adapt, tuned_on: str) -> list[Row]:
    """Measure one network on one pair; nothing where it has no such ratio or the coarse image is too small."""
    sizes: dict[str, Any] = {"in_chans": pairs.in_chans, "guide_chans": pairs.guide_chans, "scale": pairs.ratio}
    torch.manual_seed(0)
    try:
        network = as_fusion_network(create_model(architecture, **sizes))
        start = time.perf_counter()
        pair = pairs.test[0]
        if tuned_on == "upper rows":
            adaptation = adapt_to_pairs(network, pairs, how)
        else:
            ms, guide = (Image(tensor.permute(1, 2, 0).numpy()) for tensor in (pair.ms, pair.guide))
            adaptation = adapt_to(network, Images(ms, guide, None, pairs.ratio, fill=False), how)
    except ValueError as error:
        print(f"{name}, {architecture}: {error}")
        return []
    seconds = time.perf_counter() - start
    print(f"{name}: {adaptation.report}\n", flush=True)
    fused = {"adapted": adaptation.predict(pair), "as it was": predict(network, pair)}
    for suffix, wrap in (("", True), (BORDER, False)):
        for method, function in methods_for(pairs.guide_chans, pairs.ratio, pairs.sensor, wrap=wrap).items():
            fused[method + suffix] = function(pair.ms[None], pair.guide[None])[0]
    return [
        {"pair": name, "tuned_on": tuned_on, "network": architecture, "method": method, **_figures(image, pair, pairs),
         "used": _used(adaptation) if method == "adapted" else "", "steps": adaptation.report.steps,
         "seconds": round(seconds, 1)}
        for method, image in fused.items()
    ]  # fmt: skip


def _used(adaptation: Adaptation) -> str:
    report = adaptation.report
    return f"{report.used}, {100 * report.share:.0f} %" if report.share else report.used


def _figures(fused: torch.Tensor, pair: FusionPair, pairs: FusionPairs) -> dict[str, float]:
    truth, image = (part[None] * pairs.maximum for part in (torch.as_tensor(pair.gt), fused.clamp(0, 1)))
    found = metrics.sam(truth, image), metrics.ergas(truth, image, ratio=pairs.ratio), metrics.q2n(truth, image)
    return {key: round(float(value), 4) for key, value in zip(("SAM", "ERGAS", "Q2n"), found, strict=True)}


if __name__ == "__main__":
    main()
