"""`hsmamba bench transforms`: what stands before a network, beside a copy of the cube and one product of matrices.

A transform has to go through the cube once and, for components, to multiply it by a matrix: a copy as float32, and the
plain product in float32 of the BLAS that numpy has, are the least that this can take. Ours computes in double precision
on one thread. Times are the processor's, those of all threads, so that other work on the machine counts little.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from hsmamba.bench.measure import measure
from hsmamba.data import MNF, PCA, Compose, Standardise, Step

OURS, COPY, PRODUCT = "hsmamba", "copy", "product"
BANDS = 200
DTYPES = np.float32, np.int16
TOLERANCE = 1e-5  # of the largest value of a channel
_PAIRS = 20_000  # of neighbours, that noise is told from
_CHECKED = 2_000  # pixels


class Row(NamedTuple):
    """One transform of one kind of cube."""

    steps: str
    dtype: str
    work: str  # "apply" or "fit"
    ms: float
    extra: int | None  # peak bytes above what the process held before, the result among them
    result: int  # bytes of the result
    copies: float  # times a copy of the cube as float32
    products: float  # times the product of matrices


def _cube(side: int, dtype: Any) -> NDArray[Any]:
    """Draw a scene (side, side, BANDS) of correlated bands with noise, in counts."""
    rng = np.random.default_rng(0)
    mix = rng.standard_normal((12, BANDS), np.float32) * 300
    cube = np.empty((side, side, BANDS), dtype)
    for row in cube:
        row[:] = 4000 + rng.standard_normal((side, 12), np.float32) @ mix + 20 * rng.standard_normal((side, BANDS))
    return cube


def _steps(components: int) -> dict[str, Callable[[], list[Step]]]:
    return {
        "standardise": lambda: [Standardise()],
        "pca": lambda: [PCA(components)],
        "mnf": lambda: [MNF(components)],
        "standardise, pca": lambda: [Standardise(), PCA(components)],
    }


def check_equal(transform: Compose, pixels: NDArray[Any]) -> None:
    """Hold a transform against its formula in double precision; RuntimeError where they differ by more than 1e-5."""
    found, expected = transform(pixels), pixels.astype(np.float64)
    for step in transform.steps:
        state = step.state()
        expected = expected - state["mean"]
        expected = expected / state["std"] if "std" in state else expected @ state["basis"].T
    error = float((np.abs(found - expected).max(axis=0) / np.abs(expected).max(axis=0)).max())
    if not error <= TOLERANCE:
        raise RuntimeError(
            f"{transform} differs by {error:.1e} of the largest value from its formula; what computes something else "
            "cannot be compared"
        )


def bench_transforms(
    side: int = 1000, components: int = 30, rounds: int = 5, say: Callable[[str], None] = print
) -> list[Row]:
    """Measure transforms on a cube of `side` x `side` pixels and 200 bands, and print a table as it grows.

    Args:
        side: Rows and columns.
        components: Of PCA and MNF.
        rounds: Turns after the first one; figures are medians.
        say: Takes the lines.

    Raises:
        RuntimeError: A transform computes other numbers than its formula.
    """
    say(f"{side} x {side} pixels of {BANDS} bands, {components} components")
    say(f"x copy: of the cube, into float32 at hand; x product: float32, with {BANDS} x {components} (fit: of bands)")
    say(HEADER)
    rows = []
    for dtype in DTYPES:
        cube = _cube(side, dtype)
        for name, make in _steps(components).items():
            for row in _bench(name, make, cube, components, rounds):
                rows.append(row)
                say(format_row(row))
    return rows


def _bench(name: str, make: Callable[[], list[Step]], cube: NDArray[Any], components: int, rounds: int) -> list[Row]:
    flat = cube.reshape(-1, BANDS)
    few = flat[: _PAIRS + 1]
    pairs: Mapping[Any, NDArray[Any]] = {"hsi": np.stack([few[:-1], few[1:]], axis=1)}
    transform = Compose(make()).fit(few, neighbours=pairs)
    check_equal(transform, flat[:_CHECKED])
    single, weights = flat.astype(np.float32), np.ones((BANDS, components), np.float32)
    copied = np.zeros(cube.shape, np.float32)
    runs: dict[str, dict[str, Callable[[], object]]] = {
        "apply": {OURS: partial(transform, cube), PRODUCT: partial(np.matmul, single, weights)},
        "fit": {
            OURS: lambda: Compose(make()).fit(flat, neighbours=pairs),
            PRODUCT: partial(np.matmul, single.T, single),
        },
    }
    rows = []
    for work, ways in runs.items():
        measured = measure({**ways, COPY: partial(np.copyto, copied, cube)}, rounds, time.process_time)
        ours = measured[OURS]
        result = 4 * len(flat) * transform.out_channels() if work == "apply" else 0
        times = (ours.ms / measured[peer].ms for peer in (COPY, PRODUCT))
        rows.append(Row(name, cube.dtype.name, work, ours.ms, ours.extra, result, *times))
    return rows


HEADER = (
    f"{'steps':16} {'dtype':7} {'work':5} {'cpu ms':>8} {'extra MB':>8} {'result MB':>9} {'x copy':>7} {'x product':>9}"
)


def format_row(row: Row) -> str:
    """One line of the table."""
    extra = "-" if row.extra is None else f"{row.extra / 1e6:.0f}"
    return (
        f"{row.steps:16} {row.dtype:7} {row.work:5} {row.ms:8.0f} {extra:>8} {row.result / 1e6:9.0f} {row.copies:7.2f} "
        f"{row.products:9.2f}"
    )
