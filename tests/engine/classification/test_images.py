"""Networks of whole images: classified at once or in windows, trained on their training pixels alone."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

import hsmamba
from hsmamba.data import Compose, PatchDataset, Standardise, leakage
from hsmamba.engine.classification import images, runs
from hsmamba.engine.classification.images import cut_image, filled, fits_whole, pixel_probabilities, read_around
from hsmamba.engine.classification.job import prepare_classification
from hsmamba.engine.parallel import Group
from hsmamba.errors import HsmambaWarning, SceneError, TrainingError, WeightsError
from hsmamba.sklearn import SceneClassifier

QUICK = {"epochs": 3, "lr": 1e-2, "warmup_epochs": 0, "progress": False}


@pytest.fixture
def make_dense():
    def make(**kwargs):
        torch.manual_seed(0)
        sizes = {"in_chans": 12, "num_classes": 3, "dim": 8, "neck_dim": 8, "d_state": 2, "window": 64}
        return hsmamba.create_model("mambahsi", **sizes | kwargs)

    return make


@pytest.fixture
def model(make_dense, scene):
    network = make_dense().eval()
    network.transform = Compose([Standardise()]).fit_scene(scene, np.arange(720))
    return network


def states_equal(a, b):
    return all(torch.equal(x, y) for x, y in zip(a.state_dict().values(), b.state_dict().values(), strict=True))


def network_on(model, cube):
    """What the network itself makes of an image: probabilities (H, W, K)."""
    with torch.no_grad():
        return model(torch.from_numpy(model.transform(cube)).permute(2, 0, 1)[None])[0].softmax(0).permute(1, 2, 0)


@given(st.integers(1, 300), st.integers(1, 300), st.integers(8, 64))
def test_the_parts_of_an_image_cover_it_and_are_no_larger_than_a_window(height, width, window):
    seen = np.zeros((height, width), int)
    rows = cut_image((height, width), window)
    assert fits_whole((height, width), window) == (rows == [[(slice(0, height), slice(0, width))]])
    for place in (place for row in rows for place in row):
        seen[place] += 1
        sides = [read_around(part, window, length) for part, length in zip(place, seen.shape, strict=True)]
        sizes = [side.stop - side.start for side in sides]
        assert fits_whole(seen.shape, window) or max(sizes) <= window + 1
    assert (seen == 1).all()
    assert all(row[0][0].start == stop for row, stop in zip(rows[1:], (row[0][0].stop for row in rows), strict=False))


def test_a_scene_goes_through_the_network_at_once(model, scene):
    labels, confidence = hsmamba.classify(model, scene, progress=False)
    want = network_on(model, scene.hsi)
    np.testing.assert_array_equal(labels, want.argmax(-1) + 1)
    np.testing.assert_allclose(confidence, want.amax(-1), rtol=1e-5)


def test_a_large_scene_goes_through_it_in_windows_and_one_is_told(model, scene):
    model.window = 20
    with pytest.warns(HsmambaWarning, match="24 x 30 pixels, more than a window of 20 x 20.*overlap by 4 pixels"):
        labels, confidence = hsmamba.classify(model, scene, progress=False)
    (top, left), (bottom, right) = (slice(0, 12), slice(0, 15)), (slice(12, 24), slice(15, 30))
    want = network_on(model, scene.hsi[:14, :17])[:12, :15]
    np.testing.assert_array_equal(labels[top, left], want.argmax(-1) + 1)
    np.testing.assert_allclose(confidence[bottom, right], network_on(model, scene.hsi[10:, 13:])[2:, 2:].amax(-1), 1e-5)


def test_the_rows_that_are_left_are_those_of_a_whole_run(model, scene):
    model.window = 20
    with pytest.warns(HsmambaWarning, match="windows"):
        job = prepare_classification(model, scene, progress=False)
    whole, rest = job.arrays()[0], []
    job.run(lambda top, labels, _: rest.append((top, labels)), start=12)
    assert [top for top, _ in rest] == [12]
    np.testing.assert_array_equal(rest[0][1], whole[12:])


def test_an_image_that_does_not_fit_into_memory_is_refused(model, scene, split, monkeypatch):
    monkeypatch.setattr(images, "available_bytes", lambda: 1000)
    hsmamba.classify(model, scene, progress=False)  # so few pixels always fit
    monkeypatch.setattr(images, "_FEW", 0)
    with pytest.raises(SceneError, match=r"720 pixels at once.*set model\.window = (\d+) or less"):
        hsmamba.classify(model, scene, progress=False)
    with pytest.raises(SceneError, match="pixels at once"):
        hsmamba.evaluate(model, PatchDataset(scene, model.transform, 1), split)


def test_turns_and_flips_are_those_of_the_image(model, scene):
    got = hsmamba.classify(model, scene, tta=True, progress=False).confidence
    views = []
    for turns in range(4):
        for mirrored in (False, True):
            view = np.rot90(scene.hsi, turns)
            found = network_on(model, view[:, ::-1].copy() if mirrored else view.copy()).numpy()
            views.append(np.rot90(found[:, ::-1] if mirrored else found, -turns))
    np.testing.assert_allclose(got, np.mean(views, axis=0).max(-1), rtol=1e-5)


@pytest.mark.parametrize("window", [64, 20])
@pytest.mark.filterwarnings("ignore:the scene has")
def test_pixels_without_data_have_no_label_and_the_mean_stands_for_them(model, scene, window):
    model.window = window
    cubes = [np.array(scene.hsi) for _ in range(2)]
    hole = slice(3, 6), slice(10, 20)
    cubes[0][hole] = np.nan
    cubes[1][hole] = 1e30
    cubes[1][(*hole, 0)] = np.inf
    found = [hsmamba.classify(model, replace(scene, hsi=cube), nan="mask", progress=False) for cube in cubes]
    assert not found[0].labels[hole].any() and np.isnan(found[0].confidence[hole]).all()
    assert (found[0].labels > 0).sum() == 720 - 30
    for one, other in zip(*found, strict=True):
        np.testing.assert_array_equal(one, other)
    if window == 64:
        good = np.isfinite(cubes[0]).all(-1)
        made = np.array(model.transform(scene.hsi))
        made[~good] = made[good].mean(0)
        with torch.no_grad():
            want = model(torch.from_numpy(made).permute(2, 0, 1)[None])[0].argmax(0) + 1
        np.testing.assert_array_equal(found[0].labels[good], want[torch.from_numpy(good)])


def test_numbers_that_overflow_cost_no_other_pixel_its_label(model):
    image, valid = torch.randn(12, 8, 9), torch.ones(8, 9, dtype=torch.bool)
    image[3, 4, 5] = torch.inf
    found = pixel_probabilities(model, (image,), valid, torch.device("cpu"))
    good = torch.ones(8, 9, dtype=torch.bool)
    good[4, 5] = False
    assert found[4, 5].isnan().all() and found[good].isfinite().all()
    torch.testing.assert_close(found[good], pixel_probabilities(model, (image,), good, torch.device("cpu"))[good])


def test_classical_classifiers_are_judged_beside_it(model, scene, split, few):
    pytest.importorskip("sklearn")
    report = hsmamba.evaluate(model, scene, split, baselines=True)
    assert max(one.oa for one in report.baselines.values()) > 0.8


def test_an_image_without_any_data_becomes_zeros():
    image = torch.full((2, 3, 4), torch.nan)
    assert torch.equal(filled(image, torch.zeros(3, 4, dtype=torch.bool)), torch.zeros(2, 3, 4))
    assert filled(image, torch.ones(3, 4, dtype=torch.bool)) is image


@pytest.mark.parametrize("window", [64, 20])
@pytest.mark.filterwarnings("ignore:the scene has")
def test_a_split_is_judged_on_what_classify_says(model, scene, split, window):
    model.window = window
    labels = hsmamba.classify(model, scene, progress=False).labels.ravel()
    right = (labels[split.test] == scene.labels.ravel()[split.test]).mean()
    assert hsmamba.evaluate(model, scene, split).oa == pytest.approx(right)
    for side in (1, 5):  # whatever the patches of a dataset are
        assert hsmamba.evaluate(model, PatchDataset(scene, model.transform, side), split).oa == pytest.approx(right)
    smooth = hsmamba.evaluate(model, scene, split, regularise="on")
    assert smooth.regularised and smooth.oa != pytest.approx(right)


def test_a_scene_that_can_be_learnt_is_learnt(make_dense, scene, split, tmp_path):
    model = make_dense(depth=2)  # a third one sees blocks of 4 x 4 pixels, of ground in fields of 6 x 6
    result = hsmamba.finetune(model, scene, split, **QUICK | {"epochs": 40}, val_fraction=0.2)
    assert result.validation is not None and result.best_epoch > 10
    report = hsmamba.evaluate(model, scene, split)
    assert report.oa > 0.9
    again = hsmamba.create_model(f"local-dir:{hsmamba.save_pretrained(model, tmp_path / 'model', split=split)}")
    assert again.class_names == scene.class_names and again.patch_size is None
    for one, other in zip(*(hsmamba.classify(m, scene, progress=False) for m in (model, again)), strict=True):
        np.testing.assert_array_equal(one, other)


def test_labels_that_are_not_of_the_training_have_no_influence(make_dense, scene, split):
    models = [make_dense(), make_dense()]
    labels = np.array(scene.labels)
    labels.ravel()[split.test] = 1
    for model, one in zip(models, (scene, replace(scene, labels=labels)), strict=True):
        hsmamba.finetune(model, one, split, val_fraction=0, **QUICK)
    assert states_equal(*models)


def test_invalid_pixels_are_the_mean_in_training_too(make_dense, scene, split):
    models = [make_dense(), make_dense()]
    transform = Compose([Standardise()]).fit_scene(scene, split.train)
    for model, value in zip(models, (np.nan, np.inf), strict=True):
        cube = np.array(scene.hsi)
        cube[1, :5] = value
        with pytest.warns(HsmambaWarning, match="left out pixels"):
            hsmamba.finetune(model, replace(scene, hsi=cube), replace(split, train=np.union1d(split.train, [31])),
                             transform=transform, nan="mask", val_fraction=0, **QUICK)  # fmt: skip
    assert states_equal(*models)


@pytest.mark.parametrize("window", [64, 20])
@pytest.mark.filterwarnings("ignore:the scene has")
def test_a_run_that_was_interrupted_goes_on_bit_for_bit(make_dense, scene, split, tmp_path, window):
    whole, halted = make_dense(window=window, drop_rate=0.2), make_dense(window=window, drop_rate=0.2)
    options = QUICK | {"ema_decay": 0.9, "jitter": 0.1, "class_weights": "balanced", "val_fraction": 0.2}
    hsmamba.finetune(whole, scene, split, **options)
    path = tmp_path / "run.pt"
    hsmamba.finetune(halted, scene, split, checkpoint=path, callback=lambda *_: True, **options)
    again = make_dense(window=window, drop_rate=0.2)
    hsmamba.finetune(again, scene, split, resume=path, **options)
    assert states_equal(whole, again) and not states_equal(whole, halted)
    with pytest.raises(WeightsError, match="another run"):
        hsmamba.finetune(again, scene, split, resume=path, **options | {"jitter": 0.2})


def run_of(model, scene, split, **settings):
    dataset = PatchDataset(scene, Compose([Standardise()]).fit_scene(scene, split.train), 1)
    return runs.ImageRun(model, dataset, split, runs.ClassificationSettings(**settings), None)


@pytest.mark.parametrize("augment", [False, True])
def test_a_batch_is_the_image_with_the_classes_of_its_training_pixels(make_dense, scene, split, augment):
    run = run_of(make_dense(), scene, split, augment=augment)
    assert run.steps == 1
    shapes = set()
    for seed in range(12):
        (((hsi,), classes),) = run.batches(torch.Generator().manual_seed(seed))
        shapes.add(tuple(hsi.shape))
        assert hsi.shape[2:] == classes.shape and (classes >= 0).sum() == split.train.size
        pixels = hsi[0, :, classes >= 0].T
        want = run.dataset.batch(split.train)[0].flatten(1)
        both = [torch.cat([x, y[:, None]], 1) for x, y in
                ((pixels, classes[classes >= 0]), (want, run.dataset.batch(split.train)[2]))]  # fmt: skip
        torch.testing.assert_close(*(x[x[:, 0].argsort()] for x in both))  # each with its own class
    assert shapes == ({(1, 12, 24, 30), (1, 12, 30, 24)} if augment else {(1, 12, 24, 30)})


def test_a_large_scene_trains_in_random_windows_around_its_training_pixels(make_dense, scene, split):
    few = replace(split, train=split.train[:3])
    run = run_of(make_dense(window=20), scene, few, augment=False)
    assert run.steps == 4
    seen = set()
    for epoch in range(3):
        batches = list(run.batches(torch.Generator().manual_seed(epoch)))
        assert len(batches) == 4
        assert all((hsi.shape[2:], (classes >= 0).any()) == ((20, 20), True) for (hsi,), classes in batches)
        seen |= {float(hsi[0, 0, 0, 0]) for (hsi,), _ in batches}
    assert len(seen) > 3


def test_scenes_without_training_pixels_are_not_looked_at(make_dense, scene, split):
    pair = [scene, replace(scene, hsi=scene.hsi + 1)]
    shape = (1, 2 * 720)
    split = replace(split, shape=shape, val=split.val[:0], test=split.test + 720)
    model = make_dense()
    hsmamba.finetune(model, pair, split, val_fraction=0, **QUICK)
    assert hsmamba.evaluate(model, pair, split).confusion.sum() == split.test.size
    assert leakage(split, None, [(24, 30)] * 2).share == 0


def test_the_settings_of_patches_are_refused(make_dense, scene, split):
    for setting in ({"mixup": 0.2}, {"erase": 0.5}):
        with pytest.raises(ValueError, match="for patches, and mambahsi takes whole images"):
            hsmamba.finetune(make_dense(), scene, split, **QUICK, **setting)


def test_several_processes_are_refused(make_dense, scene, split, monkeypatch):
    two = Group()
    two.size = 2
    monkeypatch.setattr(runs, "group", lambda: two)
    with pytest.raises(TrainingError, match=r"mambahsi takes whole images.*start it in one process"):
        hsmamba.finetune(make_dense(), scene, split, **QUICK)


class Own(nn.Module):
    """A network of a user's own, of two sources."""

    in_chans, aux_chans, num_classes, patch_size = 12, 1, 3, None

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.head = nn.Conv2d(13, 3, 3, padding=1)

    def forward(self, hsi, aux=None):
        return self.head(torch.cat([hsi, aux], 1))


def test_a_module_of_ones_own_is_taken_by_its_missing_patch_size(scene, split):
    two = replace(scene, aux=np.where(scene.labels == 2, 1, 0).astype(np.float32)[..., None])
    model = Own()
    hsmamba.finetune(model, two, split, **QUICK | {"epochs": 40})
    report = hsmamba.evaluate(model, two, split)
    assert report.oa > 0.9
    labels = hsmamba.classify(model, two, progress=False).labels
    assert (labels.ravel()[split.test] == scene.labels.ravel()[split.test]).mean() == pytest.approx(report.oa)


def test_a_scikit_learn_classifier_of_whole_images(scene):
    model = SceneClassifier("mambahsi", components=12, epochs=40, lr=1e-2,
                            model_args={"dim": 8, "neck_dim": 8, "d_state": 2, "depth": 2})  # fmt: skip
    assert model.fit(scene).score(scene) > 0.9
    assert model.predict_proba(scene).shape == (24, 30, 3)
    with pytest.raises(SceneError, match="mambahsi looks at whole images"):
        model.fit(scene.hsi.reshape(-1, 12)[:200], scene.labels.ravel()[:200])


def test_a_scene_that_dask_holds_is_refused(model, scene):
    dask = pytest.importorskip("dask.array")
    xarray = pytest.importorskip("xarray")
    held = xarray.DataArray(dask.from_array(scene.hsi, chunks=(8, 8, -1)), dims=("y", "x", "band"))
    with pytest.raises(SceneError, match=r"network looks at the whole scene at once.*\.compute"):
        hsmamba.classify(model, held)
    assert (hsmamba.classify(model, held.compute(), progress=False).labels > 0).all()


def test_every_test_pixel_lies_in_the_image_of_the_training(split):
    report = leakage(split, None)
    assert report.share == 1 and "lie inside an image of training pixels" in str(report)
    assert leakage(replace(split, train=split.train[:0]), None).share == 0


def test_a_dataset_gives_its_scenes_whole(scene, split):
    transform = Compose([Standardise()]).fit_scene(scene, split.train)
    for side in (1, 4, 5):
        dataset = PatchDataset([scene, scene], transform, side)
        hsi, aux, valid, first = dataset.image(1)
        assert aux is None and valid.all() and first == 720
        np.testing.assert_array_equal(hsi.permute(1, 2, 0), transform(scene.hsi))
    with pytest.raises(IndexError, match="no scene 2"):
        dataset.image(2)


def test_an_ensemble_is_of_patches():
    with pytest.raises(ValueError, match="'mambahsi', of whole images"):
        hsmamba.create_model("ensemble", members=[{"architecture": "mambahsi"}])
