"""classify: every pixel, the same in strips, numpy for numpy and xarray for xarray."""

import numpy as np
import pytest
import torch

import hsmamba
from hsmamba.data import Patches, Scene
from hsmamba.engine.classification import job as jobs
from hsmamba.engine.classification import regularise as regularise_module
from hsmamba.engine.classification import windows
from hsmamba.engine.classification.job import prepare_classification
from hsmamba.engine.classification.predict import shares, ways
from hsmamba.errors import SceneError
from hsmamba.models import as_classifier


def test_labels_and_confidence_are_the_softmax_of_each_pixel(make_model, scene, transform):
    model = make_model()
    labels, confidence = hsmamba.classify(model, scene, transform, progress=False)
    patches = Patches(transform(scene.hsi), 5)(np.arange(labels.size))
    best, cls = model.eval()(patches).softmax(1).max(1)
    np.testing.assert_array_equal(labels.ravel(), cls + 1)
    np.testing.assert_allclose(confidence.ravel(), best.detach(), rtol=1e-5)
    assert (labels.dtype, confidence.dtype) == (np.uint8, np.float32)


@pytest.mark.parametrize("patch_size", [5, 6])
def test_strips_give_what_the_whole_scene_gives(make_model, scene, transform, monkeypatch, patch_size):
    model = make_model(patch_size=patch_size)
    whole = hsmamba.classify(model, scene, transform, progress=False)
    monkeypatch.setattr(windows, "_WINDOW_BYTES", 1)
    strips = hsmamba.classify(model, scene, transform, batch_size=7, progress=False)
    np.testing.assert_array_equal(strips.labels, whole.labels)
    np.testing.assert_allclose(strips.confidence, whole.confidence, rtol=1e-5)


@pytest.mark.parametrize("nan", ["raise", "mask"])
def test_the_number_of_threads_changes_no_bit(make_model, scene, transform, monkeypatch, nan):
    monkeypatch.setattr(windows, "_WINDOW_BYTES", 1)
    if nan == "mask":
        scene.hsi[3:5, 4:9, 1] = np.nan
    model, own, results = make_model(), torch.get_num_threads(), []
    try:
        for threads in (1, 2, 3):
            torch.set_num_threads(threads)
            results.append(hsmamba.classify(model, scene, transform, nan=nan, progress=False))
            assert torch.get_num_threads() == threads
    finally:
        torch.set_num_threads(own)
    for labels, confidence in results[1:]:
        np.testing.assert_array_equal(labels, results[0].labels)
        np.testing.assert_array_equal(confidence, results[0].confidence)


@pytest.mark.parametrize("threads", [1, 2])
def test_half_precision_is_taken_where_it_changes_few_labels(make_model, scene, transform, caplog, threads):
    class Rounded(torch.nn.Module):  # names the class by the parity of a sum that half precision cannot hold
        in_chans, aux_chans, num_classes, patch_size = 4, 0, 3, 5

        def __init__(self):
            super().__init__()
            self.spread = torch.nn.Linear(4, 1, bias=False)
            torch.nn.init.constant_(self.spread.weight, 1000.3)

        def forward(self, hsi, aux=None):
            number = self.spread(hsi[:, :, 2, 2])
            odd = number.float().round().remainder(2)
            return torch.cat([odd, 1 - odd, torch.full_like(odd, -9)], 1)

    model, own = make_model(), torch.get_num_threads()
    caplog.set_level("INFO", logger="hsmamba")
    try:
        torch.set_num_threads(threads)
        exact = hsmamba.classify(model, scene, transform, progress=False)
        quick = hsmamba.classify(model, scene, transform, half=0.2, progress=False)
        assert "labels: taken" in caplog.text
        assert 0 < np.abs(exact.confidence - quick.confidence).max() < 0.05
        assert (exact.labels != quick.labels).mean() <= 0.2
        plain = hsmamba.classify(Rounded(), scene, transform, progress=False)
        caplog.clear()
        kept = hsmamba.classify(Rounded(), scene, transform, half=0.01, progress=False)
    finally:
        torch.set_num_threads(own)
    assert "labels: not taken" in caplog.text
    np.testing.assert_array_equal(kept.labels, plain.labels)
    np.testing.assert_array_equal(kept.confidence, plain.confidence)


def test_half_precision_is_judged_where_there_are_pixels(make_model, scene, transform, caplog, monkeypatch):
    caplog.set_level("INFO", logger="hsmamba")
    monkeypatch.setattr(windows, "_WINDOW_BYTES", 1)
    wanted = np.zeros(scene.shape, bool)
    wanted[1, 3:9] = True
    prepare_classification(make_model(), scene, transform, half=0.5, wanted=wanted, progress=False).arrays()
    assert "labels: taken" in caplog.text
    caplog.clear()
    none = prepare_classification(make_model(), scene, transform, half=0.5, wanted=wanted & False, progress=False)
    assert not none.arrays()[0].any() and not caplog.text


@pytest.mark.parametrize("half", [-0.1, 1.0, float("nan")])
def test_half_is_a_share(make_model, scene, transform, half):
    with pytest.raises(ValueError, match=r"share of labels that may change, 0 to below 1 \(0.001\)"):
        hsmamba.classify(make_model(), scene, transform, half=half)


def test_networks_of_the_zoo_share_their_threads_and_other_modules_do_not(make_model):
    class Own(torch.nn.Module):
        in_chans, aux_chans, num_classes, patch_size = 4, 0, 3, 5

        def forward(self, hsi, aux=None):
            return hsi.mean((2, 3))[:, :3]

    own, cpu = torch.get_num_threads(), torch.device("cpu")
    try:
        torch.set_num_threads(3)
        assert ways(make_model().eval(), cpu) == (256, 3)
        assert ways(as_classifier(Own()).eval(), cpu) == (256, 1)
        wide = make_model(dim=64, patch_size=13, in_chans=40)  # 4 x 64 channels of 11 x 11 pixels, 124 KB a patch
        assert ways(wide.eval(), cpu) == (64, 3)
        assert ways(make_model().eval(), torch.device("cuda")) == (4096, 1)
    finally:
        torch.set_num_threads(own)


SHARERS = {
    "md2f_mamba": {"in_chans": 4, "patch_size": 6, "dim": 16, "filters": 2},
    "msfmamba": {"in_chans": 9, "patch_size": 5, "d_state": 2},
    "ssftt": {"in_chans": 5, "patch_size": 7, "dim": 8, "filters": 2},
}


@pytest.mark.parametrize("strip_bytes", [1, 2**20])
@pytest.mark.parametrize("name", SHARERS)
def test_what_patches_share_is_computed_once_and_changes_nothing(monkeypatch, name, strip_bytes):
    torch.manual_seed(0)
    model = hsmamba.create_model(name, num_classes=3, **SHARERS[name]).eval()
    for norm in (x for x in model.modules() if isinstance(x, torch.nn.modules.batchnorm._BatchNorm)):
        torch.nn.init.normal_(norm.running_mean)
    rng = np.random.default_rng(1)
    hsi, aux = rng.normal(size=(23, 17, model.in_chans)), rng.normal(size=(23, 17, 1))
    scene = Scene(hsi.astype(np.float32), aux=aux.astype(np.float32) if model.aux_chans else None)
    monkeypatch.setattr(windows, "_WINDOW_BYTES", strip_bytes)
    sizes, plain = [], model.scene_maps
    monkeypatch.setattr(model, "scene_maps", lambda *x: sizes.append(x[0].shape[0]) or plain(*x))
    job = prepare_classification(model, scene, progress=False, scale=1)
    labels, confidence = job.arrays()
    assert set(sizes) == {1}  # whole rows
    monkeypatch.setattr(jobs, "shares", lambda _: False)
    patchwise = job.arrays()
    np.testing.assert_array_equal(labels, patchwise[0])
    np.testing.assert_allclose(confidence, patchwise[1], atol=1e-5)


def test_few_pixels_and_turned_patches_share_nothing(make_model, scene, transform, monkeypatch):
    monkeypatch.setattr(jobs, "shared", None)
    wanted = np.zeros(scene.shape, bool)
    wanted[5, 3:9] = True
    prepare_classification(make_model(), scene, transform, wanted=wanted, progress=False).arrays()
    hsmamba.classify(make_model(), scene, transform, tta=True, progress=False)


def test_another_forward_or_a_hook_is_called(make_model):
    model = make_model()
    assert shares(model)

    class Own(type(model)):
        def forward_features(self, hsi, aux=None):
            return 2 * super().forward_features(hsi, aux)

    model.__class__ = Own
    assert not shares(model)
    model = make_model()
    handle = model.register_forward_hook(lambda *_: None)
    assert not shares(model)
    handle.remove()
    model.forward = lambda hsi, aux=None: hsi
    assert not shares(model)
    assert not shares(hsmamba.create_model("md2f_mamba_ref", in_chans=4, num_classes=3, patch_size=5, dim=8))


def test_only_a_window_is_read_at_a_time(make_model, scene, transform, monkeypatch):
    class Counting(np.ndarray):
        largest = 0

        def __getitem__(self, key):
            part = super().__getitem__(key)
            if isinstance(key, tuple) and part.ndim == 3:
                Counting.largest = max(Counting.largest, *part.shape[:2])
            return part

    # Integers cannot be NaN, so that nothing but the windows is read.
    scene.hsi = (1000 * scene.hsi).astype(np.int16).view(Counting)
    monkeypatch.setattr(windows, "_WINDOW_BYTES", 1)
    hsmamba.classify(make_model(), scene, transform, nan="raise", scale=1e-3, progress=False)
    assert 0 < Counting.largest <= 5 + 2 * 2 + 5


def in_windows(monkeypatch, job, height, width):
    """Cut a job into windows of about this size."""
    monkeypatch.setattr(windows, "_WINDOW_BYTES", height * width * job.windows._pixel_bytes())


@pytest.mark.parametrize("size", [(1, 1), (7, 30), (1, 30), (30, 30)])
def test_a_job_gives_the_rows_of_the_whole_from_top_to_bottom(make_model, scene, transform, monkeypatch, size):
    scene.hsi[3, 4, 1] = np.nan
    model = make_model().train()
    whole = hsmamba.classify(model, scene, transform, nan="mask", progress=False)
    job = prepare_classification(model, scene, transform, nan="mask", progress=False)
    in_windows(monkeypatch, job, *size)
    rows = []
    job.run(lambda *part: rows.append(part))
    tops, labels, confidence = zip(*rows, strict=True)
    assert len(rows) == len(job.windows.cut())
    assert list(tops) == list(np.cumsum([0, *map(len, labels)])[:-1])
    np.testing.assert_array_equal(np.concatenate(labels), whole.labels)
    np.testing.assert_allclose(np.concatenate(confidence), whole.confidence, rtol=1e-5)
    assert (job.shape, job.dtype) == (scene.shape, whole.labels.dtype)
    assert model.training


@pytest.mark.parametrize("regularise", ["off", "on"])
def test_a_job_goes_on_at_a_row_that_was_written_bit_for_bit(make_model, scene, transform, monkeypatch, regularise):
    monkeypatch.setattr(regularise_module, "_ROWS", 6)
    monkeypatch.setattr(regularise_module, "STEPS", 8)
    monkeypatch.setattr(jobs, "STEPS", 8)
    job = prepare_classification(make_model(), scene, transform, regularise=regularise, progress=False)
    in_windows(monkeypatch, job, 7, 11)
    whole, rest = {}, {}
    job.run(lambda top, *rows: whole.update({top: rows}))
    assert len(whole) > 3
    for done in list(whole)[1:]:
        rest.clear()
        job.run(lambda top, *rows: rest.update({top: rows}), start=done)
        assert list(rest) == [top for top in whole if top >= done]
        for top, rows in rest.items():
            for one, other in zip(rows, whole[top], strict=True):
                np.testing.assert_array_equal(one, other)


def test_pixels_may_be_wanted_window_by_window_and_others_are_not_read(make_model, scene, transform, monkeypatch):
    whole = hsmamba.classify(make_model(), scene, transform, progress=False)
    asked = []

    def wanted(rows, columns):
        asked.append((rows, columns))
        y, x = np.mgrid[rows, columns]
        return (y > 20) & (x < 9)

    scene.hsi = (1000 * scene.hsi).astype(np.int16)
    scene.hsi[0] = 30_000  # whatever it is
    job = prepare_classification(make_model(), scene, transform, wanted=wanted, scale=1e-3, progress=False)
    in_windows(monkeypatch, job, 7, 11)
    labels, confidence = job.arrays()
    inside = wanted(slice(0, labels.shape[0]), slice(0, labels.shape[1]))
    assert len(asked) > 4 and (np.isfinite(confidence) == inside).all() and ((labels > 0) == inside).all()
    assert (labels == np.where(inside, whole.labels, 0)).mean() > 0.99


def test_a_job_of_some_pixels_leaves_the_others(make_model, scene, transform, monkeypatch):
    whole = hsmamba.classify(make_model(), scene, transform, progress=False)
    wanted = np.zeros(scene.shape, bool)
    wanted[5, 3:9] = wanted[20, 0] = True
    kept = wanted.copy()
    labels, confidence = prepare_classification(make_model(), scene, transform, wanted=wanted, progress=False).arrays()
    np.testing.assert_array_equal(labels, np.where(kept, whole.labels, 0))
    np.testing.assert_allclose(confidence, np.where(kept, whole.confidence, np.nan), rtol=1e-5)
    np.testing.assert_array_equal(wanted, kept)


def test_mode_and_device_are_left_alone(make_model, scene, transform):
    model = make_model().train()
    hsmamba.classify(model, scene, transform, device="cpu", progress=False)
    assert model.training


def test_the_transform_of_the_model_is_the_default(make_model, scene, transform):
    model = make_model()
    want = hsmamba.classify(model, scene, transform, progress=False)
    model.transform = transform
    got = hsmamba.classify(model, scene.hsi, progress=False)
    np.testing.assert_array_equal(got.labels, want.labels)


def test_averaging_over_flips_makes_the_answer_turn_with_the_scene(make_model, scene, transform):
    model = make_model()
    straight = hsmamba.classify(model, scene.hsi, transform, tta=True, progress=False)
    turned = hsmamba.classify(model, np.rot90(scene.hsi).copy(), transform, tta=True, progress=False)
    np.testing.assert_allclose(turned.confidence, np.rot90(straight.confidence), rtol=1e-4)


def test_dataarray_in_dataarray_out(make_model, scene, transform):
    xr = pytest.importorskip("xarray")
    rioxarray = pytest.importorskip("rioxarray")
    assert rioxarray
    height, width = scene.shape
    coords = {"y": np.arange(height)[::-1] * 30.0 + 15, "x": np.arange(width) * 30.0}
    hsi = xr.DataArray(scene.hsi, dims=("y", "x", "band"), coords=coords)
    hsi = hsi.rio.write_crs("EPSG:32616")
    labels, confidence = hsmamba.classify(make_model(), hsi, transform, progress=False)
    assert labels.rio.crs == "EPSG:32616"
    np.testing.assert_array_equal(labels.y, hsi.y)
    plain = hsmamba.classify(make_model(), scene.hsi, transform, progress=False)
    np.testing.assert_array_equal(labels.values, plain.labels)
    np.testing.assert_array_equal(confidence.values, plain.confidence)


def test_pixels_that_are_not_finite(make_model, scene, transform):
    scene.hsi[3, 4, 1] = np.nan
    with pytest.raises(SceneError, match=r'1 of \d+ pixels.*nan="mask"'):
        hsmamba.classify(make_model(), scene, transform, progress=False)
    labels, confidence = hsmamba.classify(make_model(), scene, transform, nan="mask", progress=False)
    assert labels[3, 4] == 0
    assert np.isnan(confidence[3, 4])
    assert (labels > 0).sum() == labels.size - 1
    assert np.isfinite(confidence).sum() == labels.size - 1


def test_a_scene_that_does_not_fit_is_told_why(make_model, scene, transform):
    model = make_model()
    other = Scene(scene.hsi[..., :7], wavelengths=np.linspace(400, 1000, 7))
    with pytest.raises(SceneError, match=r"hsi has 7 bands \(400 to 1000 nm\), the transform of the model takes 12"):
        hsmamba.classify(model, other, transform)
    with pytest.raises(SceneError, match="hsi has 12 bands, the model takes 4"):
        hsmamba.classify(model, scene)
    with pytest.raises(SceneError, match="4 x 30 pixels, smaller than the model's 5 x 5"):
        hsmamba.classify(model, scene.hsi[:4], transform)
    with pytest.raises(TypeError, match="patch_size"):
        hsmamba.classify(torch.nn.Linear(3, 3), scene)
