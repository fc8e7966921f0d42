import numpy as np
import pytest

from hsmamba.data import PCA, Compose, SensorScale, Standardise
from hsmamba.data.units import doubt, likely, maxima, top

rng = np.random.default_rng(0)


def spectra(count=3000, level=0.3, seed=0):
    draw = np.random.default_rng(seed)
    base = level * (1 + 0.5 * np.sin(np.linspace(0, 1.5, 20)))
    return base * draw.uniform(0.5, 1.5, (count, 1)) + draw.normal(0, 0.01, (count, 20))


def looked_at(pixels, fitted=None):
    transform = Compose([Standardise(), PCA(6), Standardise()]).fit(spectra() if fitted is None else fitted)
    return doubt(transform.range(), pixels, transform(pixels))


def test_other_pixels_of_the_same_kind_raise_no_doubt():
    assert looked_at(spectra(500, 0.3, 1)) is None
    assert looked_at(spectra(500, 0.25, 2)) is None
    assert looked_at(spectra(12, 0.3, 3)) is None


@pytest.mark.parametrize(("factor", "mend"), [(1e4, 1e-4), (1e-4, 1e4), (0.1, 10), (255, 0.004)])
def test_another_unit_is_named_with_the_factor_that_mends_it(factor, mend):
    found = looked_at(spectra(500, 0.3, 1) * factor)
    assert found.sure and found.factor == pytest.approx(mend, rel=0.02)


def test_one_bright_pixel_decides_nothing():
    pixels = spectra(500, 0.3, 1)
    pixels[7] = 1e4
    assert looked_at(pixels) is None
    assert top(pixels) < 1


def test_bands_in_another_order_lie_far_off():
    found = looked_at(spectra(500, 0.3, 1)[:, ::-1])
    assert found.factor is None and "training ranges off" in found.figures


def test_zeros_are_in_doubt_without_a_factor():
    found = looked_at(np.zeros((50, 20)))
    assert found.sure and found.factor is None


def test_another_material_is_no_other_unit():
    water = np.linspace(0.5, 0.01, 20) ** 2  # of the level of land in the blue alone
    land = np.concatenate([spectra(2700), water * spectra(300, 1.0, 4)])
    assert looked_at(water * spectra(500, 1.0, 5), land) is None
    assert looked_at(spectra(500, 0.3, 1) / 10, land).factor == pytest.approx(10)


def test_a_training_that_is_half_water_tells_units_by_its_land():
    water = np.random.default_rng(6).normal(0, 0.005, (1600, 20))
    mixed = np.concatenate([spectra(1400), water])
    assert looked_at(spectra(500, 0.3, 1), mixed) is None
    assert looked_at(np.concatenate([spectra(250, 0.3, 1), water[:250]]) / 1e4, mixed).factor == pytest.approx(1e4)


def test_a_single_band_has_no_spectrum_to_tell_its_unit_by():
    transform = Compose([Standardise()]).fit(rng.gamma(3, 5, (2000, 1)))
    grass = rng.gamma(3, 0.05, (500, 1))
    assert doubt(transform.range(), grass, transform(grass)) is None
    millimetres = rng.gamma(3, 5000, (500, 1))
    assert doubt(transform.range(), millimetres, transform(millimetres)).sure


def test_decibels_have_no_level_but_a_range():
    decibels = rng.normal(-12, 3, (3000, 20))
    assert looked_at(rng.normal(-10, 3, (500, 20)), decibels) is None
    assert looked_at(10 ** (decibels / 10) * 1e4, decibels).sure


def test_ranges_come_back_from_a_file(tmp_path):
    transform = Compose([Standardise(), PCA(3)]).fit(spectra())
    transform.save(tmp_path / "t.safetensors")
    again = Compose.load(tmp_path / "t.safetensors")
    for name in ("before", "after"):
        np.testing.assert_array_equal(getattr(again.range(), name), getattr(transform.range(), name))
    assert again.range("aux") is None


def test_a_range_that_was_noted_comes_back_too(tmp_path):
    transform = Compose([SensorScale(0.5), SensorScale(0.25, on="aux")])
    transform.note_range("hsi", spectra())
    transform.note_range("aux", spectra()[:, :1])
    transform.save(tmp_path / "t.safetensors")
    again = Compose.load(tmp_path / "t.safetensors")
    assert (again.in_channels(), again.in_channels("aux")) == (20, 1)
    for on, scale in (("hsi", 0.5), ("aux", 0.25)):
        np.testing.assert_array_equal(again.range(on).after, transform.range(on).after)
        np.testing.assert_allclose(again.range(on).after, np.quantile(spectra()[:, : again.in_channels(on)],
                                   (0.01, 0.25, 0.5, 0.75, 0.99), axis=0) * scale, rtol=1e-5)  # fmt: skip


def test_what_is_one_is_a_number_a_pair_or_a_sensor():
    assert maxima(np.float32(2047)) == maxima("WV3") == maxima([2047, 2047.0]) == (2047, 2047)
    for wrong in ((1, 2, 3), 0, -1, np.nan, np.inf, True, ("a", 1), None, {}):
        with pytest.raises(ValueError, match="expected a number above 0, a pair"):
            maxima(wrong)


def test_the_usual_number_that_fits_best_is_proposed():
    assert [likely(peak) for peak in (0.8, 200, 2000, 9000, 1e6)] == [1, 255, 2047, 10000, 65535]
    assert likely(4000, 0.4) == 10000
    assert likely(150, 0.6) == 255


def marked(count, seed, smooth=False):
    """Spectra of 120 bands that the air marks at the same bands everywhere."""
    bands = np.linspace(0, 1, 120)
    marks = 1 - (0 if smooth else 0.3 * np.random.default_rng(9).random(120) ** 3)
    draw = np.random.default_rng(seed)
    slope = draw.normal(0.2 * (seed % 3), 0.1, (count, 1))
    return draw.uniform(0.2, 0.4, (count, 1)) * (1 + slope * bands) * marks + draw.normal(0, 0.002, (count, 120))


@pytest.mark.parametrize("change", [lambda x: x[:, ::-1], lambda x: np.roll(x, 1, 1), lambda x: np.roll(x, 10, 1)])
def test_other_bands_are_told_by_their_peaks_and_dips(change):
    transform = Compose([Standardise(), PCA(3), Standardise()]).fit(marked(2000, 0))
    same, other = marked(300, 1), change(marked(300, 1))
    assert doubt(transform.range(), same, transform(same)) is None
    assert "peaks and dips" in doubt(transform.range(), other, transform(other)).figures


def test_noise_is_not_taken_for_peaks_and_dips():
    transform = Compose([Standardise(), PCA(3), Standardise()]).fit(marked(2000, 0, smooth=True))
    other = marked(300, 3, smooth=True)
    assert doubt(transform.range(), other, transform(other)) is None
