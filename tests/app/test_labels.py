"""Labels given stroke by stroke."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hsmamba.app.labels import LabelSheet, patches


@pytest.fixture
def sheet():
    sheet = LabelSheet((6, 8))
    sheet.add_class("water")
    sheet.add_class("land")
    return sheet


def test_a_click_labels_a_pixel_and_a_radius_a_disc(sheet):
    assert sheet.paint([(2.5, 3.5)], 1) == 1
    assert np.argwhere(sheet.labels).tolist() == [[2, 3]]
    assert sheet.paint([(4, 6)], 2, radius=1) == 5 or sheet.counts == [1, 9]
    assert sheet.labels[4, 5] == sheet.labels[4, 7] == sheet.labels[3, 6] == 2


def test_a_stroke_has_no_gaps_and_ends_at_the_border(sheet):
    sheet.paint([(0, 0), (0, 7), (30, 7)], 1)
    assert sheet.labels[0].all() and sheet.labels[:, 7].all()
    assert len(np.unique(sheet.groups[sheet.labels > 0])) == 1


def test_label_0_takes_labels_away_and_undo_brings_them_back(sheet):
    sheet.paint([(1, 1), (1, 5)], 2)
    before = sheet.labels.copy(), sheet.groups.copy()
    sheet.paint([(1, 3)], 0)
    assert sheet.counts == [0, 4] and sheet.groups[1, 3] == 0
    sheet.undo()
    assert (sheet.labels == before[0]).all() and (sheet.groups == before[1]).all()
    sheet.clear()
    assert not sheet.labels.any()
    sheet.undo()
    assert sheet.counts == [0, 5]


strokes = st.lists(
    st.tuples(
        st.lists(st.tuples(st.floats(-3, 9), st.floats(-3, 11)), min_size=1, max_size=3),
        st.integers(0, 2),
        st.integers(0, 2),
    ),
    max_size=8,
)


@given(strokes)
def test_undoing_every_stroke_leaves_nothing(found):
    sheet = LabelSheet((6, 8))
    sheet.add_class("a")
    sheet.add_class("b")
    states = []
    for path, label, radius in found:
        states.append(sheet.labels.copy())
        if not sheet.paint(path, label, radius):
            states.pop()
    while sheet.can_undo:
        sheet.undo()
        assert (sheet.labels == states.pop()).all()
    assert not states and not sheet.labels.any() and not sheet.groups.any()


def test_classes_are_named_once_and_removed_with_their_labels(sheet):
    sheet.paint([(0, 0)], 1)
    sheet.paint([(5, 5)], 2)
    for name, words in (("water", "already"), ("  ", "needs a name")):
        with pytest.raises(ValueError, match=words):
            sheet.add_class(name)
    sheet.rename_class(2, "meadow")
    sheet.remove_class(1)
    assert sheet.names == ["meadow"] and sheet.counts == [1] and sheet.labels[5, 5] == 1 and not sheet.can_undo
    with pytest.raises(ValueError, match="no class 2"):
        sheet.paint([(0, 0)], 2)


def test_a_map_is_taken_by_names_and_patch_by_patch(sheet):
    sheet.paint([(5, 7)], 2)
    given_map = np.zeros((6, 8), int)
    given_map[0, :2], given_map[3, 3], given_map[5, 0] = 1, 1, 3
    numbers = sheet.load(given_map, ("land", "unseen", "road"))
    assert sheet.names == ["water", "land", "road"] and numbers.tolist() == [0, 2, 0, 3]
    assert sheet.labels[0, 1] == 2 and sheet.labels[5, 0] == 3
    assert len(np.unique(sheet.groups[sheet.labels > 0])) == 4
    with pytest.raises(ValueError, match=r"labels are \(2, 2\), the scene is \(6, 8\)"):
        sheet.load(np.ones((2, 2), int), ())


def test_pixels_that_touch_at_a_corner_are_one_patch_of_a_class_each():
    found = patches(np.array([[1, 0, 2], [0, 1, 2], [1, 0, 0], [0, 0, 1]]))
    assert len(np.unique(found[found > 0])) == 3
    assert found[0, 0] == found[1, 1] == found[2, 0] != found[3, 2]
