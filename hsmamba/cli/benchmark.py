"""`hsmamba benchmark`: methods held against each other on data sets, splits and seeds."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from hsmamba.cli._common import app, check_writable, say

if TYPE_CHECKING:
    from collections.abc import Sequence

    from hsmamba.engine.benchmark import Suite
    from hsmamba.engine.results import Row


@app.command("benchmark")
def benchmark_command(
    suite: Annotated[str, typer.Argument(help="A suite of the package (few_labels, disjoint, ...), or a .toml file.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder of SUITE.csv, .md, .tex and .svg.")] = Path(
        "benchmarks"
    ),
    method: Annotated[list[str] | None, typer.Option("--method", "-m", help="Run these methods alone.")] = None,
    jobs: Annotated[int, typer.Option("--jobs", "-j", min=1, help="Processes of one thread each.")] = 1,
    data: Annotated[Path | None, typer.Option(help="Folder of data that come with no package.")] = None,
) -> None:
    """Run what is missing of a benchmark, and print its tables; a killed run loses the running cells alone."""
    from hsmamba._files import write_text
    from hsmamba.engine.benchmark import load_suite, run_suite, to_latex, to_markdown
    from hsmamba.engine.parallel import group

    chosen = load_suite(suite)
    table = out / f"{chosen.name}.csv"
    check_writable(table)
    rows = run_suite(chosen, table, methods=method or (), data=data, jobs=jobs, tell=say)
    text = to_markdown(chosen, rows)
    group().on_first(lambda: write_text(table.with_suffix(".md"), text))
    group().on_first(lambda: write_text(table.with_suffix(".tex"), to_latex(chosen, rows)))
    drawn = group().on_first(lambda: _draw(chosen, rows, table.with_suffix(".svg")))
    say(f"\n{text}\nresults in {table}, tables in {table.with_suffix('.md')} and {table.with_suffix('.tex')}")
    say(drawn)


def _draw(suite: Suite, rows: Sequence[Row], path: Path) -> str:
    """Draw the differences from the reference with their intervals, and say where they are, or why there are none."""
    from hsmamba import viz
    from hsmamba._files import atomic_path
    from hsmamba._optional import is_there
    from hsmamba.engine.benchmark import difference_label, differences

    panels = differences(suite, rows)
    if not panels:
        return f"no picture: nothing was run beside {suite.reference}"
    if not is_there("matplotlib"):
        return 'no picture: matplotlib is not installed (pip install "hsmamba[demo]")'
    figure = viz.interval_panels(panels, label=difference_label(suite), title=suite.title, reference=0)
    with atomic_path(path) as temporary:
        figure.savefig(temporary, metadata={"Date": None})  # the same figures give the same file
    return f"differences from {suite.reference} in {path}"
