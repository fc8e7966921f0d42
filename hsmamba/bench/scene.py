"""`hsmamba bench scene`: how fast each weight goes over a scene, and what share of the machine that is.

The share is of the rate at which this machine multiplies float32 matrices on all of torch's threads, by torch's product
or by oneDNN, whichever is faster (the library behind the first may take narrow vectors), or a GPU does, measured in
turn with the networks. What a network computes is counted on its plain form, by torch's counter and the formulas here:
operations that a way saves (what overlapping patches share, computed once) show as a larger share, not as less work.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from hsmamba.bench.measure import known, measure, seconds
from hsmamba.bench.models import scanning_with
from hsmamba.bench.peers import PEERS
from hsmamba.data import Patches, Scene
from hsmamba.engine import classify, fuse
from hsmamba.models import Classifier, FusionNetwork, example_inputs
from hsmamba.ops import inference
from hsmamba.ops.resampling import upsample
from hsmamba.zoo.factory import create_model, list_pretrained

OURS = "hsmamba"
SCENE_PIXELS = 1_000_000
MATRIX, _MATRIX_OF_A_GPU = 1024, 8192  # rows and columns of the matrices whose product tells the machine's rate
_FUSED_SIDE = 256  # pixels of the guide
_PATCHES = 256  # at a time, in the patch loop
_WIDTH = 96  # pixels of a scene to classify


def _scan_flops(u: Any, delta: Any, A: Any, *_: Any, **__: Any) -> int:
    """Count a step of one state: dt A, its exponential, h times that, plus B times what enters, plus C h: 6."""
    return 6 * int(np.prod(u)) * int(A[1])


def _attention_flops(q: Any, k: Any, v: Any, window: int, *_: Any, **__: Any) -> int:
    """Count a neighbour of one head at one pixel: 2 d for its logit, 2 d for its value, 3 for the softmax."""
    groups, d, height, width = q
    return int(groups * height * width * window**2 * (4 * d + 3))


def _adaptive_flops(padded: Any, taps: Any, weight: Any, *_: Any, **__: Any) -> int:
    """Count the products by the taps and the convolution of what they scale."""
    batch, _, height, width = taps
    return int(batch * height * width * np.prod(weight[1:]) * (1 + 2 * weight[0]))


def count_flops(model: torch.nn.Module, inputs: Sequence[Tensor]) -> int:
    """Count the additions, multiplications and exponentials of one call, those of our own operators included."""
    ops = torch.ops.hsmamba
    formulas = {
        ops.selective_scan: _scan_flops,
        ops.window_attention: _attention_flops,
        ops.adaptive_conv: _adaptive_flops,
    }
    with FlopCounterMode(display=False, custom_mapping=formulas) as counter, torch.no_grad(), inference.plain():
        model.eval()(*inputs)
    return int(counter.get_total_flops())


class Row(NamedTuple):
    """One way to compute one weight's map or image."""

    model: str
    candidate: str
    rate: float  # pixels a second; of the guide, in image fusion
    share: float  # of the machine's rate for float32 matrices
    scene_seconds: float  # for a scene of 1000 x 1000 pixels
    extra: int | None  # peak bytes above what the process held before
    times: float  # how often as fast ours is


def _patch_loop(
    model: Classifier, images: Sequence[NDArray[np.float32]], device: torch.device, peer: str | None = None
) -> Tensor:
    """Classify as the papers' code does: patches of all pixels, batch after batch, on torch's own threads.

    A network of whole images gets the image.
    """
    if model.patch_size is None:
        with torch.inference_mode(), scanning_with(PEERS[peer]) if peer else contextlib.nullcontext():
            inputs = (torch.from_numpy(image).to(device).permute(2, 0, 1)[None] for image in images)
            return torch.as_tensor(model.eval()(*inputs)).softmax(1)
    cubes = [Patches(image, model.patch_size) for image in images]
    height, width = cubes[0].shape
    found = []
    with torch.inference_mode(), scanning_with(PEERS[peer]) if peer else contextlib.nullcontext():
        for start in range(0, height * width, _PATCHES):
            pixels = np.arange(start, min(start + _PATCHES, height * width))
            logits = model.eval()(*(cube(pixels).to(device) for cube in cubes))
            found.append(torch.as_tensor(logits).softmax(1))
    return torch.cat(found)


def _one_call(
    model: FusionNetwork, images: Sequence[NDArray[np.float32]], device: torch.device, peer: str | None = None
) -> Tensor:
    """Sharpen the whole image in one call of the network."""
    ms, guide = (torch.from_numpy(image).to(device).permute(2, 0, 1)[None] for image in images)
    with torch.inference_mode(), scanning_with(PEERS[peer]) if peer else contextlib.nullcontext():
        return torch.as_tensor(model.eval()(ms, guide, upsample(ms, model.scale)))


PLAIN = "plain"
BESIDE: dict[str, str | None] = {PLAIN: None, **{name: name for name in PEERS}}


def _classifying(
    model: Classifier, rows: int, device: torch.device
) -> tuple[dict[str, Callable[[], object]], int, float]:
    rng = np.random.default_rng(0)
    sizes = (model.in_chans, model.aux_chans) if model.aux_chans else (model.in_chans,)
    images = [rng.standard_normal((rows, _WIDTH, chans), np.float32) for chans in sizes]
    scene = Scene(images[0], aux=images[1] if model.aux_chans else None)
    runs: dict[str, Callable[[], object]] = {OURS: partial(classify, model, scene, device=device, progress=False)}
    runs |= {name: partial(_patch_loop, model, images, device, peer) for name, peer in BESIDE.items()}
    return runs, rows * _WIDTH, count_flops(model, example_inputs(model, 2)) / 2


def _sharpening(
    model: FusionNetwork, side: int, device: torch.device
) -> tuple[dict[str, Callable[[], object]], int, float]:
    rng, side = np.random.default_rng(0), -(-side // model.scale) * model.scale
    ms = rng.random((side // model.scale, side // model.scale, model.in_chans), np.float32)
    images = ms, rng.random((side, side, model.guide_chans), np.float32)
    inputs = [torch.from_numpy(image).to(device).permute(2, 0, 1)[None] for image in images]
    runs: dict[str, Callable[[], object]] = {
        OURS: partial(fuse, model, *images, maximum=1, device=device, progress=False)
    }
    runs |= {name: partial(_one_call, model, images, device, peer) for name, peer in BESIDE.items()}
    return runs, side**2, count_flops(model, inputs) / side**2


def matrix_rate(taken: float, side: int = MATRIX) -> float:
    """Turn the seconds of the products of matrices of a side into operations a second."""
    return 2 * side**3 * _PRODUCTS / taken


_PRODUCTS = 16


def products(device: torch.device) -> dict[str, Callable[[Tensor], None]]:
    """Ways to multiply a matrix by itself, or by itself transposed, often enough to be timed."""

    def repeated(way: Callable[[Tensor, Tensor], Tensor]) -> Callable[[Tensor], None]:
        def run(a: Tensor) -> None:
            for _ in range(_PRODUCTS):
                way(a, a)

        return run

    ways = {"matrix": repeated(torch.mm)}
    if device.type == "cpu" and torch.backends.mkldnn.enabled and torch._C._has_mkldnn:
        ways["matrix, oneDNN"] = repeated(
            lambda a, b: torch.ops.mkldnn._linear_pointwise(a, b, None, "none", [], "")  # a times b transposed
        )
    return ways


def _subject(
    model: Any, size: int | None, aim: float, device: torch.device
) -> tuple[dict[str, Callable[[], object]], int, float]:
    """Make the runs of a model, on so many rows (or so large a side) that ours takes about `aim` seconds."""
    if isinstance(model, FusionNetwork):
        return _sharpening(model, size or _FUSED_SIDE, device)
    if size is None:
        few = max(16, model.patch_size or 0)
        run = _classifying(model, few, device)[0][OURS]
        run()
        size = int(np.clip(few * aim / seconds(run), few, 512))
    return _classifying(model, size, device)


def bench_scene(
    models: Iterable[str] = (),
    beside: Iterable[str] = (),
    rounds: int = 5,
    size: int | None = None,
    aim: float = 1.0,
    device: torch.device | str = "cpu",
    say: Callable[[str], None] = print,
) -> list[Row]:
    """Measure weights over a scene, and print a table as it grows.

    Args:
        models: Names of weights, or of architectures (at their default sizes, untrained); default every weight.
        beside: Other ways that take turns with ours, keys of `BESIDE`: "plain" is batches of 256 patches on torch's own
            threads, or one call of a fusion network; the others are that on a fall-back of the scan.
        rounds: Turns after the first one; figures are medians.
        size: Rows of a scene to classify, or side of the guide in pixels; default what takes about `aim` seconds, 256.
        aim: Seconds of one run of a classifier.
        device: Where to compute; the memory is that of the device.
        say: Takes the lines.

    Raises:
        ValueError: An unknown way.
        UnknownModelError: An unknown model.
    """
    names, beside = list(models) or list_pretrained(), known("scene", beside, BESIDE)
    device = torch.device(device)
    side = MATRIX if device.type == "cpu" else _MATRIX_OF_A_GPU
    matrix = torch.rand(side, side, device=device)
    multiply = {name: partial(way, matrix) for name, way in products(device).items()}
    rates = {name: matrix_rate(x.ms / 1e3, side) for name, x in measure(multiply, rounds, device=device).items()}
    say(f"{_named(device)}; share: of the rate of products of float32 matrices of {side} x {side}, in turn, here "
        + ", ".join(f"{rate / 1e9:.0f} GFLOP/s ({name})" for name, rate in rates.items()))  # fmt: skip
    say(HEADER)
    rows: list[Row] = []
    for name in names:
        model: Any = create_model(name, pretrained=name in list_pretrained()).to(device)
        model.transform = model.record = None  # the networks alone, on images of their own channels
        runs, pixels, flops = _subject(model, size, aim, device)
        chosen = {key: runs[key] for key in (OURS, *beside)}
        measured = measure({**multiply, **chosen}, rounds, device=device)
        machine = max(matrix_rate(measured[name].ms / 1e3, side) for name in multiply)
        for key in chosen:
            rate = pixels / measured[key].ms * 1e3
            times = measured[key].ms / measured[OURS].ms
            rows.append(Row(name, key, rate, rate * flops / machine, SCENE_PIXELS / rate, measured[key].extra, times))
            say(format_row(rows[-1]))
    return rows


def _named(device: torch.device) -> str:
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"{torch.get_num_threads()} threads, {torch.backends.cpu.get_cpu_capability()}"


HEADER = f"{'model':30} {'way':18} {'pixels/s':>9} {'share':>7} {'1000 x 1000':>12} {'extra MB':>9} {'x ours':>7}"


def format_row(row: Row) -> str:
    """One line of the table."""
    extra = "-" if row.extra is None else f"{row.extra / 1e6:.0f}"
    return (
        f"{row.model:30} {row.candidate:18} {row.rate:9.0f} {row.share:7.1%} {row.scene_seconds:10.0f} s {extra:>9} "
        f"{row.times:7.2f}"
    )
