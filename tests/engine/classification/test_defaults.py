"""What `finetune` does where nothing is said: with few labels other than with many, and what is said goes first."""

from dataclasses import asdict

import numpy as np
import pytest
import torch

import hsmamba
from hsmamba.data import PatchDataset, Scene, Split, random_split
from hsmamba.engine import ClassificationSettings, default_transform
from hsmamba.engine.classification.train import settings_by_labels
from hsmamba.errors import SceneError

FEW, MANY = 12, 40


def make_scene(seed=0, bands=12, rows=30):
    rng = np.random.default_rng(seed)
    labels = np.arange(rows)[:, None] // 10 + 1 + np.zeros((1, 30), int)
    signature = np.random.default_rng(9).normal(size=(4, bands))
    hsi = (5 + signature[labels] + 0.3 * rng.normal(size=(*labels.shape, bands))).astype(np.float32)
    return Scene(hsi, labels)


def make_plots(count):
    plots = [make_scene(seed) for seed in range(3)]
    one = random_split(plots[0].labels, count=count)
    return plots, Split(one.train, one.val, one.test, (1, 3 * plots[0].labels.size), "plots")


def steps(settings, pixels):
    return settings.epochs * -(-pixels // settings.batch_size)


@pytest.mark.parametrize("count", [2, 5, 12, 25, 30])
def test_steps_do_not_depend_on_the_number_of_few_labels(make_model, count):
    scene = make_scene()
    split = random_split(scene.labels, count=count)
    settings = settings_by_labels(make_model(), {}, scene, split)
    a_pass = steps(settings, split.train.size) // settings.epochs
    assert 300 <= steps(settings, split.train.size) < 300 + a_pass
    assert settings.batch_size <= 32
    assert 0 <= a_pass * settings.batch_size - split.train.size < a_pass  # batches alike in size


def test_few_labels_are_all_trained_on_and_many_give_validation_pixels(make_model):
    scene = make_scene()
    for count in (FEW, MANY):
        split, model = random_split(scene.labels, count=count), make_model()
        result = hsmamba.finetune(model, scene, split, callback=lambda *_: True, progress=False)
        assert result.split.val.size == (0 if count == FEW else 0.1 * split.train.size)
        assert result.split.train.size + result.split.val.size == split.train.size
        assert (result.validation is None) == (count == FEW)
        assert len(result.history) == result.best_epoch == 1


@pytest.mark.slow
def test_a_network_is_learnt_with_few_labels_and_defaults(make_model):
    scene = make_scene()
    model, split = make_model(), random_split(scene.labels, count=5)
    hsmamba.finetune(model, scene, split, progress=False)
    assert hsmamba.evaluate(model, scene, split).oa > 0.9


def test_many_labels_have_the_defaults_of_the_settings(make_model):
    scene = make_scene()
    assert settings_by_labels(make_model(), {}, scene, random_split(scene.labels, count=MANY)) == (
        ClassificationSettings()
    )


def test_what_is_given_goes_before_what_few_labels_want(make_model):
    scene = make_scene()
    split = random_split(scene.labels, count=FEW)
    given = {"epochs": 40, "batch_size": 18, "mixup": 0.0, "erase": 0.1, "ema_decay": None, "val_fraction": 0.2}
    settings = settings_by_labels(make_model(), given, scene, split)
    assert given.items() <= asdict(settings).items()
    assert settings.warmup_epochs == 2
    alone = settings_by_labels(make_model(), {"batch_size": 9}, scene, split)
    assert alone.batch_size == 9 and steps(alone, split.train.size) == 300
    assert settings_by_labels(make_model(), {"patience": 3}, scene, split).val_fraction == 0.1  # which it looks at
    with pytest.raises(ValueError, match="batch_size is 0; it must be at least 1"):
        settings_by_labels(make_model(), {"batch_size": 0}, scene, split)
    with pytest.raises(TypeError, match="no setting rate"):
        settings_by_labels(make_model(), {"rate": 1}, scene, split)


def test_bands_are_jittered_where_other_scenes_are_to_be_classified(make_model):
    plots, split = make_plots(FEW)
    assert settings_by_labels(make_model(), {}, plots, split).jitter > 0
    transform = default_transform(plots, split, 4)
    assert settings_by_labels(make_model(), {}, PatchDataset(plots, transform, 5), split).jitter > 0
    one = random_split(plots[0].labels, count=FEW)
    assert settings_by_labels(make_model(), {}, plots[0], one).jitter == 0
    assert settings_by_labels(make_model(), {}, PatchDataset(plots[0], transform, 5), one).jitter == 0


def test_a_network_of_whole_images_keeps_its_epochs_and_is_not_erased(make_model):
    scene = make_scene()
    torch.manual_seed(0)
    whole = hsmamba.create_model("mambahsi", in_chans=4, num_classes=3)
    split = random_split(scene.labels, count=FEW)
    want = {**asdict(ClassificationSettings()), "val_fraction": 0.0}
    assert asdict(settings_by_labels(whole, {}, scene, split)) == want


def kinds(data, split, in_chans=4):
    return [step.kind for step in default_transform(data, split, in_chans).steps]


def test_the_components_of_few_labels_are_of_noise_or_for_other_scenes_with_shapes():
    scene = make_scene()
    assert kinds(scene, random_split(scene.labels, count=FEW)) == ["standardise", "mnf"]
    assert kinds(scene, random_split(scene.labels, count=MANY)) == ["standardise", "pca", "standardise"]
    assert kinds(*make_plots(FEW)) == ["add_shape", "standardise", "pca"]
    assert kinds(*make_plots(MANY)) == ["standardise", "pca", "standardise"]
    assert kinds(scene, random_split(scene.labels, count=FEW), 12) == ["standardise"]


def test_the_transform_of_few_labels_does_not_look_at_what_they_say():
    scene = make_scene()
    split = random_split(scene.labels, count=FEW)
    fitted = default_transform(scene, split, 4)
    renamed = default_transform(Scene(scene.hsi, 4 - scene.labels), split, 4)
    np.testing.assert_array_equal(fitted(scene.hsi), renamed(scene.hsi))


def test_data_that_cannot_be_trained_on_are_refused_in_the_usual_words(make_model):
    scene = make_scene()
    split = random_split(scene.labels, count=FEW)
    with pytest.raises(SceneError, match="labels"):
        hsmamba.finetune(make_model(), Scene(scene.hsi), split, progress=False)
    small = Scene(scene.hsi[:12], scene.labels[:12])
    with pytest.raises(hsmamba.errors.SplitError, match="30"):
        hsmamba.finetune(make_model(), small, split, progress=False)
