"""Recipes: how a weight of the zoo was trained, as a TOML file that anyone can run again.

A recipe's `task` says which room knows its fields, runs it and makes a model folder of what came out. Runs that are
there already are not repeated, and an interrupted one is resumed.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import fields
from importlib import resources
from pathlib import Path
from types import ModuleType
from typing import Any, TypeAlias

from hsmamba.engine.classification import recipe as classification
from hsmamba.engine.fusion import recipe as fusion
from hsmamba.engine.results import Outcome
from hsmamba.errors import ManifestError

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

Recipe: TypeAlias = "classification.Recipe | fusion.Recipe"

# Each room has `Recipe`, `parse`, `run`, `publish`, and in OPTIONS the arguments of `run` that are its own.
TASKS: Mapping[str, ModuleType] = {"classification": classification, "fusion": fusion}


def list_recipes(task: str | None = None) -> list[str]:
    """List the recipes that come with the package, of one task or of all."""
    folder = resources.files("hsmamba") / "recipes"
    names = sorted(path.name.removesuffix(".toml") for path in folder.iterdir() if path.name.endswith(".toml"))
    return [name for name in names if task is None or load_recipe(name).task == task]


def load_recipe(name: str | Path) -> Recipe:
    """Read a recipe.

    Args:
        name: A recipe of the package ("md2f_mamba.indian_pines"), or the path of a TOML file.

    Returns:
        The recipe; of a classifier where the file names no `task`.

    Raises:
        ManifestError: No such recipe, not TOML, no such task, or fields missing or unknown.
    """
    path: Any = Path(name)
    if path.suffix != ".toml":
        path = resources.files("hsmamba") / "recipes" / f"{name}.toml"
    if not path.is_file():
        raise ManifestError(f"no recipe {str(name)!r}; there are: {', '.join(list_recipes())}, or give a .toml file")
    try:
        values: dict[str, Any] = tomllib.loads(path.read_text(encoding="utf-8"))
    except tomllib.TOMLDecodeError as error:
        raise ManifestError(f"{path} is not TOML: {error}") from error
    task = values.setdefault("task", "classification")
    if task not in TASKS:
        raise ManifestError(f"{path}: no task {task!r}; there are {', '.join(TASKS)}")
    expected = {f.name for f in fields(TASKS[task].Recipe)}
    if values.keys() != expected:
        missing, unknown = sorted(expected - values.keys()), sorted(values.keys() - expected)
        raise ManifestError(f"{path}: missing {missing or 'nothing'}, unknown {unknown or 'nothing'}")
    recipe: Recipe = TASKS[task].parse(values, path)
    return recipe


def run(
    recipe: Recipe,
    out: str | Path,
    *,
    data: str | Path | None = None,
    device: str | None = None,
    progress: bool = True,
    **options: Any,
) -> Outcome:
    """Run a recipe, or what is left of it.

    Args:
        recipe: The recipe.
        out: Folder of the runs, with `results.csv`.
        data: Folder of the data that come with no package; default the environment variable HSMAMBA_DATA.
        device: Where to train; default the CPU.
        progress: Show progress bars.
        **options: Of a classifier `splits` and `seeds`, names and numbers of the runs (default all); of a fusion
            network `minutes`, after which this call stops at the end of an epoch. None is the default of each.

    Returns:
        What there is now, of earlier calls too.

    Raises:
        ManifestError: A split that the recipe does not have.
        DataNotFoundError: The data are not there.
        SceneError: The data do not fit the recipe.
        ValueError: An option of the other task or of none.
    """
    room = TASKS[recipe.task]
    given = {key: value for key, value in options.items() if value is not None}
    if foreign := sorted(given.keys() - set(room.OPTIONS)):
        raise ValueError(
            f"{', '.join(foreign)} cannot be chosen for {recipe.name}, a recipe of {recipe.task}; leave it out "
            f"(what can be is {', '.join(room.OPTIONS)})"
        )
    outcome: Outcome = room.run(recipe, Path(out), data=data, device=device, progress=progress, **given)
    return outcome


def publish(recipe: Recipe, out: str | Path, folder: str | Path) -> Path:
    """Write the model folder of a finished recipe.

    Args:
        recipe: The recipe.
        out: Folder that `run` filled.
        folder: Where to.

    Returns:
        The model folder.

    Raises:
        HsmambaError: Runs are missing.
    """
    written: Path = TASKS[recipe.task].publish(recipe, Path(out), folder)
    return written
