"""Figures of a fusion network on pairs, beside the classical methods on the same images."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from hsmamba.baselines import BASELINES, OF_PAN_ALONE
from hsmamba.data.pairs import FusionPair, FusionPairs, pixels_of
from hsmamba.engine.fusion.consistency import agreement_of, is_consistent, made_consistent
from hsmamba.engine.fusion.gains import Gains, check_gains, with_gains
from hsmamba.engine.fusion.images import Image, Images
from hsmamba.engine.fusion.inputs import check_pairs
from hsmamba.engine.fusion.tiles import Running, fuse_images
from hsmamba.engine.running import evaluating
from hsmamba.errors import SceneError
from hsmamba.metrics import FusionReport
from hsmamba.metrics import fusion as metrics
from hsmamba.metrics.report import Figures
from hsmamba.models import FusionNetwork, as_fusion_network
from hsmamba.ops.resampling import bicubic

REDUCED = ("PSNR", "SSIM", "SAM", "ERGAS", "SCC", "Q2n")
FULL = ("D_lambda", "D_s", "QNR", "D_lambda_K", "HQNR")
BENCHMARK = ("PSNR", "SSIM", "SAM", "ERGAS")  # of guides with several channels, whose tables have these alone


def evaluate_fusion(
    model: nn.Module,
    pairs: FusionPairs,
    *,
    device: torch.device | str | None = None,
    baselines: bool = True,
    gains: Gains = "match",
    consistent: bool | None = None,
    tile: int | None = None,
    overlap: int | None = None,
) -> FusionReport:
    """Compute the field's tables of a network on the test images, beside the classical methods.

    Networks run as in `hsmamba.fuse`: global ones in the same windows. Every result is clipped to [0, 1] times the
    maximum. Figures of PAN and MS leave out the toolbox's border, those of guides with several channels (CAVE) are of
    whole images. They do not depend on the unit of the scene (`hsmamba.metrics.fusion`).

    Args:
        model: A fusion network; its mode and device are left as they were.
        pairs: The data; its `test` and `full` images are looked at.
        device: Where to compute; default where the model is.
        baselines: Bicubic and the methods of `hsmamba.baselines` too; Brovey where the guide is a PAN.
        gains: As for `hsmamba.fuse`.
        consistent: As for `hsmamba.fuse`. Where the network's results are made consistent, those of the classical
            methods are so, too, beside what they are alone.
        tile: As for `hsmamba.fuse`.
        overlap: As for `hsmamba.fuse`.

    Returns:
        The figures, printable.

    Raises:
        SceneError: There is no test image, one is too small for the border that the metrics leave out, or the model
            takes other bands, guides or ratios.
        TypeError: The model is no fusion network.

    Warns:
        HsmambaWarning: The numbers look like those of another unit than the training's.
    """
    network = as_fusion_network(model)
    if network.any_sizes:
        network = network.resized(pairs.in_chans, pairs.guide_chans, pairs.ratio)
    if not pairs.test and not pairs.full:
        raise SceneError(f"the pairs {pairs.name!r} have no test images; make them with test= above 0")
    for pair in pairs.test:
        if min(pair.guide.shape[-2:]) - 2 * pairs.cut + (pairs.cut > 0) < metrics.SSIM_WINDOW:
            raise SceneError(
                f"the image {pair.name!r} is {pair.guide.shape[-2]} x {pair.guide.shape[-1]} pixels, and the metrics "
                f"leave {pairs.cut} out at each border; expected at least {metrics.SSIM_WINDOW} x "
                f"{metrics.SSIM_WINDOW} between them: make pairs of a larger scene or with a larger test=, or take "
                f"dataclasses.replace(pairs, cut=0)"
            )
    images = [*pairs.test, *pairs.full]
    check_pairs(network, pairs, pixels_of([x.ms for x in images]), pixels_of([x.guide for x in images]))
    name = network.architecture or type(model).__name__
    methods: dict[str, Callable[[FusionPair], Tensor]] = {}
    if baselines:
        methods = _baselines(pairs, consistent=is_consistent(network, consistent))
    options: dict[str, Any] = {"gains": gains, "consistent": consistent, "tile": tile, "overlap": overlap}
    methods[name] = lambda pair: predict(network, pair, device, **options)
    return _report(name, pairs, methods)


def predict(
    model: nn.Module,
    pair: FusionPair,
    device: torch.device | str | None = None,
    *,
    whole: bool = False,
    gains: Gains = "match",
    consistent: bool | None = None,
    tile: int | None = None,
    overlap: int | None = None,
) -> Tensor:
    """Fuse one pair as `hsmamba.fuse` does, (C, H, W) on the CPU, clipped to [0, 1].

    Args:
        model: A fusion network; its mode and device are left as they were.
        pair: The images.
        device: Where to compute; default where the model is.
        whole: Give a global network the whole image instead of overlapping windows.
        gains: As for `hsmamba.fuse`.
        consistent: As for `hsmamba.fuse`.
        tile: As for `hsmamba.fuse`.
        overlap: As for `hsmamba.fuse`.

    Raises:
        SceneError: The model takes other bands, guides or ratios.
        TypeError: The model is no fusion network.
    """
    network = as_fusion_network(model)
    if network.any_sizes:
        rows = len(pair.guide[0]), len(pair.ms[0])
        network = network.resized(len(pair.ms), len(pair.guide), rows[0] // rows[1])
    check_pair(network, pair)
    check_gains(gains)
    ms, guide, ms_up = (Image(tensor.permute(1, 2, 0).numpy()) for tensor in (pair.ms, pair.guide, pair.ms_up))
    images = Images(ms, guide, ms_up, network.scale, fill=False)
    if gains == "match":
        images = with_gains(network, images)
    side = max(images.coarse_size) if whole and network.margin is None else tile
    network = made_consistent(network, images, consistent, Running(side, overlap, device=device))
    factor = torch.as_tensor(images.ms.factor if images.ms is not None else 1.0).float().reshape(-1, 1, 1)
    fused = torch.empty(pair.ms.shape[0], *pair.guide.shape[1:])

    def keep(top: int, rows: Tensor) -> None:
        fused[:, top : top + rows.shape[1]] = (rows / factor).clamp(0, 1)

    with evaluating(network, device) as where:
        dtype = next(network.parameters()).dtype
        placed = replace(images, dtype=dtype, device=where)
        fuse_images(network, placed, keep, lambda _: None, tile=side, overlap=overlap)
    return fused


def check_pair(model: FusionNetwork, pair: FusionPair) -> None:
    """Raise SceneError unless the images of a pair are what the network takes."""
    # By the class, because a module of one's own has the sizes but not the check.
    FusionNetwork.check_inputs(model, pair.ms[None], pair.guide[None], pair.ms_up[None])


def classical_figures(pairs: FusionPairs, *, consistent: bool = False) -> FusionReport:
    """Compute the tables of `evaluate_fusion` of the classical methods alone."""
    return _report("", pairs, _baselines(pairs, consistent=consistent))


def _report(name: str, pairs: FusionPairs, methods: dict[str, Callable[[FusionPair], Tensor]]) -> FusionReport:
    reduced = {pair.name: {key: reduced_figures(method(pair), pair, pairs) for key, method in methods.items()}
               for pair in pairs.test}  # fmt: skip
    full = {pair.name: {key: _full(method(pair), pair, pairs) for key, method in methods.items()}
            for pair in pairs.full}  # fmt: skip
    return FusionReport(name, reduced, full)


def _made_consistent(
    methods: dict[str, Callable[[FusionPair], Tensor]], pairs: FusionPairs
) -> dict[str, Callable[[FusionPair], Tensor]]:
    """Return the same methods by name, their results made consistent with MS and guide."""

    def made(method: Callable[[FusionPair], Tensor], pair: FusionPair) -> Tensor:
        ms, guide = (Image(tensor.permute(1, 2, 0).numpy()) for tensor in (pair.ms, pair.guide))
        images = Images(ms, guide, None, pairs.ratio, fill=False)
        agreement = agreement_of(images, pairs.sensor)
        return agreement.of_whole(method(pair)[None], pair.ms[None], pair.guide[None])[0].clamp(0, 1)

    return {f"consistent {name}": partial(made, method) for name, method in methods.items()}


def _baselines(pairs: FusionPairs, *, consistent: bool) -> dict[str, Callable[[FusionPair], Tensor]]:
    """Classical methods for these pairs by name."""
    chosen: dict[str, Callable[[FusionPair], Tensor]] = {
        "bicubic": lambda pair: bicubic(pair.ms[None], pairs.ratio)[0].clamp(0, 1)
    }
    left_out = set() if pairs.guide_chans == 1 else set(OF_PAN_ALONE)
    if pairs.ratio & (pairs.ratio - 1):  # interp23 takes powers of two; for others EXP is the bicubic above
        left_out.add("EXP")
    for name, method in BASELINES.items():
        if name not in left_out:
            chosen[name] = lambda pair, method=method: _classical(method, pair, pairs)  # type: ignore[misc]
    return chosen | _made_consistent(chosen, pairs) if consistent else chosen


def _classical(method: Callable[..., Tensor], pair: FusionPair, pairs: FusionPairs) -> Tensor:
    fused: Tensor = method(pair.ms[None], pair.guide[None], ratio=pairs.ratio, sensor=pairs.sensor)
    return fused[0].clamp(0, 1)


def reduced_figures(fused: Tensor, pair: FusionPair, pairs: FusionPairs) -> Figures:
    """Compare a result (C, H, W) with the truth of its pair; both are 1 where the scene is at its maximum."""
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
    # The guide as well in the numbers of the coarse image, since these figures compare the two.
    images = (fused, pair.ms, pair.guide.mean(0, keepdim=True))
    scaled = [image[None] * pairs.maximum for image in images]
    table = metrics.full_resolution(*scaled, sensor=pairs.sensor, ratio=pairs.ratio)
    return {key: float(table[key]) for key in FULL}
