"""The floors of docs/architecture.md, held against every import of the package, also those inside functions."""

import ast
import re
from graphlib import CycleError, TopologicalSorter

import pytest

from tests.conftest import ROOT

PACKAGE = ROOT / "hsmamba"
ZOO = (
    *("records", "files", "arguments", "build", "ensembles", "hub", "manifest", "listing", "card"),
    *("pickles", "sizes", "official", "source", "save", "factory", "check", "info"),
)


def module_of(path):
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


MODULES = {module_of(path): path for path in PACKAGE.rglob("*.py")}


def imports_of(path):
    """The package's modules that a file imports; a name of a package stands for the package."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom):
            assert not node.level, f"{path}: imports are absolute"
            full = [f"{node.module}.{alias.name}" for alias in node.names]
            found |= {name if name in MODULES else node.module for name in full}
        elif isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
    return found & MODULES.keys()


GRAPH = {module: imports_of(path) - {module} for module, path in MODULES.items()}


@pytest.fixture(scope="module")
def floors():
    page = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| (\d) \| ([^|]+) \|", page, re.MULTILINE)
    return {room: int(floor) for floor, rooms in rows for room in re.findall(r"`(\w+)`", rooms)}


def room_of(module):
    return module.split(".")[1] if "." in module else "the face"


def test_every_room_has_a_floor(floors):
    assert {room_of(module) for module in MODULES} == {*floors, "the face"}
    assert set(floors.values()) == set(range(len(set(floors.values()))))


def test_no_room_imports_its_own_floor_or_a_higher_one(floors):
    floors = {**floors, "the face": max(floors.values()) + 1}
    upward = [
        f"{module} imports {target}"
        for module, targets in GRAPH.items()
        for target in targets
        if room_of(module) != room_of(target) and floors[room_of(target)] >= floors[room_of(module)]
        if (room_of(module), room_of(target)) != ("cli", "the face")  # which the face does not import
    ]
    assert not upward


def test_no_circle():
    try:
        TopologicalSorter(GRAPH).prepare()
    except CycleError as error:
        pytest.fail(" -> ".join(error.args[1]))


def test_files_of_the_zoo_know_only_those_before_them():
    files = [module.rpartition(".")[2] for module in MODULES if module.startswith("hsmamba.zoo.")]
    assert sorted(files) == sorted(ZOO)
    for module, targets in GRAPH.items():
        for target in targets:
            if module.startswith("hsmamba.zoo.") and target.startswith("hsmamba.zoo."):
                above, below = (ZOO.index(name.rpartition(".")[2]) for name in (module, target))
                assert below < above, f"{module} imports {target}"


def test_no_private_name_crosses_from_one_room_to_another():
    for module, path in MODULES.items():
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("hsmamba."):
                parts = node.module.split(".")
                private = [part for part in parts[2:] if part.startswith("_")]
                private += [alias.name for alias in node.names if alias.name.startswith("_") and len(parts) > 2]
                assert not private or parts[1] == room_of(module), f"{module} imports {node.module}: {private}"


def test_tests_find_the_repository_in_one_place():
    others = [
        path for path in (ROOT / "tests").rglob("*.py") if path.name != "conftest.py" or path.parent.name != "tests"
    ]
    assert not [path for path in others if re.search(r"__file__.*parents?\[", path.read_text(encoding="utf-8"))]
