import numpy as np
import pytest

from hsmamba.data import PCA, Compose, Standardise
from hsmamba.data.units import doubt, top

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
