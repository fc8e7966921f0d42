"""What commands that write row by row share: their options, and keeping the rows for `--resume`."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    import numpy as np
    from torch import nn

    from hsmamba.data.spool import Spool

ResumeOption = Annotated[
    bool, typer.Option("--resume", help="Go on where an interrupted run of this command stopped, with the same result.")
]

AreaOption = Annotated[
    Path | None, typer.Option(help="Polygons (.shp, .geojson, .gpkg) outside of which nothing is made.")
]
CogOption = Annotated[bool, typer.Option("--cog", help="Write .tif as Cloud-Optimised GeoTIFF, with overviews.")]


@contextmanager
def kept_rows(
    output: Path,
    model: nn.Module,
    inputs: Sequence[str | Path],
    options: Mapping[str, Any],
    rows: Sequence[tuple[Sequence[int], np.dtype[Any]]],
    height: int,
    *,
    resume: bool,
) -> Iterator[Spool]:
    """Keep the rows of a job until its output is there; an interrupt says how to go on.

    Args:
        output: The file that the job is to make.
        model: The network, by whose numbers it is known again.
        inputs: Files, by whose size and time of change they are known again.
        options: What else decides the rows.
        rows: Shape and dtype of a row of each array.
        height: Rows of the job.
        resume: Go on with what is left.
    """
    from hsmamba.data.spool import spooled

    with spooled(output, _facts(model, inputs, options), rows, resume=resume) as spool:
        if spool.done:
            typer.echo(f"hsmamba: going on after {spool.done} of {height} rows", err=True)
        try:
            yield spool
        except BaseException:
            if spool.done:
                typer.echo(
                    f"hsmamba: stopped after {spool.done} of {height} rows of {output}; the same command with --resume "
                    "goes on there",
                    err=True,
                )
            raise


def _facts(model: nn.Module, inputs: Sequence[str | Path], options: Mapping[str, Any]) -> dict[str, str]:
    """What decides the rows of a job, by name."""
    import torch

    from hsmamba import __version__

    return {
        "version": f"hsmamba {__version__}, torch {torch.__version__}",
        "model": _digest(model),
        **{f"input {i}": _known(path) for i, path in enumerate(inputs, start=1)},
        **{name: json.dumps(value, default=str) for name, value in options.items()},
    }


def _known(path: str | Path) -> str:
    """A file by its place, size and time of change; what is none by its name."""
    try:
        found = Path(path).stat()
    except (OSError, ValueError):
        return str(path)
    return f"{Path(path).absolute()}, {found.st_size} bytes of {found.st_mtime_ns}"


def _digest(model: nn.Module) -> str:
    """A hash of a network's numbers and of its transform."""
    import torch

    digest = hashlib.sha256(type(model).__qualname__.encode())
    digest.update(json.dumps(getattr(model, "model_args", None), sort_keys=True, default=str).encode())
    for name, tensor in model.state_dict().items():
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
    transform: Any = getattr(model, "transform", None)
    for step in transform.steps if transform is not None else ():
        digest.update(json.dumps([step.kind, step.config()], sort_keys=True, default=str).encode())
        for name, array in step.state().items():
            digest.update(name.encode() + array.tobytes())
    return digest.hexdigest()
