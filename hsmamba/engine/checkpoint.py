"""Files of checkpoints: what `torch.save` writes, with a SHA-256 of all of it in the archive's comment.

`torch.load` and other readers of archives pass over the comment, so that a checkpoint stays a file like any other.
"""

from __future__ import annotations

import hashlib
import io
import os
import warnings
import zipfile
from pathlib import Path
from typing import Any, BinaryIO

import torch
from torch import nn
from torch.optim import Optimizer

from hsmamba._files import atomic_path
from hsmamba.errors import HsmambaWarning, TrainingError, WeightsError
from hsmamba.zoo.build import check_state
from hsmamba.zoo.pickles import check_pickle

# An archive ends with a record of 22 bytes, whose last two are the length of the comment that follows.
_END, _END_BYTES = b"PK\5\6", 22
_TAG = b"sha256:"
_SEAL_BYTES = len(_TAG) + 64


def write_checkpoint(path: Path, state: dict[str, Any]) -> None:
    """Write a state whole, with its checksum, or leave the older file as it is.

    Raises:
        TrainingError: It cannot be written.
    """
    try:
        # In memory first: an interrupt would close a file before torch's writer is done with it, which kills Python.
        held = io.BytesIO()
        torch.save(state, held)
        with atomic_path(path) as temporary, temporary.open("w+b") as file:
            file.write(held.getbuffer())
            file.seek(-2, os.SEEK_END)
            file.write(_SEAL_BYTES.to_bytes(2, "little"))
            seal = _TAG + _digest(file, file.tell()).encode()
            file.seek(0, os.SEEK_END)
            file.write(seal)
    except (OSError, RuntimeError) as error:
        why = error if isinstance(error, OSError) else str(error).splitlines()[0]
        raise TrainingError(
            f"cannot write the checkpoint {str(path)!r} ({why}); free some space and go on with resume=: what was "
            "there is whole"
        ) from error


def read_checkpoint(path: Path, device: torch.device) -> dict[str, Any]:
    """Read a state whose checksum holds; a file of an older version, which has none, is read with a warning.

    Raises:
        WeightsError: There is no such file, it is no checkpoint, or a bit of it is not what was written.
    """
    if not path.is_file():
        raise WeightsError(f"there is no checkpoint {str(path)!r} to resume; leave resume out to start anew")
    try:
        with path.open("rb") as file:
            _check(file, path)
            check_pickle(path)
            file.seek(0)
            state = torch.load(file, map_location=device, weights_only=True)
    except WeightsError:
        raise
    except Exception as error:  # whatever torch raises on what is none of its files
        raise _damaged(path, f"it is not a checkpoint of finetune, or is truncated: {error}") from error
    if not isinstance(state, dict):
        raise _damaged(path, f"it holds {type(state).__name__}, not a checkpoint of finetune")
    return state


def check_kept(state: dict[str, Any], model: nn.Module, optimizer: Optimizer, epochs: int, *, what: str) -> None:
    """Refuse a state that a run of so many epochs with this network and optimizer cannot have left.

    Raises:
        WeightsError: Weights that do not fit, or are not finite.
        Exception: Anything else; of which kind depends on what the state holds.
    """
    check_state(model, state["model"], what=what)
    check_state(model, state["best"]["state"], what=what)
    epoch, history, best = state["epoch"], state["history"], state["best"]
    if type(epoch) is not int or not 0 <= epoch <= epochs or len(history) != epoch:
        raise ValueError(f"it is of epoch {epoch!r} of {epochs}, with a history of {len(history)} epochs")
    numbers = [number for record in history for number in record.values()]
    numbers += [best["epoch"], *best["score"], *(group["lr"] for group in state["optimizer"]["param_groups"])]
    if not all(type(number) in (int, float) for number in numbers) or len(best["score"]) != 2:
        raise ValueError("its history, score or learning rate are no numbers")
    if type(best["epoch"]) is not int or not 0 <= best["epoch"] <= epoch:
        raise ValueError(f"its best epoch is {best['epoch']!r}")
    _check_optimizer(state["optimizer"], optimizer.state_dict(), list(model.parameters()))


_FREE = {"lr", "fused"}  # what an optimizer may have otherwise: its schedule's, and how torch computes a step


def _check_optimizer(kept: dict[str, Any], own: dict[str, Any], parameters: list[nn.Parameter]) -> None:
    """Refuse a state of an optimizer with other settings, but for those that are free, or of other tensors."""
    groups = list(zip(kept["param_groups"], own["param_groups"], strict=True))
    for there, here in groups:
        if other := [key for key in here.keys() & there.keys() - _FREE if there[key] != here[key]]:
            raise ValueError(f"its optimizer has another {', '.join(sorted(other))}")
    shapes = sorted(tuple(parameter.shape) for parameter in parameters if parameter.requires_grad)
    for name in {name for entry in kept["state"].values() for name in entry} - {"step"}:
        tensors = [entry[name] for entry in kept["state"].values()]
        if sorted(tuple(tensor.shape) for tensor in tensors) != shapes or not all(map(_is_finite, tensors)):
            raise ValueError(f"its optimizer's {name} is none of these weights, or not finite")
    if not all(_is_finite(entry["step"]) and entry["step"].numel() == 1 for entry in kept["state"].values()):
        raise ValueError("its optimizer has no step")


def _is_finite(tensor: torch.Tensor) -> bool:
    return tensor.is_floating_point() and bool(torch.isfinite(tensor).all())


def _check(file: BinaryIO, path: Path) -> None:
    """Refuse a file that is not bit for bit what was written."""
    size = file.seek(0, os.SEEK_END)
    if _last(file, size, _END_BYTES)[:4] == _END and _last(file, size, 2) == b"\0\0":
        with zipfile.ZipFile(file) as archive:
            if (bad := archive.testzip()) is not None:
                raise _damaged(path, f"its part {bad} is not what was written")
        warnings.warn(
            f"{str(path)!r} carries no checksum, an older version wrote it; go on, the next epoch's will have one",
            HsmambaWarning,
            stacklevel=2,
        )
        return
    seal = _last(file, size, _SEAL_BYTES)
    if not seal.startswith(_TAG):
        raise _damaged(path, "it is not a checkpoint of finetune, or is truncated")
    found = _digest(file, size - _SEAL_BYTES)
    if seal != _TAG + found.encode():
        raise _damaged(path, f"its SHA-256 is {found}, at its end stands {seal[len(_TAG) :].decode('latin-1')}")


def _last(file: BinaryIO, size: int, count: int) -> bytes:
    file.seek(max(0, size - count))
    return file.read(count)


def _digest(file: BinaryIO, size: int) -> str:
    """Return the SHA-256 of the first bytes of a file."""
    file.seek(0)
    digest = hashlib.sha256()
    while size and (piece := file.read(min(size, 1 << 20))):
        digest.update(piece)
        size -= len(piece)
    return digest.hexdigest()


def _damaged(path: Path, why: str) -> WeightsError:
    return WeightsError(
        f"{str(path)!r} cannot be resumed ({why}); copy it again from where it is whole, or leave resume out to start "
        "anew (on the command line: --overwrite)"
    )
