"""The figures of a fusion network: of what fuse gives, beside the classical methods."""

import numpy as np
import pytest
import torch

import hsmamba
from hsmamba.baselines import BASELINES
from hsmamba.data import wald_pairs
from hsmamba.engine.fusion.evaluate import FULL, REDUCED, predict
from hsmamba.errors import SceneError
from tests.engine.fusion.toys import Copy, images, make


@pytest.mark.parametrize("name", ["ramsf", "cf2n"])
def test_figures_are_of_what_fuse_gives_and_validation_sees_whole_images(pairs, name):
    model, pair = make(name).eval(), pairs.test[0]
    model.window = 8  # below the image's sides
    ms, guide = (image.permute(1, 2, 0).numpy() for image in (pair.ms, pair.guide))
    fused = torch.from_numpy(hsmamba.fuse(model, ms, guide, maximum=1, progress=False)).permute(2, 0, 1)
    torch.testing.assert_close(predict(model, pair), fused.clamp(0, 1), atol=1e-5, rtol=0)
    with torch.no_grad():
        whole = model(pair.ms[None], pair.guide[None], pair.ms_up[None])[0].clamp(0, 1)
    torch.testing.assert_close(predict(model, pair, whole=True), whole, atol=1e-5, rtol=0)
    differing = (whole - predict(model, pair)).abs().max()
    assert (differing > 1e-4) == (model.margin is None)


def test_the_table_has_the_classical_methods_and_all_metrics(pairs):
    report = hsmamba.evaluate(Copy(4, in_chans=4), pairs)
    assert list(report.reduced) == ["toy, test"]
    assert list(report.full) == ["toy, full resolution"]
    for full, metrics in ((False, REDUCED), (True, FULL)):
        means = report.mean(full=full)
        assert list(means) == ["bicubic", *BASELINES, "Copy"]
        assert means["Copy"] == pytest.approx(means["EXP"], rel=1e-3, abs=1e-4)
        assert all(list(figures) == list(metrics) for figures in means.values())
    text = str(report)
    assert "reduced resolution, mean of 1 image" in text
    assert f"{report.mean()['GSA']['ERGAS']:.4f}" in text


def test_a_guide_of_several_channels_is_judged_beside_all_methods_that_take_one():
    ms, guide = images()
    pairs = wald_pairs(ms, np.stack([guide, guide**0.9], axis=2), sensor="QB", test=0.4)
    means = hsmamba.evaluate(Copy(4, in_chans=4, guide_chans=2), pairs).mean()
    assert list(means) == ["bicubic", *(name for name in BASELINES if name != "Brovey"), "Copy"]
    assert all(np.isfinite(list(figures.values())).all() for figures in means.values())


def test_a_method_that_is_bicubic_at_this_ratio_is_not_told_twice():
    rng = np.random.default_rng(0)
    pairs = wald_pairs(rng.uniform(1, 9, (48, 48, 2)), rng.uniform(1, 9, (144, 144)), sensor="generic", maximum=9)
    means = hsmamba.evaluate(Copy(3), pairs).mean()
    assert "bicubic" in means and "GSA" in means and "EXP" not in means


def test_reflectance_is_judged_as_digital_numbers_are():
    scene = [np.round(image / image.max() * 12_600) for image in images()]
    tables = []
    for unit in (1, 1e-4):
        pairs = wald_pairs(*(image * unit for image in scene), sensor="QB", maximum=12_600 * unit, test=0.4)
        report = hsmamba.evaluate(Copy(4, in_chans=4), pairs)
        tables.append((report.mean(), report.mean(full=True)))
    for numbers, reflectance in zip(*tables, strict=True):
        for method, figures in numbers.items():
            assert reflectance[method] == pytest.approx(figures, rel=1e-4, abs=1e-4)
        for metric in ("Q2n", "HQNR"):
            if metric in numbers["EXP"]:
                orders = [sorted(table, key=lambda m: round(table[m][metric], 4)) for table in (numbers, reflectance)]
                assert orders[0] == orders[1]


def test_pairs_without_test_images_are_refused():
    with pytest.raises(SceneError, match="have no test images"):
        hsmamba.evaluate(make(), wald_pairs(*images(), sensor="QB", test=0))
