"""Convolution whose k x k kernel is scaled at every pixel, in memory of a row tile.

From RSANet and MMAPP (Liu et al., IEEE JSTARS 16, 2023; Zhang et al., IEEE JSTARS, 2024); CF2N uses it too.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from hsmamba.layers.tiling import add_products, halo, run_tiles, shifts, tiles
from hsmamba.ops import adaptive, adaptive_rows, inference

_COPIES = 4  # a smaller tile of the compiled backward, whose columns then stay in the second cache


def adaptive_conv(x: Tensor, taps: Tensor, weight: Tensor) -> Tensor:
    """Convolve with zero padding by a shared kernel whose taps are scaled at each output pixel.

    y[m, i, j] = sum over c, u, r of weight[m, c, u, r] taps[k u + r, i, j] x[c, i + u - k // 2, j + r - k // 2].

    Args:
        x: (B, C, H, W).
        taps: (B, k^2, H, W), or (B, k^2, 1, 1) for taps that are the same everywhere.
        weight: (M, C, k, k), k odd.

    Returns:
        (B, M, H, W), in the dtype of `weight`.
    """
    x, taps = x.to(weight.dtype), taps.to(weight.dtype)
    kernel = weight.shape[-1]
    if torch.onnx.is_in_onnx_export():  # ONNX knows no custom operator: its graph gets the plain formula
        return _conv_dense(x, taps, weight)
    if taps.shape[-2:] == (1, 1) and not torch.compiler.is_compiling():  # a traced batch size is no number of groups
        return _conv_per_image(x, taps, weight)
    if adaptive_rows.takes(x, taps, weight):
        return adaptive_rows.convolve(x, taps.expand(-1, -1, *x.shape[2:]), weight, _conv_dense)
    padded = F.pad(x, [kernel // 2] * 4)
    if inference.takes(x, taps, weight) and adaptive.takes(padded, taps, weight):
        made = x.new_empty(len(x), len(weight), *x.shape[2:])
        adaptive.convolve(padded, taps, inference.prepared(adaptive.arranged, weight), kernel, made)
        return made
    out: Tensor = conv_op(padded, taps.expand(-1, -1, *x.shape[2:]).contiguous(), weight)
    return out


def _conv_dense(x: Tensor, taps: Tensor, weight: Tensor) -> Tensor:
    (batch, chans, height, width), kernel = x.shape, weight.shape[-1]
    columns = F.unfold(x, kernel, padding=kernel // 2).view(batch, chans, kernel**2, height * width)
    scaled = (columns * taps.flatten(2)[:, None]).flatten(1, 2)
    return (weight.flatten(1) @ scaled).view(batch, -1, height, width)


def _conv_per_image(x: Tensor, taps: Tensor, weight: Tensor) -> Tensor:
    batch, kernel = x.shape[0], weight.shape[-1]
    kernels = (weight * taps.view(batch, 1, 1, kernel, kernel)).flatten(0, 1)
    out = F.conv2d(x.flatten(0, 1), kernels, padding=kernel // 2, groups=batch)
    return out.view(batch, -1, *out.shape[1:])


@torch.library.custom_op("hsmamba::adaptive_conv", mutates_args=())
def conv_op(padded: Tensor, taps: Tensor, weight: Tensor) -> Tensor:
    """Convolve `padded` (B, C, H + k - 1, W + k - 1) with taps (B, k^2, H, W) and weight (M, C, k, k)."""
    kernel, matrix = weight.shape[-1], _as_matrix(weight)
    out = taps.new_empty(taps.shape[0], weight.shape[0], *taps.shape[2:])
    if adaptive.takes(padded, taps, weight):
        adaptive.convolve(padded, taps, adaptive.arranged(weight), kernel, out)
        return out

    def convolve(n: slice, rows: slice) -> None:
        columns = _scaled(shifts(padded[n, :, halo(rows, kernel)], kernel), taps[n, :, rows])
        out[n, :, rows] = _images(matrix @ columns.flatten(0, 2).flatten(1), out[n, :, rows])

    run_tiles(taps, weight[0].numel(), convolve)
    return out


@conv_op.register_fake
def _(padded: Tensor, taps: Tensor, weight: Tensor) -> Tensor:
    return taps.new_empty(taps.shape[0], weight.shape[0], *taps.shape[2:])


@torch.library.custom_op("hsmamba::adaptive_conv_backward", mutates_args=())
def _conv_backward_op(grad: Tensor, padded: Tensor, taps: Tensor, weight: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients of the padded image, the taps and the weight; scaled shifts are computed again, tile by tile."""
    kernel, matrix = weight.shape[-1], _as_matrix(weight)
    dpadded, dtaps, dmatrix = torch.zeros_like(padded), torch.empty_like(taps), torch.zeros_like(matrix)
    compiled = adaptive.takes_back(grad, padded, taps, weight)
    for n, rows in tiles(taps, (_COPIES if compiled else 1) * weight[0].numel()):
        near, tap = halo(rows, kernel), taps[n, :, rows]
        slope = grad[n, :, rows].transpose(0, 1).flatten(1)  # (M, pixels)
        if compiled:
            adaptive.gradients(slope, padded[n, :, near], tap, matrix, dpadded[n, :, near], dtaps[n, :, rows], dmatrix)
            continue
        shifted = shifts(padded[n, :, near], kernel)
        columns = _scaled(shifted, tap)
        dmatrix.addmm_(slope, columns.flatten(0, 2).flatten(1).T)
        torch.mm(matrix.T, slope, out=columns.view(matrix.shape[1], -1))  # now the columns' gradient
        per_shift = columns.movedim(2, 3)  # (k, k, images, C, R, W)
        dtaps[n, :, rows] = (per_shift * shifted).sum(3).flatten(0, 1).transpose(0, 1)
        add_products(dpadded[n, :, near], per_shift, _by_shift(tap, kernel))
    dweight = dmatrix.view(-1, kernel, kernel, weight.shape[1]).movedim(3, 1)
    return dpadded, dtaps, dweight.contiguous()


@_conv_backward_op.register_fake
def _(grad: Tensor, padded: Tensor, taps: Tensor, weight: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    return torch.empty_like(padded), torch.empty_like(taps), torch.empty_like(weight)


def _as_matrix(weight: Tensor) -> Tensor:
    """(M, C, k, k) -> (M, k k C), taps outermost as the columns have them."""
    return weight.permute(0, 2, 3, 1).flatten(1)


def _by_shift(taps: Tensor, kernel: int) -> Tensor:
    """(B, k^2, R, W) -> (k, k, B, 1, R, W)."""
    batch, _, rows, width = taps.shape
    return taps.transpose(0, 1).view(kernel, kernel, batch, 1, rows, width)


def _scaled(shifted: Tensor, taps: Tensor) -> Tensor:
    """Scale shifts (k, k, B, C, R, W) by taps (B, k^2, R, W): columns (k, k, C, B, R, W)."""
    kernel, _, batch, channels, rows, width = shifted.shape
    out = taps.new_empty(kernel, kernel, channels, batch, rows, width)
    return torch.mul(shifted.movedim(3, 2), _by_shift(taps, kernel).movedim(3, 2), out=out)


def _images(matrix: Tensor, like: Tensor) -> Tensor:
    """(M, pixels) -> (B, M, R, W)."""
    return matrix.view(like.shape[1], like.shape[0], *like.shape[2:]).transpose(0, 1)


def _setup_context(ctx: Any, inputs: tuple[Tensor, Tensor, Tensor], output: Tensor) -> None:
    ctx.save_for_backward(*inputs)


def _backward(ctx: Any, grad: Tensor) -> tuple[Tensor, ...]:
    gradients: tuple[Tensor, ...] = _conv_backward_op(grad, *ctx.saved_tensors)
    return gradients


conv_op.register_autograd(_backward, setup_context=_setup_context)
