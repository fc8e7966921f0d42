"""Measure what `adapt` gains: tune networks on the upper rows of every pair, judge them on the lower ones.

    python tools/adapt_pairs.py DATA OUT.csv --seconds 120 --pairs quickbird ikonos --networks ramsf cf2n

DATA is the folder of data (HSMAMBA_DATA). The rows of OUT.csv, one for each pair, network and method, say how the
network as it was, what `adapt` chose, the fitted filters alone and the classical methods do on the test rows, which
`adapt` has not seen. A pair and network that are there already are not measured again.
"""

from __future__ import annotations

import argparse
import csv
import time
from pathlib import Path
from typing import Any

import torch

from hsmamba import create_model
from hsmamba.data import load_pairs
from hsmamba.data.pairs import FusionPair, FusionPairs
from hsmamba.engine.fusion.adapt import Adapt, Adaptation, adapt_to_pairs
from hsmamba.engine.fusion.classical import methods_for
from hsmamba.engine.fusion.evaluate import predict
from hsmamba.engine.results import Row, write_results
from hsmamba.metrics import fusion as metrics
from hsmamba.models import as_fusion_network

PAIRS = (
    "worldview2", "ikonos", "quickbird", "landsat8", "eo1", "sentinel2",
    "hsi_chikusei", "hsi_dc_mall", "hsi_beltsville", "hsi_cuprite",
)  # fmt: skip
NETWORKS = ("ramsf", "cf2n", "mmapp", "rsanet")


def main() -> None:
    """Read the command line and measure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--pairs", nargs="+", default=PAIRS)
    parser.add_argument("--networks", nargs="+", default=NETWORKS)
    parser.add_argument("--seconds", type=float, default=None)
    parser.add_argument("--steps", type=int, default=None)
    given = parser.parse_args()
    rows: list[Row] = list(csv.DictReader(given.out.open())) if given.out.is_file() else []
    for name in given.pairs:
        pairs = load_pairs(name, given.data, val=0, test=0.3)
        for network in given.networks:
            if any((row["pair"], row["network"]) == (name, network) for row in rows):
                continue
            rows += measured(name, pairs, network, Adapt(seconds=given.seconds, steps=given.steps))
            write_results(given.out, rows)


def measured(name: str, pairs: FusionPairs, architecture: str, how: Adapt) -> list[Row]:
    """Measure one network on one pair; nothing where the network has no such ratio."""
    sizes: dict[str, Any] = {"in_chans": pairs.in_chans, "guide_chans": pairs.guide_chans, "scale": pairs.ratio}
    torch.manual_seed(0)
    try:
        network = as_fusion_network(create_model(architecture, **sizes))
    except ValueError as error:
        print(f"{name}, {architecture}: {error}")
        return []
    start = time.perf_counter()
    adaptation = adapt_to_pairs(network, pairs, how)
    seconds = time.perf_counter() - start
    print(f"{name}: {adaptation.report}\n", flush=True)
    pair = pairs.test[0]
    fused = {"adapted": adaptation.predict(pair), "as it was": predict(network, pair)}
    for method, function in methods_for(pairs.guide_chans, pairs.ratio, pairs.sensor).items():
        fused[method] = function(pair.ms[None], pair.guide[None])[0]
    return [
        {"pair": name, "network": architecture, "method": method, **_figures(image, pair, pairs),
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
