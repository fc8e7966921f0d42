"""The tables of a suite as Markdown and as LaTeX, made of the rows of its CSV file alone."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from hsmamba.engine.benchmark.statistics import COVERAGE, difference, mean, mean_ranks, select
from hsmamba.engine.benchmark.suite import LOWER_IS_BETTER, Suite
from hsmamba.engine.results import Row

NAMES = {"oa": "OA", "aa": "AA", "kappa": "kappa x 100", "mean_f1": "mean F1"}


@dataclass(frozen=True)
class Table:
    """A heading, the names of columns, and rows of texts."""

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


def make_tables(suite: Suite, rows: Sequence[Row]) -> list[Table]:
    """Make a table for each data set, its splits side by side, and one of mean ranks.

    Every figure is mean ± standard deviation over the seeds. Behind the first metric stands the difference from the
    suite's reference, with the interval of `hsmamba.engine.benchmark.statistics.difference`.
    """
    tables = [_table(suite, rows, name) for name in suite.data if any(row["data"] == name for row in rows)]
    if ranks := mean_ranks(suite, rows):
        places = len({(row["data"], row["split"]) for row in rows})
        title = f"Mean rank by {_name(suite.metrics[0])} over {places} data sets and splits"
        body = tuple((name, f"{rank:.2f}") for name, rank in ranks.items())
        tables.append(Table(title, ("method", "mean rank"), body))
    return tables


def differences(suite: Suite, rows: Sequence[Row]) -> dict[str, dict[str, tuple[float, float, float]]]:
    """Return what `hsmamba.viz.interval_panels` draws: by data set and split, and by method, value, low and high.

    They are those of the tables: differences of the first metric from the suite's reference, with their intervals.
    """
    panels: dict[str, dict[str, tuple[float, float, float]]] = {}
    for data, split in dict.fromkeys((str(row["data"]), str(row["split"])) for row in rows):
        reference = select(rows, data, split, suite.reference)
        for name in suite.methods:
            found = select(rows, data, split, name)
            if name != suite.reference and (one := difference(found, reference, suite.metrics[0], suite.task)):
                panels.setdefault(f"{data}, {split}", {})[name] = one.value, one.low, one.high
    return panels


def difference_label(suite: Suite) -> str:
    """Say what `differences` are."""
    better = "lower" if suite.metrics[0] in LOWER_IS_BETTER else "higher"
    return (
        f"{_name(suite.metrics[0])} less that of {suite.reference}, with {COVERAGE:.0%} interval ({better} is better)"
    )


def _table(suite: Suite, rows: Sequence[Row], data: str) -> Table:
    splits = [split for split in suite.data[data].splits or suite.splits if any(
        (row["data"], row["split"]) == (data, split) for row in rows
    )]  # fmt: skip
    columns = ["method"]
    for split in splits:
        first, *others = (f"{split}: {_name(metric)}" for metric in suite.metrics)
        columns += [first, f"less {suite.reference}", *others]
    body = [
        (name, *(text for split in splits for text in _figures(suite, rows, data, split, name)), _seconds(found))
        for name in suite.methods
        if (found := [row for split in splits for row in select(rows, data, split, name)])
    ]
    return Table(_title(suite, rows, data), (*columns, "CPU seconds"), tuple(body))


def _title(suite: Suite, rows: Sequence[Row], data: str) -> str:
    block = suite.data[data].block
    what = "images" if suite.task == "fusion" else "scenes"
    return f"{data} (interval over {f'blocks of {block} x {block} pixels' if block else what})"


def _figures(suite: Suite, rows: Sequence[Row], data: str, split: str, method: str) -> list[str]:
    found, reference = (select(rows, data, split, name) for name in (method, suite.reference))
    first, *others = (_mean(found, metric) for metric in suite.metrics)
    return [first, "" if method == suite.reference else _difference(suite, found, reference), *others]


def _mean(rows: Sequence[Row], metric: str) -> str:
    one = mean(rows, metric)
    if one is None:
        return "-"
    digits = _digits(metric)
    return f"{one.mean:.{digits}f}" + ("" if math.isnan(one.std) else f" ± {one.std:.{digits}f}")


def _difference(suite: Suite, found: Sequence[Row], reference: Sequence[Row]) -> str:
    metric = suite.metrics[0]
    one = difference(found, reference, metric, suite.task)
    if one is None:
        return "-"
    digits = _digits(metric)
    return f"{one.value:+.{digits}f} [{one.low:+.{digits}f}, {one.high:+.{digits}f}]"


def _digits(metric: str) -> int:
    return {"SSIM": 4, "SCC": 4, "Q2n": 4, "SAM": 3, "ERGAS": 3}.get(metric, 2)


def _seconds(rows: Sequence[Row]) -> str:
    values = [row["train_seconds"] + row["test_seconds"] for row in rows]
    return f"{sum(values) / len(values):.1f}"


def _name(metric: str) -> str:
    return NAMES.get(metric, metric)


def to_markdown(suite: Suite, rows: Sequence[Row], *, level: int = 1) -> str:
    """Write the tables of a suite as Markdown, under a heading of a level, with what they are of."""
    parts = [f"{'#' * level} {suite.title}", _about(suite, rows)]
    for table in make_tables(suite, rows):
        ruler = "|---|" + "---:|" * (len(table.columns) - 1)
        lines = [f"| {' | '.join(cells)} |" for cells in (table.columns, *table.rows)]
        parts.append(f"{'#' * (level + 1)} {table.title}\n\n" + "\n".join([lines[0], ruler, *lines[1:]]))
    return "\n\n".join(parts) + "\n"


def to_latex(suite: Suite, rows: Sequence[Row]) -> str:
    """Write the tables of a suite as LaTeX (`tabular` alone, no package needed)."""
    parts = [f"% {suite.title}\n% {_about(suite, rows)}"]
    for table in make_tables(suite, rows):
        lines = [" & ".join(map(_escaped, cells)) + r" \\" for cells in (table.columns, *table.rows)]
        begin = rf"\begin{{tabular}}{{l{'r' * (len(table.columns) - 1)}}}"
        body = "\n".join([begin, r"\hline", lines[0], r"\hline", *lines[1:], r"\hline", r"\end{tabular}"])
        parts.append(f"% {table.title}\n{body}")
    return "\n\n".join(parts) + "\n"


def _escaped(text: str) -> str:
    for plain, written in (("_", r"\_"), ("%", r"\%"), ("&", r"\&"), ("±", r"$\pm$")):
        text = text.replace(plain, written)
    return text


def _about(suite: Suite, rows: Sequence[Row]) -> str:
    """Say what the figures are, and when, where and by which version they were measured."""
    dates = sorted(str(row["date"])[:10] for row in rows)
    span = dates[0] if dates[:1] == dates[-1:] else f"{dates[0]} to {dates[-1]}"
    missing = len(suite.cells()) - len(rows)
    metric = _name(suite.metrics[0])
    better = "the lower the better" if suite.metrics[0] in LOWER_IS_BETTER else "the higher the better"
    parts = [
        f"Mean ± standard deviation over the seeds {', '.join(map(str, suite.seeds))}; behind {metric} ({better}) the "
        f"difference from `{suite.reference}` on the same units and seeds, with the {COVERAGE:.0%} interval of a "
        "bootstrap over units and seeds.",
        _listed("Measured with hsmamba", rows, lambda row: str(row["version"]))
        + f" on {span}; "
        + _listed("machine:", rows, lambda row: str(row["machine"]))
        + ".",
    ]
    if missing:
        parts.append(f"{missing} of {len(suite.cells())} cells have not been run.")
    return " ".join(parts)


def _listed(what: str, rows: Sequence[Row], of: Callable[[Row], str]) -> str:
    return f"{what} {', '.join(dict.fromkeys(map(of, rows)))}"
