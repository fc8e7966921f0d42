"""PCA and MNF: scikit-learn's figures, signs, order by signal-to-noise ratio."""

import tracemalloc

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import ndimage

from hsmamba.data import MNF, PCA, Compose, MinMax, Scene, Standardise, neighbour_pairs
from hsmamba.data.transforms.components import _regression_noise, project
from hsmamba.errors import SceneError
from tests.data.transforms.samples import pixels
from tests.refusals import refused


def test_pca_agrees_with_scikit_learn_up_to_sign():
    decomposition = pytest.importorskip("sklearn.decomposition", reason="needs scikit-learn")
    data = pixels().astype(np.float64)
    for whiten in (False, True):
        oracle = decomposition.PCA(4, whiten=whiten, svd_solver="full").fit(data)
        ours = PCA(4, whiten=whiten).fit(data)
        assert np.allclose(ours.state()["variance"], oracle.explained_variance_)
        assert np.allclose(np.abs(ours(data)), np.abs(oracle.transform(data)), rtol=1e-4, atol=1e-3)


def test_the_sign_of_a_component_is_that_of_its_largest_loading():
    basis = PCA(6).fit(pixels()).state()["basis"]
    assert np.allclose(basis @ basis.T, np.eye(6))
    assert (np.take_along_axis(basis, np.abs(basis).argmax(1)[:, None], 1) > 0).all()


def _noisy_scene(seed=0, shape=(30, 40), bands=12, noise=1.0):
    """A smooth signal in three directions, and white noise of very different strength by band."""
    rng = np.random.default_rng(seed)
    smooth = ndimage.gaussian_filter(rng.normal(size=(*shape, 3)), (4, 4, 0)) * 200
    loud = rng.normal(size=(*shape, bands)) * np.linspace(0.1, 9, bands)
    return Scene(smooth @ rng.normal(size=(3, bands)) + noise * loud)


def test_mnf_orders_components_by_signal_to_noise_ratio():
    scene = _noisy_scene()
    pixels = np.arange(0, 1200, 7)
    transform = Compose([MNF(6, window=3)]).fit_scene(scene, pixels)
    out = transform(scene.hsi).astype(float)
    pairs = neighbour_pairs(scene.hsi, pixels, 3)
    noise = (transform(pairs[:, 0]) - transform(pairs[:, 1])).std(axis=0)
    ratio = out.reshape(-1, 6)[pixels].std(axis=0) / noise
    assert (np.diff(ratio) <= 1e-6).all()
    assert ratio[2] > 2 * ratio[3]
    np.testing.assert_allclose(noise, noise.mean(), rtol=1e-3)  # white noise, as its name says
    assert out.reshape(-1, 6)[pixels].var(axis=0, ddof=1).mean() == pytest.approx(1, rel=1e-4)
    # PCA is blind to noise: its components cannot have higher ratios, and here the third has a lower one.
    pca = Compose([PCA(3)]).fit_scene(scene, pixels)
    theirs = pca(scene.hsi).reshape(-1, 3)[pixels].std(axis=0) / (pca(pairs[:, 0]) - pca(pairs[:, 1])).std(axis=0)
    assert theirs.min() < 0.9 * ratio[2]


def test_mnf_does_not_care_for_the_scale_of_bands():
    scene = _noisy_scene(1)
    pixels = np.arange(0, 1200, 5)
    plain = Compose([MNF(3)]).fit_scene(scene, pixels)(scene.hsi)
    scaled = Compose([Standardise(), MNF(3)]).fit_scene(scene, pixels)(scene.hsi)
    for a, b in zip(plain.reshape(-1, 3).T, scaled.reshape(-1, 3).T, strict=True):
        assert abs(np.corrcoef(a, b)[0, 1]) > 0.99


def test_mnf_needs_neighbours():
    with pytest.raises(ValueError, match="fit_scene"):
        Compose([MNF(2)]).fit(np.random.default_rng(0).normal(size=(9, 4)))
    with pytest.raises(ValueError, match="window 1"):
        MNF(2, window=1)


test_misuse_is_refused = refused(
    (lambda: PCA(2).fit(pixels())(pixels(bands=9)), SceneError, ["12", "got 9"]),
    (lambda: PCA(13).fit(pixels()), SceneError, ["13 components", "12 bands", "at most 12"]),
    (lambda: PCA(5).fit(pixels(4)), SceneError, ["4 pixels", "at most 3", "unlabelled"]),
    (lambda: PCA(3, whiten=True).fit(np.outer(np.arange(9.0), np.ones(5))), SceneError, ["1 directions", "=1"]),
    (lambda: PCA(0), ValueError, ["n_components is 0"]),
    (lambda: MNF(4, shapes=4), ValueError, ["shapes is 4", "from 0 to 3"]),
    (lambda: MNF(4, spectral=1, shapes=1), ValueError, ["spectral 1", "one of the two"]),
)


def test_spectral_components_take_what_a_regression_on_the_other_bands_leaves_for_noise():
    """A texture in which all neighbours differ is noise to the differences, and signal to the regression."""
    generator = np.random.default_rng(0)
    texture = generator.normal(size=(30, 30, 2)) @ generator.normal(size=(2, 12))
    loud = np.linspace(0.02, 0.3, 12)
    scene = Scene(texture + generator.normal(size=(30, 30, 12)) * loud)
    transform = Compose([MNF(8, spectral=3)]).fit_scene(scene, np.arange(900))
    values = transform(scene.hsi).reshape(-1, 8)
    np.testing.assert_allclose([values[:, :5].var(0, ddof=1).mean(), values[:, 5:].var(0, ddof=1).mean()], 1, rtol=1e-4)
    rests = []
    for columns in (slice(0, 2), slice(5, 7)):  # of the texture, what two components leave
        design = np.c_[np.ones(900), values[:, columns]]
        rests.append(np.std(texture.reshape(900, 12) - design @ np.linalg.lstsq(design, texture.reshape(900, 12))[0]))
    assert rests[1] < 0.1 < 0.3 < rests[0]
    plain = Compose([MNF(5)]).fit_scene(scene, np.arange(900))
    np.testing.assert_array_equal(values[:, :5], plain(scene.hsi).reshape(-1, 5))


def test_bands_and_shapes_have_components_of_their_own(tmp_path):
    generator = np.random.default_rng(0)
    smooth = ndimage.gaussian_filter(generator.normal(size=(30, 30, 3)), (3, 3, 0)) @ generator.normal(size=(3, 12))
    scene = Scene(5 + smooth + generator.normal(size=(30, 30, 12)) * 0.1)
    transform = Compose([MNF(7, shapes=3)]).fit_scene(scene, np.arange(900))
    values = transform(scene.hsi)
    parts = []
    for count, bands in ((4, slice(6)), (3, slice(6, 12))):
        half = Scene(scene.hsi[..., bands])
        parts.append(Compose([MNF(count)]).fit_scene(half, np.arange(900))(half.hsi))
    np.testing.assert_allclose(values, np.concatenate(parts, axis=2), rtol=1e-4, atol=1e-5)
    transform.save(tmp_path / "transform.safetensors")
    assert np.array_equal(Compose.load(tmp_path / "transform.safetensors")(scene.hsi), values)


def test_the_noise_of_a_regression_is_that_of_its_residuals():
    data = pixels(500, 6).astype(np.float64)
    residuals = np.empty_like(data)
    for band in range(6):
        design = np.c_[np.ones(500), np.delete(data, band, 1)]
        residuals[:, band] = data[:, band] - design @ np.linalg.lstsq(design, data[:, band])[0]
    np.testing.assert_allclose(_regression_noise(np.cov(data.T)), np.cov(residuals.T), rtol=1e-3)


@given(st.integers(0, 700), st.integers(1, 40), st.integers(1, 300), st.sampled_from([np.int16, np.uint16, np.float32]))
def test_a_projection_is_its_formula_and_the_same_bits_in_any_block(count, channels, bands, dtype):
    generator = np.random.default_rng(count)
    spectra = (3000 + 400 * generator.normal(size=(count, bands))).astype(dtype)
    weights, mean = generator.normal(size=(bands, channels)), generator.normal(3000, 100, size=bands)
    found = project(spectra, weights, mean)
    expected = (spectra.astype(np.float64) - mean) @ weights
    assert found.dtype == np.float32 and found.shape == (count, channels)
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5 * np.abs(expected).max(initial=0))
    cut = count // 3
    parts = [project(part, weights, mean) for part in (spectra[:cut], spectra[cut:])]
    assert np.concatenate(parts).tobytes() == found.tobytes()


def test_a_fit_holds_no_copy_in_double_precision():
    data = np.random.default_rng(0).normal(size=(100_000, 40)).astype(np.float32)
    pairs = {"hsi": np.stack([data[:-1], data[1:]], axis=1)}
    for steps in ([Standardise()], [MinMax()], [PCA(3)], [MNF(3, spectral=1)]):
        tracemalloc.start()
        try:
            Compose(steps).fit(data, neighbours=pairs)
            peak = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
        assert peak < 1.5 * data.nbytes, steps  # of which 20 000 pixels are looked at for their quantiles


def test_a_cube_is_transformed_with_little_beside_the_result():
    cube = np.random.default_rng(0).integers(0, 4000, (300, 400, 30)).astype(np.int16)
    transform = Compose([Standardise(), PCA(5)]).fit(cube[0])
    for image in (cube, cube.transpose(1, 0, 2)):
        tracemalloc.start()
        try:
            result = transform(image)
            peak = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
        assert peak < result.nbytes + 2**23
