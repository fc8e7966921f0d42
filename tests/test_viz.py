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


def placed(values, crs, affine):
    """An image with a place."""
    pytest.importorskip("rioxarray", reason="needs the geo extra")
    rasterio, xarray = pytest.importorskip("rasterio"), pytest.importorskip("xarray")
    from hsmamba.data.files.place import Place, lay

    dims = ("y", "x", "band")[: values.ndim]
    return lay(xarray.DataArray(values, dims=dims), Place(rasterio.CRS.from_epsg(crs), rasterio.Affine(*affine)))


def words(axes):
    return [text.get_text() for text in axes.texts if text.get_text()]


@pytest.mark.parametrize(
    ("crs", "affine", "said", "length"),
    [
        (32616, (30, 0, 5e5, 0, -30, 4e6), "500 m", 500 / 30),  # metres
        (4326, (0.001, 0, 10, 0, -0.001, 60.04), "1 km", 1000 / (0.001 * 111_320 * 0.5)),  # degrees at 60 north
        (2225, (10, 0, 6e6, 0, -10, 2e6), "50 m", 50 / (10 * 0.3048006)),  # US survey feet
    ],
)
def test_an_image_with_a_place_has_a_scale_bar_and_a_north_arrow(crs, affine, said, length):
    labels = placed(np.ones((80, 90), np.uint8), crs, affine)
    axes = viz.label_map(labels, ("corn",)).axes[0]
    assert words(axes) == [said, "N"]
    bar = next(line for line in axes.lines if line.get_gid() == "scale bar")
    assert np.ptp(bar.get_xdata()) == pytest.approx(length, rel=0.01)
    assert not list(viz.label_map(np.ones((4, 5), int), ("corn",)).axes[0].texts)


def test_north_is_where_it_is_in_a_rotated_image():
    labels = placed(np.ones((80, 90), np.uint8), 32616, (0, 30, 5e5, 30, 0, 4e6))  # columns lead north
    axes = viz.label_map(labels, ("corn",)).axes[0]
    arrow = next(text for text in axes.texts if not text.get_text())
    assert arrow.xy[0] > arrow.xyann[0] and arrow.xy[1] == pytest.approx(arrow.xyann[1])


def test_errors_are_counted_on_the_pixels_that_are_asked_for():
    pytest.importorskip("matplotlib", reason="needs the demo extra")
    labels = np.array([[1, 2, 0], [1, 2, 2]])
    scene = Scene(np.random.default_rng(0).random((2, 3, 4)), labels)
    found = np.array([[1, 1, 1], [1, 2, 2]])
    figure = viz.error_map(scene, found)
    assert figure.axes[0].get_title() == "80.0 % of 5 pixels right"
    image = figure.axes[0].images[0].get_array()
    np.testing.assert_allclose(image[0, 1], (0.84, 0.37, 0.0))
    assert viz.error_map(scene, found, pixels=[0, 1]).axes[0].get_title() == "50.0 % of 2 pixels right"
    with pytest.raises(ValueError, match="no labels"):
        viz.error_map(Scene(scene.hsi), found)


def test_spectra_are_means_by_class_with_gaps_where_bands_are_bad_or_missing():
    pytest.importorskip("matplotlib", reason="needs the demo extra")
    rng = np.random.default_rng(0)
    wavelengths = np.r_[400 + 10 * np.arange(20.0), 1400 + 10 * np.arange(20.0)]
    bad = np.arange(40) == 3
    scene = Scene(rng.random((6, 5, 40)), rng.integers(0, 3, (6, 5)), wavelengths=wavelengths, bad_bands=bad)
    axes = viz.spectra(scene).axes[0]
    assert [line.get_label() for line in axes.lines] == ["class 1", "class 2"]
    y = axes.lines[0].get_ydata()
    assert len(y) == 41 and np.isnan(y[[3, 20]]).all() and np.isfinite(np.delete(y, [3, 20])).all()
    np.testing.assert_allclose(y[:3], scene.hsi[scene.labels == 1].mean(0)[:3])
    assert len(viz.overview(Scene(scene.hsi[..., :7])).axes) == 3
    assert len(viz.overview(scene, title="x").axes) == 4


def test_a_swipe_has_before_on_the_left_and_after_on_the_right():
    pytest.importorskip("matplotlib", reason="needs the demo extra")
    rng = np.random.default_rng(0)
    before, after = rng.random((4, 6, 3)), rng.random((8, 12, 3))
    image = np.asarray(viz.swipe(before, after, bands=(0, 1, 2), share=0.25).axes[0].images[0].get_array())
    np.testing.assert_array_equal(image[0:2, 0:2, 0], image[0, 0, 0])
    order = image[:, 3:, 0].ravel().argsort()
    assert (np.diff(after[:, 3:, 0].ravel()[order]) >= 0)[20:-20].all()
    with pytest.raises(ValueError, match="from 0 to 1"):
        viz.swipe(before, after, share=2)
    with pytest.raises(ValueError, match="same bands"):
        viz.swipe(before, after[..., :2])


def test_intervals_and_curves_of_fusion_show_what_they_are_given(tmp_path):
    pytest.importorskip("matplotlib", reason="needs the demo extra")
    figure = viz.intervals({"a": (5, 4, 7), "b": (3, 2, 4)}, label="OA in %", reference=0)
    axes = figure.axes[0]
    assert [tick.get_text() for tick in axes.get_yticklabels()] == ["a", "b"]
    np.testing.assert_allclose(axes.lines[0].get_xdata(), [5, 3])
    records = [{"epoch": k, "lr": 1, "loss": 1 / k, "val_PSNR": 30.0 + k, "seconds": 1} for k in (1, 2, 3)]
    curves = viz.training_curves(records)
    assert [axes.get_ylabel() for axes in curves.axes] == ["loss", "PSNR"]
    curves.savefig(tmp_path / "curves.svg")
    assert "<text" in (tmp_path / "curves.svg").read_text(encoding="utf-8")  # and no outlines of letters
    curves.savefig(tmp_path / "curves.pdf")
    assert (tmp_path / "curves.pdf").read_bytes().startswith(b"%PDF")


def test_panels_of_intervals_share_their_methods():
    pytest.importorskip("matplotlib", reason="needs the demo extra")
    panels = {
        "a": {"x": (5, 4, 7), "y": (3, 2, 4)},
        "b": {"y": (1, 0, 2), "z": (2, 1, 3)},
        "c": {},
        "d": {"x": (1, 1, 1)},
    }
    figure = viz.interval_panels(panels, label="OA", reference=0, title="all")
    shown = [axes for axes in figure.axes if axes.get_visible()]
    assert [axes.get_title() for axes in shown] == list(panels)
    assert [tick.get_text() for tick in shown[0].get_yticklabels()] == ["x", "y", "z"]
    np.testing.assert_array_equal(shown[1].lines[0].get_xdata(), [np.nan, 1, 2])
    with pytest.raises(ValueError, match="no panels"):
        viz.interval_panels({}, label="OA")


def test_palettes_have_a_colour_for_every_class_of_their_data_set():
    from hsmamba.data.colours import PALETTES
    from hsmamba.data.sets.scene_files import SCENES

    for name in PALETTES:
        tones = PALETTES[name].split()
        assert len(tones) == len(SCENES[name].facts.classes) == len(set(tones))


def test_a_known_data_set_is_drawn_in_its_usual_colours():
    pytest.importorskip("matplotlib", reason="needs the demo extra")
    labels = np.arange(17)[None].repeat(2, 0)
    names = tuple(f"c{k}" for k in range(1, 17))
    scene = Scene(np.random.default_rng(0).random((2, 17, 4)), labels, class_names=names, name="indian_pines")
    for palette, want in (("auto", class_colours(16, "indian_pines")), (None, class_colours(16))):
        figure = viz.classification_map(scene, labels, np.ones(labels.shape), palette=palette)
        np.testing.assert_array_equal(figure.axes[2].images[0].get_array(), want[labels])
