"""Several processes that train one network together, as `accelerate launch` starts them; or one that is alone.

Every process makes the same batches, from the same seed, and takes its share of each, so that the settings' batch size
is that of all processes together. The gradients are averaged by torch's DistributedDataParallel, batch norms see the
whole batch, sums are taken over all, and the first process alone writes files. So a launch has the losses of one
process up to rounding, but for dropout, whose draws are each process's own.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from datetime import timedelta
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.parallel import DistributedDataParallel
from torch.overrides import TorchFunctionMode

from hsmamba._optional import optional_import
from hsmamba.errors import TrainingError

T = TypeVar("T")
Loss = Callable[[Any], "tuple[Tensor, int, Mapping[str, float | Tensor]]"]

_PATIENCE = timedelta(days=30)  # for what the first process does alone; a process that fails ends the launch


class Group:
    """The processes that train one network; this class is the group of one process.

    Attributes:
        rank: Number of this process, from 0.
        size: Number of processes.
    """

    rank = 0
    size = 1

    @property
    def is_first(self) -> bool:
        """Whether this is the process that writes files and shows progress."""
        return self.rank == 0

    def device(self, given: torch.device | str | None, model: nn.Module) -> torch.device:
        """Return where to train: where it is asked for, else where the model is."""
        return torch.device(given) if given else next(model.parameters()).device

    def step(self, model: nn.Module, loss: Loss) -> Loss:
        """Return the loss of a batch, whose `backward` leaves the gradients of all processes."""
        return loss

    def share(self, batch: T, least: int = 1) -> tuple[T, float]:
        """Return this process's share of a batch, and the weight of each sample in it."""
        return batch, 1.0

    def normalising(self, model: nn.Module, weight: float) -> AbstractContextManager[Any]:
        """Let the batch norms of a model see the whole batch within the block."""
        return nullcontext()

    def summed(self, values: Sequence[float]) -> list[float]:
        """Sum numbers over all processes."""
        return list(values)

    def gathered(self, value: T) -> list[T]:
        """Return the values of all processes in their order."""
        return [value]

    def on_first(self, call: Callable[[], T]) -> T:
        """Call in the first process alone; all get what it returns, or its error."""
        return call()

    def agree(self, value: object, what: str) -> None:
        """Raise TrainingError unless all processes have the same value."""


class Launch(Group):
    """The processes of `accelerate launch`, or of torchrun.

    Args:
        state: The `accelerate.PartialState` of this process.
    """

    def __init__(self, state: Any) -> None:
        self.rank, self.size = int(state.process_index), int(state.num_processes)
        device = torch.device(state.device)
        self._device = torch.device("cpu") if device.type == "cpu" else device  # without a number, as models tell it

    def device(self, given: torch.device | str | None, model: nn.Module) -> torch.device:
        """Return the process's own device.

        Raises:
            ValueError: Another one is asked for.
        """
        wanted = torch.device(given) if given else self._device
        if wanted.type != self._device.type or wanted.index not in (None, self._device.index):
            raise ValueError(
                f"device is {str(wanted)!r}, and the launch gave this process {str(self._device)!r}; leave device out"
            )
        return self._device

    def step(self, model: nn.Module, loss: Loss) -> Loss:
        """Return the loss of a share; all processes begin with the weights of the first."""
        # Looking for unused parameters keeps the order in which gradients are summed the same from the first step on,
        # so that a resumed run, which has a first step of its own, goes on bit for bit.
        wrapped: Loss = DistributedDataParallel(_Step(model, loss), find_unused_parameters=True)
        return wrapped

    def share(self, batch: T, least: int = 1) -> tuple[T, float]:
        """Return the rows of a batch that are this process's, each of weight 1.

        Args:
            batch: Tensors and arrays of a row a sample, in tuples and lists.
            least: Samples that a process needs; all processes compute a smaller batch whole, and each counts its share.
        """
        size = _size(batch)
        if size < least * self.size:
            return batch, 1 / self.size
        return _rows(batch, slice(size * self.rank // self.size, size * (self.rank + 1) // self.size)), 1.0

    def normalising(self, model: nn.Module, weight: float) -> AbstractContextManager[Any]:
        """Let the batch norms of a model take mean and variance over the samples of all processes."""
        has_norms = any(isinstance(module, _BatchNorm) for module in model.modules())
        return _SharedNorm(weight) if has_norms else nullcontext()

    def summed(self, values: Sequence[float]) -> list[float]:
        """Sum numbers, in double precision; a collective call."""
        sums = torch.tensor(values, dtype=torch.float64, device=self._device)
        dist.all_reduce(sums)
        found: list[float] = sums.tolist()
        return found

    def gathered(self, value: T) -> list[T]:
        """Return the values of all processes in their order; a collective call."""
        found: list[Any] = [None] * self.size
        dist.all_gather_object(found, value)
        return found

    def on_first(self, call: Callable[[], T]) -> T:
        """Call in the first process alone; a collective call."""
        box: list[Any] = [None, None]
        if self.is_first:
            try:
                box[0] = call()
            except Exception as error:
                box[1] = error
        dist.broadcast_object_list(box)
        if box[1] is not None:
            raise box[1]
        found: T = box[0]
        return found

    def agree(self, value: object, what: str) -> None:
        """Refuse to go on where processes differ; a collective call."""
        found = self.gathered(value)
        if any(other != found[0] for other in found):
            listed = ", ".join(f"{other!r} in process {rank}" for rank, other in enumerate(found))
            raise TrainingError(f"the processes of the launch have not the same {what}: {listed}")


def group() -> Group:
    """Return the processes of the launch that this one belongs to, or the group of this process alone.

    Raises:
        MissingExtraError: There are several, and accelerate is not installed.
    """
    if int(os.environ.get("WORLD_SIZE") or 1) < 2:
        return Group()
    accelerate = optional_import("accelerate", "to train in several processes")
    kind = torch.accelerator.current_accelerator() if torch.accelerator.is_available() else None
    cpu = kind is None or kind.type == "mps" or os.environ.get("ACCELERATE_USE_CPU", "").lower() in ("1", "true")
    return Launch(accelerate.PartialState(cpu=cpu, timeout=_PATIENCE))


class _Step(nn.Module):
    """The loss of a batch as a module, for DistributedDataParallel."""

    def __init__(self, model: nn.Module, loss: Loss) -> None:
        super().__init__()
        self.model, self._loss = model, loss

    def forward(self, batch: Any) -> tuple[Tensor, int, Mapping[str, float | Tensor]]:
        return self._loss(batch)


def _size(batch: Any) -> int:
    """Count the samples of a batch; 0 where there is no tensor."""
    if isinstance(batch, (list, tuple)):
        return max(map(_size, batch), default=0)
    return len(batch) if hasattr(batch, "shape") else 0


def _rows(batch: Any, rows: slice) -> Any:
    """Take rows of all tensors and arrays of a batch; what is neither stays."""
    if isinstance(batch, (list, tuple)):
        parts = [_rows(part, rows) for part in batch]
        return type(batch)(*parts) if hasattr(batch, "_fields") else type(batch)(parts)
    return batch[rows] if hasattr(batch, "shape") else batch


class _Sum(torch.autograd.Function):
    """Sum of a tensor over all processes, whose gradient is the sum of theirs."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        total = x.clone()
        dist.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> Any:
        total = gradients[0].clone()
        dist.all_reduce(total)
        return total


class _SharedNorm(TorchFunctionMode):
    """Batch norm over the samples of all processes, in training; torch's own is for CUDA alone.

    Args:
        weight: Of each sample of this process.
    """

    def __init__(self, weight: float) -> None:
        super().__init__()
        self.weight = weight

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is torch.nn.functional.batch_norm:
            return self._batch_norm(*args, **(kwargs or {}))
        return func(*args, **(kwargs or {}))

    def _batch_norm(
        self,
        input: Tensor,
        running_mean: Tensor | None,
        running_var: Tensor | None,
        weight: Tensor | None = None,
        bias: Tensor | None = None,
        training: bool = False,
        momentum: float = 0.1,
        eps: float = 1e-5,
    ) -> Tensor:
        """Normalise (B, C, ...); the arguments are those of torch's function."""
        if not training:
            return torch.batch_norm(
                input, weight, bias, running_mean, running_var, False, momentum, eps, torch.backends.cudnn.enabled
            )
        axes = [axis for axis in range(input.ndim) if axis != 1]
        shape = [1, -1] + [1] * (input.ndim - 2)
        x = input.float()
        sums = torch.cat([x.sum(axes), x.new_tensor([x.numel() / x.shape[1]])])
        *_, count = total = _Sum.apply(self.weight * sums)
        mean = total[:-1] / count
        centred = x - mean.view(shape)
        variance = _Sum.apply(self.weight * centred.square().sum(axes)) / count
        if running_mean is not None and running_var is not None:
            with torch.no_grad():
                running_mean.lerp_(mean.to(running_mean.dtype), momentum)
                unbiased = variance * count / (count - 1).clamp_min(1)
                running_var.lerp_(unbiased.to(running_var.dtype), momentum)
        scale = (variance + eps).rsqrt() if weight is None else weight * (variance + eps).rsqrt()
        result: Tensor = centred * scale.view(shape)
        return (result if bias is None else result + bias.view(shape)).to(input.dtype)
