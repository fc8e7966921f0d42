"""Transforms: independence of chunks, fitting on scenes, round trips, refusals."""

import hashlib
import json
import os

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from safetensors import safe_open
from safetensors.numpy import load_file, save_file

from hsmamba.data import MNF, PCA, Compose, MinMax, PatchDataset, Scene, SelectBands, SensorScale, Standardise, Step
from hsmamba.errors import ManifestError, SceneError, WeightsError
from tests.data.transforms.samples import BANDS, STEP_LISTS, pixels
from tests.refusals import refused

test_misuse_is_refused = refused(
    (lambda: Compose([Standardise()])(pixels()), ValueError, ["standardise is not fitted", "fit"]),
    (lambda: Compose([Standardise()]).fit(pixels())(pixels(bands=9)), SceneError, ["expects 12", "got 9"]),
    (lambda: Compose([MinMax()]).fit(pixels())(pixels(), on="sar"), ValueError, ["'sar'"]),
    (lambda: Compose([MinMax(on="aux")]).fit(pixels()), ValueError, ["aux_pixels"]),
    (lambda: Compose([SelectBands([12])]).fit(pixels()), SceneError, ["band 12", "0..11"]),
    (lambda: Compose([Standardise()]).save("x.safetensors"), ValueError, ["not fitted"]),
    (lambda: Compose([]).out_channels(), ValueError, ["in_channels"]),
)


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


def test_a_transform_is_fitted_on_the_items_of_several_scenes():
    generator = np.random.default_rng(0)
    scenes = [
        Scene(generator.normal(k, 1, (6, 7, 4)), np.ones((6, 7), int), generator.normal(k, 2, (6, 7, 2)), ("a",))
        for k in range(3)
    ]
    items = np.r_[3:20, 50, 90:126]
    transform = Compose([Standardise(), MNF(2, window=3), Standardise(on="aux")]).fit_scene(scenes, items)
    dataset = PatchDataset(scenes, Compose([SelectBands([0, 1, 2, 3])]).fit(scenes[0].hsi.reshape(-1, 4)), 1)
    hsi = dataset.batch(items)[0][:, :, 0, 0].numpy()
    np.testing.assert_allclose(transform.steps[0](hsi).mean(0), 0, atol=1e-6)
    alone = Compose([Standardise(), MNF(2, window=3), Standardise(on="aux")]).fit_scene(scenes[0], items[:17])
    same = Compose([Standardise(), MNF(2, window=3), Standardise(on="aux")]).fit_scene(scenes, items[:17])
    np.testing.assert_array_equal(alone(scenes[0].hsi), same(scenes[0].hsi))
    with pytest.raises(SceneError, match=r"0\.\.125"):
        transform.fit_scene(scenes, [126])


def rewritten(path, config=None, **arrays):
    """Write a transform's file anew with another configuration and other arrays; None leaves one out."""
    with safe_open(path, framework="numpy") as file:
        header = json.loads(file.metadata()["hsmamba"])
    held = {name: array for name, array in (load_file(path) | arrays).items() if array is not None}
    save_file(held, path, {"hsmamba": json.dumps(header | {"config": header["config"] | (config or {})})})


STEPS_OF_SAVED = [
    {"kind": "standardise", "on": "hsi"},
    {"kind": "pca", "n_components": 3, "whiten": False, "on": "hsi"},
]


@pytest.mark.parametrize(
    ("arrays", "told"),
    [
        ({"0.mean": np.full(BANDS, np.nan)}, "mean is float64, or not finite"),
        ({"0.mean": np.zeros(BANDS, np.float32)}, "mean is float32"),
        ({"0.mean": np.zeros(BANDS + 1)}, r"std has the shape \(12,\), expected \(13,\)"),
        ({"0.std": np.zeros(BANDS)}, "std is not above 0"),
        ({"1.basis": np.zeros((4, BANDS))}, r"basis has the shape \(4, 12\), expected \(3, 12\)"),
        ({"1.mean": np.zeros(9), "1.basis": np.zeros((3, 9))}, "fitted on 9 bands, got 12"),
        ({"1.mean": None}, r"pca has the arrays \['basis', 'variance'\]"),
        ({"2.mean": np.zeros(BANDS)}, r"2\.mean belong to nothing in it"),
        ({"range.hsi.before": np.zeros((5, BANDS + 1))}, r"range\.hsi\.before is float64 \(5, 13\), expected finite"),
        ({"range.hsi.after": np.full((5, 3), np.nan)}, r"range\.hsi\.after is float64 \(5, 3\), expected finite"),
        ({"wavelengths": np.zeros(BANDS - 1)}, r"wavelengths is float64 \(11,\), expected finite float64 \(12,\)"),
    ],
)
def test_arrays_that_no_fit_gives_are_refused(saved, arrays, told):
    rewritten(saved, **arrays)
    with pytest.raises(ManifestError, match=told):
        Compose.load(saved)


@pytest.mark.parametrize(
    ("config", "told"),
    [
        ({"in_channels": {"hsi": 11}}, "fitted on 12 bands, got 11"),
        ({"in_channels": {"hsi": 12.0}}, "12.0 for 'hsi'"),
        ({"in_channels": {"hsi": True}}, "True for 'hsi'"),
        ({"in_channels": {"sar": 12}}, "12 for 'sar'"),
        ({"in_channels": {"hsi": 10**400}}, "no readable transform"),
        ({"steps": [STEPS_OF_SAVED[0], STEPS_OF_SAVED[1] | {"n_components": 3.5}]}, "n_components"),
        ({"steps": [STEPS_OF_SAVED[0], STEPS_OF_SAVED[1] | {"n_components": 10**9}]}, "expected"),
        ({"steps": [STEPS_OF_SAVED[0], STEPS_OF_SAVED[1] | {"whiten": 0}]}, "whiten"),
        ({"steps": {"0": 1}}, "no readable transform"),
        ({"steps": [*STEPS_OF_SAVED, {"kind": "sensor_scale", "scale": 10**400}]}, "no readable transform"),
        ({"steps": [*STEPS_OF_SAVED, {"kind": "select_bands", "indices": [1.5]}]}, "select_bands|indices"),
    ],
)
def test_steps_that_no_transform_has_are_refused(saved, config, told):
    rewritten(saved, config)
    with pytest.raises(ManifestError, match=told):
        Compose.load(saved)


def test_a_pipe_is_no_transform_and_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "transform.safetensors")
    with pytest.raises(WeightsError, match=r"there is no transform file .*\(a pipe\)"):
        Compose.load(tmp_path / "transform.safetensors")
