"""Rectangles of valid pixels."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as some

from hsmamba.data.rectangles import whole_rectangles


def largest(good, least):
    """Places for a square in the best rectangle, by trying them all."""
    height, width = good.shape
    return max(
        (
            (bottom - top - least + 1) * (right - left - least + 1)
            for top in range(height)
            for bottom in range(top + least, height + 1)
            for left in range(width)
            for right in range(left + least, width + 1)
            if good[top:bottom, left:right].all()
        ),
        default=0,
    )


@given(
    some.arrays(bool, st.tuples(st.integers(1, 7), st.integers(1, 7)), elements=st.sampled_from([True] * 4 + [False]))
)
@settings(max_examples=60)
def test_rectangles_are_valid_apart_and_the_first_is_the_best(good):
    boxes = whole_rectangles(good, 50)
    seen = np.zeros(good.shape, int)
    for box in boxes:
        assert good[box].all() and good[box].size
        seen[box] += 1
    assert seen.max() <= 1
    assert bool(boxes) == good.any()
    if good.all():
        assert [good[box].shape for box in boxes] == [good.shape]
    elif boxes:
        least = next(side for side in (4, 2, 1) if largest(good, side))
        sides = [good[box].shape for box in boxes]
        assert all(min(side) >= least for side in sides)
        assert (sides[0][0] - least + 1) * (sides[0][1] - least + 1) == largest(good, least)
    assert whole_rectangles(good, 1) == boxes[:1]


def test_a_dead_pixel_leaves_rectangles_on_both_sides():
    good = np.ones((80, 40), bool)
    good[50, 20] = False
    first, second = whole_rectangles(good, 16)
    assert first == (slice(0, 50), slice(0, 40))
    assert second == (slice(51, 80), slice(0, 40))
