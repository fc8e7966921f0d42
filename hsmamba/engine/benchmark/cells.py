"""Run one cell of a suite to a row of the table of results, in any process."""

from __future__ import annotations

import platform
import warnings
from collections.abc import Callable, Mapping
from datetime import datetime, timezone

import torch

from hsmamba._version import __version__
from hsmamba.engine.benchmark import classification, fusion
from hsmamba.engine.benchmark.suite import Cell
from hsmamba.engine.results import Row
from hsmamba.errors import HsmambaWarning

_TASKS: Mapping[str, Callable[[Cell, str | None], Row]] = {"classification": classification.run, "fusion": fusion.run}


def run_cell(cell: Cell, root: str | None) -> Row:
    """Run a cell.

    Args:
        cell: What to run.
        root: Folder of data; default the environment variable HSMAMBA_DATA.

    Returns:
        Its row: where it stands, hashes, figures, seconds of the process's CPU time (which other work on the machine
        does not change), when and where it ran, what warnings said.

    Raises:
        HsmambaError: Data are missing, or the method cannot do this.
    """
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always", HsmambaWarning)
        row = _TASKS[cell.task](cell, root)
    data, split, seed, method = cell.place
    notes = dict.fromkeys(" ".join(str(w.message).split()) for w in said if issubclass(w.category, HsmambaWarning))
    units = row.pop("units")
    return {
        "data": data,
        "split": split,
        "seed": seed,
        "method": method,
        **row,
        "model": cell.method.model,
        "cell": cell.sha256,
        "version": __version__,
        "torch": torch.__version__,
        "date": datetime.now(timezone.utc).strftime("%Y-%m-%d %H:%M"),
        "machine": machine(),
        "notes": "; ".join(notes),
        "units": units,
    }


def machine() -> str:
    """Name the machine: architecture, model of its CPU where the system tells it, threads of a cell."""
    threads = torch.get_num_threads()
    return f"{_processor()}, {threads} thread{'s' * (threads != 1)}"


def _processor() -> str:
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as file:
            names = [line.partition(":")[2].strip() for line in file if line.startswith("model name")]
    except OSError:
        names = []
    return names[0] if names else platform.processor() or platform.machine()
