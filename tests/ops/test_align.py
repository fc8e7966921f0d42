"""RAMSF's alignment in training: every instruction set, gradients in double precision, nothing outside an array."""

import sys

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from hsmamba.ops import align as ops
from hsmamba.ops import cpu, inference
from tests.ops.guarded import run_guarded
from tests.ops.scan_cases import STATUS

LEVELS = ["baseline", "avx2", "avx512"]
pytestmark = [
    pytest.mark.skipif(not STATUS["cpu"].available, reason=str(STATUS["cpu"])),
]


def made(images, rows, width, hidden, second, values, seed=0):
    gen = torch.Generator().manual_seed(seed)
    sizes = [(images, 2 * rows, 2 * width, hidden), (images, rows + 2, width + 2, hidden), (second, hidden), (second,)]
    sizes += [(values + 1, second), (values + 1,)]
    scales = 1, 1, hidden**-0.5, 1, second**-0.5, 1
    return [(torch.randn(*n, generator=gen) * k).requires_grad_() for n, k in zip(sizes, scales, strict=True)]


def aligned(fine, coarse, *layers):
    return ops.align(fine, coarse, [layers[:2], layers[2:]])


def took(y):
    return "_AlignedBackward" in y.grad_fn.name()


@pytest.mark.parametrize("level", LEVELS)
@settings(max_examples=12, deadline=None)
@given(
    images=st.integers(1, 2), rows=st.integers(1, 6), width=st.integers(1, 9), hidden=st.sampled_from([16, 48, 64]),
    second=st.sampled_from([16, 32]), values=st.sampled_from([1, 8, 15, 16, 32]), threads=st.sampled_from([1, 3]),
)  # fmt: skip
def test_its_gradients_are_those_in_double_precision(level, images, rows, width, hidden, second, values, threads):
    if LEVELS.index(level) > LEVELS.index(cpu.level()):
        pytest.skip(f"{level} does not run here")
    tensors, before = made(images, rows, width, hidden, second, values), torch.get_num_threads()
    slope = torch.randn(images, 2 * rows, 2 * width, values)
    torch.set_num_threads(threads)
    try:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(cpu, "level", lambda: level)
            patch.setattr(cpu, "SMALL", 0)
            y = aligned(*tensors)
            assert took(y)
            got = torch.autograd.grad(y, tensors, slope)
    finally:
        torch.set_num_threads(before)
    wide = [x.detach().double().requires_grad_() for x in tensors]
    wanted = aligned(*wide)
    assert not took(wanted)
    torch.testing.assert_close(y.double(), wanted, rtol=0, atol=1e-5 * max(1.0, float(wanted.detach().abs().max())))
    for one, other in zip(got, torch.autograd.grad(wanted, wide, slope.double()), strict=True):
        torch.testing.assert_close(one.double(), other, rtol=0, atol=2e-5 * max(1.0, float(other.abs().max())))


def test_its_gradient_has_one_and_weights_may_be_frozen():
    tensors = made(1, 3, 2, 16, 16, 3)
    frozen = [x.detach() if i > 1 else x for i, x in enumerate(tensors)]
    wide = [x.detach().double().requires_grad_(x.requires_grad) for x in frozen]
    seconds = []
    for leaves in (frozen, wide):
        (slope,) = torch.autograd.grad(aligned(*leaves).square().sum(), leaves[0], create_graph=True)
        seconds.append(torch.autograd.grad(slope.square().sum(), leaves[1])[0])
    torch.testing.assert_close(seconds[0].double(), seconds[1], rtol=1e-4, atol=1e-4)


def test_it_takes_only_what_it_was_made_for():
    assert took(aligned(*made(1, 2, 2, 16, 16, 1)))
    assert not took(aligned(*made(1, 2, 2, 12, 16, 1)))
    assert not took(aligned(*made(1, 2, 2, 16, 8, 1)))
    assert not took(aligned(*made(1, 2, 2, 16, 16, 0)))
    fine, coarse, *layers = made(1, 2, 2, 16, 16, 15)
    assert not took(ops.align(fine, coarse, [layers[:2], layers[:2], layers[2:]]))
    assert not took(ops.align(fine, coarse, [layers[2:]]))
    with inference.plain():
        assert not took(aligned(fine, coarse, *layers))


_GUARDED = """
from hsmamba.ops import align
for level in levels:
    cpu.level = lambda: level
    for rows, width, values in ((1, 1, 1), (3, 7, 8), (2, 8, 16)):
        for behind in (True, False):
            def made(*shape, behind=behind):
                return guarded(shape, behind)
            blocks = 2 * -(-rows * width // align._PIXELS)
            pitch = -(-(values + 1) // 16) * 16
            sizes = 2, rows, width, 16, 32, values + 1, pitch
            tensors = made(2, 2 * rows, 2 * width, 16), made(2, rows + 2, width + 2, 16), made(32, 16), made(32)
            tensors += made(values + 1, 32), made(values + 1)
            z, o = (made(blocks, 4, 4 * align._PIXELS, n) for n in (32, pitch))
            more = {"z": z, "o": o, "out": made(2, 2 * rows, 2 * width, values)}
            align._run("align", sizes, tensors, 1, 4 * align._PIXELS * 16, **more)
            more |= {"dfine": made(2, 2 * rows, 2 * width, 16), "dcoarse": made(1, 2, rows + 2, width + 2, 16)}
            more |= {"dweights": made(1, 32, 16), "dlast": made(1, values + 1, 32)}
            more |= {"dbias": made(1, 32), "dlast_bias": made(1, pitch)}
            floats = 4 * align._PIXELS * (2 * 16 + 32 + pitch)
            align._run("align_backward", sizes, tensors, 1, floats, slots=1, **more)
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="pages are protected by the POSIX interface")
def test_nothing_outside_an_array_is_read_or_written():
    run_guarded(_GUARDED)
