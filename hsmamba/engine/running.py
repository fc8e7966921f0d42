"""Where and in which mode a network runs, on which threads, and the bar that shows how far it is."""

from __future__ import annotations

import ctypes
import functools
import sys
import threading
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from functools import partial
from typing import Any, NoReturn, TypeAlias, TypeVar
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from tqdm.auto import tqdm

from hsmamba.layers.fusion import Place
from hsmamba.models import FusionNetwork, example_inputs, numbers_of
from hsmamba.ops import inference

T = TypeVar("T")
R = TypeVar("R")
Submit: TypeAlias = "Callable[..., Callable[[], Any]]"


@dataclass
class _Use:
    """How a model was before it was used, and how many threads use it now."""

    home: torch.device
    training: list[nn.Module]
    users: int = 0
    turn: threading.Lock = field(default_factory=threading.Lock)


_uses: WeakKeyDictionary[nn.Module, _Use] = WeakKeyDictionary()
_guard = threading.Lock()  # of the modes, devices and counts of all models, and of malloc's parameters


@contextmanager
def evaluating(model: nn.Module, device: torch.device | str | None) -> Iterator[torch.device]:
    """Put a model in evaluation mode on a device, without gradients, and back to what it was.

    Threads may share a model: the first one changes its mode, the last one changes it back.

    Args:
        model: The network.
        device: Where to compute, the same for all threads; None where the model is.

    Yields:
        The device.
    """
    model = _shared(model)
    with _guard:
        home = numbers_of(model).device
        where = home if device is None else torch.device(device)
        use = _uses.setdefault(model, _Use(home, [module for module in model.modules() if module.training]))
        use.users += 1
    try:
        with _guard:
            model.to(where).eval()
        keep_memory()
        with torch.inference_mode(), inference.holding():
            yield where
    finally:
        with _guard:
            use.users -= 1
            if not use.users:
                del _uses[model]
                model.to(use.home)
                for module in use.training:
                    module.training = True


def _shared(model: nn.Module) -> nn.Module:
    """The network whose mode, device and turn calls share: itself, or what is within one that was made for a call."""
    shared: nn.Module = getattr(model, "shared", model)
    return shared


@functools.cache
def keep_memory() -> None:
    """Let glibc keep some hundred MB that are free for what a network, or a step of its training, makes next.

    By default it gives the end of its memory back to the system after every few tensors, and gets it again page by
    page, which takes a tenth of the time of networks of many small steps.
    """
    _tell_malloc(_MMAP_THRESHOLD, 32 * 2**20)
    _tell_malloc(_TRIM_THRESHOLD, _KEPT_BYTES)


@contextmanager
def keeping_memory(*, large: bool = False) -> Iterator[None]:
    """Let glibc keep what is given back within the block: the next step of training, or tile, makes as much again.

    The system has it back at the end. Blocks within blocks, and in other threads, are one.

    Args:
        large: Keep pieces of more than 32 MB, too, which come from the system each time else, page by page, all zeros:
            a third of the time of large tiles. Pieces of many sizes do not fit into each other's places, so that
            twice as much may be needed at once.
    """
    keep_memory()
    try:
        with _trimming.at(_NEVER), _mmaps.at(0) if large else nullcontext():
            yield
    finally:
        if not _trimming.users and _free_bytes() > _KEPT_BYTES:
            getattr(_libc(), "malloc_trim", lambda _: 0)(_KEPT_BYTES)


@functools.cache
def _libc() -> ctypes.CDLL | None:
    return ctypes.CDLL(None) if sys.platform == "linux" else None


def _tell_malloc(parameter: int, size: int) -> None:
    getattr(_libc(), "mallopt", lambda *_: 0)(parameter, size)


class _MallocInfo(ctypes.Structure):
    """`struct mallinfo2` of malloc.h."""

    _fields_ = [("others", ctypes.c_size_t * 8), ("free", ctypes.c_size_t), ("at_the_top", ctypes.c_size_t)]


def _free_bytes() -> int:
    """Bytes that malloc holds and nobody uses; as many as can be where an older glibc does not say."""
    count = getattr(_libc(), "mallinfo2", None)
    if count is None:
        return sys.maxsize
    count.restype = _MallocInfo
    return int(count().free)


_NUMBERS_PER_OPERATION = 2**15  # with fewer, torch keeps an operation on numbers one by one on one thread itself
_TRIM_THRESHOLD, _MMAP_THRESHOLD, _MMAP_MAX = -1, -3, -4  # of malloc.h
_KEPT_BYTES, _NEVER = 256 * 2**20, -1


@dataclass
class _Parameter:
    """One of malloc, which is changed for a while."""

    number: int
    usual: int
    users: int = 0

    @contextmanager
    def at(self, value: int) -> Iterator[None]:
        """Set it within the block; the last of several sets it back."""
        with _guard:
            self.users += 1
            _tell_malloc(self.number, value)
        try:
            yield
        finally:
            with _guard:
                self.users -= 1
                if not self.users:
                    _tell_malloc(self.number, self.usual)


_trimming, _mmaps = _Parameter(_TRIM_THRESHOLD, _KEPT_BYTES), _Parameter(_MMAP_MAX, 2**16)


@contextmanager
def placed(model: FusionNetwork, place: Place | None, image: Any = None) -> Iterator[None]:
    """Tell a network that is `evaluating` where its tile lies, and of which image; threads that share it take turns.

    Args:
        model: The network.
        place: Of the tile; None where there is none to tell.
        image: What a network with `set_image` has measured of the whole image; None for others.
    """
    network: Any = model
    with _uses[_shared(model)].turn:
        model.set_place(place)
        if image is not None:
            network.set_image(image)
        try:
            yield
        finally:
            model.set_place(None)
            if image is not None:
                network.set_image(None)


@contextmanager
def on_threads(threads: int) -> Iterator[None]:
    """Let torch take so many threads within the block."""
    own = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        yield
    finally:
        torch.set_num_threads(own)


def step_threads(model: nn.Module, forward: Callable[[], object]) -> int:
    """Tell how many threads a step of training should take on a CPU: all of torch's, or one.

    Torch's threads meet at the end of each operation. Where those are small they wait for each other longer than they
    work, and for many milliseconds at each where other processes use the cores, too. The rule looks at shapes alone, so
    that a run that is resumed has the numbers of one that is not.

    Args:
        model: The network; its buffers and torch's random numbers are afterwards what they were.
        forward: Calls it, as the step does.

    Returns:
        1 where the operations read and write fewer than 2^15 numbers on average, else torch's threads.
    """
    own = torch.get_num_threads()
    if own == 1:
        return own
    kept = [(buffer, buffer.clone()) for buffer in model.buffers()]
    with torch.random.fork_rng([]), _Touched() as touched:
        forward()
    with torch.no_grad():
        for buffer, before in kept:
            buffer.copy_(before)
    return 1 if touched.numbers < _NUMBERS_PER_OPERATION * touched.operations else own


@contextmanager
def team(threads: int) -> Iterator[Submit]:
    """Make threads that work side by side, each with one of torch's threads, so that none waits for another.

    Within one operation torch's threads meet hundreds of times a batch, and a batch for all of them falls out of their
    caches. Autocast and inference mode, which belong to a thread, are those of the caller.

    Args:
        threads: How many. With one, a call runs where and when its result is asked for, on torch's own threads.

    Yields:
        `submit(work, *args)`, which gives a function that waits for the result.
    """
    if threads < 2:
        yield partial
        return
    inference, kind = torch.is_inference_mode_enabled(), "cpu"
    autocast = torch.is_autocast_enabled(kind), torch.get_autocast_dtype(kind)
    own = torch.get_num_threads()

    def run(work: Callable[..., T], *args: Any) -> T:
        with torch.inference_mode(inference), torch.autocast(kind, autocast[1], enabled=autocast[0]):
            return work(*args)

    pool = ThreadPoolExecutor(threads, "hsmamba", initializer=partial(torch.set_num_threads, 1))
    torch.set_num_threads(
        1
    )  # what the caller does meanwhile is little, and torch's idle threads spin on the team's cores
    try:
        yield lambda work, *args: pool.submit(run, work, *args).result
    finally:
        pool.shutdown(cancel_futures=True)
        torch.set_num_threads(own)  # the workers' number would be the one of threads to come


def in_turn(submit: Submit, work: Callable[[T], R], items: Iterable[T], most: int) -> Iterator[tuple[T, R]]:
    """Give items and what becomes of them in their order, while a team works on `most` that follow; 0 for one alone."""
    waiting: deque[tuple[T, Callable[[], R]]] = deque()
    for item in items:
        waiting.append((item, submit(work, item)))
        if len(waiting) > most:
            first, result = waiting.popleft()
            yield first, result()
    for first, result in waiting:
        yield first, result()


def ahead(items: Iterable[T]) -> Generator[T]:
    """Give the items of an iterable, while a thread makes the next one."""
    iterator, end = iter(items), object()
    with ThreadPoolExecutor(1, "hsmamba-ahead") as maker:
        coming = maker.submit(next, iterator, end)
        while (item := coming.result()) is not end:
            coming = maker.submit(next, iterator, end)
            yield item  # type: ignore[misc]


def progress_bar(pixels: int, verb: str, shown: bool) -> tqdm[NoReturn]:
    """Make the bar of a job that goes over so many pixels."""
    return tqdm(total=pixels, unit="px", desc=verb, disable=hidden(shown), leave=False)


def hidden(shown: bool) -> bool | None:
    """Return tqdm's `disable` for a bar that is wanted or not: one that is wanted shows on terminals and in notebooks.

    A log file would hold every step of it.
    """
    return None if shown else True


class _Sizes(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Notes the bytes of all tensors that are made, in their order."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.bytes: list[int] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        self.bytes += [x.nbytes for x in tree_leaves(out) if isinstance(x, Tensor)]
        return out


class _Touched(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Counts operations, views aside, and the numbers that they read and write."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.operations = self.numbers = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        if not func.is_view:
            self.operations += 1
            self.numbers += sum(x.numel() for x in tree_leaves((args, kwargs, out)) if isinstance(x, Tensor))
        return out


def largest_bytes(model: nn.Module) -> float:
    """Bytes of the largest tensor that a network in evaluation mode makes of a sample.

    Two calls of different size tell it from what is made of weights, once a call.
    """
    found = []
    few = 2
    with inference.holding():
        for samples in (few, few, 2 * few):  # the first makes what is held
            with _Sizes() as sizes:
                model(*example_inputs(model, samples))
            found.append(sizes.bytes)
    _, small, large = found
    if len(small) != len(large):
        return max(small, default=0) / few
    return max((y - x for x, y in zip(small, large, strict=True)), default=0) / few
