"""Hold every network and scan against the CPU on the CUDA device at hand, and time them there.

Run from the repository's root: python tools/check_gpu.py [--rounds N] [--only NAME ...] [--model NAME ...]. Prints four
tables, scan, weights, images and steps:

- the scan on the sizes of `hsmamba bench scan`, by every backend: worst difference from plain torch operations in
  float64, outputs and gradients, as a share of the largest value; milliseconds forward and forward + backward, of a
  caller and of the device alone (a CUDA graph); peak memory beside the inputs as a share of theirs;
- every weight of the package: worst difference between CPU and GPU, and what a second of the GPU computes;
- `classify` and `fuse` with every weight: labels that differ from the CPU's, or worst difference of numbers, and pixels
  a second from array to array; of `half=` too, with the labels that it changes;
- a step of training, forward, backward and AdamW, of every weight: worst difference of the gradients from the CPU's,
  and of a step that is launched as a whole from one kernel by kernel; milliseconds of both.

Exit code 0: all agree. 1: one does not. 2: there is no CUDA device.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from timm.layers import DropPath
from torch import Tensor, nn

import hsmamba
from hsmamba.bench import worker
from hsmamba.bench.scan import WORKLOADS, make_inputs
from hsmamba.engine.captured import Captured
from hsmamba.models import Classifier, FusionNetwork, Network
from hsmamba.ops import available_backends, selective_scan

SCAN, NETWORK = 2e-5, 1e-3  # what may differ, of the largest value; networks multiply in TF32 where torch is told to
PEERS = ("cuda", "triton", "mamba_ssm", "torch")
PATCHES, SIDE = 1024, 256  # of a classifier; of the guide of a fusion network
ROWS, LARGE = (24, 512), (128, 1024)  # of a scene to compare and to time; sides of guides
BATCH, CROPS, CROP = 64, 8, 64  # patches; crops, and their side
GRADIENTS = 2e-3  # what may differ of the largest: sums of many in another order
RUNS = 5  # of a scan in a graph
STEPS = 5  # the first three are launched kernel by kernel


def main() -> int:
    """Run the checks."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5, help="runs of each, of which the median counts")
    parser.add_argument("--only", choices=tuple(CHECKS), nargs="+", default=tuple(CHECKS))
    parser.add_argument("--model", nargs="+", default=hsmamba.list_pretrained(), help="these weights alone")
    args = parser.parse_args()
    if not torch.cuda.is_available():
        print("there is no CUDA device that torch sees")
        return 2
    print(f"{torch.cuda.get_device_name()}, torch {torch.__version__}, CUDA {torch.version.cuda}")
    for name, status in available_backends().items():
        print(f"  {name}: {status}")
    good = all([CHECKS[name](args.rounds, args.model) for name in args.only])
    print("all agree" if good else "SOME DO NOT AGREE")
    return 0 if good else 1


def milliseconds(run: Callable[[], object], rounds: int) -> float:
    """Median time on the device, after one run that compiles."""
    run()
    times = []
    for _ in range(rounds):
        torch.cuda.synchronize()
        start = time.perf_counter()
        run()
        torch.cuda.synchronize()
        times.append(1e3 * (time.perf_counter() - start))
    return statistics.median(times)


def on_device(run: Callable[[], object], rounds: int) -> float:
    """Median time of the device alone: of several runs that are launched as one CUDA graph."""
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        run()
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        for _ in range(RUNS):
            run()
    return milliseconds(graph.replay, rounds) / RUNS


def check_scans(rounds: int, names: list[str]) -> bool:
    """Print the table of scans."""
    print(f"\n{'':26}{'of a caller':>21}{'of the device':>22}")
    titles = f"{'forward ms':>11} {'f+b ms':>9}"
    print(f"{'':4} {'backend':10} {'worst':>9} {titles} {titles} {'memory':>7}")
    good = True
    backends = [name for name in PEERS if available_backends()[name].available]
    for workload, sizes in WORKLOADS.items():
        inputs = [x.detach().cuda().requires_grad_() for x in make_inputs(*sizes)]
        dy = torch.randn(inputs[0].shape, generator=torch.Generator().manual_seed(1)).cuda()
        truth = results("torch", [x.detach().double().requires_grad_() for x in inputs], dy.double())
        for backend in backends:
            found = results(backend, inputs, dy)
            worst = max(float((a - b).abs().max() / b.abs().max()) for a, b in zip(found, truth, strict=True))
            good &= worst <= SCAN
            del found
            torch.cuda.reset_peak_memory_stats()
            before = torch.cuda.memory_allocated()
            results(backend, inputs, dy)
            extra = (torch.cuda.max_memory_allocated() - before) / sum(x.nbytes for x in (*inputs, *inputs, dy, dy))
            forward, both = partial(forward_alone, backend, inputs), partial(results, backend, inputs, dy)
            times = [way(run, rounds) for way in (milliseconds, on_device) for run in (forward, both)]
            told = " ".join(f"{ms:{width}.3f}" for ms, width in zip(times, (11, 9, 11, 9), strict=True))
            print(f"{workload:4} {backend:10} {worst:9.1e} {told} {extra:7.2f}", flush=True)
        del truth
    return good


def scan(backend: str, inputs: list[Tensor]) -> Tensor:
    """Scan with softplus, as the networks do."""
    u, delta, A, B, C, D, delta_bias = inputs
    y = selective_scan(u, delta, A, B, C, D, None, delta_bias, True, backend=backend)
    return y if isinstance(y, Tensor) else y[0]


@torch.no_grad()
def forward_alone(backend: str, inputs: list[Tensor]) -> Tensor:
    """Scan without what the gradients need."""
    return scan(backend, inputs)


def results(backend: str, inputs: list[Tensor], dy: Tensor) -> list[Tensor]:
    """Output and gradients."""
    y = scan(backend, inputs)
    return [y.detach(), *torch.autograd.grad(y, inputs, dy)]


def check_weights(rounds: int, names: list[str]) -> bool:
    """Print the table of weights."""
    print(f"\n{'weight':30} {'worst':>9} {'ms':>9}  what a second computes")
    good = True
    for name in names:
        model: Network = hsmamba.create_model(name, pretrained=True).eval()
        inputs = inputs_of(model)
        with torch.inference_mode():
            few = [x[:8] for x in inputs]
            on_cpu = model(*few)
            model.cuda()
            on_gpu = model(*(x.cuda() for x in few)).cpu()
            worst = float((on_gpu - on_cpu).abs().max() / on_cpu.abs().max())
            near = [x.cuda() for x in inputs]
            ms = milliseconds(lambda m=model, x=near: m(*x), rounds)
        good &= worst <= NETWORK
        done = SIDE**2 if isinstance(model, FusionNetwork) else PATCHES
        print(f"{name:30} {worst:9.1e} {ms:9.2f}  {1e3 * done / ms:,.0f} pixels")
    return good


def inputs_of(model: Network) -> list[Tensor]:
    """Random patches, or a random pair of images."""
    rng = torch.Generator().manual_seed(0)
    if isinstance(model, FusionNetwork):
        coarse = SIDE // model.scale
        ms = torch.rand(1, model.in_chans, coarse, coarse, generator=rng)
        up = torch.nn.functional.interpolate(ms, scale_factor=model.scale, mode="bilinear")
        return [ms, torch.rand(1, model.guide_chans, SIDE, SIDE, generator=rng), up]
    assert isinstance(model, Classifier)
    chans = (model.in_chans, model.aux_chans) if model.aux_chans else (model.in_chans,)
    return [torch.randn(PATCHES, c, model.patch_size, model.patch_size, generator=rng) for c in chans]


def check_images(rounds: int, names: list[str]) -> bool:
    """Print the table of `classify` and `fuse`."""
    print(f"\n{'weight':30} {'unlike':>9} {'pixels/s':>12} {'half unlike':>12} {'half pixels/s':>14}")
    good = True
    for name in names:
        model = worker.create(name)
        classifies = isinstance(model, Classifier)
        sizes = ROWS if classifies else LARGE
        on_cpu = worker.scene(model, sizes[0])[0]()
        on_gpu, many = (worker.scene(model, size, device="cuda")[0] for size in sizes)
        on_gpu = on_gpu()
        unlike = float((on_cpu != on_gpu).mean() if classifies else abs(on_gpu - on_cpu).max() / abs(on_cpu).max())
        good &= unlike <= NETWORK
        whole = many()
        rate = whole.shape[0] * whole.shape[1] / milliseconds(many, rounds) * 1e3
        told = ""
        if classifies:
            halved = worker.scene(model, sizes[1], device="cuda", half=0.99)[0]
            changed = float((halved() != whole).mean())
            told = f" {changed:12.1e} {whole.size / milliseconds(halved, rounds) * 1e3:14,.0f}"
        print(f"{name:30} {unlike:9.1e} {rate:12,.0f}{told}", flush=True)
    return good


def check_steps(rounds: int, names: list[str]) -> bool:
    """Print the table of training steps."""
    print(f"\n{'weight':30} {'worst':>9} {'captured':>9} {'kernels ms':>11} {'whole ms':>9}  a second of training")
    good, exact = True, torch.backends.cudnn.allow_tf32
    for name in names:
        model = worker.create(name)
        if callable(getattr(model, "fit", None)) or getattr(model, "any_sizes", False):
            continue  # fitted in one step, or trained on what is measured of images
        size, crops = (BATCH, 1) if isinstance(model, Classifier) else (CROP, CROPS)
        work = Step(model, size, crops)
        torch.backends.cudnn.allow_tf32 = False
        on_cpu = work.gradients()
        near = Step(model.cuda(), size, crops)
        worst = _worst(near.gradients(), on_cpu)
        torch.backends.cudnn.allow_tf32 = exact
        eager = near.gradients()
        captured = Captured(near.gradients, torch.device("cuda"))
        for _ in range(STEPS):
            whole = captured()
        alike = _worst(whole, eager)
        good &= worst <= GRADIENTS and alike <= GRADIENTS
        slow, fast = (milliseconds(partial(near.step, run), rounds) for run in (near.gradients, captured))
        print(
            f"{name:30} {worst:9.1e} {alike:9.1e} {slow:11.2f} {fast:9.2f}  {1e3 * near.samples / fast:,.0f}",
            flush=True,
        )
    return good


class Step:
    """A step of training a network where it is, without dropout, at a rate that changes no weight."""

    def __init__(self, model: Network, size: int, crops: int) -> None:
        device = next(model.parameters()).device
        inputs, target = worker.batch(model.train(), size, crops)
        for module in model.modules():
            if isinstance(module, (nn.Dropout, DropPath)):
                module.eval()
        self.model, self.inputs, self.target = model, [x.to(device) for x in inputs], target.to(device)
        self.optimizer = torch.optim.AdamW(model.parameters(), lr=0.0, weight_decay=0.0, fused=True)
        self.samples = size if isinstance(model, Classifier) else crops * size**2

    def gradients(self) -> list[Tensor]:
        """Compute the gradients of all parameters that have one."""
        output: Any = self.model(*self.inputs)
        error = F.cross_entropy if isinstance(self.model, Classifier) else F.l1_loss
        if isinstance(output, Tensor):
            loss = error(output, self.target)
        else:
            loss = output.loss(self.target, *([] if isinstance(self.model, Classifier) else self.inputs[2:]))
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        return [x.grad for x in self.model.parameters() if x.grad is not None]

    def step(self, gradients: Callable[[], list[Tensor]]) -> None:
        """Do a step with gradients by another way."""
        with_one = [x for x in self.model.parameters() if x.grad is not None]
        for parameter, gradient in zip(with_one, gradients(), strict=True):
            parameter.grad = gradient
        self.optimizer.step()


def _worst(found: list[Tensor], truth: list[Tensor]) -> float:
    """Largest difference of gradients as a share of the largest of each."""
    pairs = [(a.cpu().double(), b.cpu().double()) for a, b in zip(found, truth, strict=True)]
    top = max(float(b.abs().max()) for _, b in pairs)
    return max(float((a - b).abs().max()) for a, b in pairs) / top


CHECKS = {"scan": check_scans, "weights": check_weights, "images": check_images, "steps": check_steps}

if __name__ == "__main__":
    raise SystemExit(main())
