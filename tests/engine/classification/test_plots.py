"""Training and evaluation on several scenes with two sources: plots are data like one scene."""

from dataclasses import replace

import numpy as np
import pytest
import torch

import hsmamba
from hsmamba import evaluate, finetune
from hsmamba.data import Compose, PatchDataset, Scene, Standardise, group_split
from hsmamba.errors import SceneError, SplitError


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
