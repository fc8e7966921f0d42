"""LE-Mamba: a state space model with local enhancement and state sharing for image fusion.

Paper: Cao, Wu, Deng, Zhong, "A Novel State Space Model with Local Enhancement and State Sharing for Image Fusion", ACM
MM 2024, 1235-1244, arXiv 2404.09293.

Loads the official checkpoints (Efficient-MIF, branch main-release) and computes what they compute where code and paper
differ. Its presets are tiny (the paper's for pansharpening, and the default here), small and base; the preset of the
paper's hyperspectral results was not released. A scan runs over the whole image: the receptive field is global, and
the paper's figures come from tiles of the training size.

Written from the equations; the code is ours.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import Any, cast

import torch
import torch.nn.functional as F
from timm.layers import DropPath
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from hsmamba.layers.depthwise import depthwise_conv
from hsmamba.layers.fusion import pad_sides
from hsmamba.layers.linear import Linear, pointwise
from hsmamba.layers.scan_order import CROSS
from hsmamba.layers.ssm import S6, no_weight_decay_names
from hsmamba.models._base import FusionNetwork
from hsmamba.models._registry import ModelCfg, register_model
from hsmamba.ops import inference
from hsmamba.ops.chains import Product, RowChain
from hsmamba.ops.linear import product

_CITATION = (
    "Cao, Wu, Deng, Zhong: A Novel State Space Model with Local Enhancement and State Sharing for Image Fusion. "
    "ACM Multimedia, 1235-1244 (2024). arXiv:2404.09293"
)


_ONE_LEVEL = {
    **dict.fromkeys(("enc_depths", "dec_depths", "widen", "expand"), (1,)),
    **{"mid_depth": 0, "windows": (4,), "enc_d_state": ((None, 2),), "dec_d_state": ((2, 2),)},
    **{"enc_kernels": ((None, 3),), "dec_kernels": ((3, 3),)},
}
default_cfgs = {
    name: ModelCfg(
        task="fusion",
        summary=summary,
        citation=_CITATION,
        default_tag="cave_x8" if name == "le_mamba" else None,
        tiny={"dim": 4, "scale": 2, **_ONE_LEVEL},
    )
    for name, summary in {
        "le_mamba": "LE-Mamba, tiny: a U-net of scans with local windows that share states",
        "le_mamba_small": "LE-Mamba, small: wider at the coarse levels",
        "le_mamba_base": "LE-Mamba, base: deeper",
    }.items()
}
_SCANS = len(CROSS)
Pair = tuple[int | None, int]  # of the local branch (None: no local branch) and of the global one


class StateSharing(nn.Module):
    """Correct the scan's input by what earlier scans remember: u = x + rho * (M g), g = gate x, M from earlier states.

    M = W1 previous (+ W2 skip, or + skip as it is): a memory of d_inner x d_state, read with a query from each token.

    Shape: x (B, d, H, W), previous (B, 4, d_previous, N), skip (B, 4, d, N) -> (B, 4, d, H, W).
    """

    def __init__(self, d_inner: int, d_previous: int, d_state: int, *, project_skip: bool) -> None:
        super().__init__()
        self.of_previous = nn.Parameter(torch.randn(_SCANS, d_inner, d_previous))
        self.of_skip = nn.Parameter(torch.randn(_SCANS, d_inner, d_inner)) if project_skip else None
        self.gate = nn.Parameter(torch.randn(_SCANS, d_state, d_inner))
        self.rho = nn.Parameter(torch.randn(_SCANS, d_inner, 1))

    def forward(self, x: Tensor, previous: Tensor, skip: Tensor | None) -> Tensor:
        """Correct."""
        memory = self.of_previous @ previous
        if skip is not None:
            memory = memory + (skip if self.of_skip is None else self.of_skip @ skip)
        correction = (self.rho * memory) @ self.gate  # (B, 4, d, d)
        weight = correction + torch.eye(x.shape[1], dtype=x.dtype, device=x.device)
        corrected = product(x.flatten(2).mT, weight.flatten(1, 2).mT)  # (B, L, 4 d), one product
        return corrected.view(x.shape[0], *x.shape[2:], _SCANS, x.shape[1]).permute(0, 3, 4, 1, 2)


class Scan(nn.Module):
    """SS2D with shared states: gate, depthwise convolution, four scans in each direction of rows and columns.

    Shape: (B, H, W, dim) -> (B, H, W, dim) and the last states (B, 4, d, N), a constant for the gradient.
    """

    def __init__(self, dim: int, expand: int, d_state: int, kernel_size: int) -> None:
        super().__init__()
        d = expand * dim
        self.in_proj = Linear(dim, 2 * d, bias=False)
        self.conv_norm = nn.LayerNorm(d)
        self.conv = nn.Conv2d(d, d, kernel_size, padding=kernel_size // 2, groups=d)
        self.ssm = S6(d, d_state, dt_rank=-(-dim // 16), scans=_SCANS)
        self.sharing: StateSharing | None = None
        self.out_norm = nn.LayerNorm(d)
        self.out_proj = Linear(d, dim, bias=False)

    def forward(self, x: Tensor, previous: Tensor | None = None, skip: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Scan."""
        d = self.out_proj.in_features
        x, gate = self.in_proj.parts(x, (d, ""), (d, "silu"))
        x = depthwise_conv(self.conv, self.conv_norm(x), silu=True).movedim(-1, 1)  # (B, d, H, W)
        y, last = self.scan(x, previous, skip)
        return self.out_proj(self.out_norm(y) * gate), last

    def scan(self, x: Tensor, previous: Tensor | None, skip: Tensor | None) -> tuple[Tensor, Tensor]:
        """Scan a map (B, d, H, W): (B, H, W, d) and the last states."""
        driver = x.unsqueeze(1)
        u = driver if self.sharing is None or previous is None else self.sharing(x, previous, skip)
        y, last = self.ssm(u, driver, return_last_state=True, orders=CROSS, summed=True)
        return y.movedim(1, -1), last.detach()  # the release has no gradient through shared states


class GatedMlp(nn.Module):
    """a * gelu(b) between two linear layers, a the first half. Shape: (..., dim) -> (..., dim)."""

    def __init__(self, dim: int, hidden: int) -> None:
        super().__init__()
        self.fc1, self.fc2 = Linear(dim, 2 * hidden), Linear(hidden, dim)

    def forward(self, x: Tensor) -> Tensor:
        """Mix channels."""
        a, b = self.fc1(x).chunk(2, dim=-1)
        out: Tensor = self.fc2(a * F.gelu(b))
        return out


# A block before its convolution and behind its scan, for inference: what is between products stays in the cache. The
# gate is computed where it is needed, which takes less time than to store it.
_enter = RowChain("y = norm(linear(norm(x, weight, bias, 1e-6), inner), inner_weight, inner_bias, 1e-5)", "y")
_LEAVE = (
    "r = x + linear(norm(y, y_weight, y_bias, 1e-5) * silu(linear(norm(x, weight, bias, 1e-6), gate)), out);"
    "h = norm(r, mlp_weight, mlp_bias, 1e-6);"
    "r = r + linear(linear(h, first) * gelu(linear(h, second)), last);"
)
_leave, _leave_scaled = RowChain(_LEAVE, "r"), RowChain(_LEAVE + "r = r * scale + x", "r")


class VSSBlock(nn.Module):
    """Pre-norm residual scan and MLP, of a local branch also the branch's: y * scale + x. Shape: as `Scan`."""

    def __init__(self, dim: int, expand: int, d_state: int, kernel_size: int, mlp_ratio: int, drop_path: float) -> None:
        super().__init__()
        self.scan_norm = nn.LayerNorm(dim, eps=1e-6)
        self.scan = Scan(dim, expand, d_state, kernel_size)
        self.mlp_norm = nn.LayerNorm(dim, eps=1e-6)
        self.mlp = GatedMlp(dim, mlp_ratio * dim)
        self.drop_path = DropPath(drop_path)

    def forward(
        self, x: Tensor, previous: Tensor | None = None, skip: Tensor | None = None, scale: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Scan and mix."""
        if inference.takes(x, of=self) and not self.training:
            return self._infer(x, previous, skip, scale)
        y, state = self.scan(self.scan_norm(x), previous, skip)
        y = x + self.drop_path(y)
        y = y + self.drop_path(self.mlp(self.mlp_norm(y)))
        return y if scale is None else y * scale + x, state

    def _infer(
        self, x: Tensor, previous: Tensor | None, skip: Tensor | None, scale: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        scan, mlp = self.scan, self.mlp
        d, hidden, weight = scan.out_proj.in_features, mlp.fc2.in_features, scan.in_proj.weight
        norm: dict[str, Tensor] = {"x": x, "weight": self.scan_norm.weight, "bias": self.scan_norm.bias}
        inner = {"inner_weight": scan.conv_norm.weight, "inner_bias": scan.conv_norm.bias}
        u = _enter({"inner": (weight, None, slice(d))}, norm | inner)
        y, state = scan.scan(depthwise_conv(scan.conv, u, silu=True).movedim(-1, 1), previous, skip)
        products: dict[str, Product] = {
            "gate": (weight, None, slice(d, None)),
            "out": (scan.out_proj.weight, None),
            "first": (mlp.fc1.weight, mlp.fc1.bias, slice(hidden)),
            "second": (mlp.fc1.weight, mlp.fc1.bias, slice(hidden, None)),
            "last": (mlp.fc2.weight, mlp.fc2.bias),
        }
        given = norm | {"y": y, "y_weight": scan.out_norm.weight, "y_bias": scan.out_norm.bias}
        given |= {"mlp_weight": self.mlp_norm.weight, "mlp_bias": self.mlp_norm.bias}
        if scale is None:
            return _leave(products, given), state
        return _leave_scaled(products, given | {"scale": scale}), state


class LEVMBlock(nn.Module):
    """Local-enhanced vision Mamba: the guide is added, windows are scanned each by itself, then the whole map.

    Args:
        dim: Channels c.
        guide_chans: Channels of the guide.
        expand: Inner expansion of the global scan.
        window: Side of the local windows; not used without a local branch.
        d_state: States of the local and the global scan.
        kernel: Depthwise kernels of the local and the global scan.
        drop_path: Rate of stochastic depth in all residual branches.

    Shape:
        x: (B, H, W, c); guide: (B, G, H, W). Output: (B, H, W, c) and the global scan's last states (B, 4, d, N).
    """

    def __init__(
        self, dim: int, guide_chans: int, expand: int, window: int | None, d_state: Pair, kernel: Pair, drop_path: float
    ) -> None:
        super().__init__()
        self.window = window if _is_local(d_state, kernel) else None
        self.d_inner, self.d_state, self.grad_checkpointing = expand * dim, d_state[1], False
        self.guide_proj = nn.Sequential(nn.Conv2d(guide_chans, dim, 1), nn.Conv2d(dim, dim, 3, padding=1, groups=dim))
        self.local_branch: VSSBlock | None = None
        if d_state[0] is not None and kernel[0] is not None:
            self.local_branch = VSSBlock(dim, 2, d_state[0], kernel[0], 1, drop_path)
            self.local_scale = nn.Parameter(0.02 * torch.randn(dim))
        self.global_branch = VSSBlock(dim, expand, d_state[1], kernel[1], 4, drop_path)

    def share_states(self, d_previous: int, *, project_skip: bool = False) -> None:
        """Let the global scan take states of earlier scans, of `d_previous` channels."""
        sharing = StateSharing(self.d_inner, d_previous, self.d_state, project_skip=project_skip)
        self.global_branch.scan.sharing = sharing

    def forward(
        self, x: Tensor, guide: Tensor, previous: Tensor | None = None, skip: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Run both branches; `previous` and `skip` are states of other blocks."""
        if self.grad_checkpointing and torch.is_grad_enabled():
            return checkpoint(self._run, x, guide, previous, skip, use_reentrant=False)
        return self._run(x, guide, previous, skip)

    def _run(self, x: Tensor, guide: Tensor, previous: Tensor | None, skip: Tensor | None) -> tuple[Tensor, Tensor]:
        x = x + self._projected(guide)
        if self.local_branch is not None and self.window is not None:
            b, height, width, c = x.shape
            q = self.window
            grid = (b, height // q, width // q, q, q, c)
            windows = x.view(b, height // q, q, width // q, q, c).transpose(2, 3).reshape(-1, q, q, c)
            x = self.local_branch(windows, scale=self.local_scale)[0].view(grid).transpose(2, 3).reshape(x.shape)
        out: tuple[Tensor, Tensor] = self.global_branch(x, previous, skip)
        return out

    def _projected(self, guide: Tensor) -> Tensor:
        """(B, G, H, W) -> (B, H, W, c)."""
        first, second = cast("tuple[nn.Conv2d, nn.Conv2d]", tuple(self.guide_proj))
        return depthwise_conv(second, pointwise(first, guide.movedim(1, -1)))


def _is_local(d_state: Pair, kernel: Pair) -> bool:
    return d_state[0] is not None and kernel[0] is not None


class Chain(nn.Module):
    """Blocks of one encoder level or of the bottom; each takes the state of the one before.

    Shape: x (B, H, W, c), guide (B, G, H, W) -> (B, H, W, c) and the last block's states, None without a block.
    """

    def __init__(self, blocks: Sequence[LEVMBlock]) -> None:
        super().__init__()
        for block in blocks[1:]:
            block.share_states(block.d_inner)
        self.blocks = nn.ModuleList(blocks)

    def forward(self, x: Tensor, guide: Tensor) -> tuple[Tensor, Tensor | None]:
        """Run the blocks."""
        state: Tensor | None = None
        for block in self.blocks:
            x, state = block(x, guide, state)
        return x, state


class DecoderStage(nn.Module):
    """Up-sampling, fusion with the encoder's features of this level, and blocks that all share the same two states.

    Shape: x (B, h, w, dim_in), features (B, 2 h, 2 w, dim) -> (B, 2 h, 2 w, dim) and last states (B, 4, d, N).
    """

    def __init__(self, dim_in: int, dim: int, d_previous: int, blocks: Sequence[LEVMBlock]) -> None:
        super().__init__()
        self.up = nn.Conv2d(dim_in, dim, 1, bias=False)
        self.skip_scale = nn.Parameter(torch.zeros(dim))
        self.fuse = Linear(2 * dim, dim)
        for i, block in enumerate(blocks):
            block.share_states(d_previous, project_skip=i == 0)
        self.blocks = nn.ModuleList(blocks)

    def forward(
        self, x: Tensor, features: Tensor, guide: Tensor, previous: Tensor, skip: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Decode; `previous` is the state of the stage before, `skip` that of the encoder level."""
        x = F.interpolate(self.up(x.movedim(-1, 1)), scale_factor=2, mode="bilinear").movedim(1, -1)
        x = self.fuse(torch.cat([x, features * self.skip_scale], dim=-1))
        state = previous
        for block in self.blocks:
            x, state = block(x, guide, previous, skip)
        return x, state


class LEMamba(FusionNetwork):
    """LE-Mamba: a U-net of LEVM blocks on the up-sampled image; each block adds the guide. Result plus that image.

    Tuples for encoder levels count from the full resolution; `dec_d_state` and `dec_kernels` count from the coarsest
    stage, the other decoder tuples from the full resolution, as in the official configuration.

    Args:
        in_chans: Bands of the coarse image.
        guide_chans: Channels of the guide: 1 for PAN, 3 for RGB.
        scale: Ratio between the grids; used only where `ms` is to be up-sampled.
        dim: Channels at the full resolution.
        enc_depths: Blocks of each encoder level.
        mid_depth: Blocks at the bottom.
        dec_depths: Blocks of each decoder stage, at least 1.
        widen: Factor of the channels after each encoder level.
        expand: Inner expansion of the global scans, by level.
        windows: Side of the local windows by level; None where there is no local branch.
        enc_d_state: (local or None, global) states by level; the global number is the same everywhere.
        dec_d_state: The same by decoder stage.
        enc_kernels: (local or None, global) odd depthwise kernels by level.
        dec_kernels: The same by decoder stage.
        drop_path_rate: Of the last block; rises evenly from 0.

    `margin` is None: every pixel depends on the whole image.

    Raises:
        ValueError: Sizes that do not go together.
    """

    window = 12  # of coarse pixels; validation scenes come out worse in larger ones, and no better in the authors' 16
    layer_groups = {
        "stem": r"^stem",
        "encoder": r"^(?:encoder|downs)\.(\d+)",
        "middle": r"^middle",
        "decoder": r"^decoder\.(\d+)",
    }

    def __init__(
        self,
        in_chans: int = 8,
        guide_chans: int = 1,
        scale: int = 4,
        *,
        dim: int = 32,
        enc_depths: Sequence[int] = (2, 1, 1),
        mid_depth: int = 1,
        dec_depths: Sequence[int] = (2, 1, 1),
        widen: Sequence[int] = (1, 1, 1),
        expand: Sequence[int] = (2, 2, 1),
        windows: Sequence[int | None] = (8, 8, None),
        enc_d_state: Sequence[Pair] = ((16, 32), (16, 32), (None, 32)),
        dec_d_state: Sequence[Pair] = ((None, 32), (16, 32), (16, 32)),
        enc_kernels: Sequence[Pair] = ((7, 11), (7, 11), (None, 11)),
        dec_kernels: Sequence[Pair] = ((None, 11), (7, 11), (7, 11)),
        drop_path_rate: float = 0.1,
    ) -> None:
        super().__init__(in_chans, guide_chans, scale)
        levels = len(enc_depths)
        by_level = (dec_depths, widen, expand, windows, enc_d_state, dec_d_state, enc_kernels, dec_kernels)
        if any(len(x) != levels for x in by_level) or min((*enc_depths, *dec_depths), default=0) < 1:
            raise ValueError(
                f"LE-Mamba takes one entry a level in each tuple and at least one block in each level; got "
                f"enc_depths={tuple(enc_depths)} and {', '.join(str(tuple(x)) for x in by_level)}"
            )
        if len({pair[1] for pair in (*enc_d_state, *dec_d_state)}) > 1:
            raise ValueError(
                f"global scans share states, so all have one number of them; got enc_d_state={tuple(enc_d_state)} and "
                f"dec_d_state={tuple(dec_d_state)}"
            )
        dims = [dim * math.prod(widen[:level]) for level in range(levels + 1)]
        depth = sum(enc_depths) + mid_depth + sum(dec_depths)
        rates = iter(torch.linspace(0, drop_path_rate, depth, device="cpu").tolist())  # numbers on any default device
        spans = [1 << levels]  # sides, in pixels of the full resolution, that every map and every window divides

        def blocks(number: int, level: int, width: int, size: int, states: Pair, kernels: Pair) -> list[LEVMBlock]:
            window = windows[level]
            if number and _is_local(states, kernels):
                if window is None:
                    raise ValueError(f"level {level} has local states and kernels and needs a window, got {windows}")
                spans.append(window * size)
            options = (guide_chans, expand[level], window, states, kernels)
            return [LEVMBlock(width, *options, next(rates)) for _ in range(number)]

        self.stem = nn.Conv2d(in_chans, dim, 3, padding=1)
        per_level = zip(enc_depths, range(levels), dims, enc_d_state, enc_kernels, strict=False)
        self.encoder = nn.ModuleList(Chain(blocks(n, lev, c, 1 << lev, *pair)) for n, lev, c, *pair in per_level)
        self.downs = nn.ModuleList(nn.Conv2d(a, b, 2, stride=2) for a, b in itertools.pairwise(dims))
        self.middle = Chain(blocks(mid_depth, levels - 1, dims[-1], 1 << levels, enc_d_state[-1], enc_kernels[-1]))
        self.decoder = nn.ModuleList()
        d_previous = expand[-1] * (dims[-1] if mid_depth else dims[-2])
        for level, states, kernels in zip(reversed(range(levels)), dec_d_state, dec_kernels, strict=True):
            stage = blocks(dec_depths[level], level, dims[level], 1 << level, states, kernels)
            self.decoder.append(DecoderStage(dims[level + 1], dims[level], d_previous, stage))
            d_previous = expand[level] * dims[level]
        self.head = nn.Conv2d(dim, in_chans, 3, padding=1)
        self.multiple = math.lcm(*spans)
        self.apply(_init_weights)

    def no_weight_decay(self) -> set[str]:
        """Names of the parameters that weight decay leaves alone, beside biases and norms."""
        return no_weight_decay_names(self, "rho", "local_scale", "skip_scale")

    def set_grad_checkpointing(self, enable: bool = True) -> None:
        """Compute the blocks again in the backward pass instead of keeping what is inside them."""
        for module in self.modules():
            if isinstance(module, LEVMBlock):
                module.grad_checkpointing = enable

    def sharpen(self, ms: Tensor | None, guide: Tensor, ms_up: Tensor) -> Tensor:
        """See `FusionNetwork.forward`."""
        height, width = guide.shape[2:]
        guide = pad_sides(guide, self.multiple)
        x = self.stem(pad_sides(ms_up, self.multiple)).movedim(1, -1)  # maps are (B, H, W, C) from here on
        guides, features, states = [], [], []
        for stage, down in zip(self.encoder, self.downs, strict=True):
            guides.append(_resized(guide, x))
            x, state = stage(x, guides[-1])
            features.append(x)
            states.append(state)
            x = down(x.movedim(-1, 1)).movedim(1, -1)
        x, at_bottom = self.middle(x, _resized(guide, x))
        previous = states[-1] if at_bottom is None else at_bottom
        for decode in self.decoder:
            x, previous = decode(x, features.pop(), guides.pop(), previous, states.pop())
        sharp: Tensor = ms_up + self.head(x.movedim(-1, 1))[..., :height, :width]
        return sharp


def _resized(guide: Tensor, x: Tensor) -> Tensor:
    """The guide on the grid of a map (B, H, W, C), corners on corners."""
    return F.interpolate(guide, x.shape[1:3], mode="bilinear", align_corners=True)


def _init_weights(module: nn.Module) -> None:
    """The release's initialisation; the scans' own parameters and the shared states' keep theirs."""
    if isinstance(module, nn.Conv2d):
        fan_out = module.out_channels * module.kernel_size[0] ** 2  # whatever the groups
        nn.init.normal_(module.weight, std=math.sqrt(2 / fan_out))
    elif isinstance(module, nn.Linear):
        nn.init.trunc_normal_(module.weight, std=0.02)
    if isinstance(module, (nn.Conv2d, nn.Linear)) and module.bias is not None:
        nn.init.zeros_(module.bias)


@register_model
def le_mamba(**kwargs: Any) -> LEMamba:
    """LE-Mamba tiny, the paper's for pansharpening: 8 bands, PAN, ratio 4; 743 464 parameters."""
    return LEMamba(**kwargs)


@register_model
def le_mamba_small(**kwargs: Any) -> LEMamba:
    """LE-Mamba small: 8 bands, PAN, ratio 4."""
    states = {"enc_d_state": ((32, 32), (32, 32), (None, 32)), "dec_d_state": ((None, 32), (32, 32), (32, 32))}
    depths = {"enc_depths": (2, 2, 2), "dec_depths": (2, 2, 2), "widen": (1, 2, 2), "expand": (3, 2, 2)}
    kernels = {"dec_kernels": ((None, 11), (7, 11), (None, 11))}  # no local branch in the last stage, as released
    return LEMamba(**{**states, **depths, **kernels, "drop_path_rate": 0.2, **kwargs})


@register_model
def le_mamba_base(**kwargs: Any) -> LEMamba:
    """LE-Mamba base: 8 bands, PAN, ratio 4; 1 650 152 parameters."""
    depths = {"enc_depths": (4, 3, 2), "dec_depths": (4, 3, 2)}
    return LEMamba(**{**depths, "drop_path_rate": 0.2, **kwargs})
