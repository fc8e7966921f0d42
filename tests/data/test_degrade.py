"""Wald's protocol against the closed-form anchors of its definition, and its properties."""

import math

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from hsmamba.data import degrade
from hsmamba.data.sensors import Sensor
from hsmamba.errors import SceneError
from tests.oracles import waves
from tests.refusals import refused


def close(actual, expected, tolerance):
    torch.testing.assert_close(actual.double(), torch.tensor(expected, dtype=torch.float64), rtol=0, atol=tolerance)


def noise(*shape, seed=0):
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.mark.parametrize(
    ("sensor", "sums", "centres"),
    [
        ("QB", (0.998869, 0.998807, 0.998740, 0.998420), (0.043309, 0.041005, 0.038807, 0.030857)),
        (
            "WV3",
            (0.998823, 0.998914, 0.998928, 0.998899, 0.998943, 0.998928, 0.998854, 0.998790),
            (0.041570, 0.045114, 0.045732, 0.044505, 0.046358, 0.045732, 0.042722, 0.040446),
        ),
        ("generic", (0.998740,), (0.038807,)),
    ],
)
def test_ms_kernels(sensor, sums, centres):
    kernels = degrade.mtf_kernels(sensor, len(sums))
    close(kernels.sum(dim=(1, 2)), sums, 6e-7)
    close(kernels[:, 20, 20], centres, 6e-7)
    assert torch.equal(kernels, kernels.flip(1, 2))
    torch.testing.assert_close(kernels, kernels.transpose(1, 2))


def test_kernel_value_off_centre():
    close(degrade.mtf_kernels("QB", 4)[0, 20, 24], 0.00489879, 6e-9)


def test_filtered_scene():
    x, pan = waves.MS, waves.PAN
    close(x[0, :, 5, 7], (788.1458, 806.1425, 855.3032, 939.1471), 6e-5)
    close(pan[0, 0, 5, 7], 878.2652, 6e-5)
    filtered = degrade.mtf_filter(x, sensor="QB")
    close(filtered[0, :, 40, 50], (626.1340, 529.8726, 843.6672, 711.8248), 6e-5)
    close(filtered[0, :, 0, 0], (778.6938, 832.9619, 860.3915, 882.9053), 6e-5)


def test_degraded_scene():
    ms = degrade.degrade_ms(waves.MS, sensor="QB")
    assert ms.shape == (1, 4, 32, 32)
    close(ms[0, :, 3, 5], (743.6871, 732.2739, 670.9778, 623.7556), 6e-5)
    close(degrade.upsample(ms)[0, :, 13, 22], (733.0074, 729.2221, 690.3720, 662.2168), 6e-5)


def test_bicubic_scene():
    small = degrade.bicubic_resize(waves.PAN, 0.25)
    assert small.shape == (1, 1, 32, 32)
    for (row, column), value in {(10, 11): 693.66574, (0, 0): 844.51915, (31, 31): 800.04167}.items():
        close(small[0, 0, row, column], value, 6e-6)
    assert torch.equal(degrade.degrade_pan(waves.PAN), small)


def test_bicubic_taps():
    half = [-0.001709, -0.010986, -0.018311, -0.011963, 0.022705, 0.097412, 0.181885, 0.240967]
    impulses = torch.eye(64, dtype=torch.float64)[:, None, None].expand(64, 1, 64, 64)
    taps = degrade.bicubic_resize(impulses, 0.25)[:, 0, 8, 8]  # output 8 reads inputs 26 to 41
    close(taps[26:42], half + half[::-1], 6e-7)
    close(taps[:26], [0.0] * 26, 1e-15)


def test_interp23_impulse():
    image = torch.zeros(1, 1, 8, 8, dtype=torch.float64)
    image[0, 0, 3, 4] = 1
    fine = degrade.interp23(image)[0, 0]
    assert divmod(int(fine.argmax()), 32) == (14, 18)
    close(fine.sum(), 16.0, 1e-6)
    close(fine[14, 15:22], (0.27461, 0.610668, 0.890027, 1, 0.890027, 0.610668, 0.27461), 6e-7)


def test_own_sensor_and_generic_serve_any_number_of_bands():
    image = noise(1, 3, 24, 24)
    mine = Sensor("mine", (0.3, 0.3, 0.3), 0.2)
    torch.testing.assert_close(
        degrade.mtf_filter(image, sensor=mine), degrade.mtf_filter(image, sensor="generic"), rtol=0, atol=0
    )


@pytest.mark.parametrize("ratio", [2, 3, 4, 8])
def test_filter_is_correlation_with_edge_replication(ratio):
    image = noise(2, 2, 19, 30)
    kernels = degrade.mtf_kernels("generic", 2, ratio=ratio)
    padded = F.pad(image, (20, 20, 20, 20), mode="replicate")
    expected = F.conv2d(padded, kernels[:, None], groups=2)
    torch.testing.assert_close(degrade.mtf_filter(image, sensor="generic", ratio=ratio), expected, rtol=0, atol=1e-13)


def test_filter_correlates_and_does_not_convolve():
    image = noise(1, 1, 9, 9)
    kernel = torch.zeros(1, 3, 3, dtype=torch.float64)
    kernel[0, 1, 2] = 1  # the right neighbour
    torch.testing.assert_close(degrade.filter_bands(image, kernel)[..., :-1], image[..., 1:])


@pytest.mark.parametrize("ratio", [2, 3, 4, 5])
def test_decimation_keeps_the_phase_of_matlab(ratio):
    ramp = torch.arange(6.0 * ratio).expand(1, 1, 2 * ratio, -1)
    assert degrade.decimate(ramp, ratio)[0, 0, 0].tolist() == [ratio // 2 + ratio * k for k in range(6)]


@settings(max_examples=30)
@given(
    ratio=st.sampled_from([2, 3, 4, 5, 6, 8]),
    height=st.integers(1, 9),
    width=st.integers(1, 20),
    dtype=st.sampled_from([torch.float32, torch.float64]),
    seed=st.integers(0, 99),
)
def test_upsampling_keeps_the_samples(ratio, height, width, dtype, seed):
    image = noise(2, 3, height, width, seed=seed).to(dtype)
    fine = degrade.upsample(image, ratio)
    assert fine.shape == (2, 3, height * ratio, width * ratio) and fine.dtype == dtype
    torch.testing.assert_close(degrade.decimate(fine, ratio), image)


@pytest.mark.parametrize("ratio", [3, 6])
def test_upsampling_of_a_ramp_is_in_phase(ratio):
    ramp = torch.arange(12, dtype=torch.float64).expand(1, 1, 12, 12)
    fine = degrade.upsample(ramp, ratio)[0, 0, 0]
    inner = torch.arange(3 * ratio, 9 * ratio)
    torch.testing.assert_close(fine[inner], (inner - ratio // 2).double() / ratio)


@pytest.mark.parametrize("ratio", [2, 4, 8])
def test_interp23_is_circular(ratio):
    image = noise(1, 1, 7, 11)
    moved = degrade.interp23(image.roll((2, -3), (2, 3)), ratio)
    torch.testing.assert_close(moved, degrade.interp23(image, ratio).roll((2 * ratio, -3 * ratio), (2, 3)))


@settings(max_examples=25)
@given(scale=st.sampled_from([0.2, 0.25, 1 / 3, 0.4, 0.5, 0.75]), height=st.integers(1, 4), width=st.integers(1, 4))
def test_bicubic_agrees_with_torch_inside(scale, height, width):
    # torch's antialiased bicubic has the same kernel (a = -0.5) but cuts it at the border instead of mirroring.
    image = noise(1, 2, 60 * height, 60 * width)  # torch derives the scale from sizes: keep it exact
    ours = degrade.bicubic_resize(image, scale)
    theirs = F.interpolate(image, size=ours.shape[-2:], mode="bicubic", antialias=True, align_corners=False)
    torch.testing.assert_close(ours[..., 4:-4, 4:-4], theirs[..., 4:-4, 4:-4], rtol=0, atol=1e-9)


@settings(max_examples=25)
@given(scale=st.floats(0.1, 5), height=st.integers(1, 15), width=st.integers(1, 15))
def test_bicubic_keeps_constants_at_any_scale(scale, height, width):
    flat = torch.full((1, 1, height, width), 7.5, dtype=torch.float64)
    resized = degrade.bicubic_resize(flat, scale)
    assert resized.shape == (1, 1, *(math.ceil(round(side * scale, 9)) for side in (height, width)))
    torch.testing.assert_close(resized, torch.full_like(resized, 7.5))


def test_bicubic_mirrors_with_the_border_pixel_repeated():
    image = noise(1, 1, 16, 16)
    mirrored = torch.cat([image.flip(2), image, image.flip(2)], dim=2)
    mirrored = torch.cat([mirrored.flip(3), mirrored, mirrored.flip(3)], dim=3)
    whole = degrade.bicubic_resize(mirrored, 0.5)
    torch.testing.assert_close(degrade.bicubic_resize(image, 0.5), whole[..., 8:16, 8:16])


@pytest.mark.parametrize(
    "function",
    [
        lambda image: degrade.degrade_ms(image, sensor="generic"),
        lambda image: degrade.degrade_pan(image),
        lambda image: degrade.upsample(image, 4),
        lambda image: degrade.upsample(image, 3),
    ],
    ids=["degrade_ms", "degrade_pan", "interp23", "bicubic"],
)
def test_gradients_dtypes_and_batches(function):
    image = noise(2, 2, 8, 4)
    assert torch.autograd.gradcheck(function, (image.clone().requires_grad_(),))
    torch.testing.assert_close(function(image), torch.cat([function(image[:1]), function(image[1:])]))
    torch.testing.assert_close(function(image.float()).double(), function(image), rtol=1e-5, atol=1e-5)
    assert function(image.bfloat16()).dtype == torch.bfloat16


def test_upsampling_exports_with_free_sizes():
    class Up(torch.nn.Module):
        def forward(self, ms):
            return degrade.upsample(ms, 4)

    height, width = torch.export.Dim("h", min=4, max=64), torch.export.Dim("w", min=4, max=64)
    program = torch.export.export(Up(), (torch.rand(1, 2, 8, 8),), dynamic_shapes={"ms": {2: height, 3: width}})
    other = torch.rand(1, 2, 5, 13)
    torch.testing.assert_close(program.module()(other), degrade.upsample(other, 4))


def test_grids_that_do_not_fit_are_named():
    with pytest.raises(SceneError, match=r"\(1, 4, 16, 16\).*\(1, 1, 64, 60\).*ratio 4.*\(1, P, 64, 64\)"):
        degrade.check_grids(torch.rand(1, 4, 16, 16), torch.rand(1, 1, 64, 60), 4)


test_bad_input = refused(
    (lambda: degrade.decimate(torch.rand(1, 1, 10, 12), 4), SceneError, "crop it to 8 x 12"),
    (lambda: degrade.degrade_ms(torch.rand(1, 1, 10, 12), sensor="generic"), SceneError, "crop it to 8 x 12"),
    (lambda: degrade.interp23(torch.rand(1, 1, 8, 8), 6), ValueError, "power of two, got 6: use upsample"),
    (lambda: degrade.upsample(torch.rand(1, 1, 8, 8), 1), ValueError, "ratio is 1"),
    (lambda: degrade.upsample(torch.rand(1, 1, 8, 8), 4.0), ValueError, "ratio is 4.0"),
    (lambda: degrade.bicubic_resize(torch.rand(1, 1, 8, 8), 0.0), ValueError, "scale is 0.0"),
    (lambda: degrade.upsample(torch.ones(1, 1, 8, 8, dtype=torch.int16)), TypeError, "int16.*float"),
    (lambda: degrade.upsample(torch.rand(1, 8, 8)), SceneError, r"\(1, 8, 8\).*\(B, C, H, W\)"),
    (lambda: degrade.upsample([[1.0]]), TypeError, "list.*torch tensor"),
    (lambda: degrade.filter_bands(torch.rand(1, 3, 8, 8), torch.rand(2, 5, 5)), SceneError, r"\(3, N, N\)"),
)


def test_a_filter_refuses_to_spread_missing_pixels():
    image = torch.rand(1, 1, 16, 16)
    image[0, 0, 3, 4] = torch.nan
    with pytest.raises(SceneError, match=r"1 values .* not finite"):
        degrade.mtf_filter(image, sensor="generic")
