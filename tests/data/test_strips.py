"""How scenes of every size are cut into strips, and what is said where they are too small."""

import itertools
import re
import warnings

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hsmamba.data.strips import cut_strips
from hsmamba.errors import HsmambaWarning, SplitError


def test_a_large_scene_keeps_the_shares_and_a_guard_of_eight():
    assert cut_strips(80, None, 0.3, None, 4) == {"train": (0, 168), "val": (176, 216), "test": (224, 320)}
    assert cut_strips(80, None, 0.3, None, 4) == cut_strips(80, 0.125, 0.3, 8, 4)


def test_48_pixels_at_ratio_4_work_by_themselves():
    assert cut_strips(12, None, 0.3, None, 4) == {"train": (0, 16), "val": (20, 28), "test": (32, 48)}


def test_a_smaller_scene_gives_its_validation_up_and_says_so():
    with pytest.warns(HsmambaWarning, match=r"24 pixels .* at ratio 4: finetune will keep its last epoch.*val=0"):
        assert cut_strips(6, None, 0.3, None, 4) == {"train": (0, 12), "test": (16, 24)}
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert cut_strips(6, 0, 0.3, None, 4) == {"train": (0, 12), "test": (16, 24)}


SHARES = st.one_of(st.none(), st.sampled_from([0.0, 0.05, 0.125, 0.3, 0.6, 0.9]))


@given(st.integers(1, 40), SHARES, st.sampled_from([0.0, 0.1, 0.3, 0.7]), st.sampled_from([None, 0, 4, 8, 40]),
       st.integers(2, 4))  # fmt: skip
def test_strips_are_apart_or_the_one_change_that_is_named_mends_them(length, val, test, guard, ratio):
    asked = {"val": val, "test": test, "guard": guard}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", HsmambaWarning)
        try:
            strips = cut_strips(length, *asked.values(), ratio)
        except SplitError as refused:
            changes = dict.fromkeys(re.findall(r"(\w+)=0(?= and|$)", str(refused).partition("It works with ")[2]), 0)
            assert changes or "Take a larger scene" in str(refused)
            if changes:
                cut_strips(length, *(asked | changes).values(), ratio)
            return
    ends = list(strips.values())
    assert ends[0][0] == 0 and ends[-1][1] <= length * ratio
    assert all(stop - start >= 2 * ratio and start % ratio == stop % ratio == 0 for start, stop in ends)
    apart = min(8, length * ratio // 12) if guard is None else guard
    assert all(later[0] - earlier[1] >= apart for earlier, later in itertools.pairwise(ends))
