"""Sphinx: `pip install -e ".[docs]" && sphinx-build docs build/docs`."""

import hsmamba

project = "hsmamba"
copyright = "the hsmamba developers"
release = hsmamba.__version__
extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
html_theme = "furo"
autodoc_typehints = "description"
exclude_patterns = ["results"]
