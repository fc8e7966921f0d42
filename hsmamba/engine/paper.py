"""The figures of a paper, kept in its recipe, and one's own beside them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np

from hsmamba.engine.results import Row, write_results
from hsmamba.errors import ManifestError

FILE = "paper.csv"
COLUMNS = ("part", "metric", "ours", "ours_std", "paper", "paper_std", "difference", "beyond")
Spread: TypeAlias = "tuple[float, float]"  # mean and sample deviation; NaN where there is one value alone


@dataclass(frozen=True)
class Paper:
    """What was published of an experiment.

    Attributes:
        citation: The paper.
        figures: By part (a split, a resolution) and metric: mean, and deviation or NaN.
        source: Where the figures were read; empty where there are none.
        differs: What the recipe does otherwise than the paper or its program, one sentence each.
    """

    citation: str
    figures: Mapping[str, Mapping[str, Spread]]
    source: str = ""
    differs: tuple[str, ...] = ()

    @classmethod
    def of(cls, table: Mapping[str, Any] | None, path: object) -> Paper | None:
        """Read the table [paper] of a recipe; a figure is a number, or a list of mean and deviation.

        Raises:
            ManifestError: It says something else.
        """
        if table is None:
            return None
        try:
            figures = {
                part: {metric: _spread(value) for metric, value in metrics.items()}
                for part, metrics in table.get("figures", {}).items()
            }
            rest = {key: value for key, value in table.items() if key not in ("figures", "differs")}
            return cls(figures=figures, differs=tuple(table.get("differs", ())), **rest)
        except (TypeError, ValueError, AttributeError) as error:
            raise ManifestError(f"{path}: [paper] cannot be read ({error})") from error

    def rows(self, ours: Mapping[str, Mapping[str, Spread]]) -> list[Row]:
        """Put one's own figures beside those of the paper; "beyond" says whether they differ by more than the spread.

        The spread is the larger deviation of the two; where neither is known, nothing is said.
        """
        found = []
        for part, metrics in self.figures.items():
            for metric, (mean, deviation) in metrics.items():
                own, spread = ours.get(part, {}).get(metric, (float("nan"), float("nan")))
                largest = np.fmax(spread, deviation)
                known = np.isfinite(largest) and np.isfinite(own)
                values = (own, spread, mean, deviation, own - mean)
                cells: list[Any] = [round(float(x), 4) if np.isfinite(x) else "" for x in values]
                beyond = ("yes" if abs(own - mean) > largest else "no") if known else ""
                found.append(dict(zip(COLUMNS, (part, metric, *cells, beyond), strict=True)))
        return found

    def beside(self, ours: Mapping[str, Mapping[str, Spread]], out: Path) -> str:
        """Write `paper.csv` into the folder of the runs, and tell people the same."""
        rows = self.rows(ours)
        lines = [f"beside {self.citation}"]
        if rows:
            write_results(out / FILE, rows, COLUMNS)
            lines.append(f"{'':<28}{'ours':>18}{'paper':>18}{'difference':>12}")
            lines += [_line(row) for row in rows]
            lines.append(f"figures of the paper: {self.source}")
        else:
            lines.append("no figures of the paper are known")
        return "\n".join([*lines, *(f"differs: {text}" for text in self.differs)])


def _line(row: Row) -> str:
    own, theirs = (
        f"{row[key]}" + (f" ± {row[f'{key}_std']}" if row[f"{key}_std"] != "" else "") for key in ("ours", "paper")
    )
    said = {"yes": "  more than the spread", "no": "", "": "  no spread is known"}[row["beyond"]]
    return f"  {row['part'] + ', ' + row['metric']:<26}{own:>18}{theirs:>18}{row['difference']:>12}{said}"


def _spread(value: Any) -> Spread:
    numbers = value if isinstance(value, list) else [value, float("nan")]
    mean, deviation = (float(number) for number in numbers)
    return mean, deviation


def mean_and_deviation(values: Sequence[float]) -> Spread:
    """Return mean and sample deviation of figures; NaN for the deviation of one."""
    deviation = float(np.std(values, ddof=1)) if len(values) > 1 else float("nan")
    return float(np.mean(values)), deviation
