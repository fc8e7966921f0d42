"""Run jobs of whichever hsmamba is found first, one at a time: `against.py` starts this file for two checkouts.

It needs no more of them than `create_model`, `list_pretrained`, `classify`, `fuse` and `Scene`, so that older ones can
run it. Orders are lines of JSON on standard input, answers lines on standard output.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack
from inspect import signature
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from timm.optim import create_optimizer_v2

from hsmamba.data import Scene
from hsmamba.engine import classify, fuse, training
from hsmamba.zoo.factory import create_model, list_pretrained

_WIDTH = 96  # pixels of a scene to classify
_CROPS = 2  # of a step of training, as `finetune` takes them
_STEPS = 3  # of a run, one after the other as there
_held = ExitStack()  # of what lasts as long as the process


def create(name: str) -> Any:
    """Create a weight, or an architecture at its default sizes, from a seed; without what stands before it."""
    torch.manual_seed(0)
    model: Any = create_model(name, pretrained=name in list_pretrained())
    model.transform = model.record = None
    return model.eval()


def images(model: Any, size: int) -> list[np.ndarray[Any, Any]]:
    """Draw what a network takes: a scene of `size` rows, or a guide of about that side and its coarse image."""
    rng = np.random.default_rng(0)
    if hasattr(model, "patch_size"):
        chans = (model.in_chans, *([model.aux_chans] if model.aux_chans else []))
        return [rng.standard_normal((size, _WIDTH, n), np.float32) for n in chans]
    side = -(-size // model.scale)
    ms = rng.random((side, side, model.in_chans), np.float32)
    return [ms, rng.random((side * model.scale, side * model.scale, model.guide_chans), np.float32)]


def scene(model: Any, size: int, **more: Any) -> tuple[Callable[[], Any], int]:
    """Make the run of a whole scene, with further arguments of `classify` or `fuse`; its pixels."""
    first, *rest = images(model, size)
    if hasattr(model, "patch_size"):
        cube = Scene(first, aux=rest[0] if rest else None)
        return lambda: classify(model, cube, progress=False, **more)[0], first.shape[0] * first.shape[1]
    guide = rest[0]
    options: dict[str, Any] = {"maximum": 1, "progress": False, **more}
    if "consistent" in signature(fuse).parameters:  # no work of the network, and earlier versions have none
        options["consistent"] = False
    return lambda: fuse(model, first, guide, **options), guide.shape[0] * guide.shape[1]


def batch(model: Any, size: int, crops: int = 1) -> tuple[list[torch.Tensor], torch.Tensor]:
    """Draw `size` patches and their labels, or crops of about that side and what they should become."""
    rng = torch.Generator().manual_seed(0)
    if hasattr(model, "patch_size"):
        chans = (model.in_chans, *([model.aux_chans] if model.aux_chans else []))
        patches = [torch.randn(size, n, model.patch_size, model.patch_size, generator=rng) for n in chans]
        return patches, torch.randint(model.num_classes, (size,), generator=rng)
    ms, guide = (torch.from_numpy(image).permute(2, 0, 1)[None] for image in images(model, size))
    ms, guide = (torch.cat([image.roll(i, -1) for i in range(crops)]) for image in (ms, guide))
    up = F.interpolate(ms, scale_factor=model.scale, mode="bicubic")
    return [ms, guide, up], up


def forward(model: Any, size: int) -> tuple[Callable[[], Any], int]:
    """Make one call of a network; its patches, or the pixels of its guide."""
    inputs, target = batch(model.eval(), size)

    def run() -> Any:
        with torch.no_grad():
            return model(*inputs).numpy()

    return run, size if hasattr(model, "patch_size") else target[0, 0].numel()


def _optimizer(model: Any) -> torch.optim.Optimizer:
    """Make AdamW as the training of this checkout does, of a rate that changes no weight."""
    if make := getattr(training.Run, "make_optimizer", None):
        settings = SimpleNamespace(optimizer="adamw", lr=0.0, weight_decay=0.0)
        run: Any = SimpleNamespace(model=model, settings=settings, device=torch.device("cpu"))
        optimizer: torch.optim.Optimizer = make(run)
        return optimizer
    return create_optimizer_v2(model, opt="adamw", lr=0.0, weight_decay=0.0)


def _keep_memory() -> None:
    """Keep memory from step to step as a run of training in this checkout does, if it does."""
    names = "keeping_memory", "keeping_steps"  # the first is today's
    if keeping := next((getattr(training, name) for name in names if hasattr(training, name)), None):
        _held.enter_context(keeping())
    else:
        getattr(training, "keep_memory", lambda: None)()


def step(model: Any, size: int) -> tuple[Callable[[], Any], int]:
    """Make some steps of training: forward, loss, backward and AdamW; the result are the gradients' lengths."""
    _keep_memory()
    inputs, target = batch(model.train(), size, _CROPS)
    optimizer = _optimizer(model)
    patches = hasattr(model, "patch_size")
    loss: Callable[..., torch.Tensor] = F.cross_entropy if patches else F.l1_loss
    threads = torch.get_num_threads()
    if count := getattr(training, "step_threads", None):  # as a run does, since there is that
        threads = count(model, lambda: model(*inputs))

    def run() -> Any:
        own = torch.get_num_threads()
        torch.set_num_threads(threads)
        torch.manual_seed(0)  # of dropout
        for _ in range(_STEPS):
            optimizer.zero_grad()
            output = model(*inputs)
            if isinstance(output, torch.Tensor):
                error = loss(output, target)
            else:  # of a network that brings its own loss
                error = output.loss(target) if patches else output.loss(target, inputs[2])
            torch.autograd.backward(error)
            optimizer.step()
        torch.set_num_threads(own)
        return lengths

    def lengths() -> Any:
        return np.array([float(p.grad.norm()) for p in model.parameters() if p.grad is not None], np.float32)

    return run, _STEPS * (size if patches else _CROPS * target[0, 0].numel())


WORKS: dict[str, Callable[[Any, int], tuple[Callable[[], Any], int]]] = {
    "scene": scene,
    "forward": forward,
    "step": step,
}


def serve() -> None:
    """Follow orders until there are none."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what anything prints is no answer
    run: Callable[[], Any] = lambda: None  # noqa: E731
    model: Any = None
    # On one thread the time of the processor tells the same, and other processes have no part in it.
    clock = time.process_time if torch.get_num_threads() == 1 else time.perf_counter
    for line in sys.stdin:
        order = json.loads(line)
        answer: dict[str, Any] = {}
        if order["do"] == "create":
            model = create(order["model"])
            answer = {
                "patch": getattr(model, "patch_size", 0),
                "from": str(Path(str(sys.modules["hsmamba"].__file__)).resolve().parents[1]),
            }
        elif order["do"] == "state":
            model.load_state_dict({name: torch.from_numpy(x) for name, x in np.load(order["path"]).items()})
        elif order["do"] == "keep":
            np.savez(order["path"], **{name: x.numpy() for name, x in model.state_dict().items()})
        elif order["do"] == "make":
            run, answer["pixels"] = WORKS[order["work"]](model, order["size"])
        else:
            start = clock()
            result = run()
            answer = {"seconds": clock() - start}
            if order.get("path"):
                np.save(order["path"], np.asarray(result() if callable(result) else result))
        answers.write(json.dumps(answer) + "\n")
        answers.flush()


if __name__ == "__main__":
    serve()
