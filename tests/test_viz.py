"""Pictures: the right colours at the right places, and files that open."""

import numpy as np
import pytest

from hsmamba import viz
from hsmamba.data import Scene, wald_pairs
from hsmamba.data.colours import class_colours
from hsmamba.metrics import ClassificationReport


def test_the_composite_takes_the_bands_nearest_to_red_green_and_blue():
    hsi = np.random.default_rng(0).normal(size=(8, 9, 5))
    image = viz.composite(hsi, wavelengths=np.array([450, 900, 550, 1200, 655]))
    np.testing.assert_array_equal(image, viz.composite(hsi, bands=(4, 2, 0)))
    assert (image.min(), image.max(), image.dtype) == (0, 1, np.float32)
    for channel, band in enumerate((4, 2, 0)):
        assert np.corrcoef(image[..., channel].ravel(), hsi[..., band].ravel())[0, 1] > 0.95
    with pytest.raises(ValueError, match="three indices from 0 to 4"):
        viz.composite(hsi, bands=(0, 1, 7))


def test_pixels_that_are_not_finite_are_black():
    hsi = np.random.default_rng(0).normal(size=(8, 9, 6))
    hsi[2, 3] = np.nan
    assert not viz.composite(hsi)[2, 3].any()


def test_figures_hold_what_they_show(tmp_path):
    pytest.importorskip("matplotlib", reason="needs the demo extra")
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 3, (10, 12))
    scene = Scene(rng.normal(size=(10, 12, 6)), labels, class_names=("corn", "oats"))
    figure = viz.classification_map(scene, np.clip(labels, 1, 2), np.full(labels.shape, 0.5), title="toy")
    titles = [axes.get_title() for axes in figure.axes]
    assert titles[:4] == ["composite", "truth", "map", "confidence"]
    np.testing.assert_array_equal(figure.axes[1].images[0].get_array(), class_colours(2)[labels])
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["corn", "oats"]
    report = ClassificationReport.from_labels(np.clip(labels, 1, 2), np.clip(labels, 1, 2), scene.class_names)
    curves = viz.training_curves([{"epoch": k, "loss": 1 / k, "train_oa": 0.5, "val_oa": 0.4} for k in range(1, 4)])
    assert [line.get_label() for line in curves.axes[1].lines] == ["train oa", "val oa"]
    np.testing.assert_allclose(curves.axes[0].lines[0].get_ydata(), [1, 1 / 2, 1 / 3])
    confusion = viz.confusion(report)
    assert {text.get_text() for text in confusion.axes[0].texts} == set(map(str, report.support))
    for number, each in enumerate([figure, viz.label_map(labels, ("corn", "oats")), confusion, curves]):
        path = tmp_path / f"{number}.png"
        each.savefig(path)
        assert path.stat().st_size > 1000


def test_a_fused_image_is_drawn_beside_what_it_was_made_of(tmp_path):
    pytest.importorskip("matplotlib", reason="needs the demo extra")
    rng = np.random.default_rng(0)
    pairs = wald_pairs(rng.uniform(1, 9, (64, 48, 4)), rng.uniform(1, 9, (256, 192)), sensor="generic", maximum=9)
    pair, full = pairs.test[0], pairs.full[0]
    fused = pair.ms_up + 0.1
    figure = viz.fusion_comparison(pair, fused, title="toy")
    images = [axes.images[0].get_array() for axes in figure.axes if axes.images]
    titles = [axes.get_title() for axes in figure.axes[:5]]
    assert titles == ["guide", "coarse image", "fused", "truth", "error x 100"]
    np.testing.assert_allclose(images[4], 100 * np.sqrt(((fused - pair.gt) ** 2).mean(0)), rtol=1e-5)
    figure.savefig(tmp_path / "fused.png")
    assert len([axes for axes in viz.fusion_comparison(full, full.ms_up).axes if axes.images]) == 3
    with pytest.raises(ValueError, match=r"fused is \(4, 5, 5\); this pair needs \(4, 20, 48\)"):
        viz.fusion_comparison(pair, np.zeros((4, 5, 5)))
    with pytest.raises(ValueError, match="three indices from 0 to 3"):
        viz.fusion_comparison(pair, fused, bands=(0, 1, 7))


def test_a_notebook_shows_a_figure_without_pyplot():
    pytest.importorskip("matplotlib", reason="needs the demo extra")
    figure = viz.label_map(np.ones((4, 5), int), ("corn",))
    assert figure._repr_png_().startswith(b"\x89PNG")
