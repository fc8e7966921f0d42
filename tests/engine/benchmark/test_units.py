"""Units: ground in numbered blocks, counts and figures as text and back."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hsmamba.engine.benchmark.units import count, ground_units, read_counts, read_values, write_counts, write_values

counts = st.dictionaries(
    st.integers(0, 500),
    st.dictionaries(st.integers(1, 20), st.tuples(st.integers(0, 9), st.integers(10, 99)), min_size=1),
)


def test_blocks_are_numbered_scene_after_scene():
    units = ground_units([(3, 4), (2, 2)], 2)
    assert units[:12].reshape(3, 4).tolist() == [[0, 0, 1, 1], [0, 0, 1, 1], [2, 2, 3, 3]]
    assert units[12:].tolist() == [4] * 4
    assert ground_units([(3, 4), (2, 2)], 0).tolist() == [0] * 12 + [1] * 4


def test_counts_are_of_unit_and_class():
    units, truth = np.array([0, 0, 0, 7, 7]), np.array([1, 1, 2, 1, 1])
    found = count(units, truth, np.array([1, 2, 2, 1, 1]))
    assert found == {0: {1: (1, 2), 2: (1, 1)}, 7: {1: (2, 2)}}
    assert write_counts(found) == "0:1=1/2 2=1/1|7:1=2/2"


@given(counts)
def test_counts_come_back(given):
    assert read_counts(write_counts(given)) == given


def test_figures_come_back_with_five_digits():
    values = {3: {"SAM": 1 / 3, "Q2n": 0.91}, 4: {"SAM": 123456.789}}
    back = read_values(write_values(values))
    assert back.keys() == values.keys()
    assert back[3] == pytest.approx(values[3], rel=1e-4) and back[4] == pytest.approx(values[4], rel=1e-4)
