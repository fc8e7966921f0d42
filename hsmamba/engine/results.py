"""What the runs of a recipe gave: rows of a CSV file, read and written the same way for every task."""

from __future__ import annotations

import csv
import platform
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import torch

from hsmamba._files import atomic_path
from hsmamba.engine.parallel import group
from hsmamba.metrics.report import HEADLINES

Row: TypeAlias = "dict[str, Any]"


@dataclass(frozen=True)
class Outcome:
    """What a recipe has given so far.

    Attributes:
        record: Plain figures for programs, as JSON holds them.
        text: The same for people.
    """

    record: dict[str, Any]
    text: str


def read_results(path: Path) -> list[Row]:
    """Read rows of a results file, numbers as numbers; none where there is no file."""
    if not path.is_file():
        return []
    with path.open(encoding="utf-8", newline="") as file:
        return [{key: _number(value) for key, value in row.items()} for row in csv.DictReader(file)]


def _number(text: str) -> int | float | str:
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text


def write_results(path: Path, rows: Sequence[Mapping[str, Any]], columns: Sequence[str] | None = None) -> None:
    """Write rows as CSV, whole or not at all.

    Args:
        path: The file.
        rows: What to write; a column that a row does not have is left empty.
        columns: Names in order; default those of the first row.
    """
    with atomic_path(path) as temporary, temporary.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0] if columns is None else columns), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def summarise(rows: Iterable[Row]) -> dict[str, dict[str, dict[str, float]]]:
    """Average the figures of classifiers over the seeds of each split.

    Args:
        rows: Rows of a results file.

    Returns:
        By split and metric, mean and sample standard deviation in percent, rounded to two digits.
    """
    by_split: dict[str, list[Row]] = {}
    for row in rows:
        by_split.setdefault(str(row["split"]), []).append(row)
    return {
        name: {
            key: {
                "mean": round(float(np.mean([run[key] for run in runs])), 2),
                "std": round(float(np.std([run[key] for run in runs], ddof=1)), 2) if len(runs) > 1 else 0.0,
            }
            for key in HEADLINES
        }
        for name, runs in by_split.items()
    }


def machine(device: str | None) -> str:
    """Name where a run was trained: the device, or the CPU's architecture and threads, of each process of a launch."""
    one = device or f"{platform.machine()}, {torch.get_num_threads()} threads"
    return one if (count := group().size) == 1 else f"{count} processes: {one}"
