"""Benchmarks: suites of methods, data sets, splits and seeds, run in parallel into one table, and what it says."""

from hsmamba.engine.benchmark.cells import run_cell
from hsmamba.engine.benchmark.run import rows_of, run_suite
from hsmamba.engine.benchmark.suite import Cell, DataEntry, Method, Suite, list_suites, load_suite
from hsmamba.engine.benchmark.tables import difference_label, differences, to_latex, to_markdown

__all__ = [
    "Cell",
    "DataEntry",
    "Method",
    "Suite",
    "difference_label",
    "differences",
    "list_suites",
    "load_suite",
    "rows_of",
    "run_cell",
    "run_suite",
    "to_latex",
    "to_markdown",
]
