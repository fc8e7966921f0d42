"""Steps that work band by band: what they compute, what they refuse."""

import numpy as np

from hsmamba.data import AddShape, Blank, Compose, MinMax, SelectBands, SensorScale, Standardise
from hsmamba.data.transforms.steps import STEPS
from hsmamba.errors import SceneError
from tests.data.transforms.samples import BANDS, pixels
from tests.refusals import refused


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


def test_blank_leaves_one_source_out(tmp_path):
    pixels, heights = np.random.default_rng(0).normal(size=(2, 20, 4))
    transform = Compose([Standardise(), Blank(on="aux")]).fit(pixels, heights)
    transform.save(tmp_path / "transform.safetensors")
    for one in (transform, Compose.load(tmp_path / "transform.safetensors")):
        assert not one(heights, on="aux").any() and one(heights, on="aux").dtype == np.float32
        np.testing.assert_allclose(one(pixels).std(0), 1, atol=1e-6)


def test_shapes_do_not_see_how_bright_a_pixel_is(tmp_path):
    data = pixels()
    data[0] = 0
    result = AddShape()(data)
    assert result.dtype == np.float32 and result.shape == (len(data), 2 * BANDS)
    assert np.array_equal(result[:, :BANDS], data.astype(np.float32)) and not result[0].any()
    np.testing.assert_allclose(np.square(result[1:, BANDS:]).mean(axis=1), 1, rtol=1e-5)
    np.testing.assert_allclose(AddShape()(3 * data)[:, BANDS:], result[:, BANDS:], rtol=1e-6)
    transform = Compose([AddShape(), Standardise()]).fit(data)
    transform.save(tmp_path / "transform.safetensors")
    again = Compose.load(tmp_path / "transform.safetensors")
    assert again.num_features == 2 * BANDS and np.array_equal(again(data), transform(data))


def test_logarithms_of_shapes_are_ratios_of_bands(tmp_path):
    data = pixels().astype(np.float64) + 100
    data[0], data[1, 3] = 0, -5
    result = AddShape(logarithm=True)(data)
    assert np.array_equal(result[:, :BANDS], data.astype(np.float32)) and np.isfinite(result).all()
    assert not result[0].any()
    np.testing.assert_allclose(result[:, BANDS:].mean(axis=1), 0, atol=1e-6)
    np.testing.assert_allclose(result[2:, BANDS + 1] - result[2:, BANDS], np.log(data[2:, 1] / data[2:, 0]), atol=1e-5)
    np.testing.assert_allclose(AddShape(logarithm=True)(3 * data)[:, BANDS:], result[:, BANDS:], atol=1e-6)
    transform = Compose([AddShape(logarithm=True), Standardise()]).fit(data)
    transform.save(tmp_path / "transform.safetensors")
    assert np.array_equal(Compose.load(tmp_path / "transform.safetensors")(data), transform(data))


def test_every_kind_of_step_is_named_after_its_entry():
    assert {kind: step.kind for kind, step in STEPS.items()} == {kind: kind for kind in STEPS}


test_misuse_is_refused = refused(
    (lambda: Standardise().fit(np.array([[1.0, np.nan], [1, 1]])), SceneError, ["1 of 2 pixels"]),
    (lambda: Standardise().fit(pixels(0)), SceneError, ["(0, 12)"]),
    (lambda: Standardise(on="sar"), ValueError, ["'sar'", "aux"]),
    (lambda: SelectBands([]), ValueError, ["one band index"]),
    (lambda: SelectBands([-1]), ValueError, ["(-1,)"]),
    (lambda: SensorScale(0), ValueError, ["scale is 0"]),
)
