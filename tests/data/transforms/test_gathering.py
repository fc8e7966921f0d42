import numpy as np
import pytest

from hsmamba.data import MNF, Compose, Scene, SelectBands, Standardise
from hsmamba.errors import HsmambaWarning, SceneError


def scene(**facts):
    cube = np.random.default_rng(0).normal(5, 1, (8, 8, 6))
    cube[2, 3, 1] = np.nan
    return Scene(cube, **facts)


def test_invalid_pixels_are_refused_or_left_out():
    pixels = np.arange(64)
    with pytest.raises(SceneError, match=r"1 of the 64 pixels to fit on are invalid.*nan=\"mask\""):
        Compose([Standardise()]).fit_scene(scene(), pixels)
    fitted = Compose([Standardise()]).fit_scene(scene(), pixels, nan="mask")
    expected = np.nanmean(np.delete(scene().hsi.reshape(64, 6), 19, axis=0), axis=0)
    np.testing.assert_allclose(fitted.steps[0].state()["mean"], expected)
    with pytest.raises(SceneError, match="fit on pixels with data"):
        Compose([Standardise()]).fit_scene(scene(), [19], nan="mask")


def test_noise_is_not_estimated_beside_invalid_pixels():
    pixels = np.delete(np.arange(64), 19)
    fitted = Compose([MNF(3)]).fit_scene(scene(), pixels)
    assert np.isfinite(fitted.steps[0].state()["basis"]).all()


def test_bad_bands_are_left_out_and_named_unless_bands_are_chosen():
    bad = np.array([False, True, False, False, False, True])
    with pytest.warns(HsmambaWarning, match=r"left out 2 of 6 bands.*: 1, 5 \(from 0\)"):
        fitted = Compose([Standardise()]).fit_scene(scene(bad_bands=bad), np.arange(64))
    assert fitted.steps[0].indices == (0, 2, 3, 4) and fitted.num_features == 4
    chosen = Compose([SelectBands([0, 5]), Standardise()]).fit_scene(scene(bad_bands=bad), np.arange(64))
    assert chosen.num_features == 2


def test_the_transform_remembers_the_wavelengths(tmp_path):
    nm = np.linspace(400, 900, 6)
    Compose([SelectBands([0, 2]), Standardise()]).fit_scene(
        scene(wavelengths=nm, fwhm=np.full(6, 9.0)), np.arange(64)
    ).save(tmp_path / "t.safetensors")
    again = Compose.load(tmp_path / "t.safetensors")
    np.testing.assert_array_equal(again.wavelengths, nm)
    np.testing.assert_array_equal(again.fwhm, np.full(6, 9.0))
