"""The pages tell the same story as the code."""

import ast
import importlib.util
import json
import re

import pytest

from tests.conftest import ROOT


def program(name):
    spec = importlib.util.spec_from_file_location(name, ROOT / "tools" / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def make_tables():
    return program("make_tables")


def page_of(family):
    return f"docs/models/{family}.md"


PAGES = [
    *("README.md", "docs/index.md", "docs/models.md", "docs/training_fusion.md"),
    *("docs/data.md", "docs/papers.md"),
    *map(page_of, ("bandwise", "cf2n", "le_mamba", "md2f_mamba", "mim", "mmapp", "msfmamba", "ramsf", "rsanet")),
]


@pytest.mark.parametrize("page", PAGES)
def test_tables_are_up_to_date(make_tables, page):
    text = (ROOT / page).read_text(encoding="utf-8")
    assert all(re.search(rf"<!-- {name} -->\n[|:]", text) for name in make_tables.PAGES[page])
    assert make_tables.updated(page, text) == text, "run: python tools/make_tables.py"


def test_every_family_has_a_page_and_a_card(make_tables):
    from hsmamba.models import registry

    families = {name for name, known in registry().items() if known.cfg.default_tag is not None}
    assert {name.partition(".")[0] for name in make_tables.CARDS} == families
    for name, (_, page) in make_tables.CARDS.items():
        picture = f"images/families/{name}.webp"
        assert (ROOT / "docs" / picture).is_file(), f"run: python tools/draw_families.py {name}"
        assert f"{page}.md" in (ROOT / "docs" / "index.md").read_text(encoding="utf-8")
        assert name in (ROOT / page_of(page)).read_text(encoding="utf-8")


def test_what_is_fitted_on_own_images_has_a_page_and_a_card(make_tables):
    from hsmamba.models import registry

    known = registry()
    families = {name.partition(".")[0] for name in make_tables.CARDS}
    modules = {known[name].module for name in families}
    others = {name for name in known if known[name].module not in modules}
    assert {*make_tables.FITTED, *make_tables.WITHOUT_WEIGHTS} == others
    for name in make_tables.WITHOUT_WEIGHTS:
        assert f"models/{name}.md" in (ROOT / "docs" / "index.md").read_text(encoding="utf-8")
        assert f'create_model("{name}"' in (ROOT / page_of(name)).read_text(encoding="utf-8")
    for name in make_tables.FITTED:
        assert (ROOT / f"docs/images/families/{name}.webp").is_file(), f"run: python tools/draw_families.py {name}"
        assert f"families/{name}.webp" in (ROOT / page_of(name)).read_text(encoding="utf-8")


def test_the_site_is_checked_for_links_that_lead_nowhere(tmp_path):
    (tmp_path / "index.html").write_text('<a href="other.html#here">1</a> <a href="https://x.org/y">2</a>')
    (tmp_path / "other.html").write_text('<p id="here"> <img src="gone.png"> <a href="index.html#gone">3</a>')
    wrong = program("check_site").wrong_links(tmp_path)
    assert wrong == ["other.html: gone.png: no such file", "other.html: index.html#gone: no such place in it"]


NOTEBOOKS = sorted((ROOT / "docs" / "notebooks").glob("*.ipynb"))


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebooks_are_stored_without_outputs_and_listed(path):
    """The build of the site runs them."""
    assert f"]({path.name})" in (path.parent / "index.md").read_text(encoding="utf-8")
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    code = [cell for cell in cells if cell["cell_type"] == "code"]
    assert code and all((cell["outputs"], cell["execution_count"]) == ([], None) for cell in code)
    for cell in code:
        ast.parse("".join(cell["source"]))


def test_the_listing_is_up_to_date(make_tables):
    text = (ROOT / make_tables.ARCHITECTURES).read_text(encoding="utf-8")
    assert make_tables.architectures_table() == text, "run: python tools/make_tables.py"


@pytest.mark.parametrize("page", ["docs/benchmark_results.md", page_of("mambahsi")])
def test_tables_of_benchmarks_are_up_to_date(make_tables, page):
    text = (ROOT / page).read_text(encoding="utf-8")
    for name in make_tables.PAGES[page]:
        assert f"<!-- {name} -->\n## " in text
    assert make_tables.updated(page, text) == text, "run: python tools/make_tables.py"


ROOMS = (
    *("viz", "data", "engine", "engine.benchmark", "metrics", "baselines", "models", "layers", "ops", "zoo", "errors"),
    *("data.transforms", "data.splits", "data.sets"),
)


@pytest.mark.parametrize("room", ROOMS)
def test_every_public_name_is_on_a_page_of_the_api(room):
    pages = "".join(page.read_text(encoding="utf-8") for page in (ROOT / "docs" / "api").glob("*.md"))
    told = set(re.findall(r"\w+", pages))
    public = getattr(importlib.import_module(f"hsmamba.{room}"), "__all__", ())
    assert not [name for name in public if name not in told]


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


@pytest.mark.slow
def test_the_first_lines_of_the_readme_run_as_they_are(tmp_path, monkeypatch):
    pytest.importorskip("sklearn", reason="needs the demo extra")
    monkeypatch.chdir(tmp_path)
    block = re.search(r"```python\n(.*?)```", (ROOT / "README.md").read_text(encoding="utf-8"), re.DOTALL)[1]
    names = {}
    exec(block, names)
    assert names["labels"].shape == (90, 90) and names["sharp"].shape == (192, 256, 7)
