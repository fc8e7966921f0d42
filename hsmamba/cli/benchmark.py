"""`hsmamba benchmark`: methods held against each other on data sets, splits and seeds."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from hsmamba.cli._common import app, check_writable, say


@app.command("benchmark")
def benchmark_command(
    suite: Annotated[str, typer.Argument(help="A suite of the package (few_labels, disjoint, ...), or a .toml file.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder of SUITE.csv, .md and .tex.")] = Path("benchmarks"),
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
    say(f"\n{text}\nresults in {table}, tables in {table.with_suffix('.md')} and {table.with_suffix('.tex')}")
