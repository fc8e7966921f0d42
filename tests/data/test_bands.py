import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hsmamba.data import get_sensor
from hsmamba.data.bands import match_bands
from hsmamba.errors import SceneError

AVIRIS = np.linspace(400, 2500, 224)


def applied(match, spectra):
    used = spectra[..., match.indices]
    return used if match.mixing is None else used @ match.mixing


def test_the_same_bands_need_nothing():
    match = match_bands(AVIRIS + 0.3, AVIRIS)
    assert match.indices.tolist() == list(range(224)) and match.mixing is None and match.note == ""


def test_reversed_bands_are_put_in_order():
    match = match_bands(AVIRIS[::-1], AVIRIS)
    assert match.indices.tolist() == list(range(223, -1, -1)) and match.mixing is None
    assert "another order" in match.note


def test_a_subset_is_selected_and_bad_bands_are_not():
    want = np.delete(AVIRIS, [103, 104, 150])
    match = match_bands(AVIRIS, want)
    assert AVIRIS[match.indices] == pytest.approx(want) and "221 of the scene's 224" in match.note
    doubled = np.repeat(AVIRIS, 2)
    bad = np.tile([True, False], 224)
    assert (match_bands(doubled, AVIRIS, bad=bad).indices % 2 == 1).all()


@given(offset=st.floats(-4.6, 4.6), level=st.floats(-1, 1), slope=st.floats(-1, 1))
def test_resampling_leaves_linear_spectra_unchanged(offset, level, slope):
    have = np.linspace(380, 2520, 230) + offset
    match = match_bands(have, AVIRIS, fwhm=np.full(224, 10.0))
    result = applied(match, level + slope * (have - 1000) / 1000)
    assert result == pytest.approx(level + slope * (AVIRIS - 1000) / 1000, abs=1e-9)


def test_resampling_by_response_is_near_the_band_average():
    fine = np.arange(350.0, 1000.0)
    spectrum = 0.3 + 0.2 * np.sin(fine / 60)
    match = match_bands(fine, [480.0, 560.0, 655.0, 865.0], fwhm=[60.0, 57.0, 37.0, 28.0])
    for found, centre, width in zip(
        applied(match, spectrum), (480, 560, 655, 865), (60.0, 57.0, 37.0, 28.0), strict=True
    ):
        response = np.exp(-4 * np.log(2) * ((fine - centre) / width) ** 2)
        assert found == pytest.approx((spectrum * response).sum() / response.sum(), abs=2e-3)
    assert "resampled" in match.note


def test_bands_out_of_reach_are_refused_by_name():
    with pytest.raises(SceneError, match=r"400 to 900 nm.*do not cover 170 of the 224.*train a model"):
        match_bands(np.linspace(400, 900, 54), AVIRIS)
    with pytest.raises(SceneError, match="do not cover"):
        match_bands([443, 490, 560, 665, 705, 740, 783, 842, 865, 945, 1610, 2190], AVIRIS)
    with pytest.raises(SceneError, match="every band of the scene is marked as bad"):
        match_bands(AVIRIS, AVIRIS, bad=np.ones(224, bool))


def test_sensors_with_nearly_the_same_bands_match():
    worldview2 = [427, 478, 546, 608, 659, 724, 833, 949]
    worldview3 = [425, 480, 545, 605, 660, 725, 832.5, 950]
    assert match_bands(worldview3, worldview2).note == ""
    assert match_bands(get_sensor("GeoEye1").wavelengths, get_sensor("IKONOS").wavelengths).note == ""
    with pytest.raises(SceneError, match="608"):  # no yellow band
        match_bands([443, 490, 560, 665, 705, 842, 945], worldview2)
