"""The pages tell the same story as the code."""

import importlib.util
import re

import pytest

from tests.conftest import ROOT


@pytest.fixture(scope="module")
def make_tables():
    spec = importlib.util.spec_from_file_location("make_tables", ROOT / "tools" / "make_tables.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize(
    "page",
    [
        *("README.md", "docs/data.md", "docs/models.md", "docs/models/mim.md", "docs/models/msfmamba.md"),
        *("docs/training_fusion.md", "docs/papers.md"),
    ],
)
def test_tables_are_up_to_date(make_tables, page):
    text = (ROOT / page).read_text(encoding="utf-8")
    assert re.search(r"<!-- (families|sets|papers|models|fixed|idtrees|fusion) -->\n\|", text)
    assert make_tables.updated(page, text) == text, "run: python tools/make_tables.py"


def test_the_listing_is_up_to_date(make_tables):
    text = (ROOT / make_tables.ARCHITECTURES).read_text(encoding="utf-8")
    assert make_tables.architectures_table() == text, "run: python tools/make_tables.py"


def test_tables_of_benchmarks_are_up_to_date(make_tables):
    page = "docs/benchmark_results.md"
    text = (ROOT / page).read_text(encoding="utf-8")
    for name in make_tables.PAGES[page]:
        assert f"<!-- {name} -->\n## " in text
    assert make_tables.updated(page, text) == text, "run: python tools/make_tables.py"


def test_links_between_pages_lead_somewhere():
    pages = [ROOT / "README.md", ROOT / "CHANGELOG.md", *(ROOT / "docs").rglob("*.md")]
    for page in pages:
        for target in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", page.read_text(encoding="utf-8")):
            assert (page.parent / target).exists(), f"{page.name}: {target}"


def test_every_command_of_the_readme_exists():
    from hsmamba.cli import load_app

    commands = {command.name or command.callback.__name__ for command in load_app().registered_commands}
    text = "".join((ROOT / page).read_text(encoding="utf-8") for page in ("README.md", "docs/getting_started.md"))
    used = set(re.findall(r"\bhsmamba ([a-z]+)\b(?= |`|$)", text, re.MULTILINE))
    assert {"demo", "classify"} <= used & commands
    assert used & {"list", "info", "train", "verify"} <= commands
