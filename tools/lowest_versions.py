"""Print the lowest versions that pyproject.toml promises, as constraints for pip.

    python tools/lowest_versions.py test > lowest.txt
    python -m pip install -c lowest.txt ".[test]"

The arguments are extras, whose dependencies come after the package's own. Needs the packaging package (dev extra).
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from packaging.requirements import Requirement

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

PYPROJECT = Path(__file__).resolve().parents[1] / "pyproject.toml"


def lowest(project: dict[str, Any], extras: Iterable[str]) -> list[str]:
    """Pin every dependency to its lower bound.

    Args:
        project: The table `project` of a pyproject.toml.
        extras: Names of extras to take along.

    Returns:
        One constraint a dependency, `name==version`, with its marker if it has one.

    Raises:
        KeyError: The project has no such extra.
        ValueError: A dependency has no lower bound.
    """
    return sorted({_pin(requirement) for requirement in _requirements(project, extras)})


def _requirements(project: dict[str, Any], extras: Iterable[str]) -> Iterator[Requirement]:
    """The project's own dependencies, then those of its extras; an extra may name others of the project."""
    yield from map(Requirement, project["dependencies"])
    waiting, seen = list(extras), set()
    while waiting:
        extra = waiting.pop()
        seen.add(extra)
        for requirement in map(Requirement, project["optional-dependencies"][extra]):
            if requirement.name == project["name"]:
                waiting += requirement.extras - seen
            else:
                yield requirement


def _pin(requirement: Requirement) -> str:
    versions = [bound.version for bound in requirement.specifier if bound.operator in (">=", "==")]
    if len(versions) != 1:
        raise ValueError(f"pyproject.toml gives {requirement} no lower bound")
    return f"{requirement.name}=={versions[0]}" + (f"; {requirement.marker}" if requirement.marker else "")


if __name__ == "__main__":
    project = tomllib.loads(PYPROJECT.read_text(encoding="utf-8"))["project"]
    print("\n".join(lowest(project, sys.argv[1:])))
