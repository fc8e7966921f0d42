"""The benchmark of transforms: the table holds together, and what computes something else is refused."""

import numpy as np
import pytest

from hsmamba.bench import transforms as bench
from hsmamba.data import Compose, Standardise


def test_the_table_has_both_works_of_every_transform():
    lines = []
    rows = bench.bench_transforms(64, 4, rounds=1, say=lines.append)
    names = ["standardise", "pca", "mnf", "standardise, pca"]
    assert [(row.dtype, row.steps, row.work) for row in rows] == [
        (dtype, name, work) for dtype in ("float32", "int16") for name in names for work in ("apply", "fit")
    ]
    assert all(row.ms > 0 and row.copies > 0 and row.products > 0 for row in rows)
    assert [row.result for row in rows[:4]] == [4 * 64**2 * 200, 0, 4 * 64**2 * 4, 0]
    assert len(lines) == 3 + len(rows) and lines[2] == bench.HEADER
    assert len(lines[3]) == len(bench.HEADER)


def test_a_transform_that_computes_something_else_is_refused():
    pixels = np.random.default_rng(0).normal(size=(50, 3))
    transform = Compose([Standardise()]).fit(pixels)
    bench.check_equal(transform, pixels)
    transform.steps[0]._apply = lambda block: block.astype(np.float32)
    with pytest.raises(RuntimeError, match="differs by"):
        bench.check_equal(transform, pixels)
