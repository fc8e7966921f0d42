"""Transforms: what the steps compute, independence of chunks, round trips, refusals."""

import hashlib
import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import load_file, save_file
from scipy import ndimage

from hsmamba.data import (
    MNF,
    PCA,
    Blank,
    Compose,
    MinMax,
    Scene,
    SelectBands,
    SensorScale,
    Standardise,
    Step,
    neighbour_pairs,
)
from hsmamba.data.steps import STEPS
from hsmamba.errors import ManifestError, SceneError, WeightsError

BANDS = 12


def pixels(count=200, bands=BANDS, seed=0, dtype=np.uint16):
    generator = np.random.default_rng(seed)
    mixing = generator.normal(size=(bands, bands))
    return (2000 + 300 * generator.normal(size=(count, bands)) @ mixing).clip(0, 60000).astype(dtype)


STEP_LISTS = {
    "pca": lambda: [Standardise(), PCA(5), Standardise()],
    "whitened": lambda: [SelectBands([11, 0, 3, 4, 5]), SensorScale(1e-4, 0.5), PCA(3, whiten=True)],
    "min_max": lambda: [MinMax()],
    "nothing": list,
}


def test_standardise_gives_mean_0_and_deviation_1():
    data = pixels()
    data[:, 4] = 1234
    result = Standardise().fit(data)(data)
    assert result.dtype == np.float32
    assert np.allclose(result.mean(0), 0, atol=1e-6)
    assert np.allclose(result.std(0), np.arange(BANDS) != 4, atol=1e-5)


def test_a_constant_float_band_stays_0_despite_rounding():
    data = np.column_stack([np.full(1000, 0.1), np.linspace(0, 1, 1000)])
    assert np.abs(Standardise().fit(data)(data)[:, 0]).max() < 1e-6


def test_min_max_maps_the_range_to_0_1():
    data = pixels()
    data[:, 2] = 7
    result = MinMax().fit(data)(data)
    assert np.array_equal(result.min(0), np.zeros(BANDS))
    assert np.array_equal(result.max(0), np.arange(BANDS) != 2)
    assert MinMax().fit(data[:2])(data).max() > 1


def test_sensor_scale_and_band_selection_need_no_fit():
    data = pixels(3)
    assert np.array_equal(SensorScale(0.5, -1)(data), (data * 0.5 - 1).astype(np.float32))
    assert SensorScale(1 / 2047)(np.array([2047])) == 1
    assert np.array_equal(SelectBands([5, 0])(data), data[:, [5, 0]])


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


@settings(deadline=None)
@given(
    name=st.sampled_from(sorted(STEP_LISTS)),
    height=st.integers(1, 40),
    width=st.integers(1, 60),
    cuts=st.lists(st.integers(0, 40), max_size=4),
    dtype=st.sampled_from([np.uint16, np.float32, np.float64]),
)
def test_chunks_give_the_bits_of_the_whole(name, height, width, cuts, dtype):
    transform = Compose(STEP_LISTS[name]()).fit(pixels())
    cube = pixels(height * width, seed=height, dtype=dtype).reshape(height, width, BANDS)
    whole = transform(cube)
    parts = [transform(part) for part in np.split(cube, sorted(min(cut, height) for cut in cuts))]
    assert whole.dtype == np.float32
    assert np.concatenate(parts).tobytes() == whole.tobytes()
    assert transform(cube[-1, -1]).tobytes() == whole[-1, -1].tobytes()
    assert transform(np.asfortranarray(cube)).tobytes() == whole.tobytes()
    assert transform(cube.swapaxes(0, 1)).swapaxes(0, 1).tobytes() == whole.tobytes()


def test_a_large_cube_goes_through_strip_by_strip():
    class Widest(Step):
        kind = "widest"
        seen = 0

        def _apply(self, array):
            self.seen = max(self.seen, array.nbytes)
            return array.astype(np.float32)

    step = Widest()
    cube = np.zeros((4000, 100, 20), np.uint16)
    assert Compose([step])(cube).shape == cube.shape
    assert 0 < step.seen <= 2**22 < cube.nbytes


@pytest.mark.parametrize("name", sorted(STEP_LISTS))
def test_saved_and_loaded_is_the_same_bit_for_bit(name, tmp_path):
    steps = STEP_LISTS[name]()
    transform = Compose([*steps, SensorScale(2.0, on="aux"), MinMax(on="aux")]).fit(pixels(), pixels(bands=2))
    transform.save(tmp_path / "transform.safetensors")
    again = Compose.load(tmp_path / "transform.safetensors")
    cube, aux = pixels(50, seed=3).reshape(5, 10, BANDS), pixels(50, 2).reshape(5, 10, 2)
    assert again(cube).tobytes() == transform(cube).tobytes()
    assert again(aux, on="aux").tobytes() == transform(aux, on="aux").tobytes()
    assert repr(again) == repr(transform) and again.num_features == transform.num_features
    assert (again.in_channels(), again.in_channels("aux")) == (BANDS, 2)
    again.save(tmp_path / "again.safetensors")
    digests = {hashlib.sha256(path.read_bytes()).hexdigest() for path in tmp_path.iterdir()}
    assert len(digests) == 1 and len(list(tmp_path.iterdir())) == 2


def test_fitting_twice_gives_the_same_bits():
    one, two = (Compose([Standardise(), PCA(4, whiten=True)]).fit(pixels())(pixels()) for _ in range(2))
    assert one.tobytes() == two.tobytes()


def test_channels_are_known_from_end_to_end():
    transform = Compose([SelectBands([0, 1, 5, 7]), Standardise(), PCA(3), SensorScale(0.1, on="aux")])
    with pytest.raises(ValueError, match="not fitted"):
        transform.out_channels()
    transform.fit(pixels(), pixels(bands=4))
    assert (transform.num_features, transform.out_channels(on="aux")) == (3, 4)
    assert transform.input_bands().tolist() == [0, 1, 5, 7]
    assert transform.input_bands("aux").tolist() == [0, 1, 2, 3]


def test_bad_bands_that_are_not_selected_do_not_matter():
    data = pixels(dtype=np.float64)
    data[:, 3] = np.nan
    good = [band for band in range(BANDS) if band != 3]
    transform = Compose([SelectBands(good), Standardise(), PCA(2)]).fit(data)
    assert np.isfinite(transform(data)).all()
    assert transform.input_bands().tolist() == good


def test_nan_stays_nan():
    data = pixels(dtype=np.float32)
    transform = Compose([Standardise(), PCA(3)]).fit(data)
    data[4, 2] = np.nan
    assert np.isnan(transform(data)).all(axis=1).nonzero()[0].tolist() == [4]


@pytest.mark.parametrize(
    ("make", "error", "words"),
    [
        (lambda: Compose([Standardise()])(pixels()), ValueError, ["standardise is not fitted", "fit"]),
        (lambda: Compose([Standardise()]).fit(pixels())(pixels(bands=9)), SceneError, ["expects 12", "got 9"]),
        (lambda: PCA(2).fit(pixels())(pixels(bands=9)), SceneError, ["12", "got 9"]),
        (lambda: PCA(13).fit(pixels()), SceneError, ["13 components", "12 bands", "at most 12"]),
        (lambda: PCA(5).fit(pixels(4)), SceneError, ["4 pixels", "at most 3", "unlabelled"]),
        (lambda: PCA(3, whiten=True).fit(np.outer(np.arange(9.0), np.ones(5))), SceneError, ["1 directions", "=1"]),
        (lambda: PCA(0), ValueError, ["n_components is 0"]),
        (lambda: Standardise().fit(np.array([[1.0, np.nan], [1, 1]])), SceneError, ["1 of 2 pixels"]),
        (lambda: Standardise().fit(pixels(0)), SceneError, ["(0, 12)"]),
        (lambda: Standardise(on="sar"), ValueError, ["'sar'", "aux"]),
        (lambda: Compose([MinMax()]).fit(pixels())(pixels(), on="sar"), ValueError, ["'sar'"]),
        (lambda: Compose([MinMax(on="aux")]).fit(pixels()), ValueError, ["aux_pixels"]),
        (lambda: Compose([SelectBands([12])]).fit(pixels()), SceneError, ["band 12", "0..11"]),
        (lambda: SelectBands([]), ValueError, ["one band index"]),
        (lambda: SelectBands([-1]), ValueError, ["(-1,)"]),
        (lambda: SensorScale(0), ValueError, ["scale is 0"]),
        (lambda: Compose([Standardise()]).save("x.safetensors"), ValueError, ["not fitted"]),
        (lambda: Compose([]).out_channels(), ValueError, ["in_channels"]),
    ],
)
def test_misuse_is_refused(make, error, words):
    with pytest.raises(error) as caught:
        make()
    for word in words:
        assert word in str(caught.value)


@pytest.fixture
def saved(tmp_path):
    path = tmp_path / "transform.safetensors"
    Compose([Standardise(), PCA(3)]).fit(pixels()).save(path)
    return path


def rewrite(path, **changes):
    """Write the file anew with another header."""
    header = {"kind": "transform", "schema": 1, "config": {"steps": [], "in_channels": {}}} | changes
    save_file(load_file(path), path, {"hsmamba": json.dumps(header)})


def test_files_that_cannot_be_read_are_refused(saved):
    whole = saved.read_bytes()
    for damaged in (whole[: len(whole) // 2], b"", b"PK\x03\x04" + whole):
        saved.write_bytes(damaged)
        with pytest.raises(WeightsError, match="no readable safetensors file"):
            Compose.load(saved)
    with pytest.raises(WeightsError, match="there is no transform file"):
        Compose.load(saved.with_name("other.safetensors"))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"schema": 2}, ["schema 2", "upgrade"]),
        ({"kind": "split"}, ["holds a split"]),
        ({"config": {"steps": [{"kind": "wavelet", "on": "hsi"}], "in_channels": {}}}, ["'wavelet'", "pca"]),
        ({"config": {"steps": [{"kind": "min_max", "on": "hsi"}], "in_channels": {}}}, ["min_max", "['low', 'span']"]),
        ({"config": {"steps": [{"kind": "pca", "components": 3}], "in_channels": {}}}, ["components"]),
        ({"config": {}}, ["steps"]),
    ],
)
def test_headers_of_another_kind_or_version_are_refused(saved, changes, words):
    rewrite(saved, **changes)
    with pytest.raises(ManifestError) as error:
        Compose.load(saved)
    for word in words:
        assert word in str(error.value)


def test_a_file_without_our_header_is_refused(saved):
    save_file(load_file(saved), saved)
    with pytest.raises(ManifestError, match="no hsmamba header"):
        Compose.load(saved)


def test_a_failed_save_leaves_the_old_file(saved, monkeypatch):
    before = saved.read_bytes()
    monkeypatch.setattr("pathlib.Path.replace", lambda *_: (_ for _ in ()).throw(OSError("disk full")))
    with pytest.raises(OSError, match="disk full"):
        Compose([MinMax()]).fit(pixels()).save(saved)
    assert saved.read_bytes() == before
    assert [path.name for path in saved.parent.iterdir()] == [saved.name]


def test_every_kind_of_step_is_named_after_its_entry():
    assert {kind: step.kind for kind, step in STEPS.items()} == {kind: kind for kind in STEPS}


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


@pytest.mark.parametrize("window", [3, 5])
def test_neighbour_pairs_lie_side_by_side_in_the_windows(window):
    rows, columns = np.mgrid[:9, :11]
    where = np.stack([rows, columns], axis=-1)
    pairs = neighbour_pairs(where, [3 * 11 + 4], window)
    assert len(pairs) == 2 * window * (window - 1)
    assert (np.abs(pairs[:, 0] - pairs[:, 1]).sum(axis=1) == 1).all()
    assert pairs.min(axis=(0, 1)).tolist() == [3 - window // 2, 4 - window // 2]
    assert len(np.unique(pairs.reshape(len(pairs), -1), axis=0)) == len(pairs)
    assert neighbour_pairs(where, [0], 3).shape == (4, 2, 2)


def test_fit_scene_takes_each_source_by_itself():
    rng = np.random.default_rng(0)
    scene = Scene(rng.normal(size=(8, 9, 5)), aux=rng.normal(3, 2, (8, 9, 2)))
    transform = Compose([Standardise(), Standardise(on="aux")]).fit_scene(scene, np.arange(72))
    for on, array in (("hsi", scene.hsi), ("aux", scene.aux)):
        np.testing.assert_allclose(transform(array, on).mean((0, 1)), 0, atol=1e-6)


def test_a_dataarray_keeps_its_grid_and_crs():
    xr = pytest.importorskip("xarray")
    pytest.importorskip("rioxarray")
    coords = {"y": [30.0, 20.0, 10.0], "x": [5.0, 15.0], "band": np.arange(BANDS)}
    cube = xr.DataArray(pixels(6).reshape(3, 2, BANDS), dims=("y", "x", "band"), coords=coords)
    cube = cube.rio.write_crs("EPSG:32633")
    transform = Compose([Standardise(), PCA(4)]).fit(pixels())
    out = transform(cube)
    assert (out.dims, out.shape, out.rio.crs) == (("y", "x", "band"), (3, 2, 4), "EPSG:32633")
    np.testing.assert_array_equal(out.y, cube.y)
    np.testing.assert_array_equal(out.values, transform(cube.values))


def test_blank_leaves_one_source_out(tmp_path):
    pixels, heights = np.random.default_rng(0).normal(size=(2, 20, 4))
    transform = Compose([Standardise(), Blank(on="aux")]).fit(pixels, heights)
    transform.save(tmp_path / "transform.safetensors")
    for one in (transform, Compose.load(tmp_path / "transform.safetensors")):
        assert not one(heights, on="aux").any() and one(heights, on="aux").dtype == np.float32
        np.testing.assert_allclose(one(pixels).std(0), 1, atol=1e-6)
