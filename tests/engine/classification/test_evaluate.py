"""Evaluation by part, with masks, of datasets; and plots with two sources, which are data like one scene."""

from dataclasses import replace

import numpy as np
import pytest
import torch

import hsmamba
from hsmamba import evaluate, finetune
from hsmamba.data import Compose, PatchDataset, Scene, Standardise, group_split
from hsmamba.errors import SceneError, SplitError

QUICK = {"epochs": 4, "lr": 1e-2, "batch_size": 16, "warmup_epochs": 1, "progress": False}


def make_plots(aux=True):
    """Plots whose classes differ in the auxiliary band alone."""
    generator = np.random.default_rng(0)
    plots = []
    for k in range(9):
        labels = np.full((8, 8), 1 + k % 2)
        labels[:2, :2] = 0
        hsi = generator.normal(size=(8, 8, 10)).astype(np.float32)
        height = (10 * labels[..., None] + generator.normal(size=(8, 8, 1))).astype(np.float32)
        plots.append(Scene(hsi, labels, height if aux else None, class_names=("oak", "pine"), name=f"plot {k}"))
    return plots


def split_of(plots):
    labels = np.concatenate([plot.labels.ravel() for plot in plots])
    return group_split(labels, np.repeat(np.arange(9), 64), test=0.3, val=0.2)


def small_model():
    torch.manual_seed(0)
    return hsmamba.create_model("msfmamba", in_chans=10, aux_chans=1, num_classes=2, patch_size=5)


def test_two_sources_train_over_plots_and_the_second_tells_the_classes():
    plots = make_plots()
    split = split_of(plots)
    model = small_model()
    result = finetune(model, plots, split, epochs=3, lr=3e-3, batch_size=32, progress=False)
    assert result.split is split and result.validation.oa > 0.9
    assert [step.on for step in model.transform.steps] == ["hsi", "aux"]
    report = evaluate(model, plots, split)
    assert report.oa > 0.9 and report.class_names == ("oak", "pine")
    dataset = PatchDataset(plots, model.transform, 5)
    assert evaluate(model, dataset, split).oa == report.oa
    single = hsmamba.classify(model, plots[0], progress=False).labels.ravel()
    scores = torch.cat([model(*dataset.batch(np.arange(64))[:2])])
    assert single.tolist() == (scores.argmax(1) + 1).tolist()


def test_masked_pixels_of_plots_count_as_wrong():
    plots = make_plots()
    split = split_of(plots)
    model = small_model().eval()
    model.transform = Compose([Standardise(), Standardise(on="aux")]).fit_scene(plots, split.train)
    plot, pixel = divmod(int(split.test[0]), 64)
    hsi = plots[plot].hsi.copy()
    hsi.reshape(64, 10)[pixel] = np.nan
    broken = [replace(one, hsi=hsi) if k == plot else one for k, one in enumerate(plots)]
    with pytest.raises(SceneError, match="NaN or infinity"):
        evaluate(model, broken, split)
    masked = evaluate(model, broken, split, nan="mask")
    assert masked.confusion.sum() == split.test.size
    assert masked.confusion[:, -1].sum() == 1  # not classified


def test_plots_that_do_not_fit_are_named():
    plots = make_plots()
    split = split_of(plots)
    with pytest.raises(SplitError, match="these 8 scenes together are"):
        finetune(small_model(), plots[:8], split, epochs=1, progress=False)
    with pytest.raises(SceneError, match=r"auxiliary source of 1 channels.*aux="):
        finetune(small_model(), make_plots(aux=False), split, epochs=1, progress=False)
    with pytest.raises(SceneError, match="no labels"):
        evaluate(small_model(), [replace(plot, labels=None) for plot in plots], split)


def test_a_dataset_of_patches_serves_as_well_as_a_scene(make_model, scene, split, transform):
    from_scene, from_dataset = make_model(), make_model()
    finetune(from_scene, scene, split, transform=transform, **QUICK)
    dataset = PatchDataset(scene, transform, 5)
    finetune(from_dataset, dataset, split, **QUICK)
    assert all(torch.equal(value, from_dataset.state_dict()[key]) for key, value in from_scene.state_dict().items())
    a = evaluate(from_scene, scene, split)
    b = evaluate(from_dataset, dataset, split)
    np.testing.assert_array_equal(a.confusion, b.confusion)


def test_evaluate_by_part_and_with_masked_pixels(make_model, scene, split, transform):
    model = make_model()
    model.transform = transform
    assert evaluate(model, scene, split, part="train").confusion.sum() == split.train.size
    with pytest.raises(SplitError, match="no val pixels"):
        evaluate(model, scene, split, part="val")
    scene.hsi.reshape(-1, 12)[split.test[:3]] = np.nan
    report = evaluate(model, scene, split, nan="mask")
    assert report.confusion[:, -1].sum() == 3
