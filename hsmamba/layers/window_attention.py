"""Self-attention of each pixel with the window around it, relative positions included, in memory of a row tile.

From RSANet (Liu et al., IEEE JSTARS 16, 2023); MMAPP uses it too. The papers' logit of offset o is
q (k_o + p - p_o), with p a linear map of the pixel's coordinates. Neither q p nor a bias of p depends on o, so the
softmax over o cancels them: it is the plain attention with keys k - p.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from hsmamba.layers.tiling import add_products, halo, run_tiles, shifts, tiles
from hsmamba.ops import attention, grouped, inference

_HELD = 2**14  # pixels of a map for which positions are held, layer by layer


def window_attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    position: Tensor,
    *,
    heads: int,
    window: int,
    image: tuple[int, int] | None = None,
    scaled: bool = False,
) -> Tensor:
    """Attend from each pixel to the `window` x `window` pixels around it; the border is reflected.

    Softmax and sums are float32 at least; the result (B, C, H, W) has the dtype of `v`.

    Args:
        q: Queries (B, C, H, W); head a has the consecutive channels a d .. a d + d - 1, d = C / heads.
        k: Keys, the same shape.
        v: Values, the same shape.
        position: (d, 2), maps the pixel's (column, row), each from -1 to 1, to the field of relative positions.
        heads: Number of heads.
        window: Odd side of the window; both sides of the image must be above window // 2.
        image: Rows and columns of the image of which this is a tile, where it is one: positions are steps in it.
        scaled: The queries have been multiplied by d ** -0.5.
    """
    (batch, chans, height, width), dtype = v.shape, v.dtype
    compute = torch.promote_types(dtype, torch.float32)
    q, k, v, position = (x.to(compute) for x in (q, k, v, position))
    scale = 1.0 if scaled else (chans // heads) ** -0.5
    if inference.takes(q, k, v, position):  # the scale goes to the keys, in the operation that moves them
        options: dict[str, Any] = {"heads": heads, "scale": scale, "size": (height, width), "image": image}
        held = height * width <= _HELD
        moved = (inference.prepared if held else _call)(_key_shift, position, **options)
        k = torch.add(moved, k, alpha=scale)
    else:
        q = q if scaled else q * scale
        k = k - position_field(position, height, width, image).repeat(heads, 1, 1)
    pad = [window // 2] * 4
    k, v = F.pad(k, pad, mode="reflect"), F.pad(v, pad, mode="reflect")
    q, k, v = (x.reshape(batch * heads, chans // heads, *x.shape[2:]) for x in (q, k, v))
    # ONNX knows no custom operator: its graph gets the plain formula.
    attend = _attend_dense if torch.onnx.is_in_onnx_export() else attend_op
    out: Tensor = attend(q.contiguous(), k, v, window)
    return out.reshape(batch, chans, height, width).to(dtype)


def position_field(weight: Tensor, height: int, width: int, image: tuple[int, int] | None = None) -> Tensor:
    """Map coordinates by `weight` (d, 2): (d, H, W); columns and rows run from -1 to 1 over the image, ends included.

    A tile of a larger `image` gets the steps of that image around 0: where it lies there is the same for all offsets.
    """
    ends = [1.0, 1.0]
    if image is not None:
        ends = [(n - 1) / max(side - 1, 1) for n, side in zip((height, width), image, strict=True)]
    y, x = (
        torch.linspace(-end, end, n, dtype=weight.dtype, device=weight.device)
        for n, end in zip((height, width), ends, strict=True)
    )
    return weight[:, :1, None] * x + weight[:, 1:, None] * y[:, None]


def _key_shift(
    position: Tensor, *, heads: int, scale: float, size: tuple[int, int], image: tuple[int, int] | None
) -> Tensor:
    """What is added to the scaled keys of all heads, (C, H, W)."""
    return -scale * position_field(position, *size, image).repeat(heads, 1, 1)


def _call(make: Callable[..., Tensor], *weights: Tensor, **options: Any) -> Tensor:
    return make(*weights, **options)


def projected_attention(
    x: Tensor,
    weight: Tensor,
    bias: Tensor,
    position: Tensor,
    rate: Tensor | None = None,
    activation: str = "",
    *,
    heads: int,
    window: int,
    image: tuple[int, int] | None = None,
    raw: bool = False,
) -> tuple[Tensor, Tensor] | None:
    """Project queries, keys and values, attend, and apply an activation: for inference, by the compiled kernels.

    Args:
        x: (B, in_chans, H, W).
        weight: Of the projection, (3 C, in_chans, 1, 1): queries, keys, values.
        bias: (3 C,).
        position: See `window_attention`.
        rate: (1,), by which the result is multiplied before the activation; None for 1.
        activation: "", "relu" or "sigmoid".
        heads: See `window_attention`.
        window: See there.
        image: See there.
        raw: Ask for the projection, too; not with a rate.

    Returns:
        (B, C, H, W), and the projection (B, 3 C, H, W), of no use without `raw`; None where the kernels may not run.
    """
    d, (batch, _, height, width) = len(position), x.shape
    fits = d <= attention.MOST_CHANNELS and window <= attention.WIDEST_WINDOW
    weights = (weight, bias, position) if rate is None else (weight, bias, position, rate)
    if not fits or not inference.takes(x, *weights):
        return None
    kernel = inference.prepared(_folded, weight, rate, d=d, raw=raw)
    options: dict[str, Any] = {"heads": heads, "size": (height, width), "image": image, "raw": raw}
    across, down = inference.prepared(_ramps, bias, position, rate, **options)
    margin, chans = window // 2, heads * d
    maps = grouped.project(x, kernel, across, down, margin, (2 if raw else 1) * chans)
    inside = maps[..., margin : margin + height, margin : margin + width]
    out = x.new_empty(batch, chans, height, width)
    for one, q, to in zip(maps, inside, out, strict=True):
        parts = one.view(-1, heads, d, *one.shape[1:])
        q = q[:chans].unflatten(0, (heads, d))
        attention.attend(q, parts[-1], parts[-2], window, to.view(heads, d, height, width), activation)
    return out, inside[:, : 3 * chans]


def _arranged(weights: Tensor, rate: Tensor | None, d: int, raw: bool) -> Tensor:
    """Bring what makes queries, keys and values (3 C, ...) into the order of `projected_attention`'s maps.

    They are queries, keys if they are asked for, values times the rate, and keys with the scale of the logits.
    """
    q, k, v = weights.chunk(3)
    return torch.cat([q, *([k] if raw else []), v if rate is None else rate * v, d**-0.5 * k])


def _folded(weight: Tensor, rate: Tensor | None, *, d: int, raw: bool) -> Tensor:
    """Put the projection in the order of the kernel."""
    return grouped.arranged(_arranged(weight.flatten(1), rate, d, raw)[..., None, None], groups=1)


def _ramps(
    bias: Tensor,
    position: Tensor,
    rate: Tensor | None,
    *,
    heads: int,
    size: tuple[int, int],
    image: tuple[int, int] | None,
    raw: bool,
) -> tuple[Tensor, Tensor]:
    """Give what is added to each column (M, W) and row (M, H): the bias, and of keys less their positions."""
    (height, width), d = size, len(position)
    down = _arranged(bias, rate, d, raw)[:, None].repeat(1, height)
    across, keys = down.new_zeros(len(down), width), slice(-heads * d, None)
    column, row = position.T[:, :, None] * position.new_tensor([[[1.0, 0.0]], [[0.0, 1.0]]])
    across[keys] = -(d**-0.5) * position_field(column, 1, width, image)[:, 0].repeat(heads, 1)
    down[keys] -= d**-0.5 * position_field(row, height, 1, image)[:, :, 0].repeat(heads, 1)
    return across, down


def _attend_dense(q: Tensor, k: Tensor, v: Tensor, window: int) -> Tensor:
    groups, d, height, width = q.shape
    keys, values = (F.unfold(x, window).view(groups, d, window * window, height * width) for x in (k, v))
    logits = (q.flatten(2)[:, :, None] * keys).sum(1, keepdim=True)
    out: Tensor = (logits.softmax(2) * values).sum(2).view(groups, d, height, width)
    return out


@torch.library.custom_op("hsmamba::window_attention", mutates_args=())
def attend_op(q: Tensor, k: Tensor, v: Tensor, window: int) -> Tensor:
    """Attend with q (G, d, H, W) to k and v (G, d, H + window - 1, W + window - 1)."""
    out = torch.empty_like(q)
    if attention.takes(q, k, v, window):
        attention.attend(q, k, v, window, out)
        return out

    def attend(n: slice, rows: slice) -> None:
        near = halo(rows, window)
        weights = _products(q[n, :, rows], shifts(k[n, :, near], window)).softmax(0)
        out[n, :, rows] = _weighted_sum(weights, shifts(v[n, :, near], window))

    run_tiles(q, window * window, attend)
    return out


@attend_op.register_fake
def _(q: Tensor, k: Tensor, v: Tensor, window: int) -> Tensor:
    return torch.empty_like(q)


@torch.library.custom_op("hsmamba::window_attention_backward", mutates_args=())
def _attend_backward_op(
    grad: Tensor, q: Tensor, k: Tensor, v: Tensor, out: Tensor, window: int
) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients of q, k and v; the softmax is computed again, row by row or tile by tile."""
    dq, dk, dv = torch.empty_like(q), torch.zeros_like(k), torch.zeros_like(v)
    if attention.takes_back(q, k, v, out, grad, window):
        attention.attend_back(q, k, v, out, grad, window, dq, dk, dv)
        return dq, dk, dv
    for n, rows in tiles(q, window * window):
        near = halo(rows, window)
        query, slope = q[n, :, rows], grad[n, :, rows]
        keys = shifts(k[n, :, near], window)
        weights = _products(query, keys).softmax(0)
        dweights = _products(slope, shifts(v[n, :, near], window))
        dlogits = weights * (dweights - (weights * dweights).sum(0))
        dq[n, :, rows] = _weighted_sum(dlogits, keys)
        offsets = (window, window, weights.shape[1], 1, *weights.shape[2:])
        add_products(dk[n, :, near], query, dlogits.view(offsets))
        add_products(dv[n, :, near], slope, weights.view(offsets))
    return dq, dk, dv


@_attend_backward_op.register_fake
def _(grad: Tensor, q: Tensor, k: Tensor, v: Tensor, out: Tensor, window: int) -> tuple[Tensor, Tensor, Tensor]:
    return torch.empty_like(q), torch.empty_like(k), torch.empty_like(v)


def _products(a: Tensor, shifted: Tensor) -> Tensor:
    """Sum over channels of a (G, d, R, W) times shifts (w, w, G, d, R, W): (w^2, G, R, W)."""
    window, groups, rows, width = shifted.shape[0], *a.shape[::2], a.shape[-1]
    out = a.new_empty(window, window, groups, rows, width)
    torch.mul(shifted[:, :, :, 0], a[:, 0], out=out)
    for e in range(1, a.shape[1]):
        out.addcmul_(shifted[:, :, :, e], a[:, e])
    return out.flatten(0, 1)


def _weighted_sum(weights: Tensor, shifted: Tensor) -> Tensor:
    """Sum over offsets of weights (w^2, G, R, W) times shifts (w, w, G, d, R, W): (G, d, R, W)."""
    window, _, groups, channels, rows, width = shifted.shape
    out = weights.new_empty(groups, channels, rows, width)
    product = weights.new_empty(window, window, groups, rows, width)
    for e in range(channels):
        torch.mul(weights.view_as(product), shifted[:, :, :, e], out=product)
        out[:, e] = product.sum((0, 1))
    return out


def _setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    *tensors, ctx.window = inputs
    ctx.save_for_backward(*tensors, output)


def _backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
    return (*_attend_backward_op(grad.contiguous(), *ctx.saved_tensors, ctx.window), None)


attend_op.register_autograd(_backward, setup_context=_setup_context)
