"""Recipes: how a weight of the zoo was trained, as a TOML file that anyone can run again.

A recipe's `task` says which room knows its fields, runs it and makes a model folder of what came out. Runs that are
there already are not repeated, and an interrupted one is resumed.

Of every experiment of a paper, `NAME_paper`, there is `NAME_tuned` without a file of its own: the paper's recipe, but
for what `recipes/tuned/` says of the architecture or, where that has no file, of the task.
"""

from __future__ import annotations

import difflib
import sys
from collections.abc import Mapping
from dataclasses import MISSING, fields
from importlib import resources
from pathlib import Path
from types import ModuleType
from typing import Any, TypeAlias

from hsmamba.data.sets.catalog import CATALOG
from hsmamba.engine.classification import recipe as classification
from hsmamba.engine.fusion import recipe as fusion
from hsmamba.engine.multisensor import recipe as multisensor
from hsmamba.engine.parallel import group
from hsmamba.engine.results import Outcome
from hsmamba.errors import ManifestError

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

Recipe: TypeAlias = "classification.Recipe | fusion.Recipe | multisensor.Recipe"

_PAPER, _TUNED = "_paper", "_tuned"
_DIFFERS = "the setting is ours: what recipes/tuned says is not the paper's"
_MERGED = ("model_args", "finetune")  # tables of which a recipe may say what differs from the one it is like
_DEEPEST = 4

# Each room has `Recipe`, `parse`, `run`, `publish`, and in OPTIONS the arguments of `run` that are its own.
TASKS: Mapping[str, ModuleType] = {
    "classification": classification,
    "fusion": fusion,
    "multisensor": multisensor,
}


def list_recipes(task: str | None = None) -> list[str]:
    """List the recipes that come with the package, of one task or of all."""
    folder = resources.files("hsmamba") / "recipes"
    names = {path.name.removesuffix(".toml") for path in folder.iterdir() if path.name.endswith(".toml")}
    names |= {name.removesuffix(_PAPER) + _TUNED for name in names if name.endswith(_PAPER)}
    return [name for name in sorted(names) if task is None or load_recipe(name).task == task]


def load_recipe(name: str | Path) -> Recipe:
    """Read a recipe.

    Args:
        name: A recipe of the package ("md2f_mamba.indian_pines"), or the path of a TOML file. One that says `like` has
            all that it does not say itself of the recipe that it names; of model_args and finetune key by key.

    Returns:
        The recipe; of a classifier where the file names no `task`.

    Raises:
        ManifestError: No such recipe, not TOML, no such task, or fields missing or unknown.
    """
    path, values = _values(name)
    task = values.setdefault("task", "classification")
    if task not in TASKS:
        raise ManifestError(f"{path}: no task {task!r}; there are {', '.join(TASKS)}")
    _add_facts(values)
    known = fields(TASKS[task].Recipe)
    needed = {f.name for f in known if f.default is MISSING and f.default_factory is MISSING}
    missing, unknown = sorted(needed - values.keys()), sorted(values.keys() - {f.name for f in known})
    if missing or unknown:
        raise ManifestError(f"{path}: missing {missing or 'nothing'}, unknown {unknown or 'nothing'}")
    for table in ("model_args", "finetune"):
        values[table] = _with_none(values[table])
    recipe: Recipe = TASKS[task].parse(values, path)
    return recipe


def _values(name: str | Path, depth: int = 0) -> tuple[Any, dict[str, Any]]:
    """Read a TOML file and, where it names another one that it is `like`, what that one says beside."""
    path: Any = Path(name)
    if path.suffix != ".toml":
        path = _packaged(str(name))
    if not path.is_file() and _is_tuned(str(name)):
        return path, _tuned(str(name), depth)
    if not path.is_file():
        near = difflib.get_close_matches(str(name), list_recipes(), n=3, cutoff=0.4)
        raise ManifestError(
            f"no recipe {str(name)!r}{'; did you mean ' + ' or '.join(near) + '?' if near else ''}; "
            "hsmamba train --list shows them, or give a .toml file"
        )
    try:
        values: dict[str, Any] = tomllib.loads(path.read_text(encoding="utf-8"))
    except tomllib.TOMLDecodeError as error:
        raise ManifestError(f"{path} is not TOML: {error}") from error
    other = values.pop("like", None)
    if other is None:
        return path, values
    if depth == _DEEPEST:
        raise ManifestError(f"{path}: recipes are like one another in a circle, or more than {_DEEPEST} deep")
    return path, _over(_values(other, depth + 1)[1], values)


def _over(base: Mapping[str, Any], values: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a recipe says over another one; of the tables of arguments key by key."""
    merged = {key: {**base[key], **values[key]} for key in _MERGED if key in base and key in values}
    return {**base, **values, **merged}


def _packaged(name: str) -> Any:
    return resources.files("hsmamba") / "recipes" / f"{name}.toml"


def _is_tuned(name: str) -> bool:
    return name.endswith(_TUNED) and bool(_packaged(name.removesuffix(_TUNED) + _PAPER).is_file())


def _tuned(name: str, depth: int) -> dict[str, Any]:
    """Make the tuned recipe of a paper's: what is ours of its architecture or task, over what the paper's says."""
    _, base = _values(name.removesuffix(_TUNED) + _PAPER, depth + 1)
    own = f"tuned/{name.partition('.')[0]}"
    own = own if _packaged(own).is_file() else f"tuned/{base.get('task', 'classification')}"
    paper = {**base["paper"], "differs": [*base["paper"].get("differs", ()), _DIFFERS]}
    return {**_over(base, _values(own, depth + 1)[1]), "name": name, "paper": paper}


def _add_facts(values: dict[str, Any]) -> None:
    """Say of the data what the catalogue knows, where a recipe says nothing."""
    entry = CATALOG.get(str(values.get("scene") or values.get("dataset")))
    if entry is not None and "data" not in values:
        facts = entry.facts
        source = f"{facts.citation}; {facts.page}"
        known = {"name": facts.title, "source": source, "license": facts.license, "sensor": facts.sensor}
        values["data"] = {**known, "quantity": facts.quantity}


def _with_none(value: Any) -> Any:
    """Put None for "none", which TOML has no other way to write."""
    if isinstance(value, Mapping):
        return {key: _with_none(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_with_none(item) for item in value]
    return None if value == "none" else value


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

    In several processes of `accelerate launch` all train each network together, the first judges and writes.

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
    written: Path = group().on_first(lambda: TASKS[recipe.task].publish(recipe, Path(out), folder))
    return written
