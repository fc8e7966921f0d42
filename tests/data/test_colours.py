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


MATRICES = (  # of Machado, Oliveira and Fernandes (2009): protanopia, deuteranopia
    [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
    [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]],
)


def lab(colours, matrix):
    """CIELAB of colours as an eye sees them."""
    linear = np.where(colours <= 0.04045, colours / 12.92, ((colours + 0.055) / 1.055) ** 2.4)
    seen = np.clip(linear @ np.transpose(matrix), 0, 1)
    to_xyz = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]])
    x, y, z = (np.cbrt(v) for v in (seen @ to_xyz.T / (0.9505, 1, 1.089)).T)
    return np.stack([116 * y - 16, 500 * (x - y), 200 * (y - z)], axis=1)


@pytest.mark.parametrize("matrix", [np.eye(3), *MATRICES])
def test_colours_are_told_apart_with_any_colour_vision(matrix):
    points = lab(class_colours(20)[1:], matrix)
    distances = np.linalg.norm(points[:, None] - points, axis=2) + 1e9 * np.eye(20)
    assert distances.min() > 15  # 2 is what a trained eye just tells apart


def test_the_usual_colours_of_a_data_set():
    assert len(class_colours(16, "indian_pines")) == 17
    with pytest.raises(ValueError, match="16 colours for 17 classes"):
        class_colours(17, "indian_pines")
    with pytest.raises(ValueError, match="choose indian_pines, pavia_university, salinas, or leave it out"):
        class_colours(3, "pavia")
