"""Figures of a fusion network on pairs, beside the classical methods on the same images."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from hsmamba.baselines import BASELINES
from hsmamba.data.pairs import FusionPair, FusionPairs
from hsmamba.engine.classification.predict import evaluating
from hsmamba.engine.fusion.images import Image, Images
from hsmamba.engine.fusion.tiles import fuse_images
from hsmamba.errors import SceneError
from hsmamba.metrics import fusion as metrics
from hsmamba.models._base import as_fusion_network

REDUCED = ("PSNR", "SSIM", "SAM", "ERGAS", "SCC", "Q2n")
FULL = ("D_lambda", "D_s", "QNR", "D_lambda_K", "HQNR")
BENCHMARK = ("PSNR", "SSIM", "SAM", "ERGAS")  # of guides with several channels, whose tables have these alone
Figures = dict[str, float]


@dataclass(frozen=True)
class FusionReport:
    """Figures by image and method.

    Attributes:
        model: Name under which the network stands among the methods.
        reduced: Image -> method -> metric, where the truth is known.
        full: The same at full resolution, without truth.
    """

    model: str
    reduced: dict[str, dict[str, Figures]]
    full: dict[str, dict[str, Figures]] = field(default_factory=dict)

    def mean(self, *, full: bool = False) -> dict[str, Figures]:
        """Average over the images, by method."""
        images = list((self.full if full else self.reduced).values())
        return {
            method: {
                metric: sum(image[method][metric] for image in images) / len(images) for metric in images[0][method]
            }
            for method in (images[0] if images else {})
        }

    def __str__(self) -> str:
        """Write both tables, means over the images."""
        parts = []
        for title, full in (("reduced resolution", False), ("full resolution", True)):
            if means := self.mean(full=full):
                count = len(self.full if full else self.reduced)
                parts.append(f"{title}, mean of {count} image{'s' * (count != 1)}\n{_table(means)}")
        return "\n\n".join(parts)


def _table(means: dict[str, Figures]) -> str:
    columns = list(next(iter(means.values())))
    width = max(len(name) for name in means)
    lines = [" " * width + "".join(f"{column:>12}" for column in columns)]
    for name, figures in means.items():
        lines.append(f"{name:<{width}}" + "".join(f"{figures[column]:12.4f}" for column in columns))
    return "\n".join(lines)


def evaluate_fusion(
    model: nn.Module,
    pairs: FusionPairs,
    *,
    device: torch.device | str | None = None,
    baselines: bool = True,
) -> FusionReport:
    """Compute the field's tables of a network on the test images, beside the classical methods.

    Networks run as in `hsmamba.fuse`: global ones in overlapping windows. Every result is clipped to [0, 1] times the
    maximum. Figures of PAN and MS are of digital numbers without the toolbox's border; those of guides with several
    channels (CAVE) are of [0, 1] and whole images.

    Args:
        model: A fusion network; its mode and device are left as they were.
        pairs: The data; its `test` and `full` images are looked at.
        device: Where to compute; default where the model is.
        baselines: Bicubic, EXP and, where the guide is a PAN, Brovey, GSA and MTF-GLP-HPM too.

    Returns:
        The figures, printable.

    Raises:
        SceneError: There is no test image, or the model takes other bands, guides or ratios.
    """
    if not pairs.test and not pairs.full:
        raise SceneError(f"the pairs {pairs.name!r} have no test images; make them with test= above 0")
    name = str(getattr(model, "architecture", type(model).__name__))
    methods: dict[str, Callable[[FusionPair], Tensor]] = _baselines(pairs) if baselines else {}
    methods[name] = lambda pair: predict(model, pair, device)
    reduced = {pair.name: {key: _reduced(method(pair), pair, pairs) for key, method in methods.items()}
               for pair in pairs.test}  # fmt: skip
    full = {pair.name: {key: _full(method(pair), pair, pairs) for key, method in methods.items()}
            for pair in pairs.full}  # fmt: skip
    return FusionReport(name, reduced, full)


def predict(
    model: nn.Module, pair: FusionPair, device: torch.device | str | None = None, *, whole: bool = False
) -> Tensor:
    """Fuse one pair as `hsmamba.fuse` does, (C, H, W) on the CPU, clipped to [0, 1].

    Args:
        model: A fusion network; its mode and device are left as they were.
        pair: The images.
        device: Where to compute; default where the model is.
        whole: Give a global network the whole image instead of overlapping windows: a fraction of the time.
    """
    network: Any = model
    as_fusion_network(model).check_inputs(pair.ms[None], pair.guide[None], pair.ms_up[None])
    ms, guide, ms_up = (Image(tensor.permute(1, 2, 0).numpy()) for tensor in (pair.ms, pair.guide, pair.ms_up))
    fused = torch.empty(pair.ms.shape[0], *pair.guide.shape[1:])

    def keep(top: int, rows: Tensor) -> None:
        fused[:, top : top + rows.shape[1]] = rows.clamp(0, 1)

    with evaluating(model, device) as where:
        dtype = next(model.parameters()).dtype
        images = Images(ms, guide, ms_up, network.scale, fill=False, dtype=dtype, device=where)
        is_global = getattr(model, "margin", None) is None
        tile = max(images.coarse_size) if whole and is_global else None
        fuse_images(model, images, keep, lambda _: None, tile=tile)
    return fused


def _baselines(pairs: FusionPairs) -> dict[str, Callable[[FusionPair], Tensor]]:
    """Classical methods for these pairs by name."""
    from hsmamba.ops.resampling import bicubic

    chosen: dict[str, Callable[[FusionPair], Tensor]] = {
        "bicubic": lambda pair: bicubic(pair.ms[None], pairs.ratio)[0].clamp(0, 1)
    }
    for name, method in BASELINES.items():
        if name == "EXP" or pairs.guide_chans == 1:
            chosen[name] = lambda pair, method=method: _classical(method, pair, pairs)  # type: ignore[misc]
    return chosen


def _classical(method: Callable[..., Tensor], pair: FusionPair, pairs: FusionPairs) -> Tensor:
    guide = pair.guide.mean(0, keepdim=True)
    return method(pair.ms[None], guide[None], ratio=pairs.ratio, sensor=pairs.sensor)[0].clamp(0, 1)


def _reduced(fused: Tensor, pair: FusionPair, pairs: FusionPairs) -> Figures:
    if pair.gt is None:
        raise SceneError(f"the image {pair.name!r} has no truth to compare with; it belongs to the full resolution")
    gt, fused = pair.gt[None] * pairs.maximum, fused[None] * pairs.maximum
    if pairs.guide_chans == 1:
        table = metrics.reduced_resolution(gt, fused, data_range=pairs.maximum, ratio=pairs.ratio, cut=pairs.cut)
        return {key: float(table[key]) for key in REDUCED}
    return {
        "PSNR": float(metrics.psnr(gt, fused, data_range=pairs.maximum)),
        "SSIM": float(metrics.ssim(gt, fused, data_range=pairs.maximum)),
        "SAM": float(metrics.sam(gt, fused)),
        "ERGAS": float(metrics.ergas(gt, fused, ratio=pairs.ratio)),
    }


def _full(fused: Tensor, pair: FusionPair, pairs: FusionPairs) -> Figures:
    images = (fused, pair.ms, pair.guide.mean(0, keepdim=True))
    scaled = [image[None] * pairs.maximum for image in images]
    table = metrics.full_resolution(*scaled, sensor=pairs.sensor, ratio=pairs.ratio)
    return {key: float(table[key]) for key in FULL}
