"""The selective scan on a state kept in place, in torch operations with a hand-written backward.

What runs on a CPU where the compiled kernel is missing, and in float64. It never makes a (b, d, l, n) tensor: the
backward recomputes the states between two checkpoints, for a slice of the batch at a time.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor

from hsmamba.ops.inputs import CHECKPOINT_STEPS, ScanGrads, ScanInputs, checkpoint_count, split_axis
from hsmamba.ops.reference import gates, initial_state, output


def _rows(x: Tensor, rows: slice) -> Tensor:
    """A slice of the batch of a tensor whose first axis is b, or 1 if all share it."""
    return x if x.shape[0] == 1 else x[rows]


def _slices(inputs: ScanInputs) -> Iterator[slice]:
    """Slices of the batch for which the states of one block take a few times the inputs' memory at most."""
    b, _, length = inputs.u.shape
    rows = max(1, 4 * b * length // (2 * CHECKPOINT_STEPS * max(1, inputs.A.shape[1])))
    for start in range(0, b, rows):
        yield slice(start, min(b, start + rows))


class _Slice:
    """One slice of the batch with time first, so that what one step reads is contiguous."""

    def __init__(self, inputs: ScanInputs, dt: Tensor, u: Tensor, rows: slice) -> None:
        length = u.shape[-1]
        self.groups = inputs.B.shape[1]
        self.dt = self.channels_first_step(dt[rows])  # (l, s, g, d/g, 1)
        self.u = self.channels_first_step(u[rows])
        self.A = split_axis(inputs.A.to(u.dtype), 0, self.groups)  # (g, d/g, n)
        self.B, self.C = (  # (l, s | 1, g, 1, n)
            _rows(x, rows).to(u.dtype).permute(3, 0, 1, 2).contiguous().expand(length, -1, -1, -1).unsqueeze(3)
            for x in (inputs.B, inputs.C)
        )

    def channels_first_step(self, x: Tensor) -> Tensor:
        """(s, d, l) as contiguous (l, s, g, d/g, 1)."""
        return split_axis(x.permute(2, 0, 1).contiguous(), 2, self.groups).unsqueeze(-1)

    def step(self, h: Tensor, t: int, decay: Tensor) -> None:
        """Move the state h (s, g, d/g, n) over step t in place, and leave exp(dt A) in `decay`."""
        torch.mul(self.dt[t], self.A, out=decay).exp_()
        h.mul_(decay).addcmul_(self.dt[t] * self.u[t], self.B[t])


def forward(inputs: ScanInputs, save: bool) -> tuple[Tensor, Tensor, Tensor]:
    """Scan with the state in place: y (b, d, l) in u's dtype, the last state, checkpoints if they are to be saved."""
    dt, u = gates(inputs)
    state = initial_state(inputs)
    b, d, n = state.shape
    length = u.shape[-1]
    checkpoints = state.new_empty(b, checkpoint_count(length), n, d) if save else state.new_empty(0)
    y = torch.empty_like(u, memory_format=torch.contiguous_format)
    last = torch.empty_like(state, memory_format=torch.contiguous_format)
    for rows in _slices(inputs):
        part = _Slice(inputs, dt, u, rows)
        h = split_axis(state[rows], 1, part.groups).clone()
        decay = torch.empty_like(h)
        for t in range(length):
            if save and t % CHECKPOINT_STEPS == 0:
                checkpoints[rows, t // CHECKPOINT_STEPS] = h.flatten(1, 2).transpose(1, 2)
            part.step(h, t, decay)
            y[rows, :, t] = (h * part.C[t]).sum(-1).flatten(1)
        last[rows] = h.flatten(1, 2)
    return output(y, inputs), last, checkpoints


def backward(inputs: ScanInputs, checkpoints: Tensor, dy: Tensor, dlast: Tensor | None) -> ScanGrads:
    """Gradients of `forward`, in the compute dtype, from its checkpoints; `dlast` None stands for zeros."""
    dt, u = gates(inputs)
    dy = dy.to(dt.dtype)
    dlast = torch.zeros_like(initial_state(inputs)) if dlast is None else dlast
    gate = dy if inputs.z is None else dy * F.silu(inputs.z.to(dt.dtype))
    grads = {
        name: torch.zeros(x.shape, dtype=dt.dtype, device=u.device)
        for name, x in (("dt", dt), ("u", u), ("A", inputs.A), ("B", inputs.B), ("C", inputs.C), ("h0", dlast))
    }
    y = torch.empty_like(u) if inputs.z is not None else None
    for rows in _slices(inputs):
        _backward_slice(inputs, dt, u, gate, checkpoints, dlast, rows, grads, y)
    du, ddelta = grads["u"], grads["dt"]
    dD = dz = None
    if inputs.D is not None:
        D = inputs.D.to(dt.dtype)[:, None]
        du = du + D * gate
        dD = (gate * u).sum((0, 2))
        y = None if y is None else y + D * u
    if inputs.z is not None and y is not None:
        z = inputs.z.to(dt.dtype)
        sigmoid = torch.sigmoid(z)
        dz = dy * y * sigmoid * (1 + z * (1 - sigmoid))
    if inputs.delta_softplus:
        ddelta = ddelta * -torch.expm1(-dt)  # the derivative of softplus, sigmoid(x), is 1 - exp(-softplus(x))
    dbias = ddelta.sum((0, 2)) if inputs.delta_bias is not None else None
    dh0 = grads["h0"] if inputs.initial_state is not None else None
    return ScanGrads(du, ddelta, grads["A"], grads["B"], grads["C"], dD, dz, dbias, dh0)


def _backward_slice(
    inputs: ScanInputs,
    dt: Tensor,
    u: Tensor,
    gate: Tensor,
    checkpoints: Tensor,
    dlast: Tensor,
    rows: slice,
    grads: dict[str, Tensor],
    y: Tensor | None,
) -> None:
    """Add one batch slice's part to the gradients of dt, u, A, B, C and the first state; fill in the ungated y."""
    part = _Slice(inputs, dt, u, rows)
    length = u.shape[-1]
    gate_steps = part.channels_first_step(gate[rows])
    g = split_axis(dlast[rows].to(dt.dtype), 1, part.groups).clone()  # gradient of the state, (s, g, d/g, n)
    states = g.new_empty(CHECKPOINT_STEPS + 1, *g.shape)
    decays = g.new_empty(CHECKPOINT_STEPS, *g.shape)
    dA = torch.zeros_like(g)
    B_grad, C_grad = _rows(grads["B"], rows), _rows(grads["C"], rows)  # (s | 1, g, n, l | 1)
    for k in reversed(range(checkpoint_count(length))):
        start, stop = k * CHECKPOINT_STEPS, min(length, (k + 1) * CHECKPOINT_STEPS)
        states[0] = split_axis(checkpoints[rows, k].transpose(1, 2), 1, part.groups)
        for i, t in enumerate(range(start, stop)):
            states[i + 1] = states[i]
            part.step(states[i + 1], t, decays[i])
            if y is not None:
                y[rows, :, t] = (states[i + 1] * part.C[t]).sum(-1).flatten(1)
        for i, t in reversed(list(enumerate(range(start, stop)))):
            g.addcmul_(gate_steps[t], part.C[t])
            _add_step(C_grad, (gate_steps[t] * states[i + 1]).sum(2), t)
            _add_step(B_grad, (g * (part.dt[t] * part.u[t])).sum(2), t)
            through_input = (g * part.B[t]).sum(-1)  # gradient of dt u
            g.mul_(decays[i])
            through_decay = g * states[i]
            dA.addcmul_(through_decay, part.dt[t])
            ddt = (through_decay * part.A).sum(-1) + through_input * part.u[t].squeeze(-1)
            grads["dt"][rows, :, t] = ddt.flatten(1)
            grads["u"][rows, :, t] = (through_input * part.dt[t].squeeze(-1)).flatten(1)
    grads["A"] += dA.sum(0).flatten(0, 1)
    grads["h0"][rows] = g.flatten(1, 2)


def _add_step(grad: Tensor, x: Tensor, t: int) -> None:
    """Add x (s, g, n) to step t of a gradient (s | 1, g, n, l | 1)."""
    step = grad[..., t if grad.shape[-1] > 1 else 0]
    step += x if grad.shape[0] == x.shape[0] else x.sum(0, keepdim=True)
