"""What every backend gets: the checked arguments of one selective scan, with B and C in one broadcastable form."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor

CHECKPOINT_STEPS = 32  # a fused backend keeps the state before step 0, 32, 64, ... for its backward


class ScanInputs(NamedTuple):
    """The arguments of one scan.

    B and C are (b or 1, g, n, l or 1) with one g for both: an axis of size 1 where b or l stands is shared, so that two
    constant (d, n) matrices are the case g = d and need no (b, d, n, l) tensor.
    """

    u: Tensor  # (b, d, l)
    delta: Tensor  # (b, d, l)
    A: Tensor  # (d, n)
    B: Tensor  # (b | 1, g, n, l | 1)
    C: Tensor  # (b | 1, g, n, l | 1)
    D: Tensor | None  # (d,)
    z: Tensor | None  # (b, d, l)
    delta_bias: Tensor | None  # (d,)
    initial_state: Tensor | None  # (b, d, n)
    delta_softplus: bool

    def to(self, dtype: torch.dtype) -> ScanInputs:
        """The same arguments with every tensor in `dtype`."""
        changed: dict[str, Any] = {name: x.to(dtype) for name, x in self._asdict().items() if isinstance(x, Tensor)}
        return self._replace(**changed)


def compute_dtype(inputs: ScanInputs) -> torch.dtype:
    """The dtype of the state and of every sum: float64 for float64 `u`, else float32.

    No property of `ScanInputs`: torch 2.4 cannot trace those.
    """
    return torch.float64 if inputs.u.dtype == torch.float64 else torch.float32


class ScanGrads(NamedTuple):
    """Gradients in the order of `ScanInputs`; None where the argument is absent."""

    u: Tensor
    delta: Tensor
    A: Tensor
    B: Tensor
    C: Tensor
    D: Tensor | None
    z: Tensor | None
    delta_bias: Tensor | None
    initial_state: Tensor | None


def split_axis(x: Tensor, axis: int, groups: int) -> Tensor:
    """Split an axis of channels into groups: (..., g c, ...) becomes (..., g, c, ...)."""
    return x.reshape(*x.shape[:axis], groups, x.shape[axis] // groups, *x.shape[axis + 1 :])


def checkpoint_count(length: int) -> int:
    """How many states a scan over `length` steps keeps for its backward."""
    return -(-length // CHECKPOINT_STEPS)


def check_inputs(
    u: Tensor,
    delta: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor | None,
    z: Tensor | None,
    delta_bias: Tensor | None,
    initial_state: Tensor | None,
    delta_softplus: bool,
) -> ScanInputs:
    """Check shapes, dtypes and devices, and bring B and C into the form of `ScanInputs`.

    TypeError for a tensor that is not real floating point, ValueError for shapes or devices that do not fit.
    """
    tensors = {"u": u, "delta": delta, "A": A, "B": B, "C": C, "D": D, "z": z, "delta_bias": delta_bias}
    tensors["initial_state"] = initial_state
    present = {name: x for name, x in tensors.items() if x is not None}
    for name, x in present.items():
        if not x.is_floating_point():
            raise TypeError(
                f"selective_scan works on real floating-point tensors; {name} is {x.dtype}: convert it first"
            )
        if x.device != u.device:
            raise ValueError(f"selective_scan got u on {u.device} and {name} on {x.device}: move all to one device")
    if u.ndim != 3 or A.ndim != 2:
        raise ValueError(_shape_error("u is (b, d, l) and A is (d, n)", present))
    (b, d, length), n = u.shape, A.shape[1]
    rules = {"delta": (b, d, length), "A": (d, n), "D": (d,), "z": (b, d, length), "delta_bias": (d,)}
    rules["initial_state"] = (b, d, n)
    for name, shape in rules.items():
        if name in present and tuple(present[name].shape) != shape:
            raise ValueError(_shape_error(f"{name} should be {shape}", present))
    B = _four_axes("B", B, (b, d, n, length), present)
    C = _four_axes("C", C, (b, d, n, length), present)
    groups = _common_multiple(B.shape[1], C.shape[1])
    B, C = (x if x.shape[1] == groups else x.repeat_interleave(groups // x.shape[1], dim=1) for x in (B, C))
    return ScanInputs(u, delta, A, B, C, D, z, delta_bias, initial_state, delta_softplus)


def _four_axes(name: str, x: Tensor, sizes: tuple[int, int, int, int], present: dict[str, Tensor]) -> Tensor:
    """View B or C as (b | 1, g, n, l | 1)."""
    b, d, n, length = sizes
    if x.ndim == 2 and tuple(x.shape) == (d, n):
        x = x if d else x.sum(0, keepdim=True)  # no channel is in no group: one of zeros
        return x[None, :, :, None]
    if x.ndim == 3 and tuple(x.shape) == (b, n, length):
        return x[:, None]
    if x.ndim == 4 and (x.shape[0], *x.shape[2:]) == (b, n, length) and x.shape[1] > 0 and d % x.shape[1] == 0:
        return x
    forms = f"({d}, {n}), ({b}, {n}, {length}) or ({b}, g, {n}, {length})"
    raise ValueError(_shape_error(f"{name} is {forms} with a number of groups g that divides d = {d}", present))


def _common_multiple(x: int, y: int) -> int:
    """The least common multiple; math.lcm takes no symbolic sizes."""
    small, multiple = min(x, y), max(x, y)
    while multiple % small:
        multiple += max(x, y)
    return multiple


def _shape_error(rule: str, present: dict[str, Tensor]) -> str:
    shapes = ", ".join(f"{name} {tuple(x.shape)}" for name, x in present.items())
    return f"selective_scan: {rule}; got {shapes}"
