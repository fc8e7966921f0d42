"""The Triton programs of the selective scan; imported by `triton_scan` where Triton is there.

A program handles BD channels of one group of one sample. It walks over the sequence in blocks of T steps; within a
block the states (BD, N, T) of all steps are found by a parallel prefix scan in registers. Steps behind the end have
dt = 0: the decay is 1 there, the input 0, and the state passes through.
"""
# ruff: noqa: ANN001, ANN201, ANN202
# mypy: ignore-errors

from __future__ import annotations

import triton
import triton.language as tl


@triton.jit
def _join(decay_1, x_1, decay_2, x_2):
    """Two steps of h = decay h + x, one after the other, as one."""
    return decay_1 * decay_2, x_2 + decay_2 * x_1


@triton.jit
def _time_step(delta, bias, inside, SOFTPLUS: tl.constexpr):
    """Return dt and its derivative by delta; dt is 0 outside."""
    x = delta + bias
    slope = tl.full(x.shape, 1.0, tl.float32)
    if SOFTPLUS:
        e = tl.exp(-tl.abs(x))
        # log(1 + e) keeps its relative accuracy for small e by the correction of the rounded sum
        one = 1.0 + e
        log1p = tl.where(one == 1.0, e, tl.log(one) * (e / tl.where(one == 1.0, 1.0, one - 1.0)))
        slope = tl.where(x < 0, e, 1.0) / one
        x = tl.maximum(x, 0.0) + log1p
    return tl.where(inside, x, 0.0), slope


@triton.jit
def _place(b, g, d, BD: tl.constexpr):
    """Return sample, group, channels (BD) and which of them exist."""
    per_group = d // g
    tiles = tl.cdiv(per_group, BD)
    program = tl.program_id(0)
    group = program // tiles % g
    inside = program % tiles * BD + tl.arange(0, BD)
    batch = (program // (tiles * g)).to(tl.int64)  # offsets may pass 2^31
    return batch, group.to(tl.int64), (group * per_group + inside).to(tl.int64), inside < per_group


@triton.jit
def forward_kernel(
    u, delta, A, B, C, D, z, bias, first, y, last, checkpoints,
    b, g, d, n, length, blocks,
    u_b, u_d, u_l, delta_b, delta_d, delta_l, z_b, z_d, z_l, y_b, y_d, y_l,
    B_b, B_g, B_n, B_l, C_b, C_g, C_n, C_l,
    HAS_D: tl.constexpr, HAS_Z: tl.constexpr, HAS_BIAS: tl.constexpr, HAS_FIRST: tl.constexpr,
    SOFTPLUS: tl.constexpr, SAVE: tl.constexpr, BD: tl.constexpr, N: tl.constexpr, T: tl.constexpr,
):  # fmt: skip
    """Fill y, the last state, and with SAVE the checkpoints."""
    batch, group, c, c_in = _place(b, g, d, BD)
    k = tl.arange(0, N)
    t = tl.arange(0, T)
    cell = (batch * d + c)[:, None] * n + k[None, :]
    ck_in = c_in[:, None] & (k < n)[None, :]
    rate = tl.load(A + c[:, None] * n + k[None, :], mask=ck_in, other=0.0).to(tl.float32)
    h = tl.zeros((BD, N), tl.float32)
    if HAS_FIRST:
        h = tl.load(first + cell, mask=ck_in, other=0.0).to(tl.float32)
    shift = tl.zeros((BD,), tl.float32)
    if HAS_BIAS:
        shift = tl.load(bias + c, mask=c_in, other=0.0).to(tl.float32)
    direct = tl.zeros((BD,), tl.float32)
    if HAS_D:
        direct = tl.load(D + c, mask=c_in, other=0.0).to(tl.float32)
    for block in range(0, blocks):
        step = block * T + t
        inside = c_in[:, None] & (step < length)[None, :]
        weight_in = (k < n)[:, None] & (step < length)[None, :]
        at = delta + batch * delta_b + c[:, None] * delta_d + step[None, :] * delta_l
        dt, _ = _time_step(tl.load(at, mask=inside, other=0.0).to(tl.float32), shift[:, None], inside, SOFTPLUS)
        at = u + batch * u_b + c[:, None] * u_d + step[None, :] * u_l
        v = tl.load(at, mask=inside, other=0.0).to(tl.float32)
        at = B + batch * B_b + group * B_g + k[:, None] * B_n + step[None, :] * B_l
        weight = tl.load(at, mask=weight_in, other=0.0).to(tl.float32)
        if SAVE:
            at = checkpoints + ((batch * blocks + block) * n + k[None, :]) * d + c[:, None]
            tl.store(at, h, mask=ck_in)
        decay = tl.exp(dt[:, None, :] * rate[:, :, None])
        x = (dt * v)[:, None, :] * weight[None, :, :]
        x += tl.where((t == 0)[None, None, :], decay * h[:, :, None], 0.0)
        _, states = tl.associative_scan((decay, x), 2, _join)
        h = tl.sum(tl.where((t == T - 1)[None, None, :], states, 0.0), axis=2)
        at = C + batch * C_b + group * C_g + k[:, None] * C_n + step[None, :] * C_l
        weight = tl.load(at, mask=weight_in, other=0.0).to(tl.float32)
        out = tl.sum(states * weight[None, :, :], axis=1) + direct[:, None] * v
        if HAS_Z:
            at = z + batch * z_b + c[:, None] * z_d + step[None, :] * z_l
            gate = tl.load(at, mask=inside, other=0.0).to(tl.float32)
            out *= gate * tl.sigmoid(gate)
        tl.store(y + batch * y_b + c[:, None] * y_d + step[None, :] * y_l, out, mask=inside)
    tl.store(last + cell, h, mask=ck_in)


@triton.jit
def backward_kernel(
    u, delta, A, B, C, D, z, bias, checkpoints, dy, dlast,
    du, ddelta, dA, dB, dC, dD, dz, dbias, dfirst,
    b, g, d, n, length, blocks,
    u_b, u_d, u_l, delta_b, delta_d, delta_l, z_b, z_d, z_l, dy_b, dy_d, dy_l,
    du_b, du_d, du_l, ddelta_b, ddelta_d, ddelta_l, dz_b, dz_d, dz_l,
    B_b, B_g, B_n, B_l, C_b, C_g, C_n, C_l,
    dB_b, dB_g, dB_n, dB_l, dC_b, dC_g, dC_n, dC_l,
    HAS_D: tl.constexpr, HAS_Z: tl.constexpr, HAS_BIAS: tl.constexpr,
    SOFTPLUS: tl.constexpr, BD: tl.constexpr, N: tl.constexpr, T: tl.constexpr,
):  # fmt: skip
    """Fill the gradients; those of A, B, C, D and bias are added up in what is given as zeros."""
    batch, group, c, c_in = _place(b, g, d, BD)
    k = tl.arange(0, N)
    t = tl.arange(0, T)
    cell = (batch * d + c)[:, None] * n + k[None, :]
    ck_in = c_in[:, None] & (k < n)[None, :]
    rate = tl.load(A + c[:, None] * n + k[None, :], mask=ck_in, other=0.0).to(tl.float32)
    shift = tl.zeros((BD,), tl.float32)
    if HAS_BIAS:
        shift = tl.load(bias + c, mask=c_in, other=0.0).to(tl.float32)
    direct = tl.zeros((BD,), tl.float32)
    if HAS_D:
        direct = tl.load(D + c, mask=c_in, other=0.0).to(tl.float32)
    later = tl.load(dlast + cell, mask=ck_in, other=0.0).to(tl.float32)  # gradient of the state after the block
    to_first = later
    sum_A = tl.zeros((BD, N), tl.float32)
    sum_D = tl.zeros((BD,), tl.float32)
    sum_bias = tl.zeros((BD,), tl.float32)
    for i in range(0, blocks):
        block = blocks - 1 - i
        step = block * T + t
        inside = c_in[:, None] & (step < length)[None, :]
        next_in = c_in[:, None] & (step + 1 < length)[None, :]
        weight_in = (k < n)[:, None] & (step < length)[None, :]
        at = delta + batch * delta_b + c[:, None] * delta_d + step[None, :] * delta_l
        dt, slope = _time_step(tl.load(at, mask=inside, other=0.0).to(tl.float32), shift[:, None], inside, SOFTPLUS)
        raw = tl.load(at + delta_l, mask=next_in, other=0.0).to(tl.float32)
        dt_next, _ = _time_step(raw, shift[:, None], next_in, SOFTPLUS)
        at = u + batch * u_b + c[:, None] * u_d + step[None, :] * u_l
        v = tl.load(at, mask=inside, other=0.0).to(tl.float32)
        at = dy + batch * dy_b + c[:, None] * dy_d + step[None, :] * dy_l
        from_y = tl.load(at, mask=inside, other=0.0).to(tl.float32)
        at = B + batch * B_b + group * B_g + k[:, None] * B_n + step[None, :] * B_l
        weight = tl.load(at, mask=weight_in, other=0.0).to(tl.float32)
        at = C + batch * C_b + group * C_g + k[:, None] * C_n + step[None, :] * C_l
        out_weight = tl.load(at, mask=weight_in, other=0.0).to(tl.float32)
        at = checkpoints + ((batch * blocks + block) * n + k[None, :]) * d + c[:, None]
        h = tl.load(at, mask=ck_in, other=0.0)

        decay = tl.exp(dt[:, None, :] * rate[:, :, None])
        x = (dt * v)[:, None, :] * weight[None, :, :]
        first_x = tl.where((t == 0)[None, None, :], decay * h[:, :, None], 0.0)
        _, states = tl.associative_scan((decay, x + first_x), 2, _join)
        if HAS_Z:
            at = z + batch * z_b + c[:, None] * z_d + step[None, :] * z_l
            gate = tl.load(at, mask=inside, other=0.0).to(tl.float32)
            sigmoid = tl.sigmoid(gate)
            out = tl.sum(states * out_weight[None, :, :], axis=1) + direct[:, None] * v
            to_z = from_y * out * sigmoid * (1.0 + gate * (1.0 - sigmoid))
            tl.store(dz + batch * dz_b + c[:, None] * dz_d + step[None, :] * dz_l, to_z, mask=inside)
            from_y *= gate * sigmoid

        decay_next = tl.exp(dt_next[:, None, :] * rate[:, :, None])
        grad = from_y[:, None, :] * out_weight[None, :, :]
        grad += tl.where((t == T - 1)[None, None, :], decay_next * later[:, :, None], 0.0)
        _, grad = tl.associative_scan((decay_next, grad), 2, _join, reverse=True)
        is_first = (t == 0)[None, None, :]
        later = tl.sum(tl.where(is_first, grad, 0.0), axis=2)
        to_first = tl.sum(tl.where(is_first, grad * decay, 0.0), axis=2)

        at = dC + batch * dC_b + group * dC_g + k[:, None] * dC_n + step[None, :] * dC_l
        tl.atomic_add(at, tl.sum(from_y[:, None, :] * states, axis=0), mask=weight_in)
        at = dB + batch * dB_b + group * dB_g + k[:, None] * dB_n + step[None, :] * dB_l
        tl.atomic_add(at, tl.sum(grad * (dt * v)[:, None, :], axis=0), mask=weight_in)
        to_x = tl.sum(grad * weight[None, :, :], axis=1)
        through = grad * (states - x)  # states - x is the decayed state before the step
        sum_A += tl.sum(through * dt[:, None, :], axis=2)
        to_delta = (tl.sum(through * rate[:, :, None], axis=1) + v * to_x) * slope
        to_delta = tl.where(inside, to_delta, 0.0)
        sum_bias += tl.sum(to_delta, axis=1)
        sum_D += tl.sum(from_y * v, axis=1)
        tl.store(ddelta + batch * ddelta_b + c[:, None] * ddelta_d + step[None, :] * ddelta_l, to_delta, mask=inside)
        to_u = dt * to_x + direct[:, None] * from_y
        tl.store(du + batch * du_b + c[:, None] * du_d + step[None, :] * du_l, to_u, mask=inside)
    tl.store(dfirst + cell, to_first, mask=ck_in)
    tl.atomic_add(dA + c[:, None] * n + k[None, :], sum_A, mask=ck_in)
    if HAS_D:
        tl.atomic_add(dD + c, sum_D, mask=c_in)
    if HAS_BIAS:
        tl.atomic_add(dbias + c, sum_bias, mask=c_in)
