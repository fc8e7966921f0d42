"""Blocks of MiM: central masks, token learner and fuser, and the Mamba blocks of the released versions.

The four scans of a batch are stacked along the batch axis, scan outermost: N = 4 B.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hsmamba.layers.conv_bn import unlearned
from hsmamba.layers.linear import Linear
from hsmamba.layers.scan_order import index_map, quarter_turn, snake
from hsmamba.layers.ssm import S6
from hsmamba.ops import inference
from hsmamba.ops.linear import linear, linear_parts, linear_shared, product
from hsmamba.ops.rows import RowProgram

SCANS = 4
D_STATE = 16  # states of the scans of v1, v2 and of the paper's network


def four_scans(x: Tensor) -> Tensor:
    """Read a map by four snakes: from each corner, by rows and by columns.

    Shape: (B, C, H, W) -> (4 B, H W, C).
    """
    return torch.cat([snake(view) for view in (x, x.mT, x.flip(-1), quarter_turn(x))]).mT


@functools.lru_cache(maxsize=64)
def _scan_tables(height: int, width: int) -> tuple[Tensor, ...]:
    """Tell which pixel each of the four scans visits at each step: four times (H W,)."""
    with torch.inference_mode(False):
        return tuple(four_scans(index_map(height, width)[None, None])[:, :, 0].unbind())


def scanned(tokens: Tensor, height: int, width: int) -> Tensor:
    """Put what is made of the pixels of maps in the order of the four scans: (B, H W, D) -> (4 B, H W, D)."""
    found = tokens.new_empty(SCANS, *tokens.shape)
    for scan, table in zip(found, _scan_tables(height, width), strict=True):
        torch.index_select(tokens, 1, table, out=scan)
    return found.flatten(0, 1)


@functools.lru_cache(maxsize=64)
def _pooling(length: int, tokens: int) -> Tensor:
    """Weights (tokens, L) of the means of `pool_tokens`."""
    with torch.inference_mode(False):
        return F.adaptive_avg_pool1d(torch.eye(length), tokens).mT.contiguous()


def pool_tokens(x: Tensor, tokens: int) -> Tensor:
    """Average tokens down (or up) to a number of them: (N, L, D) -> (N, tokens, D)."""
    if x.shape[1] == tokens:
        return x
    if inference.takes(x) or inference.trains(x):
        return product(_pooling(x.shape[1], tokens).expand(len(x), -1, -1), x)
    return F.adaptive_avg_pool1d(x.mT, tokens).mT


def index_mask(length: int, centre: int, like: Tensor) -> Tensor:
    """Gaussian of the distance in steps from a reference step; its width is the mean distance; sums to 1.

    Args:
        length: Number of steps L.
        centre: Reference step c, from 0; may be L.
        like: Gives the device, and the dtype if it is float64; else float32.

    Returns:
        (L,)
    """
    dtype = torch.float64 if like.dtype == torch.float64 else torch.float32
    distance = (torch.arange(length, device=like.device, dtype=dtype) - centre).abs()
    mask = torch.exp(-0.5 * (distance / distance.mean()) ** 2)
    return mask / mask.sum()


def feature_mask(y: Tensor, centre: int) -> Tensor:
    """Gaussian of the Euclidean distance of each token from a reference token; sums to 1; flat if all are equal.

    Shape: (N, L, E) -> (N, L).
    """
    distance = torch.linalg.vector_norm(y - y[:, centre : centre + 1], dim=-1)
    width = distance.mean(1, keepdim=True).clamp_min(torch.finfo(distance.dtype).tiny)
    mask = torch.exp(-0.5 * (distance / width) ** 2)
    return mask / mask.sum(1, keepdim=True)


def released_centre(length: int) -> int:
    """Reference step of the released code, one past the true centre for odd lengths."""
    return (length + 1) // 2


def released_mask(y: Tensor) -> Tensor:
    """GDM as released: a softmax over the product of two masks that sum to 1, hence almost flat, 1 / L.

    Shape: (N, L, E) -> (N, L, 1).
    """
    centre = released_centre(y.shape[1])
    return (index_mask(y.shape[1], centre, y) * feature_mask(y, centre)).softmax(-1).unsqueeze(-1)


def paper_mask(y: Tensor, centre: int) -> Tensor:
    """GDM as the paper writes it: the product of both Gaussians, 1 at the reference step.

    Shape: (N, L, E) -> (N, L, 1).
    """
    mask = index_mask(y.shape[1], centre, y) * feature_mask(y, centre)
    return (mask / mask[:, centre : centre + 1]).unsqueeze(-1)


class ScanBatchNorm(nn.BatchNorm1d):
    """Batch norm of stacked scans: in training each scan has statistics of its own, as when they come one by one.

    A single value per scan has no variance; there the running statistics serve.

    Shape: (4 B, 1, L) -> the same.
    """

    def counts(self, input: Tensor) -> bool:
        """Whether the statistics are those of the batch."""
        return self.training and input.numel() > SCANS

    def forward(self, input: Tensor) -> Tensor:
        """Normalise."""
        if self.counts(input):
            return torch.cat([super(ScanBatchNorm, self).forward(scan) for scan in input.chunk(SCANS)])
        return F.batch_norm(input, self.running_mean, self.running_var, self.weight, self.bias, False, 0.0, self.eps)


class SequentialAttention(nn.Module):
    """Weighs each token by sigmoid(ReLU(BN(conv [max; mean]))) of its features, between 0.5 and 1, and transposes.

    Shape: (N, L, E) -> (N, E, L).
    """

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv1d(2, 1, 1)
        self.norm = ScanBatchNorm(1)

    def forward(self, y: Tensor) -> Tensor:
        """Attend."""
        if inference.takes(y, of=self):
            norm, conv = self.norm, self.conv
            weights = conv.weight, conv.bias, norm.weight, norm.bias, norm.running_mean, norm.running_var
            most, mean, shift = inference.prepared(_attending, *weights, width=y.shape[2], eps=norm.eps)
            return cast(Tensor, _attention(x=y, most=most, mean=mean, shift=shift)).mT
        most, total = _extremes(x=y)  # (N, L, 1) each
        seen, bias = torch.cat([most.mT, total.mT / y.shape[2]], dim=1), self.conv.bias
        bias = unlearned(bias) if self.norm.counts(most) else bias
        weight = self.norm(F.conv1d(seen, self.conv.weight, bias))  # (N, 1, L)
        weighed: Tensor = _attended(x=y, mask=weight.relu().sigmoid().mT)
        return weighed.mT


def _attending(
    weight: Tensor,
    bias: Tensor,
    scale: Tensor,
    shift: Tensor,
    mean: Tensor,
    variance: Tensor,
    *,
    width: int,
    eps: float,
) -> tuple[Tensor, ...]:
    """What the largest number and the sum of a token's `width` features count for, and a shift; one number each."""
    scale = scale * torch.rsqrt(variance + eps)
    parts = weight[0, 0] * scale, weight[0, 1] * scale / width, (bias - mean) * scale + shift
    return tuple(part.detach().view(1, 1, 1) for part in parts)


def _learning(U1: Tensor, U2: Tensor) -> Tensor:
    """Weight (T + E, E) of a linear layer to M U1^T and M U2."""
    return torch.cat([U1[0], U2[0].mT])


class TokenLearner(nn.Module):
    """STL: softmax over the tokens of U1 M^T picks T mixtures of the tokens of M U2.

    Shape: (N, L, E) -> (N, T, E).
    """

    def __init__(self, dim: int, tokens: int, drop_rate: float) -> None:
        super().__init__()
        self.U1 = nn.Parameter(torch.randn(1, tokens, dim) / math.sqrt(dim))
        self.U2 = nn.Parameter(torch.randn(1, dim, dim) / math.sqrt(dim))
        self.drop = nn.Dropout(drop_rate)

    def forward(self, m: Tensor) -> Tensor:
        """Compress."""
        if inference.takes(m, of=self):
            weight = inference.prepared(_learning, self.U1, self.U2)
            scores, values = linear_parts(m, weight, None, (self.U1.shape[1], ""), (m.shape[2], ""))
            return product(scores.softmax(1).mT, values)
        values, m = linear_shared(m, self.U2[0].mT)
        if inference.trains(m, self.U1):
            picked = product(linear(m, self.U1[0]).softmax(1).mT, values)
        else:
            picked = (self.U1 @ m.mT).softmax(-1) @ values
        x: Tensor = self.drop(picked)
        return x


class TokenFuser(nn.Module):
    """STF: spread the learned tokens by scores of the gate branch, and add the attended gate branch.

    The released code (`raw=True`) reads (N, T, E) memory as (N, E, T) where it should transpose; its weights depend
    on it.

    Shape: u, z (N, T, E) -> (N, T, E).
    """

    def __init__(self, dim: int, tokens: int, *, raw: bool) -> None:
        super().__init__()
        self.raw = raw
        self.projection = Linear(tokens, tokens)
        self.influence = Linear(dim, tokens)
        self.attention = SequentialAttention()

    def forward(self, u: Tensor, z: Tensor) -> Tensor:
        """Fuse."""
        influence, z = self.influence.shared(z, "sigmoid")
        spread = product(influence, self._turn(self.projection(self._turn(u))))
        out: Tensor = spread + self._turn(self.attention(z))
        return out

    def _turn(self, x: Tensor) -> Tensor:
        return x.reshape(-1, x.shape[2], x.shape[1]) if self.raw else x.mT


class TokenStage(nn.Module):
    """Attention, STL and STF: what is left of L tokens under the gate branch.

    Shape: y (N, L, E), gate (N, T, E) -> (N, T, D).
    """

    def __init__(self, inner: int, dim: int, tokens: int, drop_rate: float, *, raw: bool) -> None:
        super().__init__()
        self.attention = SequentialAttention()
        self.learner = TokenLearner(inner, tokens, drop_rate)
        self.fuser = TokenFuser(inner, tokens, raw=raw)
        self.out_proj = Linear(inner, dim)

    def forward(self, y: Tensor, gate: Tensor) -> Tensor:
        """Compress L tokens to T."""
        u = self.learner(self.attention(y).mT)  # (N, T, E)
        out: Tensor = self.out_proj(self.fuser(u, gate), "tanh")
        return out


_distances = RowProgram("d = x - c; d = sqrt(sum(d * d))", "d")
# its gradient, s that of d, and g beside it; 0 where the distance is 0
_distances_back = RowProgram("e = (x - c) * (s * (d / (d * d + 1e-37))); y = g + e; t = total(e * -1.0)", "y", "t")
# the same of tokens that were masked, g the gradient of what came out
_masked_back = RowProgram("e = (x - c) * (s * (d / (d * d + 1e-37))); y = g * m + e; t = total(e * -1.0)", "y", "t")
_overlap = RowProgram("s = sum(g * x)", "s")
_attended = RowProgram("y = x * mask", "y")
_extremes = RowProgram("a = most(x); b = sum(x)", "a", "b")
_attention = RowProgram("y = x * sigmoid(relu(most(x) * most + sum(x) * mean + shift))", "y")
# `released_mask` of a row of distances; 1e-37 keeps equal tokens from a division by zero
_flat_mask = RowProgram(
    "r = d / (sum(d) * share + 1e-37); g = exp(r * r * -0.5); g = index * (g / sum(g)); g = exp(g - most(g))"
    "; g = g / sum(g)",
    "g",
)
_rms = RowProgram("y = rms(x, 1e-5) * weight", "y")
_normed = RowProgram("y = norm(x, 1e-5)", "y")
_added_normed = RowProgram("y = x + pos; n = norm(y, 1e-5)", "y", "n")
_gated = RowProgram("y = tanh(x + gate * u)", "y")
_mixed = RowProgram("y = x + silu(q) * u", "y")
_squashed = RowProgram("y = tanh(x + silu(q) * u)", "y")
_left = RowProgram("y = norm(tanh(x + skip), weight, bias, 1e-5)", "y")
_two_ways = RowProgram("y = x + silu(z) * (silu(first * mask) + silu(second * mask))", "y")
_both_ways = RowProgram("y = x + gate * (silu(first * mask) + silu(second * mask)); n = norm(y, 1e-5)", "y", "n")


@functools.lru_cache(maxsize=64)
def _index_row(length: int) -> tuple[Tensor, Tensor]:
    """The index mask (1, 1, L) of the released code, and 1 / L (1, 1, 1)."""
    with torch.inference_mode(False):
        mask = index_mask(length, released_centre(length), torch.empty(0))
        return mask.view(1, 1, -1), torch.full((1, 1, 1), 1 / length)


class _WithMask(torch.autograd.Function):
    """Tokens (N, L, E) and their `released_mask`, whose gradient is added to the tokens' in the pass that makes it."""

    @staticmethod
    def forward(ctx: Any, y: Tensor) -> tuple[Tensor, Tensor]:
        distance, mask = _distances_and_mask(y)
        ctx.save_for_backward(y, distance)
        return y.view_as(y), mask

    @staticmethod
    def backward(ctx: Any, grad: Tensor, of_mask: Tensor) -> Tensor:
        y, distance = ctx.saved_tensors
        if torch.is_grad_enabled():  # the gradient is to be differentiated in its turn
            more: Tensor = torch.autograd.grad(released_mask(y), y, of_mask, create_graph=True)[0]
            return grad + more
        at = released_centre(y.shape[1])
        dy, of_token = _distances_back(g=grad, x=y, c=y[:, at : at + 1], d=distance, s=_slope(distance, of_mask))
        dy[:, at : at + 1] += of_token
        return cast(Tensor, dy)


class _Masked(torch.autograd.Function):
    """`_joined` by kernels: neither what is masked nor its gradient is put together in a pass of its own."""

    @staticmethod
    def forward(ctx: Any, forward: Tensor, backward: Tensor) -> Tensor:
        c, *others = _both_masked(forward, backward)
        ctx.save_for_backward(forward, backward, *others)
        return c

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, ...]:
        forward, backward, *others = ctx.saved_tensors
        if torch.is_grad_enabled():  # the gradient is to be differentiated in its turn
            return torch.autograd.grad(_joined(forward, backward), (forward, backward), grad, create_graph=True)
        found, at = [], released_centre(forward.shape[1])
        for i, (y, g) in enumerate(zip((forward, backward), grad.chunk(2, dim=-1), strict=True)):
            distance, mask = others[2 * i : 2 * i + 2]
            of_mask = _overlap(g=g, x=y)
            slope = _slope(distance, of_mask.flip(1) if i else of_mask)
            dy, of_token = _masked_back(g=g, m=mask, x=y, c=y[:, at : at + 1], d=distance, s=slope)
            dy[:, at : at + 1] += of_token
            found.append(dy)
        return tuple(found)


def _slope(distance: Tensor, of_mask: Tensor) -> Tensor:
    """Gradient of each token's distance from that of its mask, (N, L, 1) both."""
    index, share = _index_row(distance.shape[1])
    with torch.enable_grad():
        row = distance.detach().mT.requires_grad_()
        (slope,) = torch.autograd.grad(_flat_mask(d=row, index=index, share=share), row, of_mask.mT)
    return slope.mT


def _joined(forward: Tensor, backward: Tensor) -> Tensor:
    """Mask both directions, the backward one by its mask put right, and join them: (N, L, 2 E)."""
    return torch.cat([forward * released_mask(forward), backward * released_mask(backward).flip(1)], dim=-1)


def _both_masked(forward: Tensor, backward: Tensor) -> tuple[Tensor, ...]:
    """Do the same by row programs.

    Returns:
        (N, L, 2 E); then of each direction the distances and the mask that it got, (N, L, 1) each.
    """
    c = forward.new_empty(*forward.shape[:2], 2 * forward.shape[2])
    first, second = c.chunk(2, dim=-1)
    (distance, mask), (other, turned) = _distances_and_mask(forward), _distances_and_mask(backward)
    turned = turned.flip(1)
    _attended(x=forward, mask=mask, out={"y": first})
    _attended(x=backward, mask=turned, out={"y": second})
    return c, distance, mask, other, turned


def _distances_and_mask(y: Tensor) -> tuple[Tensor, Tensor]:
    """Each token's distance from the reference token, and `released_mask`, by row programs: (N, L, 1) each."""
    length = y.shape[1]
    centre = released_centre(length)
    distance: Tensor = _distances(x=y, c=y[:, centre : centre + 1])
    index, share = _index_row(length)
    mask: Tensor = _flat_mask(d=distance.mT, index=index, share=share)
    return distance, mask.mT


class MaskedMerge(nn.Module):
    """Mask both directions around the centre, join them, and mask again.

    The backward one stays in its reversed order, only its mask is put right: so it was released.

    Shape: forward, backward (N, L, E) -> (N, L, E).
    """

    def __init__(self, inner: int) -> None:
        super().__init__()
        self.proj = Linear(2 * inner, inner)

    def forward(self, forward: Tensor, backward: Tensor) -> Tensor:
        """Mask and join."""
        if inference.takes(forward, backward, of=self):
            c = _both_masked(forward, backward)[0]
            merged: Tensor = _attended(x=self.proj(c), mask=_distances_and_mask(c)[1])
            return merged
        if inference.trains(forward, backward):
            c, mask = _WithMask.apply(_Masked.apply(forward, backward))
        else:
            c = _joined(forward, backward)
            mask = released_mask(c)
        out: Tensor = _attended(x=self.proj(c), mask=mask)
        return out


class MixerV1(nn.Module):
    """The Mamba block of v1: a scan of the sequence and one of its reverse, merged, compressed to T tokens.

    Shape: (N, L, D) -> (N, T, D).
    """

    def __init__(self, dim: int, tokens: int, drop_rate: float) -> None:
        super().__init__()
        self.tokens = tokens
        d = 2 * dim
        self.in_proj_x = Linear(dim, d)
        self.in_proj_z = Linear(dim, d)
        # Depthwise convolutions of size 1, one for each direction: a scale and a shift of each channel.
        self.conv_weight = nn.Parameter(torch.empty(2, d, 1).uniform_(-1, 1))
        self.conv_bias = nn.Parameter(torch.empty(2, d, 1).uniform_(-1, 1))
        self.ssm = S6(d, D_STATE, math.ceil(dim / 16), scans=2, proj_bias=True)
        nn.init.uniform_(self.ssm.dt_proj_weight, self.ssm.dt_rank**-0.5, 1.0)  # as released: of one sign
        self.merge = MaskedMerge(d)
        self.stage = TokenStage(d, dim, tokens, drop_rate, raw=True)
        nn.init.normal_(self.stage.learner.U1, std=math.sqrt(2 / (tokens * d)))  # as released: fan of a 3-D shape
        nn.init.normal_(self.stage.learner.U2, std=math.sqrt(2 / (d * d)))

    def forward(self, x: Tensor) -> Tensor:
        """Mix and compress."""
        u, gate = self.in_proj_x(x).mT, _gate_branch(self.in_proj_z, x, self.tokens)  # (N, d, L), (N, T, d)
        u = F.silu(torch.stack([u, u.flip(-1)], dim=1) * self.conv_weight + self.conv_bias)  # (N, 2, d, L)
        out: Tensor = self.stage(self.merge(*self.ssm(u).tanh().mT.unbind(1)), gate)
        return out


def _side_by_side(layers: nn.ModuleList) -> tuple[Tensor, Tensor]:
    """Weight and bias of linear layers as those of one, their outputs side by side."""
    pairs = ((cast(nn.Linear, layer).weight, cast(nn.Linear, layer).bias) for layer in layers)
    weight, bias = (torch.cat(both) for both in zip(*pairs, strict=True))
    return weight, bias


def _weights(layers: Sequence[nn.Module]) -> list[Tensor]:
    """Weights and biases of layers, one after the other."""
    return [x for layer in layers for x in (cast(nn.Linear, layer).weight, cast(nn.Linear, layer).bias)]


def _behind_norm(weight: Tensor, bias: Tensor, w: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    """Make weight and bias of a linear layer behind a layer norm those from a row with mean 0 and variance 1."""
    return w * weight, w @ bias + b


def _stream_and_scans(weight: Tensor, bias: Tensor, *layers: Tensor, streams: int) -> tuple[Tensor, Tensor]:
    """Make one linear layer of those behind a layer norm.

    Args:
        weight: (D,), of the norm.
        bias: (D,).
        *layers: Weights and biases: some that follow the norm, of which the last one feeds two more.
        streams: How many of the first kind are results; the one that feeds the others is not where it is beyond them.

    Returns:
        Weight and bias of the results of the first kind, then of the two, from a row with mean 0 and variance 1.
    """
    pairs = list(zip(layers[::2], layers[1::2], strict=True))
    first = [_behind_norm(weight, bias, w, b) for w, b in pairs[:-2]]
    fed, shift = first[-1]
    both = [*first[:streams], *((w @ fed, w @ shift + b) for w, b in pairs[-2:])]
    return torch.cat([w for w, _ in both]), torch.cat([b for _, b in both])


def _gate_and_scans(normed: Tensor, *layers: nn.Module) -> tuple[Tensor, Tensor]:
    """Make silu of a stream and the two scans' inputs of rows (N, L, D) with mean 0 and variance 1; for inference.

    Args:
        normed: The rows.
        *layers: See `_stream_and_scans`; the norm first.

    Returns:
        (N, L, D), and maps of one row (N, 2, D, 1, L).
    """
    dim = normed.shape[2]
    weight, bias = inference.prepared(_stream_and_scans, *_weights(layers), streams=1)
    gate, u = linear_parts(normed, weight, bias, (dim, "silu"), (2 * dim, "softplus"))
    return gate, torch.unflatten(u, 2, (2, dim)).permute(0, 2, 3, 1).unsqueeze(3)


def _gate_branch(proj: nn.Module, x: Tensor, tokens: int) -> Tensor:
    """Project tokens, average them, SiLU: (N, L, D) -> (N, tokens, E)."""
    if inference.takes(x, of=proj):  # a linear layer keeps means
        gate: Tensor = proj(pool_tokens(x, tokens), "silu")
        return gate
    return F.silu(pool_tokens(proj(x), tokens))


class VimV2(nn.Module):
    """The vision Mamba block of v2: one projection for stream and gate, two convolutions of size 1, one shared scan.

    Shape: (N, L, D) -> the same.
    """

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(dim)
        self.proj = Linear(dim, dim)
        self.convs = nn.ModuleList([Linear(dim, dim), Linear(dim, dim)])
        self.ssm = S6(dim, D_STATE, 32, dt_bias="linear")

    def forward(self, x: Tensor) -> Tensor:
        """Mix."""
        q, both = self._scanned(self.proj(self.norm(x)))
        out: Tensor = _mixed(x=x, q=q, u=both)
        return out

    def squashed(self, x: Tensor, normed: Tensor) -> tuple[Tensor, Tensor]:
        """Mix x, whose rows `normed` has with mean 0 and variance 1, and take the tanh of it; for training.

        Returns:
            (N, L, D), and `normed` for what else is made of it.
        """
        q, normed = linear_shared(normed, *_behind_norm(*_weights([self.norm, self.proj])))
        q, both = self._scanned(q)
        out: Tensor = _squashed(x=x, q=q, u=both)
        return out, normed

    def _scanned(self, q: Tensor) -> tuple[Tensor, Tensor]:
        """Give the stream, and the sum of both scans of it, (N, L, D) each."""
        u, q = linear_shared(q, *_side_by_side(self.convs), "softplus")
        u = u.view(*q.shape[:2], 2, q.shape[2]).permute(0, 2, 3, 1)  # (N, 2, D, L)
        return q, self.ssm(u.unsqueeze(3), orders=("rows", "rows"), summed=True).squeeze(2).mT

    def mixed(self, x: Tensor, normed: Tensor) -> Tensor:
        """Mix x, whose rows `normed` has with mean 0 and variance 1, and take the tanh of it; for inference."""
        gate, u = _gate_and_scans(normed, self.norm, self.proj, *self.convs)
        y = self.ssm(u, orders=("rows", "rows"), summed=True).squeeze(2).mT
        out: Tensor = _gated(x=x, gate=gate, u=y)
        return out


class MixerV2(nn.Module):
    """The Mamba block of v2: two vision Mamba blocks on the same sequence, merged, compressed to T tokens.

    Shape: (N, L, D) -> (N, T, D).
    """

    def __init__(self, dim: int, length: int, tokens: int, drop_rate: float, *, re_embed: bool) -> None:
        super().__init__()
        self.tokens = tokens
        self.embed = token_embedding(dim, dim) if re_embed else nn.Identity()
        self.pos_embed = nn.Parameter(torch.randn(1, length, dim))
        self.in_proj_x = Linear(dim, dim)
        self.in_proj_z = Linear(dim, dim)
        self.drop = nn.Dropout(drop_rate)
        self.vim1, self.vim2 = VimV2(dim), VimV2(dim)
        self.merge = MaskedMerge(dim)
        self.stage = TokenStage(dim, dim, tokens, drop_rate, raw=True)
        nn.init.normal_(self.stage.learner.U1, std=math.sqrt(2 / (tokens * dim + dim)))  # as released: see v1
        nn.init.normal_(self.stage.learner.U2, std=math.sqrt(2 / (dim * dim + dim)))

    def forward(self, x: Tensor) -> Tensor:
        """Mix and compress."""
        x = self.in_proj_x(self.embed(x))
        gate = _gate_branch(self.in_proj_z, x, self.tokens)
        if inference.takes(x, of=self):
            x, normed = _added_normed(x=x, pos=self.pos_embed)
            ways = [vim.mixed(x, normed) for vim in (self.vim1, self.vim2)]
        elif inference.trains(x):
            dropped = self.drop(x + self.pos_embed) if self.drop.p else None
            x, normed = _added_normed(x=x, pos=self.pos_embed) if dropped is None else (dropped, _normed(x=dropped))
            first, normed = self.vim1.squashed(x, normed)
            ways = [first, self.vim2.squashed(x, normed)[0]]
        else:
            x = self.drop(x + self.pos_embed)
            ways = [vim(x).tanh() for vim in (self.vim1, self.vim2)]
        out: Tensor = self.stage(self.merge(*ways), gate)
        return out


class VimV3(nn.Module):
    """The vision Mamba block of v3: a scan of each direction under the index mask, gated; D states, rank D.

    Shape: (N, L, D) -> the same.
    """

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(dim)
        self.proj_x = Linear(dim, dim)
        self.proj_z = Linear(dim, dim)
        self.convs = nn.ModuleList([Linear(dim, dim), Linear(dim, dim)])
        self.ssm = S6(dim, dim, dim, scans=2, dt_bias="linear")

    def repeated(self, x: Tensor, depth: int) -> Tensor:
        """Mix `depth` times; for inference."""
        normed = _normed(x=x)
        for _ in range(depth):
            x, normed = self._fused(x, normed)
        return x

    def forward(self, x: Tensor) -> Tensor:
        """Mix."""
        if inference.takes(x, of=self):
            return self.repeated(x, 1)
        length = x.shape[1]
        normed = self.norm(x)
        z, normed = self.proj_z.shared(normed)
        q = self.proj_x(normed)
        u = linear(q, *_side_by_side(self.convs), "softplus")  # (N, L, 2 D), as the scan reads it
        if torch.compiler.is_compiling():  # torch traces the layout of the gradient of a flip wrongly, but for this
            u = torch.stack(u.chunk(2, dim=2), dim=2)
        u = u.view(*q.shape[:2], 2, q.shape[2]).permute(0, 2, 3, 1)  # (N, 2, D, L)
        forward, backward = self.ssm(u.unsqueeze(3), orders=("rows", "rows back")).squeeze(3).mT.unbind(1)
        mask = index_mask(length, released_centre(length), x).view(1, -1, 1)
        mixed: Tensor = _two_ways(x=x, z=z, first=forward, second=backward, mask=mask)
        return mixed

    def _fused(self, x: Tensor, normed: Tensor) -> tuple[Tensor, Tensor]:
        """Mix x, whose rows `normed` has with mean 0 and variance 1; the result, likewise both; for inference."""
        gate, u = _gate_and_scans(normed, self.norm, self.proj_z, self.proj_x, *self.convs)
        first, second = self.ssm(u, orders=("rows", "rows back")).squeeze(3).mT.unbind(1)
        mask, _ = _index_row(x.shape[1])
        y, normed = _both_ways(x=x, gate=gate, first=first, second=second, mask=mask.mT)
        return y, normed


class MixerPaper(nn.Module):
    """Centralised Mamba-Cross-Scan: both halves of the sequence run towards the centre pixel and include it.

    The convolutions before the scans are causal, of size 4, as in Mamba; the paper's figure gives no size. The halves
    are masked around their last step, merged (the centre is the mean of its two), and masked around the centre.

    Shape: (N, L, D) -> (N, T, D), L odd.
    """

    D_CONV = 4

    def __init__(self, dim: int, tokens: int, drop_rate: float) -> None:
        super().__init__()
        self.tokens = tokens
        d = 2 * dim
        self.in_proj_x = Linear(dim, d)
        self.in_proj_z = Linear(dim, d)
        self.conv = nn.Conv1d(2 * d, 2 * d, self.D_CONV, padding=self.D_CONV - 1, groups=2 * d)
        self.ssm = S6(d, D_STATE, math.ceil(dim / 16), scans=2)
        self.merge = nn.Sequential(Linear(d, d), nn.Tanh(), nn.LayerNorm(d))
        self.stage = TokenStage(d, dim, tokens, drop_rate, raw=False)

    def forward(self, x: Tensor) -> Tensor:
        """Mix and compress."""
        u, gate = self.in_proj_x(x).mT, _gate_branch(self.in_proj_z, x, self.tokens)  # (N, d, L), (N, T, d)
        centre = u.shape[2] // 2
        halves = torch.cat([u[..., : centre + 1], u.flip(-1)[..., : centre + 1]], dim=1)  # (N, 2 d, c + 1)
        halves = F.silu(self.conv(halves)[..., : centre + 1])
        first, second = self.ssm(halves.reshape(-1, 2, u.shape[1], centre + 1)).mT.unbind(1)  # (N, c + 1, d)
        first, second = first * paper_mask(first, centre), second * paper_mask(second, centre)
        middle = (first[:, -1:] + second[:, -1:]) / 2
        y = self.merge(torch.cat([first[:, :-1], middle, second[:, :-1].flip(1)], dim=1))  # (N, L, d)
        out: Tensor = self.stage(y * paper_mask(y, centre), gate)
        return out


class Residual(nn.Module):
    """LN(tanh(mixer(RMSNorm(x)) + linear(pooled x))).

    Shape: (N, L, D) -> (N, T, D).
    """

    def __init__(self, dim: int, tokens: int, mixer: nn.Module) -> None:
        super().__init__()
        self.tokens = tokens
        self.norm = nn.RMSNorm(dim, eps=1e-5)
        self.mixer = mixer
        self.skip = Linear(dim, dim)
        self.out_norm = nn.LayerNorm(dim)

    def forward(self, x: Tensor) -> Tensor:
        """Mix and add what came in."""
        weight = self.norm.weight
        normed = _rms(x=x.to(weight.dtype), weight=weight)  # autocast, which widens other norms, leaves this one
        skip, norm = self.skip(pool_tokens(x, self.tokens)), self.out_norm
        out: Tensor = _left(x=self.mixer(normed), skip=skip, weight=norm.weight, bias=norm.bias)
        return out


def token_embedding(chans: int, dim: int) -> nn.Sequential:
    """LayerNorm, linear, LayerNorm of tokens: (..., chans) -> (..., dim)."""
    return nn.Sequential(nn.LayerNorm(chans), Linear(chans, dim), nn.LayerNorm(dim))
