"""The compiled S6: scans over one set of tokens, in any orders, from the projections to the sum of the scans, and back.

It reads tokens whose channels are neighbours in memory, so that no scan needs a copy in its own order, and computes the
step sizes on the way. On a CPU in float32; in the library of the scan.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from hsmamba.ops import cpu, inference
from hsmamba.ops.backends import choose_backend, forced_backend
from hsmamba.ops.inputs import CHECKPOINT_STEPS, checkpoint_count
from hsmamba.ops.linear import PANEL, packed
from hsmamba.ops.operator import no_second_derivative

_FEWEST_TOKENS = 16  # a kernel of eight rows at a time is half empty with nine of them
_MOST_PROJECTED = 1 << 16  # floats of what is projected of one sample, which is to stay in the second cache
_int = ctypes.c_int64
_ptr = ctypes.c_void_p


class _Tokens(ctypes.Structure):
    _fields_ = [("data", _ptr), ("batch", _int), ("scan", _int), ("token", _int)]


class _S6(ctypes.Structure):
    _fields_ = [
        *((name, _int) for name in ("batches", "scans", "channels", "tokens", "states", "rank", "parts", "row", "own")),
        *((name, _Tokens) for name in ("u", "projected", "y")),
        *((name, _ptr) for name in ("order", "A", "steps", "bias", "D", "last", "checkpoints", "scratch")),
        *((name, _int) for name in ("scratch_floats", "next_thread", "next_task", "driver_channels")),
        ("driver", _Tokens),
        *((name, _ptr) for name in ("projection", "shift")),
        ("own_projection", _int),
    ]


class _S6Backward(ctypes.Structure):
    _fields_ = [
        *((name, _int) for name in ("batches", "scans", "channels", "tokens", "states", "rank", "parts", "row", "own")),
        ("slots", _int),
        *((name, _Tokens) for name in ("u", "projected", "dy", "du", "dprojected")),
        ("dprojected_part", _int),
        *((name, _ptr) for name in ("order", "A", "steps", "bias", "D", "checkpoints", "dlast")),
        *((name, _ptr) for name in ("dA", "dsteps", "dbias", "dD", "scratch")),
        *((name, _int) for name in ("scratch_floats", "next_thread", "next_slot")),
    ]


def takes(*tensors: Tensor) -> bool:
    """Whether the kernel may take the place of `selective_scan` and what is around it, for these and all parameters."""
    if torch.compiler.is_compiling() or torch.onnx.is_in_onnx_export() or torch._C._are_functorch_transforms_active():
        return False
    if inference.is_plain():
        return False
    if any(x.device.type != "cpu" or x.dtype != torch.float32 for x in tensors) or torch.is_autocast_enabled("cpu"):
        return False
    if torch.autograd.forward_ad._current_level >= 0 or cpu.unavailable():
        return False
    chosen: str = choose_backend(forced_backend(), "cpu", False, False, None)
    return chosen == "cpu"


def scan_tokens(
    u: Tensor,
    projected: Tensor,
    order: Tensor,
    A_log: Tensor,
    steps: Tensor,
    bias: Tensor,
    D: Tensor,
    summed: bool,
    save: bool = False,
    with_last: bool = True,
    made: Callable[..., Any] = inference.prepared,
) -> tuple[Tensor, Tensor, Tensor]:
    """Scan K times; W is 1 where all scans have the same weights, else K.

    Args:
        u: (B, K or 1, L, d), float32; channels are neighbours in memory.
        projected: (B, K, L, R + 2 N), likewise: the rank, then B and C. One copy for all scans has stride 0 along K.
        order: (K, L), int32: the token that a scan visits at each step; each token once.
        A_log: (W, d, N); A = -exp(A_log).
        steps: (W, d, R), from the rank to the step sizes before their bias and softplus.
        bias: (W, d).
        D: (W, d).
        summed: Sum over the scans.
        save: Keep states for the backward.
        with_last: Give the last states; they are nothing without it.
        made: Calls the function that puts weights in order; by default once a job, since nobody changes them meanwhile.

    Returns:
        y (B, 1, L, d) summed, or (B, K, L, d), tokens in the order of u; the last states (B, K, d, N); the states from
        which the backward starts, or nothing.
    """
    (b, _, length, d), scans, n = u.shape, projected.shape[1], A_log.shape[2]
    y = u.new_empty(b, 1 if summed else scans, length, d)
    last = u.new_empty((b, scans, d, n) if with_last else (0,))
    checkpoints = u.new_empty(_checkpoint_shape(u, projected, A_log) if save else (0,))
    if y.numel() == 0:
        return y, last.zero_(), checkpoints
    arguments, threads, held = _described(_S6, u, scans, order, made(_arranged, A_log, steps, bias, D))
    arguments.projected = _tokens(projected)
    arguments.y, arguments.last = _tokens(y, summed), last.data_ptr() if with_last else None
    arguments.checkpoints = checkpoints.data_ptr() if save else None
    floats = 3 * CHECKPOINT_STEPS * cpu.WIDEST + n * arguments.row  # tiles and states
    scratch = _scratch(arguments, threads, floats)
    cpu.run_team(cpu.kernel("s6"), arguments, threads, (u, projected, y, scratch, *held, last, checkpoints))
    return y, last, checkpoints


def projects(u: Tensor, driver: Tensor, weight: Tensor) -> bool:
    """Whether `scan_driven` is the way to scan these; arguments are those of it."""
    length, threads = u.shape[2], torch.get_num_threads()
    if len(u) < cpu.RUNS_PER_THREAD * threads and threads > 1:  # channels of a sample go to several threads
        return False
    projected = length * -(-weight.shape[1] // PANEL) * PANEL
    return length >= _FEWEST_TOKENS and projected <= _MOST_PROJECTED and driver.shape[3] > 0


def scan_driven(
    u: Tensor,
    driver: Tensor,
    order: Tensor,
    weight: Tensor,
    shift: Tensor | None,
    A_log: Tensor,
    steps: Tensor,
    bias: Tensor,
    D: Tensor,
    summed: bool,
    with_last: bool,
) -> tuple[Tensor, Tensor]:
    """Scan as `scan_tokens` does, and project on the way: for inference.

    Args:
        u: See `scan_tokens`.
        driver: (B, K or 1, L, e), what steps, B and C are made of; channels are neighbours in memory.
        order: See `scan_tokens`.
        weight: (W, R + 2 N, e).
        shift: (W, R + 2 N), or nothing.
        A_log: See `scan_tokens`, as the next four.
        steps: See above.
        bias: See above.
        D: See above.
        summed: See above.
        with_last: See above.

    Returns:
        y and the last states; see `scan_tokens`.
    """
    (b, _, length, d), scans, n = u.shape, len(order), A_log.shape[2]
    y = u.new_empty(b, 1 if summed else scans, length, d)
    last = u.new_empty((b, scans, d, n) if with_last else (0,))
    if y.numel() == 0:
        return y, last.zero_()
    arguments, threads, held = _described(_S6, u, scans, order, inference.prepared(_arranged, A_log, steps, bias, D))
    panels, shifts = inference.prepared(_panels, weight, shift)
    pitch = shifts.shape[1]
    arguments.projected.token, arguments.driver = pitch, _tokens(driver, driver.shape[1] == 1)
    arguments.driver_channels, arguments.own_projection = driver.shape[3], int(len(weight) > 1)
    arguments.projection, arguments.shift = panels.data_ptr(), shifts.data_ptr()
    arguments.y, arguments.last = _tokens(y, summed), last.data_ptr() if with_last else None
    floats = 3 * CHECKPOINT_STEPS * cpu.WIDEST + n * arguments.row + length * pitch
    scratch = _scratch(arguments, threads, floats)
    cpu.run_team(cpu.kernel("s6"), arguments, threads, (u, driver, y, scratch, *held, panels, shifts, last))
    return y, last


def _panels(weight: Tensor, shift: Tensor | None) -> tuple[Tensor, Tensor]:
    """Pack weights (W, R + 2 N, e) as the kernel of linear layers has them; biases (W, panels of outputs)."""
    found = [packed(one, None if shift is None else shift[i], parts=((len(one), ""),)) for i, one in enumerate(weight)]
    return torch.stack([panels for _, panels, _, _ in found]), torch.stack([bias for _, _, bias, _ in found])


def _arranged(A_log: Tensor, steps: Tensor, bias: Tensor, D: Tensor) -> tuple[Tensor, ...]:
    """Make A (W, N, row) and steps (W, R, row) of weights, and pad bias and D: a vector may begin at any channel."""
    d = A_log.shape[1]
    more = (0, (-(-d // cpu.WIDEST) + 1) * cpu.WIDEST - d)
    return tuple(F.pad(x, more).contiguous() for x in (-A_log.mT.exp(), steps.mT, bias, D))


@torch.library.custom_op("hsmamba::s6", mutates_args=())
def s6_op(
    u: Tensor,
    projected: Tensor,
    order: Tensor,
    A_log: Tensor,
    steps: Tensor,
    bias: Tensor,
    D: Tensor,
    summed: bool,
    save: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    """Scan as `scan_tokens` does, with gradients."""
    given = u, projected, order, A_log, steps, bias, D, summed, save
    return scan_tokens(*given, made=_made)


def _made(make: Callable[..., Any], *weights: Tensor) -> Any:
    """Put weights in order anew: they change from call to call."""
    return make(*weights)


def _checkpoint_shape(u: Tensor, projected: Tensor, A_log: Tensor) -> tuple[int, ...]:
    """States before each block of steps but the first, which is zero."""
    return u.shape[0], projected.shape[1], checkpoint_count(u.shape[2]) - 1, A_log.shape[2], u.shape[3]


def _described(
    kind: Any, u: Tensor, scans: int, order: Tensor, arranged: tuple[Tensor, ...]
) -> tuple[Any, int, list[Tensor]]:
    """Fill in what forward and backward share; the number of threads, and the tensors behind it."""
    rates, weights, shift, direct = arranged
    (b, _, length, d), (sets, n, row) = u.shape, rates.shape
    threads = torch.get_num_threads() if b * scans * d * length * n > cpu.SMALL else 1
    blocks = -(-d // {"avx512": 16, "avx2": 8, "baseline": 4}[cpu.level()])
    parts = max(1, min(blocks, -(-cpu.RUNS_PER_THREAD * threads // b))) if threads > 1 else 1
    arguments = kind(b, scans, d, length, n, weights.shape[1], parts, row, int(sets > 1))
    arguments.u = _tokens(u, u.shape[1] == 1)
    pointers = {"order": order, "A": rates, "steps": weights, "bias": shift, "D": direct}
    for name, x in pointers.items():
        setattr(arguments, name, x.data_ptr())
    return arguments, threads, list(pointers.values())


def _scratch(arguments: Any, threads: int, floats: int) -> Tensor:
    """Memory of so many floats for each thread."""
    scratch = torch.empty(threads * floats + cpu.WIDEST)
    arguments.scratch, arguments.scratch_floats = -(-scratch.data_ptr() // 64) * 64, floats
    return scratch


def _tokens(x: Tensor, shared: bool = False) -> _Tokens:
    batch, scan, token = x.stride()[:3]
    return _Tokens(x.data_ptr(), batch, 0 if shared else scan, token)


@s6_op.register_fake
def _(u: Tensor, projected: Tensor, order: Tensor, A_log: Tensor, *others: Any) -> tuple[Tensor, Tensor, Tensor]:
    (b, _, length, d), scans = u.shape, projected.shape[1]
    *_, summed, save = others
    y, last = u.new_empty(b, 1 if summed else scans, length, d), u.new_empty(b, scans, d, A_log.shape[2])
    return y, last, u.new_empty(_checkpoint_shape(u, projected, A_log) if save else (0,))


def _gradients(
    u: Tensor,
    projected: Tensor,
    order: Tensor,
    A_log: Tensor,
    steps: Tensor,
    bias: Tensor,
    D: Tensor,
    checkpoints: Tensor,
    dy: Tensor,
    dlast: Tensor | None,
) -> list[Tensor]:
    """Compute the gradients of u, projected, A_log, steps, bias and D."""
    scans, n, (sets, d, rank) = projected.shape[1], A_log.shape[2], steps.shape
    du, dprojected = torch.empty_like(u), torch.empty_like(projected)
    if u.numel() == 0 or scans == 0:
        return [du, dprojected, *(torch.zeros_like(x) for x in (A_log, steps, bias, D))]
    arguments, threads, held = _described(_S6Backward, u, scans, order, _arranged(A_log, steps, bias, D))
    arguments.projected = _tokens(projected)
    dy = dy if dy.stride(3) == 1 else dy.contiguous()
    dlast = None if dlast is None else dlast.contiguous()
    parts, slots = arguments.parts, min(len(u) * arguments.parts, cpu.RUNS_PER_THREAD * threads)
    by_part = dprojected[None] if parts == 1 else u.new_empty(parts, *dprojected.shape)
    row = arguments.row
    sums = [u.new_zeros(slots, sets, *rows, row) for rows in ((n,), (rank,), (), ())]
    arguments.slots, arguments.dprojected_part = slots, by_part.stride(0)
    arguments.dy, arguments.du = _tokens(dy, dy.shape[1] == 1), _tokens(du, du.shape[1] == 1)
    arguments.dprojected = _tokens(by_part[0])
    arguments.checkpoints, arguments.dlast = checkpoints.data_ptr(), None if dlast is None else dlast.data_ptr()
    arguments.dA, arguments.dsteps, arguments.dbias, arguments.dD = (x.data_ptr() for x in sums)
    vectors = row // cpu.WIDEST
    floats = cpu.WIDEST * (vectors * (7 * CHECKPOINT_STEPS + n) + 16 * CHECKPOINT_STEPS) + 1024
    scratch = _scratch(arguments, threads, floats)
    held += [du, by_part, *sums, checkpoints, dy, *([] if dlast is None else [dlast])]
    cpu.run_team(cpu.kernel("s6_backward"), arguments, threads, (u, projected, scratch, *held))
    if parts > 1:
        torch.sum(by_part, 0, out=dprojected)
    dA, dsteps, dbias, dD = (x.sum(0)[..., :d] for x in sums)
    return [du, dprojected, dA.mT * -A_log.exp(), dsteps.mT.contiguous(), dbias.clone(), dD.clone()]


_s6_backward_op = torch.library.custom_op("hsmamba::s6_backward", _gradients, mutates_args=())


@_s6_backward_op.register_fake
def _(u: Tensor, projected: Tensor, order: Tensor, *others: Tensor) -> list[Tensor]:
    return [torch.empty_like(u), torch.empty_like(projected), *(torch.empty_like(x) for x in others[:4])]


def _setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor, Tensor]) -> None:
    ctx.save_for_backward(*inputs[:7], output[2])
    ctx.set_materialize_grads(False)


def _backward(
    ctx: Any, dy: Tensor | None, dlast: Tensor | None, _: Tensor | None, run: Callable[..., Any] = _s6_backward_op
) -> tuple[Tensor | None, ...]:
    if dy is None and dlast is None:
        return (None,) * 9
    if dy is None:
        u, projected = ctx.saved_tensors[:2]
        dy = u.new_zeros(()).expand(len(u), projected.shape[1], *u.shape[2:]).contiguous()
    du, dprojected, *weights = run(*ctx.saved_tensors, dy, dlast)
    return (du, dprojected, None, *weights, None, None)


class _Trained(torch.autograd.Function):
    """The operator without what torch does around one, which takes as long as a scan of few tokens."""

    @staticmethod
    def forward(
        ctx: Any,
        u: Tensor,
        projected: Tensor,
        order: Tensor,
        A_log: Tensor,
        steps: Tensor,
        bias: Tensor,
        D: Tensor,
        summed: bool,
        with_last: bool,
    ) -> tuple[Tensor, Tensor]:
        y, last, checkpoints = scan_tokens(u, projected, order, A_log, steps, bias, D, summed, True, with_last, _made)
        ctx.save_for_backward(u, projected, order, A_log, steps, bias, D, checkpoints)
        ctx.set_materialize_grads(False)
        return y, last

    @staticmethod
    def backward(ctx: Any, dy: Tensor | None, dlast: Tensor | None) -> tuple[Tensor | None, ...]:
        # A second derivative is refused by the operator.
        return _backward(ctx, dy, dlast, None, _s6_backward_op if torch.is_grad_enabled() else _gradients)


def trainable_scan(
    u: Tensor,
    projected: Tensor,
    order: Tensor,
    A_log: Tensor,
    steps: Tensor,
    bias: Tensor,
    D: Tensor,
    summed: bool,
    with_last: bool = True,
) -> tuple[Tensor, Tensor]:
    """Scan as `scan_tokens` does, with gradients.

    Args:
        u: See `scan_tokens`, as the others.
        projected: See above.
        order: See above.
        A_log: See above.
        steps: See above.
        bias: See above.
        D: See above.
        summed: See above.
        with_last: See above.

    Returns:
        y and the last states; see `scan_tokens`.
    """
    tensors = u, projected, A_log, steps, bias, D
    if inference.trains(*tensors):
        y, last = _Trained.apply(u, projected, order, A_log, steps, bias, D, summed, with_last)
    else:
        save = torch.is_grad_enabled() and any(x.requires_grad for x in tensors)
        y, last, _ = s6_op(u, projected, order, A_log, steps, bias, D, summed, save)
    return y, last


s6_op.register_autograd(_backward, setup_context=_setup_context)
_s6_backward_op.register_autograd(no_second_derivative)
