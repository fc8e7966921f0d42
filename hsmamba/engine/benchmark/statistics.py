"""What the rows of a suite say: means and deviations over seeds, paired differences with their interval, ranks.

The interval of a difference is that of a bootstrap over the natural units of the data (plots, images, blocks of ground)
and over the seeds at once: both are drawn anew with replacement, each by itself, and both methods of a pair are seen on
the same draw (the "pigeonhole" bootstrap of crossed factors: Owen, Annals of Applied Statistics 1(2), 2007). Seeds
alone say how much a training wanders, and nothing about other ground.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray
from scipy.stats import rankdata

from hsmamba.engine.benchmark.suite import LOWER_IS_BETTER, Suite
from hsmamba.engine.benchmark.units import read_counts, read_values
from hsmamba.engine.results import Row

DRAWS = 2000
COVERAGE = 0.95
WITH_COUNTS = ("oa", "aa")  # figures of classification that follow from the counts by unit
Floats: TypeAlias = "NDArray[np.float64]"


@dataclass(frozen=True)
class Mean:
    """Mean and sample standard deviation over seeds; the deviation of one seed is NaN."""

    mean: float
    std: float
    seeds: int


@dataclass(frozen=True)
class Difference:
    """Method less reference on the same units and seeds, with the interval that the bootstrap gives."""

    value: float
    low: float
    high: float
    units: int


def select(rows: Sequence[Row], data: str, split: str, method: str) -> list[Row]:
    """Pick the rows of a method on a split, one a seed."""
    return [row for row in rows if (row["data"], row["split"], row["method"]) == (data, split, method)]


def mean(rows: Sequence[Row], metric: str) -> Mean | None:
    """Average a figure over seeds; None where there is none."""
    values = [float(row[metric]) for row in rows if row[metric] != ""]
    if not values:
        return None
    return Mean(float(np.mean(values)), float(np.std(values, ddof=1)) if len(values) > 1 else np.nan, len(values))


def difference(rows: Sequence[Row], reference: Sequence[Row], metric: str, task: str) -> Difference | None:
    """Compare a method with a reference on the units that both were tested on.

    Args:
        rows: Of the method, one a seed.
        reference: Of the reference, likewise; where it has a single row, which no seed changes, that one for all.
        metric: "oa" or "aa" of classification, any of fusion (there the mean over the units).
        task: Of the suite.

    Returns:
        The difference in the unit of the rows; None where they have no seed or no unit in common.
    """
    by_seed = {row["seed"]: row for row in reference}
    only = reference[0] if task == "fusion" and len(reference) == 1 else None
    both = [(row, other) for row in rows if (other := only or by_seed.get(row["seed"])) is not None]
    if not both or (task == "classification" and metric not in WITH_COUNTS):
        return None
    statistic = _of_counts(both, metric) if task == "classification" else _of_values(both, metric)
    return None if statistic is None else _bootstrap(*statistic, seeds=len(both))


Statistic: TypeAlias = "Callable[[Floats, Floats], Floats]"


def _of_counts(both: list[tuple[Row, Row]], metric: str) -> tuple[Statistic, int] | None:
    """Make the difference of accuracies, in percent, as a function of the weights of units and seeds."""
    counts = [[read_counts(row["units"]) for row in pair] for pair in both]
    units = sorted({unit for pair in counts for one in pair for unit in one})
    classes = sorted({cls for pair in counts for one in pair for of_unit in one.values() for cls in of_unit})
    if not units:
        return None
    # seeds, (method, reference), units, classes, (right, all)
    table = np.zeros((len(both), 2, len(units), len(classes), 2))
    for seed, pair in enumerate(counts):
        for which, one in enumerate(pair):
            for unit, of_unit in one.items():
                for cls, numbers in of_unit.items():
                    table[seed, which, units.index(unit), classes.index(cls)] = numbers
    if metric == "oa":
        table = table.sum(axis=3, keepdims=True)

    def statistic(of_units: Floats, of_seeds: Floats) -> Floats:
        sums = np.einsum("du,smuck->dsmck", of_units, table, optimize=True)
        with np.errstate(invalid="ignore"):
            shares = sums[..., 0] / sums[..., 1]
        accuracy = 100 * np.nanmean(shares, axis=3)  # classes without pixels in a draw are left out
        return np.asarray(np.einsum("ds,ds->d", of_seeds, accuracy[..., 0] - accuracy[..., 1]) / of_seeds.sum(1))

    return statistic, len(units)


def _of_values(both: list[tuple[Row, Row]], metric: str) -> tuple[Statistic, int] | None:
    """Make the difference of the means over units of a figure as a function of the weights of units and seeds."""
    values = [[read_values(row["units"]) for row in pair] for pair in both]
    units = sorted(set.intersection(*(set(one) for pair in values for one in pair)))
    if not units or any(metric not in one[units[0]] for pair in values for one in pair):
        return None
    table = np.array([[pair[0][u][metric] - pair[1][u][metric] for u in units] for pair in values])

    def statistic(of_units: Floats, of_seeds: Floats) -> Floats:
        sums = np.einsum("ds,su,du->d", of_seeds, table, of_units, optimize=True)
        return np.asarray(sums / of_seeds.sum(1) / of_units.sum(1))

    return statistic, len(units)


def _bootstrap(statistic: Statistic, units: int, *, seeds: int) -> Difference:
    generator = np.random.default_rng(0)
    value = float(statistic(np.ones((1, units)), np.ones((1, seeds)))[0])
    drawn = np.sort(statistic(_weights(units, generator), _weights(seeds, generator)))
    tail = (1 - COVERAGE) / 2
    low, high = np.nanquantile(drawn, [tail, 1 - tail])
    return Difference(value, float(low), float(high), units)


def _weights(size: int, generator: np.random.Generator) -> Floats:
    """How often each of some things occurs in each draw; from uniform numbers, the same in every numpy release."""
    chosen = (generator.random((DRAWS, size)) * size).astype(np.int64)
    flat = chosen + size * np.arange(DRAWS)[:, None]
    return np.bincount(flat.ravel(), minlength=DRAWS * size).reshape(DRAWS, size).astype(np.float64)


def mean_ranks(suite: Suite, rows: Sequence[Row]) -> dict[str, float]:
    """Rank the methods by the suite's first metric on every data set and split, and average.

    Methods that did not run everywhere are left out, for ranks among others say nothing.

    Returns:
        Mean rank of each method, 1 is best, the best first.
    """
    metric = suite.metrics[0]
    places = list(dict.fromkeys((row["data"], row["split"]) for row in rows))
    found = {name: [mean(select(rows, data, split, name), metric) for data, split in places] for name in suite.methods}
    whole = {name: [one.mean for one in means if one] for name, means in found.items() if all(means) and means}
    if not whole:
        return {}
    sign = 1 if metric in LOWER_IS_BETTER else -1
    ranks = rankdata(sign * np.array(list(whole.values())), axis=0).mean(axis=1)
    return dict(sorted(zip(whole, ranks.tolist(), strict=True), key=lambda item: item[1]))
