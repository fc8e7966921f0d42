"""The face of the package: cheap to import, lazy, and the names it promises."""

import json

import pytest

import hsmamba
from tests.conftest import run_python


def test_import_brings_nothing_heavy():
    code = "import sys, json, hsmamba; print(json.dumps(sorted(m.partition('.')[0] for m in sys.modules)))"
    loaded = set(json.loads(run_python(code)))
    assert not loaded & {"torch", "timm", "numpy", "scipy", "huggingface_hub", "matplotlib", "typer"}


def test_help_of_the_command_line_needs_no_torch():
    code = (
        "import sys, typer.testing, hsmamba.cli as c\n"
        "r = typer.testing.CliRunner().invoke(c.load_app(), ['finetune', '--help'])\n"
        "assert r.exit_code == 0, r.output\n"
        "print('torch' in sys.modules, 'numpy' in sys.modules)"
    )
    assert run_python(code).split() == ["False", "False"]


def test_every_public_name_resolves():
    for name in hsmamba.__all__:
        assert getattr(hsmamba, name) is not None
    assert set(hsmamba.__all__) <= set(dir(hsmamba))


@pytest.mark.parametrize(
    "name", ["data.random_split", "metrics.ClassificationReport", "models.Classifier", "viz.label_map", "zoo"]
)
def test_rooms_are_there_without_an_import_of_their_own(name):
    assert run_python(f"import hsmamba; print(hsmamba.{name} is not None)").strip() == "True"


def test_an_unknown_name_is_an_attribute_error():
    assert not hasattr(hsmamba, "creat_model")


def test_public_names_are_those_on_record():
    names = "HsmambaError Scene Split __version__ classify create_model ensemble evaluate finetune fuse is_model"
    names += " list_models list_pretrained load_official load_scene model_info open_scene push_to_hub register_model"
    assert sorted(hsmamba.__all__) == [*names.split(), "save_pretrained"]
