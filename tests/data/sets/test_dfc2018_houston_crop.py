"""The crop of Houston: two sources on one grid, labels by majority."""

import pytest

from hsmamba.data import load_scene, load_split
from tests.conftest import DATA


@pytest.mark.skipif(not DATA.is_dir(), reason="the shared data are not here")
def test_the_real_crop_has_two_sources_and_the_labels_of_its_split():
    houston = load_scene("dfc2018_houston_crop", DATA)
    assert houston.hsi.shape == houston.aux.shape == (128, 128, 48) and houston.num_classes == 12
    load_split("dfc2018_houston_crop").check(houston.labels)
