"""What there is, by name, without building or importing a network: the table behind the listings.

`architectures.json`, beside this module, is written from the registry by `tools/make_tables.py`, which a test holds
against it: the registry itself is the networks' code, and takes seconds to import.
"""

from __future__ import annotations

import fnmatch
import json
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from hsmamba.zoo import manifest
from hsmamba.zoo.records import WeightRecord, sizes_in_words

TASKS = ("classification", "fusion")
_TABLE = Path(__file__).with_name("architectures.json")


@dataclass(frozen=True)
class Architecture:
    """An architecture of the package, as listings show it.

    Attributes:
        name: Its name.
        task: "classification" or "fusion".
        module: Last part of the module that defines it.
        params: Parameters at the default sizes.
        summary: One line.
    """

    name: str
    task: str
    module: str
    params: int
    summary: str


def load_architectures() -> dict[str, Architecture]:
    """Read the architectures that come with the package, by name; those that a user registers are not among them."""
    rows = json.loads(_TABLE.read_text(encoding="utf-8"))
    return {name: Architecture(name, **row) for name, row in rows.items()}


def check_task(task: str | None) -> None:
    """Raise ValueError for a task that no model has."""
    if task is not None and task not in TASKS:
        raise ValueError(f"there is no task {task!r}; choose {' or '.join(TASKS)}, or leave it out for both")


def matches(name: str, patterns: str | Iterable[str]) -> bool:
    """Tell whether a name, with or without its tag, is one of some shell wildcards."""
    patterns = [patterns] if isinstance(patterns, str) else list(patterns)
    return any(fnmatch.fnmatchcase(text, pattern) for pattern in patterns for text in (name, name.partition(".")[0]))


def natural(name: str) -> list[tuple[int, int | str]]:
    """Key of the natural order: net9 before net10."""
    return [(0, int(part)) if part.isdigit() else (1, part) for part in re.split(r"(\d+)", name)]


def rows(pattern: str = "*", *, pretrained: bool = False, task: str | None = None) -> list[tuple[str, str, str]]:
    """List the architectures, or the weights, of the package.

    Args:
        pattern: Shell wildcard of names with or without tag.
        pretrained: List weights instead of architectures.
        task: "classification" or "fusion"; None for both.

    Returns:
        Of each the name, its size (parameters, or what a weight takes) and what it is (or its figure), in natural
        order.

    Raises:
        ValueError: There is no such task.
    """
    check_task(task)
    known, records = load_architectures(), manifest.load_manifest()
    names = records if pretrained else known
    chosen = [
        name
        for name in names
        if matches(name, pattern) and task in (None, known[name.partition(".")[0]].task)
    ]  # fmt: skip
    return [
        (name, sizes_in_words(records[name].model_args), _figure_and_place(records[name]))
        if pretrained
        else (name, size_in_words(known[name].params), known[name].summary)
        for name in sorted(chosen, key=natural)
    ]


def _figure_and_place(record: WeightRecord) -> str:
    """Write data and figure of a weight, and where it is fetched from if the package does not hold it."""
    text = f"{record.data['name']}: {figure(record)}"
    if record.hub is None or manifest.is_embedded(record):
        return text
    size = sum(entry.bytes for entry in record.files.values()) / 1e6
    return f"{text}; fetched from {record.hub.repo_id} when it is asked for, {size:.1f} MB"


def size_in_words(params: int) -> str:
    """Write a number of parameters: "92.2 K", "1.50 M"."""
    return f"{params / 1e6:.2f} M" if params >= 1e6 else f"{params / 1e3:.1f} K"


def figure(record: WeightRecord) -> str:
    """Write the figure by which a weight of the package is known, on the test part of its data.

    Returns:
        The overall accuracy over the seeds by split; of fusion SAM, or PSNR where the guide has several channels,
        beside the best classical method on the same images; what these are, where they are not the data's own.
    """
    return _fusion_figure(record) if "guide_chans" in record.model_args else _classifier_figure(record)


def _classifier_figure(record: WeightRecord) -> str:
    parts = {split: row["oa"] for split, row in record.metrics.items() if split != "this weight"}
    return "; ".join(f"OA {oa['mean']:.1f} ± {oa['std']:.1f} % ({split})" for split, oa in parts.items())


def _fusion_figure(record: WeightRecord) -> str:
    own = record.metrics["reduced resolution"]
    metric, unit, best = ("SAM", "°", min) if record.model_args["guide_chans"] == 1 else ("PSNR", " dB", max)
    classical = {
        method.partition(",")[0]: row[metric]
        for method, row in record.data["baselines"].items()
        if method.endswith("reduced resolution")
    }
    peer = best(classical, key=lambda method: classical[method])
    images = f" in the mean of {judged_on}" if (judged_on := record.data.get("judged_on")) else ""
    return f"{metric} {own[metric]:.2f}{unit} ({peer}: {classical[peer]:.2f}{unit}){images}"
