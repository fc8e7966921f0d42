"""Means, paired differences with their interval, ranks."""

import numpy as np
import pytest

from hsmamba.engine.benchmark import load_suite
from hsmamba.engine.benchmark.statistics import difference, mean, mean_ranks
from hsmamba.engine.benchmark.units import write_counts, write_values
from tests.engine.benchmark.suites import write


def row(seed, counts, method="a", **more):
    right, every = (sum(pair[i] for unit in counts.values() for pair in unit.values()) for i in (0, 1))
    return {
        "data": "muufl_crop", "split": "random", "seed": seed, "method": method, "oa": 100 * right / every,
        "units": write_counts(counts), **more,
    }  # fmt: skip


def test_mean_and_deviation_are_over_seeds():
    rows = [{"oa": 60.0}, {"oa": 70.0}, {"oa": 80.0}]
    found = mean(rows, "oa")
    assert (found.mean, found.std, found.seeds) == (70, 10, 3)
    assert np.isnan(mean(rows[:1], "oa").std)
    assert mean([{"oa": ""}], "oa") is None and mean([], "oa") is None


def test_a_difference_is_that_of_the_accuracies():
    one = {0: {1: (8, 10), 2: (1, 4)}, 1: {1: (5, 10)}}
    two = {0: {1: (5, 10), 2: (2, 4)}, 1: {1: (5, 10)}}
    found = difference([row(0, one)], [row(0, two)], "oa", "classification")
    assert found.value == pytest.approx(100 * (14 / 24 - 12 / 24)) and found.units == 2
    found = difference([row(0, one)], [row(0, two)], "aa", "classification")
    assert found.value == pytest.approx(100 * ((13 / 20 + 1 / 4) / 2 - (10 / 20 + 2 / 4) / 2))


def test_the_interval_is_over_units_and_not_over_seeds_alone():
    """Half of the plots are gained, half lost, the same for every seed: seeds agree, and ground does not."""
    gains = {unit: {1: (9, 10) if unit % 2 else (3, 10)} for unit in range(200)}
    plain = {unit: {1: (5, 10)} for unit in range(200)}
    seeds = range(5)
    found = difference([row(s, gains) for s in seeds], [row(s, plain) for s in seeds], "oa", "classification")
    assert found.value == pytest.approx(10)
    half = 1.96 * 30 / np.sqrt(200)  # of the mean of 200 plots that differ by 40 or by -20
    assert found.low == pytest.approx(10 - half, abs=0.6) and found.high == pytest.approx(10 + half, abs=0.6)


def test_the_interval_grows_with_seeds_that_disagree():
    plain = {unit: {1: (50, 100)} for unit in range(50)}
    rows = [row(s, {unit: {1: (50 + 10 * s, 100)} for unit in range(50)}) for s in range(3)]
    found = difference(rows, [row(s, plain) for s in range(3)], "oa", "classification")
    assert found.value == pytest.approx(10) and found.low < 4 and found.high > 16


def test_a_method_does_not_differ_from_itself():
    rows = [row(s, {unit: {1: (unit, 40)} for unit in range(40)}) for s in range(3)]
    found = difference(rows, rows, "oa", "classification")
    assert (found.value, found.low, found.high) == (0, 0, 0)


def test_seeds_are_paired_and_a_single_row_of_fusion_serves_all():
    counts = {0: {1: (1, 2)}}
    assert difference([row(0, counts)], [row(1, counts)], "oa", "classification") is None
    assert difference([row(0, counts)], [row(0, counts)], "kappa", "classification") is None

    def fused(seed, *sam):
        return {"seed": seed, "units": write_values({unit: {"SAM": value} for unit, value in enumerate(sam)})}

    found = difference([fused(0, 2, 3, 9), fused(1, 4, 5, 9)], [fused(0, 1, 1, 9)], "SAM", "fusion")
    assert found.value == pytest.approx(np.mean([1, 2, 0, 3, 4, 0])) and found.units == 3
    assert found.low <= found.value <= found.high
    assert difference([fused(0, 2)], [fused(0, 1)], "Q2n", "fusion") is None


def test_ranks_share_ties_and_leave_out_what_did_not_run_everywhere(tmp_path):
    suite = load_suite(write(tmp_path))
    counts = {0: {1: (1, 2)}}
    rows = [row(0, counts, "small", split=split) for split in ("a", "b")]
    rows += [row(0, {0: {1: (1 + (split == "b"), 2)}}, "other", split=split) for split in ("a", "b")]
    assert mean_ranks(suite, rows) == {"other": 1.25, "small": 1.75}
    assert mean_ranks(suite, rows[:3]) == {"small": 1.0}
    assert mean_ranks(suite, []) == {}
