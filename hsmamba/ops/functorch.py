"""The operator in the form that its caller needs: torch's, plain where nothing watches, or that of torch.func.

torch.func refuses the autograd formula of a custom operator and wants it in another form. There, v scans in a batch
become one with v d channels in v g groups, in which each keeps its own A, B and C.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from hsmamba.ops import inference, operator
from hsmamba.ops.inputs import split_axis

# u, delta, A, B, C, D, z, delta_bias, initial_state: the axis of channels or groups
CHANNEL_AXES = (1, 1, 0, 1, 1, 0, 1, 0, 1)


def run_scan(*args: Any) -> tuple[Tensor, Tensor, Tensor]:
    """Call `operator.scan_op`, in the form that what is going on asks for."""
    if _transforms_active():
        form = _Scan.apply
    elif _watched(args):
        form = operator.scan_op
    else:
        form = _Direct.apply
    outputs: tuple[Tensor, Tensor, Tensor] = form(*args)
    return outputs


def _watched(args: tuple[Any, ...]) -> bool:
    """Whether something traces or intercepts operators, or a tensor is of a kind of its own."""
    if torch.compiler.is_compiling() or torch._C._is_tracing() or torch._C._len_torch_dispatch_stack() > 0:
        return True
    return any(isinstance(x, Tensor) and type(x) not in inference.KINDS for x in args)


class _Direct(torch.autograd.Function):
    """The operator where nothing watches: what torch does around one takes longer than a small scan."""

    @staticmethod
    def forward(ctx: Any, *args: Any) -> tuple[Tensor, Tensor, Tensor]:
        output = operator.run_forward(*args)
        operator.setup_context(ctx, args, output)
        return output

    @staticmethod
    def backward(ctx: Any, *grads: Tensor | None) -> tuple[Tensor | None, ...]:
        # A gradient that is to be differentiated in its turn is refused by the operator's own.
        run = operator.scan_backward_op if torch.is_grad_enabled() else operator.run_backward
        return operator.gradients(run, ctx, *grads)


def _run_backward(*args: Any) -> tuple[Tensor, ...]:
    return _Backward.apply(*args) if _transforms_active() else tuple(operator.scan_backward_op(*args))


def _transforms_active() -> bool:
    return not torch.compiler.is_compiling() and torch._C._are_functorch_transforms_active()


class _Scan(torch.autograd.Function):
    @staticmethod
    def forward(*args: Any) -> Any:
        return operator.scan_op(*args)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor, Tensor]) -> None:
        operator.setup_context(ctx, inputs, output)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor | None) -> tuple[Tensor | None, ...]:
        return operator.gradients(_run_backward, ctx, *grads)

    @staticmethod
    def vmap(info: Any, in_dims: tuple[int | None, ...], *args: Any) -> tuple[tuple[Tensor, ...], tuple[int, ...]]:
        count, save = info.batch_size, args[10]
        y, last, checkpoints = run_scan(*_fold_inputs(count, in_dims, args), *args[9:])
        checkpoints = split_axis(checkpoints, 3, count) if save else checkpoints.expand(count, -1)
        return (split_axis(y, 1, count), split_axis(last, 1, count), checkpoints), (1, 1, 3 if save else 0)


class _Backward(torch.autograd.Function):
    @staticmethod
    def forward(*args: Any) -> tuple[Tensor, ...]:
        return tuple(operator.scan_backward_op(*args))

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
        pass

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> None:
        operator.no_second_derivative(ctx, *grads)

    @staticmethod
    def vmap(info: Any, in_dims: tuple[int | None, ...], *args: Any) -> tuple[tuple[Tensor, ...], tuple[int, ...]]:
        count = info.batch_size
        checkpoints, dy, dlast = args[11:]
        if checkpoints.numel() > 0:
            checkpoints = _fold(checkpoints, in_dims[11], 3, count)
        dy, dlast = (
            None if x is None else _fold(x, dim, 1, count) for x, dim in zip((dy, dlast), in_dims[12:], strict=True)
        )
        grads = _run_backward(*_fold_inputs(count, in_dims, args), *args[9:11], checkpoints, dy, dlast)
        axes = tuple(axis for axis, x in zip(CHANNEL_AXES, args, strict=False) if x is not None)
        return tuple(split_axis(grad, axis, count) for grad, axis in zip(grads, axes, strict=True)), axes


def _fold_inputs(count: int, in_dims: tuple[int | None, ...], args: tuple[Any, ...]) -> list[Tensor | None]:
    """The first nine arguments with their batch folded into channels or groups."""
    rows = zip(args[:9], in_dims[:9], CHANNEL_AXES, strict=True)
    return [None if x is None else _fold(x, dim, axis, count) for x, dim, axis in rows]


def _fold(x: Tensor, dim: int | None, axis: int, count: int) -> Tensor:
    """Fold the batch axis `dim` into `axis` of what remains; without one, repeat x `count` times."""
    x = x.unsqueeze(axis).expand(*x.shape[:axis], count, *x.shape[axis:]) if dim is None else x.movedim(dim, axis)
    return x.flatten(axis, axis + 1)
