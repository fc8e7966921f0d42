"""Sphinx: `pip install -e ".[docs]" && sphinx-build -W docs build/docs`.

The theme is furo: its sidebar shows the whole tree, also on a phone, where themes with a bar on top hide it behind
menus; dark mode and search need no script from elsewhere.
"""

import os
import sys
import warnings
from pathlib import Path
from typing import Any

import hsmamba

sys.path.insert(0, str(Path(__file__).parent / "_ext"))

# Examples show what is said, and not where this machine keeps the code.
warnings.formatwarning = lambda message, category, *_args, **_more: f"{category.__name__}: {message}\n"

project = "hsmamba"
author = "the hsmamba developers"
copyright = author
release = hsmamba.__version__
extensions = [
    "myst_nb",  # pages in Markdown, and notebooks, which it runs
    "sphinx.ext.autodoc",
    "sphinx.ext.doctest",
    "sphinx.ext.intersphinx",
    "sphinx.ext.napoleon",
    "sphinx_copybutton",
    "sphinx_design",
    "sphinx_gallery.gen_gallery",
]
exclude_patterns = [
    "results",
    "recipes",
    "_ext",
    "gallery/*.ipynb",
    "sg_execution_times.rst",
    "gallery/sg_execution_times.rst",
]

myst_enable_extensions = ["colon_fence"]
myst_heading_anchors = 3
nb_execution_mode = "force"  # notebooks are stored without outputs
nb_execution_in_temp = True  # what they write is gone afterwards
nb_execution_raise_on_error = True
nb_execution_timeout = 300  # seconds of a cell
nb_output_stderr = "remove"  # logs, and tqdm's note that there are no widgets for bars

default_role = "py:obj"  # `hsmamba.fuse` in a docstring is a link
add_module_names = False
autodoc_member_order = "bysource"
autodoc_typehints = "description"
autodoc_typehints_description_target = "documented_params"
napoleon_google_docstring = True
napoleon_use_ivar = True  # attributes of a dataclass are described once
python_use_unqualified_type_names = True
toc_object_entries_show_parents = "hide"
# The builds are checked without a network; with it, types of other libraries become links.
intersphinx_mapping = (
    {
        "python": ("https://docs.python.org/3", None),
        "numpy": ("https://numpy.org/doc/stable", None),
        "torch": ("https://docs.pytorch.org/docs/stable", None),
        "xarray": ("https://docs.xarray.dev/en/stable", None),
    }
    if os.environ.get("HSMAMBA_DOCS_LINKS")
    else {}
)

doctest_global_setup = "import logging, warnings; warnings.simplefilter('ignore'); logging.disable()"
doctest_test_doctest_blocks = ""  # only what pages mark as a doctest
copybutton_prompt_text = r">>> |\.\.\. |\$ "
copybutton_prompt_is_regexp = True

sphinx_gallery_conf = {
    "examples_dirs": "../examples/gallery",
    "gallery_dirs": "gallery",
    "filename_pattern": "/gallery/",
    "image_scrapers": ("figures.save_figures",),
    "reset_modules": ("matplotlib", "figures.in_style"),
    "capture_repr": (),
    "download_all_examples": False,
    "remove_config_comments": True,
    "show_memory": False,
    "show_signature": False,
    "min_reported_time": 0,
    "within_subsection_order": "figures.Order",
}

html_theme = "furo"
html_title = "hsmamba"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_js_files = ["sort_tables.js"]
html_show_sphinx = False


def _escape_types(_app: Any, _what: str, _name: str, _obj: Any, _options: Any, lines: list[str]) -> None:
    """Escape the last letter of `np.bool_` in types of attributes, which reStructuredText takes for a reference."""
    lines[:] = [line.replace("bool_]", r"bool\_]") if line.startswith(":vartype") else line for line in lines]


def _skip_fields(_app: Any, _what: str, _name: str, obj: Any, skip: bool, _options: Any) -> bool:
    """Skip what a named tuple says of its fields, which its own docstring says better."""
    return skip or str(getattr(obj, "__doc__", "")).startswith("Alias for field number")


def setup(app: Any) -> None:
    """Register what the pages need."""
    from figures import draw_benchmarks

    app.connect("builder-inited", draw_benchmarks)
    app.connect("autodoc-process-docstring", _escape_types, priority=900)  # after napoleon
    app.connect("autodoc-skip-member", _skip_fields)
