"""Batch norm and ReLU of channels that are neighbours in memory: torch's numbers, gradients and statistics."""

import sys

import pytest
import torch
from torch import nn

from hsmamba.ops import cpu
from hsmamba.ops.norm_gradients import takes, trainable_norm
from tests.ops.guarded import run_guarded
from tests.ops.scan_cases import STATUS

LEVELS = ["baseline", "avx2", "avx512"]
pytestmark = pytest.mark.skipif(not STATUS["cpu"].available, reason=str(STATUS["cpu"]))


def made(seed=0, share=7):
    gen = torch.Generator().manual_seed(seed)
    x = (3 * torch.randn(4, 5, 6, 2 * share, generator=gen) + 20).requires_grad_()  # far from zero
    norm = nn.BatchNorm3d(2)
    with torch.no_grad():
        norm.weight.uniform_(0.5, 2, generator=gen)
        norm.bias.uniform_(-1, 1, generator=gen)
    return x, norm, torch.randn(x.shape, generator=gen)


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize(("share", "threads"), [(7, 1), (1, 1), (40, 1), (40, 2)])
def test_it_is_torchs_in_double_precision(level, share, threads, monkeypatch):
    if LEVELS.index(level) > LEVELS.index(cpu.level()):
        pytest.skip(f"{level} does not run here")
    monkeypatch.setattr(cpu, "level", lambda: level)
    monkeypatch.setattr(cpu, "SMALL", 0)
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(threads)
        _compare(share)
    finally:
        torch.set_num_threads(before)


def _compare(share):
    (x, norm, slope), (_, plain, _) = made(share=share), made(share=share)
    plain = plain.double()
    wide = x.detach().double().requires_grad_()
    assert takes(norm, x)
    got = trainable_norm(x.permute(0, 3, 1, 2), norm, share).permute(0, 2, 3, 1)
    wanted = plain(wide.unflatten(3, (2, share)).permute(0, 3, 4, 1, 2)).relu().permute(0, 3, 4, 1, 2).flatten(3)
    torch.testing.assert_close(got.double(), wanted, rtol=1e-5, atol=1e-5)
    ours = torch.autograd.grad(got, (x, norm.weight, norm.bias), slope)
    theirs = torch.autograd.grad(wanted, (wide, plain.weight, plain.bias), slope.double())
    for one, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(one.double(), other, rtol=0, atol=1e-5 * float(other.abs().max()))
    torch.testing.assert_close(norm.double().state_dict(), plain.state_dict(), rtol=1e-5, atol=1e-5)


def test_gradients_of_gradients():
    x, norm, _ = made()
    made_of_it = trainable_norm(x.permute(0, 3, 1, 2), norm, 7)
    (slope,) = torch.autograd.grad(made_of_it.square().sum(), x, create_graph=True)
    maps = x.unflatten(3, (2, 7)).permute(0, 3, 4, 1, 2)
    (plain,) = torch.autograd.grad(norm(maps).relu().square().sum(), x, create_graph=True)
    torch.testing.assert_close(slope, plain, rtol=1e-4, atol=1e-4)
    one, other = (torch.autograd.grad(y.square().sum(), norm.weight)[0] for y in (slope, plain))
    torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-3)


def test_layers_that_norm_otherwise_are_left_alone():
    x, norm, _ = made()
    assert not takes(norm.eval(), x)
    assert not takes(nn.BatchNorm3d(2, affine=False), x)
    assert not takes(nn.BatchNorm3d(2, track_running_stats=False), x)
    assert not takes(nn.SyncBatchNorm(2), x)
    assert not takes(norm.half(), x)


def test_one_number_a_channel_is_refused_as_by_torch():
    x, norm, _ = made()
    with pytest.raises(ValueError, match="one number for each channel"):
        trainable_norm(x[:1, :1, :1, :2].permute(0, 3, 1, 2), norm)


GUARDED = """
from hsmamba.ops.norm_gradients import Norms
for level in levels:
    for behind in (False, True):
        for rows, columns, share in ((33, 20, 5), (5, 67, 1), (2, 16, 16), (1, 2, 2)):
            pitch = -(-columns // 16) * 16
            x, grad, out = (guarded((rows, columns), behind) for _ in range(3))
            weight, bias = (guarded((columns // share,), behind) for _ in range(2))
            sums, table = guarded((1, 2, pitch), behind), guarded((4, pitch), behind)
            taken, found = guarded((2, pitch), behind), guarded((2, columns // share), behind)
            running_mean, running_var = (guarded((columns // share,), behind) for _ in range(2))
            held = dict(x=x, grad=grad, weight=weight, bias=bias, sums=sums, pivot=x, running_mean=running_mean)
            held |= dict(table=table, taken=taken, found=found, out=out, running_var=running_var)
            arguments = Norms(
                rows=rows + {extra}, columns=columns, share=share, pitch=pitch, x_row=columns, grad_row=columns,
                slots=1, eps=1e-5, momentum=0.1, **{{name: t.data_ptr() for name, t in held.items()}},
            )
            for work in range(6):
                arguments.work, arguments.next_slot = work, 0
                getattr(cpu.load(), f"hsmamba_norms_{{level}}")(ctypes.byref(arguments))
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="pages are protected by Linux's call")
def test_no_access_outside_an_array():
    run_guarded(GUARDED.format(extra=0))
    with pytest.raises(AssertionError, match="ended by signal"):
        run_guarded(GUARDED.format(extra=2000))
