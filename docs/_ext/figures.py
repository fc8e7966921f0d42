"""The gallery: order of the examples, and their figures; and the pictures of the benchmarks.

sphinx-gallery asks pyplot for figures, which knows nothing of those of `hsmamba.viz`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import matplotlib
from matplotlib.figure import Figure
from sphinx_gallery.scrapers import figure_rst

from hsmamba import viz
from hsmamba._files import atomic_path
from hsmamba.engine.benchmark import difference_label, differences, load_suite, rows_of
from hsmamba.engine.results import read_results

ORDER = (
    *("classify", "few_labels", "two_sources", "own_splits", "smoothing", "sharpen_landsat8", "adapt"),
    *("hyperspectral_rgb", "own_training_loop", "linear_probe", "dask_blocks", "new_architecture"),
)


class Order:
    """Key to sort by: from what everyone does to what few do; files that nobody has named come last."""

    def __init__(self, _folder: str) -> None: ...

    def __call__(self, name: str) -> tuple[int, str]:
        """Return the place of an example, given the name of its file."""
        stem = name.removesuffix(".py")
        return (ORDER.index(stem) if stem in ORDER else len(ORDER)), stem


def in_style(_conf: dict[str, Any], _name: str) -> None:
    """Draw what an example draws by itself in the style of all pictures."""
    matplotlib.rcParams.update(viz.style())


def save_figures(_block: Any, variables: dict[str, Any], conf: dict[str, Any]) -> str:
    """Save the figures that a block of an example has given names, and return the text that shows them."""
    names = variables["example_globals"]
    shown = names.setdefault("__shown__", [])
    paths = []
    for figure in [value for value in names.values() if isinstance(value, Figure) and value not in shown]:
        path = next(variables["image_path_iterator"])
        figure.savefig(path, dpi=90)
        shown.append(figure)
        paths.append(path)
    return str(figure_rst(paths, conf["src_dir"]))


def draw_benchmarks(app: Any) -> None:
    """Draw the benchmarks of docs/results for the page of results, as `hsmamba benchmark` does."""
    source = Path(app.srcdir)
    for path in sorted((source / "results" / "benchmark").glob("*.csv")):
        suite = load_suite(path.stem)
        if not (panels := differences(suite, rows_of(suite, read_results(path)))):
            continue
        figure = viz.interval_panels(panels, label=difference_label(suite), title=suite.title, reference=0)
        with atomic_path(source / "images" / "benchmark" / f"{path.stem}.svg") as temporary:
            figure.savefig(temporary, metadata={"Date": None})
