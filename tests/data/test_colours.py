"""Colours of classes."""

import numpy as np
import pytest

from hsmamba.data.colours import class_colours


@pytest.mark.parametrize("num_classes", [1, 16, 20, 21, 40, 255, 1000])
def test_every_class_has_a_colour_of_its_own_also_in_eight_bits(num_classes):
    colours = class_colours(num_classes)
    assert colours.shape == (num_classes + 1, 3) and not colours[0].any()
    assert len(np.unique(np.rint(colours * 255), axis=0)) == num_classes + 1
    assert colours.min() == 0 and colours.max() <= 1
