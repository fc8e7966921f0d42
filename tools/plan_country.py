"""Plan the classification or the sharpening of a country's archive: tiles, bytes, hours and cost from a measured rate.

    python tools/plan_country.py --area 357600 --workers 100 --price 0.05
    python tools/plan_country.py --area 357600 --archive sentinel2 --model mim_v3.indian_pines --looks 12

The rate is measured here: pixels of a random scene, or of a random pair, that a model does in a second of one thread's
processor time. `--rate` takes another one, as that of a GPU. The price of a worker's hour has no default: cloud prices
differ and change.
"""

from __future__ import annotations

import argparse
import math
import time
import warnings
from typing import Any, NamedTuple

import numpy as np
import torch

import hsmamba
from hsmamba.errors import HsmambaWarning

SECONDS = 3.0  # of processor time, that a rate is measured for


class Archive(NamedTuple):
    """What an archive holds.

    Attributes:
        sensor: Its name.
        side: Pixels along a side of a tile, of those that are classified or sharpened.
        step: Kilometres from a tile to the next, so that neighbours touch; what a tile has beyond overlaps.
        read: Bytes that are read for a pixel: bands of 16 bits, with their share where they are coarser.
        source: Where these numbers stand.
    """

    sensor: str
    side: int
    step: float
    read: float
    source: str


ARCHIVES = {
    "enmap": Archive("EnMAP L2A", 1000, 30.0, 2 * 224, "EnMAP: swath of 30 km, pixels of 30 m, 224 bands"),
    "prisma": Archive("PRISMA L2D", 1000, 30.0, 2 * 239, "PRISMA: swath of 30 km, pixels of 30 m, 66 + 173 bands"),
    "sentinel2": Archive(
        "Sentinel-2 L2A, 10 m", 10980, 100.0, 2 * (4 + 6 / 4), "Sentinel-2: tiles of 10980 x 10980 pixels on a grid of "
        "100 km, four bands of 10 m and six of 20 m"
    ),
}  # fmt: skip


class Plan(NamedTuple):
    """What an archive costs.

    Attributes:
        tiles: Of one look.
        pixels: Of all looks.
        read: Bytes.
        hours: From the first to the last pixel.
        worker_hours: Of all workers together.
        cost: In the currency of the price; None without a price.
    """

    tiles: int
    pixels: float
    read: float
    hours: float
    worker_hours: float
    cost: float | None


def plan(
    archive: Archive,
    area: float,
    *,
    rate: float,
    workers: int = 1,
    looks: int = 1,
    efficiency: float = 0.8,
    price: float | None = None,
) -> Plan:
    """Count tiles, bytes, hours and cost.

    A compact country of A km2 meets the A / s2 tiles that cover its inside and about 4 sqrt(A) / s on its border, s the
    step in km; tiles are done whole. Hours are pixels / (3600 rate workers efficiency), the cost is
    hours x workers x price.

    Args:
        archive: What is done.
        area: Of the country, km2.
        rate: Pixels a second of one worker.
        workers: Side by side.
        looks: Dates.
        efficiency: Share of the time that workers compute and neither read, write nor wait.
        price: Of a worker's hour.

    Raises:
        ValueError: A number that is not above 0, or an efficiency above 1.
    """
    given = {"area": area, "rate": rate, "workers": workers, "looks": looks, "efficiency": efficiency}
    if wrong := [f"{name} is {value}" for name, value in given.items() if not value > 0]:
        raise ValueError(f"{', '.join(wrong)}; expected more than 0")
    if efficiency > 1:
        raise ValueError(f"efficiency is {efficiency}; expected at most 1")
    tiles = math.ceil(area / archive.step**2 + 4 * math.sqrt(area) / archive.step)
    pixels = float(tiles * archive.side**2 * looks)
    hours = pixels / (3600 * rate * workers * efficiency)
    cost = None if price is None else hours * workers * price
    return Plan(tiles, pixels, pixels * archive.read, hours, hours * workers, cost)


def measured_rate(name: str, least: float = SECONDS) -> float:
    """Measure pixels a second of processor time on one thread: of the scene, or of the sharp image.

    Args:
        name: A weight.
        least: Seconds to measure for.
    """
    torch.set_num_threads(1)
    model: Any = hsmamba.create_model(name, pretrained=True)
    rng = np.random.default_rng(0)
    if hasattr(model, "scale"):
        side = 48
        ms = rng.uniform(0, 1, (side, side, model.in_chans)).astype(np.float32)
        guide = rng.uniform(0, 1, (side * model.scale, side * model.scale, model.guide_chans)).astype(np.float32)
        pixels = guide.shape[0] * guide.shape[1]

        def run() -> None:
            hsmamba.fuse(model, ms, guide, maximum=1.0, gains=None, progress=False)
    else:
        bands = model.in_chans if model.transform is None else model.transform.in_channels()
        scene: Any = rng.uniform(0, 1, (32, 32, bands)).astype(np.float32)
        if model.aux_chans:
            scene = hsmamba.Scene(scene, aux=rng.uniform(0, 1, (32, 32, model.aux_chans)).astype(np.float32))
        pixels = 32 * 32

        def run() -> None:
            hsmamba.classify(model, scene, scale=1, progress=False)

    run()
    start, count = time.process_time(), 0
    while not count or time.process_time() - start < least:
        run()
        count += 1
    return pixels * count / (time.process_time() - start)


def main() -> None:
    """Print the plan of each archive."""
    warnings.simplefilter("ignore", HsmambaWarning)  # of random numbers, which are none of the training's
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--area", type=float, required=True, help="of the country, km2")
    parser.add_argument("--archive", choices=ARCHIVES, help="one of them alone")
    parser.add_argument("--model", default="md2f_mamba.indian_pines", help="weight whose rate is measured")
    parser.add_argument("--rate", type=float, help="pixels a second of a worker, instead")
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--looks", type=int, default=1, help="dates")
    parser.add_argument("--efficiency", type=float, default=0.8)
    parser.add_argument("--price", type=float, help="of a worker's hour")
    args = parser.parse_args()
    rate = args.rate or measured_rate(args.model)
    print(f"{args.model if args.rate is None else 'as given'}: {rate:,.0f} pixels a second of a worker")
    print("| archive | tiles | million pixels | TB read | hours | worker hours | cost |\n" + "|---" + "|---:" * 6 + "|")
    for archive in [ARCHIVES[args.archive]] if args.archive else ARCHIVES.values():
        found = plan(
            archive, args.area, rate=rate, workers=args.workers, looks=args.looks, efficiency=args.efficiency,
            price=args.price,
        )  # fmt: skip
        cost = "-" if found.cost is None else f"{found.cost:,.0f}"
        work = f"{found.tiles} | {found.pixels / 1e6:,.0f} | {found.read / 1e12:,.2f}"
        print(f"| {archive.sensor} | {work} | {found.hours:,.1f} | {found.worker_hours:,.0f} | {cost} |")


if __name__ == "__main__":
    main()
