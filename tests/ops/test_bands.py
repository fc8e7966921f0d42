"""3-D convolution over bands in training: torch's numbers in double precision, every instruction set."""

import copy
import sys

import pytest
import torch
from torch import nn

from hsmamba.ops import cpu, inference
from hsmamba.ops.bands import takes, trainable_bands
from tests.ops.guarded import run_guarded
from tests.ops.scan_cases import STATUS

LEVELS = ["baseline", "avx2", "avx512"]
pytestmark = pytest.mark.skipif(not STATUS["cpu"].available, reason=str(STATUS["cpu"]))


def made(bands, side, filters, kernel, padding):
    gen = torch.Generator().manual_seed(bands)
    conv = nn.Conv3d(1, filters, kernel, padding=padding, bias=False)
    nn.init.normal_(conv.weight, generator=gen)
    return conv, torch.randn(3, bands, side, side + 1, generator=gen)


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize(
    "sizes",
    [(30, 9, 6, (3, 3, 3), 0), (9, 5, 8, (3, 3, 3), 1), (20, 4, 9, (9, 3, 2), 0), (4, 2, 1, (4, 1, 2), (0, 0, 1))],
)
def test_it_is_the_convolution(level, threads, sizes, monkeypatch):
    if LEVELS.index(level) > LEVELS.index(cpu.level()):
        pytest.skip(f"{level} does not run here")
    monkeypatch.setattr(cpu, "level", lambda: level)
    monkeypatch.setattr(cpu, "SMALL", 0)
    conv, images = made(*sizes)
    wide = copy.deepcopy(conv).double()
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(threads)
        assert takes(conv, images)
        got = trainable_bands(images, conv)
        slope = torch.randn(got.shape, generator=torch.Generator().manual_seed(1))
        (ours,) = torch.autograd.grad(got, conv.weight, slope, retain_graph=True)
    finally:
        torch.set_num_threads(before)
    wanted = wide(images.double().unsqueeze(1)).permute(0, 3, 4, 1, 2).flatten(3)
    (theirs,) = torch.autograd.grad(wanted, wide.weight, slope.double())
    torch.testing.assert_close(got.double(), wanted, rtol=0, atol=2e-6 * float(wanted.detach().abs().max()))
    torch.testing.assert_close(ours.double(), theirs, rtol=0, atol=2e-6 * float(theirs.abs().max()))


def test_gradients_of_gradients():
    conv, images = made(9, 5, 3, (3, 3, 3), 0)
    (slope,) = torch.autograd.grad(trainable_bands(images, conv).square().sum(), conv.weight, create_graph=True)
    (plain,) = torch.autograd.grad(conv(images.unsqueeze(1)).square().sum(), conv.weight, create_graph=True)
    torch.testing.assert_close(slope, plain, rtol=1e-4, atol=1e-3)
    ours, theirs = (torch.autograd.grad(x.square().sum(), conv.weight)[0] for x in (slope, plain))
    torch.testing.assert_close(ours, theirs, rtol=1e-3, atol=1e-3 * float(theirs.abs().max()))


def test_elsewhere_it_is_torchs():
    conv, images = made(9, 5, 3, (3, 3, 3), 0)
    assert takes(conv, images)
    assert not takes(conv, images.clone().requires_grad_())
    assert not takes(copy.deepcopy(conv).double(), images.double())
    assert not takes(nn.Conv3d(1, 3, 3), images)
    assert not takes(nn.Conv3d(1, 3, 3, stride=2, bias=False), images)
    assert not takes(nn.Conv3d(1, 3, 3, padding="same", bias=False), images)
    with inference.plain():
        assert not takes(conv, images)
    with torch.no_grad():
        assert not takes(conv, images)


GUARDED = """
from hsmamba.ops.bands import _Bands, _Images
for level in levels:
    for behind in (False, True):
        for filters, bands, height, width, taps in ((6, 28, 3, 5, 3), (5, 17, 2, 4, 4), (1, 1, 1, 1, 1)):
            pitch = -(-bands // 16) * 16 + taps - 1
            sizes = 2, filters, bands, height + {extra}, width, taps, 3, 2, pitch, 1
            x, weights = guarded((2, height + 2, width + 1, pitch), behind), guarded((3, 2, taps, filters), behind)
            y, sums = guarded((2, height, width, filters, bands), behind), guarded((3, 2, taps, filters, 16), True)
            for name, w in (("bands", weights), ("band_gradients", sums)):
                arguments = _Bands(*sizes, x.data_ptr(), w.data_ptr(), y.data_ptr(), 0)
                getattr(cpu.load(), f"hsmamba_{{name}}_{{level}}")(ctypes.byref(arguments))
            images, to = guarded((2, bands, height, width), behind), guarded((2, height, width, bands), behind)
            strides = *images.stride()[:3], *to.stride()[:3]
            arguments = _Images(2, bands, height + {extra}, width, *strides, images.data_ptr(), to.data_ptr(), 0)
            getattr(cpu.load(), f"hsmamba_band_images_{{level}}")(ctypes.byref(arguments))
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="pages are protected by Linux's call")
def test_no_access_outside_an_array():
    run_guarded(GUARDED.format(extra=0))
    with pytest.raises(AssertionError, match="ended by signal"):
        run_guarded(GUARDED.format(extra=9))
