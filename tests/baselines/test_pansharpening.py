"""Classical baselines: what each promises, and that they beat plain up-sampling on a simulated pair."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from hsmamba.baselines import BASELINES, OF_PAN_ALONE, brovey, exp, gsa, mtf_glp_fs, mtf_glp_hpm, mtf_glp_hpm_r
from hsmamba.data.degrade import degrade_ms, degrade_pan, interp23, mtf_filter, mtf_kernels, upsample
from hsmamba.data.sensors import Sensor
from hsmamba.errors import SceneError
from hsmamba.metrics import fusion
from tests.conftest import DATA

SCENES = DATA / "worldview2_ikonos"

QB = "QB"
MATCHED = ["GSA", "MTF-GLP-HPM", "MTF-GLP-FS", "MTF-GLP-HPM-R"]
OF_SEVERAL = [name for name in BASELINES if name not in OF_PAN_ALONE]


@pytest.fixture(scope="module")
def pair():
    """A smooth-plus-detail scene: reference (1, 4, 128, 128), its MS (1, 4, 32, 32) and PAN (1, 1, 128, 128)."""
    generator = torch.Generator().manual_seed(0)
    blobs = torch.rand(1, 3, 128, 128, generator=generator, dtype=torch.float64)
    smooth = mtf_filter(blobs, sensor=Sensor("blur", (0.9,), 0.5), ratio=4)  # structure down to the pixel
    mixing = torch.tensor([[0.9, 0.3, 0.1], [0.6, 0.8, 0.1], [0.3, 0.7, 0.4], [0.1, 0.3, 1.2]], dtype=torch.float64)
    reference = 300 + 900 * torch.einsum("kc,bchw->bkhw", mixing, smooth)
    weights = torch.tensor([0.15, 0.3, 0.3, 0.25], dtype=torch.float64)
    pan = torch.einsum("c,bchw->bhw", weights, reference)[:, None]
    return reference, degrade_ms(reference, sensor=QB), pan


def test_the_table_names_every_method():
    assert dict(BASELINES) == {
        "EXP": exp,
        "Brovey": brovey,
        "GSA": gsa,
        "MTF-GLP-HPM": mtf_glp_hpm,
        "MTF-GLP-FS": mtf_glp_fs,
        "MTF-GLP-HPM-R": mtf_glp_hpm_r,
    }


@pytest.mark.parametrize("name", BASELINES)
@pytest.mark.parametrize("ratio", [2, 3, 4])
def test_grids_dtypes_and_batches(name, ratio):
    generator = torch.Generator().manual_seed(1)
    ms = 100 + torch.rand(2, 5, 12, 9, generator=generator)
    pan = 100 + torch.rand(2, 1, 12 * ratio, 9 * ratio, generator=generator)
    fused = BASELINES[name](ms, pan, ratio=ratio, sensor="generic")
    assert fused.shape == (2, 5, 12 * ratio, 9 * ratio) and fused.dtype == torch.float32
    assert torch.isfinite(fused).all()
    second = BASELINES[name](ms[1:], pan[1:], ratio=ratio, sensor="generic")
    torch.testing.assert_close(fused[1:], second)
    double = BASELINES[name](ms.double(), pan.double(), ratio=ratio, sensor="generic")
    torch.testing.assert_close(fused.double(), double, rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize("name", [name for name in BASELINES if name != "EXP"])
def test_pan_improves_on_plain_upsampling(pair, name):
    reference, ms, pan = pair
    plain = fusion.reduced_resolution(reference, exp(ms, pan), data_range=2047)
    sharp = fusion.reduced_resolution(reference, BASELINES[name](ms, pan, sensor=QB), data_range=2047)
    assert float(sharp["ERGAS"]) < 0.9 * float(plain["ERGAS"])
    assert float(sharp["Q2n"]) > float(plain["Q2n"])
    assert float(sharp["SCC"]) > float(plain["SCC"])


@pytest.mark.parametrize("name", MATCHED)
def test_matched_methods_ignore_offset_and_gain_of_pan(pair, name):
    _, ms, pan = pair
    fused = BASELINES[name](ms, pan, sensor=QB)
    torch.testing.assert_close(BASELINES[name](ms, 0.2 * pan + 77, sensor=QB), fused, rtol=1e-6, atol=1e-4)


@pytest.mark.parametrize("name", BASELINES)
def test_scaling_both_images_scales_the_result(pair, name):
    _, ms, pan = pair
    fused = BASELINES[name](ms, pan, sensor=QB)
    torch.testing.assert_close(BASELINES[name](ms / 2047, pan / 2047, sensor=QB), fused / 2047, rtol=1e-6, atol=1e-8)


def test_exp_is_interp23(pair):
    _, ms, pan = pair
    assert torch.equal(exp(ms, pan), interp23(ms))


def test_brovey_keeps_the_spectral_angle_and_gives_the_matched_pan_as_mean(pair):
    _, ms, pan = pair
    fused, lms = brovey(ms, pan), interp23(ms)
    assert float(fusion.sam(lms, fused)) < 1e-6
    intensity = lms.mean(dim=1, keepdim=True)
    matched = (pan - pan.mean()) / pan.std() * intensity.std() + intensity.mean()
    torch.testing.assert_close(fused.mean(dim=1, keepdim=True), matched)


def test_gsa_keeps_band_means_and_injects_along_one_direction(pair):
    _, ms, pan = pair
    fused, lms = gsa(ms, pan, sensor=QB), interp23(ms)
    torch.testing.assert_close(fused.mean(dim=(2, 3)), lms.mean(dim=(2, 3)))
    detail = (fused - lms).flatten(2)[0]
    values = torch.linalg.svdvals(detail)
    assert float(values[1]) < 1e-9 * float(values[0])  # every band gets the same detail times its gain


def test_gsa_finds_the_weights_of_pan(pair):
    reference, _, _ = pair
    weights = torch.tensor([0.1, 0.2, 0.3, 0.4], dtype=torch.float64)
    pan = torch.einsum("c,bchw->bhw", weights, reference)[:, None]
    ms = degrade_ms(reference, sensor="generic")  # equal gains: PAN reduces to the same combination of MS
    lms = interp23(ms)
    intensity = torch.einsum("c,bchw->bhw", weights, lms)[:, None]
    centred = intensity - intensity.mean()
    gains = (centred * lms).mean(dim=(2, 3), keepdim=True) / centred.square().mean()
    expected = lms + gains * (pan - pan.mean() - centred)
    torch.testing.assert_close(gsa(ms, pan, sensor="generic"), expected)


@pytest.mark.parametrize("name", MATCHED)
def test_dependent_bands(pair, name):
    _, ms, pan = pair
    doubled = BASELINES[name](torch.cat([ms, ms], dim=1), pan, sensor="generic")
    torch.testing.assert_close(doubled[:, :4], BASELINES[name](ms, pan, sensor="generic"), rtol=1e-6, atol=1e-4)


def test_hpm_of_a_constant_pan_is_plain_upsampling(pair):
    _, ms, pan = pair
    torch.testing.assert_close(mtf_glp_hpm(ms, torch.full_like(pan, 0.1), sensor=QB), interp23(ms))


def test_hpm_multiplies_by_pan_over_its_low_pass():
    generator = torch.Generator().manual_seed(2)
    ms = 500 + 50 * torch.rand(1, 1, 16, 16, generator=generator, dtype=torch.float64)
    pan = upsample(ms, 4)  # the same mean: a band matched to itself
    sensor = Sensor("one", (0.3,), 0.15)
    low = interp23(degrade_ms(pan, sensor=sensor)) / mtf_kernels(sensor, 1).sum()
    lms = interp23(ms)
    gain = lms.std() / low.std()
    expected = lms * ((pan - pan.mean()) * gain + lms.mean()) / ((low - pan.mean()) * gain + lms.mean())
    torch.testing.assert_close(mtf_glp_hpm(ms, pan, sensor=sensor), expected)


def by_hand(ms, guide, gains, ratio):
    """Up-sampled MS, the guide's channels and, of each band, their low-pass versions; float64 numpy, band by band."""
    lms = interp23(ms, ratio)[0].numpy()
    channels = guide[0].numpy()
    lows = []
    for gain in gains:
        sensor = Sensor("one", (gain,), 0.15)
        kernel = mtf_kernels(sensor, 1, ratio=ratio)[0].numpy()
        kernel = kernel / kernel.sum()
        padded = np.pad(channels, ((0, 0), (20, 20), (20, 20)), mode="edge")
        windows = np.lib.stride_tricks.sliding_window_view(padded, (41, 41), axis=(1, 2))
        sampled = windows[:, ratio // 2 :: ratio, ratio // 2 :: ratio]
        coarse = np.einsum("ghwij,ij->ghw", sampled, kernel)
        lows.append(interp23(torch.from_numpy(coarse)[None], ratio)[0].numpy())
    return lms, channels, np.stack(lows)


@pytest.mark.parametrize("channels", [1, 3])
def test_regression_against_numpy(channels):
    generator = torch.Generator().manual_seed(3)
    gains, ratio = (0.34, 0.22, 0.34), 4
    ms = 300 + 100 * torch.rand(1, 3, 12, 12, generator=generator, dtype=torch.float64)
    guide = 40 + 5 * torch.rand(1, channels, 48, 48, generator=generator, dtype=torch.float64)
    guide = guide + interp23(ms, ratio)[:, :channels] / 9
    lms, sharp, lows = by_hand(ms, guide, gains, ratio)
    glp, hpm = np.empty_like(lms), np.empty_like(lms)
    for band in range(3):
        own = sharp.reshape(channels, -1) - sharp.mean(axis=(1, 2))[:, None]
        low = lows[band].reshape(channels, -1)
        matrix = own @ (low - low.mean(axis=1, keepdims=True)).T
        found = np.linalg.solve(matrix, own @ (lms[band] - lms[band].mean()).ravel())
        pan = np.tensordot(found, sharp - sharp.mean(axis=(1, 2))[:, None, None], 1)
        low_pan = np.tensordot(found, lows[band] - sharp.mean(axis=(1, 2))[:, None, None], 1)
        glp[band] = lms[band] + pan - low_pan
        hpm[band] = lms[band] * (pan + lms[band].mean()) / (low_pan + lms[band].mean())
    sensor = Sensor("three", gains, 0.15)
    np.testing.assert_allclose(mtf_glp_fs(ms, guide, sensor=sensor)[0].numpy(), glp, rtol=1e-9)
    np.testing.assert_allclose(mtf_glp_hpm_r(ms, guide, sensor=sensor)[0].numpy(), hpm, rtol=1e-9)


@pytest.fixture(scope="module")
def coloured(pair):
    """The scene of `pair` with a guide of three channels that are mixtures of its bands."""
    reference, ms, _ = pair
    mixing = torch.tensor([[0.7, 0.3, 0, 0], [0, 0.5, 0.5, 0], [0, 0, 0.1, 0.9]], dtype=torch.float64)
    return reference, ms, torch.einsum("gc,bchw->bghw", mixing, reference)


@pytest.mark.parametrize("name", [name for name in OF_SEVERAL if name != "EXP"])
def test_each_band_gets_a_guide_of_its_own(coloured, name):
    reference, ms, guide = coloured
    own = fusion.ergas(reference, BASELINES[name](ms, guide, sensor=QB))
    mean = fusion.ergas(reference, BASELINES[name](ms, guide.mean(1, keepdim=True), sensor=QB))
    assert float(own) < 0.5 * float(mean)


@pytest.mark.parametrize("name", OF_SEVERAL)
def test_neither_units_of_channels_nor_a_channel_that_says_nothing_new_matter(coloured, name):
    _, ms, guide = coloured
    fused = BASELINES[name](ms, guide, sensor=QB)
    gains, offsets = torch.tensor([0.2, -3.0, 1e-4]), torch.tensor([77.0, 1e3, -0.1])
    others = guide * gains[:, None, None] + offsets[:, None, None]
    torch.testing.assert_close(BASELINES[name](ms, others, sensor=QB), fused, rtol=1e-6, atol=1e-4)
    more = torch.cat([guide, guide[:, :1], torch.full_like(guide[:, :1], 5.0)], dim=1)
    torch.testing.assert_close(BASELINES[name](ms, more, sensor=QB), fused, rtol=1e-6, atol=1e-4)


@settings(max_examples=10, deadline=None)
@given(
    gains=st.lists(st.floats(1e-3, 1e3), min_size=4, max_size=4), name=st.sampled_from(["MTF-GLP-FS", "MTF-GLP-HPM-R"])
)
def test_gains_of_bands_come_out_again(coloured, gains, name):
    _, ms, guide = coloured
    factors = torch.tensor(gains, dtype=torch.float64)[:, None, None]
    expected = BASELINES[name](ms, guide, sensor=QB) * factors
    torch.testing.assert_close(BASELINES[name](ms * factors, guide, sensor=QB), expected, rtol=1e-6, atol=0)


@pytest.mark.parametrize("name", BASELINES)
@pytest.mark.parametrize("level", [0.0, 0.1, 700.0])
def test_constant_images_stay_finite_and_constant(name, level):
    ms, pan = torch.full((1, 4, 16, 16), level, dtype=torch.float64), torch.full((1, 1, 64, 64), 3.0).double()
    fused = BASELINES[name](ms, pan, sensor=QB)
    torch.testing.assert_close(fused, torch.full_like(fused, level), rtol=1e-8, atol=0)


@pytest.mark.parametrize("name", ["MTF-GLP-HPM", "MTF-GLP-HPM-R"])
def test_a_low_pass_guide_near_zero_blows_nothing_up(name):
    generator = torch.Generator().manual_seed(0)
    pan = torch.rand(1, 1, 128, 128, generator=generator, dtype=torch.float64)
    pan[..., :64, :] *= 1e-3  # a dark half, as water, whose matched guide crosses 0
    truth = pan * torch.tensor([0.5, 1.0, 2.0, 3.0])[:, None, None] - 1e-3
    ms = degrade_ms(truth, sensor=QB)
    fused, up = BASELINES[name](ms, pan, sensor=QB), upsample(ms, 4)
    assert (fused.abs() <= 16 * up.abs() + 1e-12).all()
    assert float((fused - truth).square().mean()) < float((up - truth).square().mean())


@pytest.mark.parametrize("name", BASELINES)
def test_bad_input(name):
    method = BASELINES[name]
    with pytest.raises(SceneError, match=r"\(1, 4, 8, 8\).*\(1, 1, 24, 32\).*ratio 4"):
        method(torch.rand(1, 4, 8, 8), torch.rand(1, 1, 24, 32), sensor=QB)
    with pytest.raises(TypeError, match="int16"):
        method(torch.ones(1, 4, 8, 8, dtype=torch.int16), torch.rand(1, 1, 32, 32), sensor=QB)


def test_brovey_refuses_a_guide_of_several_channels():
    with pytest.raises(SceneError, match=r"\(1, 3, 32, 32\), Brovey's transform takes a single channel"):
        brovey(torch.rand(1, 4, 8, 8), torch.rand(1, 3, 32, 32), sensor=QB)


def test_bands_that_the_sensor_has_not():
    for method in (gsa, mtf_glp_hpm, mtf_glp_fs, mtf_glp_hpm_r):
        with pytest.raises(SceneError, match="8 bands, QB has 4"):
            method(torch.rand(1, 8, 8, 8), torch.rand(1, 1, 32, 32), sensor=QB)


@pytest.mark.skipif(not SCENES.is_dir(), reason="the WorldView-2 and IKONOS pairs are not beside the repository")
@pytest.mark.parametrize(("file", "sensor"), [("imgWV2.mat", "WV2"), ("imgIK.mat", "IKONOS")])
def test_real_pairs(file, sensor):
    from scipy.io import loadmat

    data = loadmat(SCENES / file)
    ms = torch.from_numpy(data["I_MS"].astype("float64")).permute(2, 0, 1)[None, :, :160, :160]
    pan = torch.from_numpy(data["I_PAN"].astype("float64"))[None, None, :640, :640]
    coarse, guide = degrade_ms(ms, sensor=sensor), degrade_pan(pan)
    tables = {
        name: fusion.reduced_resolution(ms, method(coarse, guide, sensor=sensor), data_range=2047)
        for name, method in BASELINES.items()
    }
    for name in tables.keys() - {"EXP"}:
        assert float(tables[name]["ERGAS"]) < float(tables["EXP"]["ERGAS"])
        assert float(tables[name]["Q2n"]) > float(tables["EXP"]["Q2n"]) + 0.05


@pytest.mark.parametrize("ratio", [2, 3, 4])
def test_without_wrapping_around_nothing_comes_from_the_opposite_border(ratio):
    ms = torch.rand(1, 2, 40, 9, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    other = ms.clone()
    other[:, :, -6:] += 1
    guide = torch.zeros(1, 1, 40 * ratio, 9 * ratio, dtype=torch.float64)
    first = slice(0, 6 * ratio)
    for wrap in (False, True):
        one, two = (exp(image, guide, ratio=ratio, wrap=wrap)[:, :, first] for image in (ms, other))
        assert torch.allclose(one, two, atol=1e-9) == (ratio == 3 or not wrap)  # Keys' cubic does not wrap


@pytest.mark.parametrize("name", BASELINES)
def test_without_wrapping_around_the_rim_is_nearer_to_the_truth(name, pair):
    reference, ms, pan = pair
    errors = []
    for wrap in (False, True):
        error = (BASELINES[name](ms, pan, sensor=QB, wrap=wrap) - reference).square()
        errors.append(error[..., :8].mean() + error[..., -8:].mean() + error[..., :8, :].mean())
    assert errors[0] < errors[1]
