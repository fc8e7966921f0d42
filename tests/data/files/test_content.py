"""Wavelengths in any unit."""

import numpy as np
import pytest

from hsmamba.data.files.content import nanometres


@pytest.mark.parametrize(
    ("unit", "factor"),
    [("Nanometers", 1), ("nm", 1), ("micrometres", 1e3), ("Microns", 1e3), ("mm", 1e6), ("Angstroms", 0.1), ("m", 1e9)],
)
def test_units_are_brought_to_nanometres(unit, factor):
    assert np.allclose(nanometres([2, 3], unit), [2 * factor, 3 * factor])


def test_units_that_are_unknown_are_told_by_their_size_and_other_kinds_left_out():
    assert nanometres([0.4, 2.5], "Unknown").tolist() == [400, 2500]
    assert nanometres([400, 2500], "").tolist() == [400, 2500]
    assert nanometres([1, 2], "Wavenumber") is None and nanometres([1, 2], "GHz") is None
