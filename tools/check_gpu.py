"""Hold every network and scan against the CPU on the CUDA device at hand, and time them there.

Run from the repository's root: python tools/check_gpu.py [--rounds N] [--only scan|weights]. Prints two tables:

- the scan on the sizes of `hsmamba bench scan`: worst difference from plain torch operations in float64, outputs and
  gradients, as a share of the largest value; milliseconds forward and forward + backward, and the same of the plain
  torch scan; peak memory beside the inputs as a share of theirs;
- every weight of the package: worst difference between CPU and GPU, and what a second of the GPU computes.

Exit code 0: all agree. 1: one does not. 2: there is no CUDA device.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable

import torch
from torch import Tensor

import hsmamba
from hsmamba.bench.scan import WORKLOADS, make_inputs
from hsmamba.models import Classifier, FusionNetwork, Network
from hsmamba.ops import available_backends, selective_scan

SCAN, NETWORK = 2e-5, 1e-3  # what may differ, of the largest value; networks multiply in TF32 where torch is told to
PEERS = ("triton", "mamba_ssm", "torch")
PATCHES, SIDE = 1024, 256  # of a classifier; of the guide of a fusion network


def main() -> int:
    """Run the checks."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5, help="runs of each, of which the median counts")
    parser.add_argument("--only", choices=("scan", "weights"))
    args = parser.parse_args()
    if not torch.cuda.is_available():
        print("there is no CUDA device that torch sees")
        return 2
    print(f"{torch.cuda.get_device_name()}, torch {torch.__version__}, CUDA {torch.version.cuda}")
    for name, status in available_backends().items():
        print(f"  {name}: {status}")
    good = True
    if args.only != "weights":
        good &= check_scans(args.rounds)
    if args.only != "scan":
        good &= check_weights(args.rounds)
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


def check_scans(rounds: int) -> bool:
    """Print the table of scans."""
    print(f"\n{'':4} {'backend':10} {'worst':>9} {'forward ms':>11} {'f+b ms':>9} {'memory':>7}")
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
            with torch.no_grad():
                once = milliseconds(lambda b=backend, x=inputs: scan(b, x), rounds)
            both = milliseconds(lambda b=backend, x=inputs, d=dy: results(b, x, d), rounds)
            print(f"{workload:4} {backend:10} {worst:9.1e} {once:11.3f} {both:9.3f} {extra:7.2f}")
        del truth
    return good


def scan(backend: str, inputs: list[Tensor]) -> Tensor:
    """Scan with softplus, as the networks do."""
    u, delta, A, B, C, D, delta_bias = inputs
    y = selective_scan(u, delta, A, B, C, D, None, delta_bias, True, backend=backend)
    return y if isinstance(y, Tensor) else y[0]


def results(backend: str, inputs: list[Tensor], dy: Tensor) -> list[Tensor]:
    """Output and gradients."""
    y = scan(backend, inputs)
    return [y.detach(), *torch.autograd.grad(y, inputs, dy)]


def check_weights(rounds: int) -> bool:
    """Print the table of weights."""
    print(f"\n{'weight':30} {'worst':>9} {'ms':>9}  what a second computes")
    good = True
    for name in hsmamba.list_pretrained():
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


if __name__ == "__main__":
    raise SystemExit(main())
