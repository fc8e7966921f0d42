"""The face of the room: every public name is there, and torch only where it is needed."""

import importlib

import pytest

import hsmamba.data as room
from tests.conftest import run_python


def test_every_public_name_is_there_and_is_one_thing():
    modules = [importlib.import_module(f"hsmamba.data.{name}") for name in room._WITH_TORCH]
    for name in room.__all__:
        found = getattr(room, name)
        assert all(getattr(module, name, found) is found for module in modules), name
    assert set(room.__all__) <= set(dir(room))
    with pytest.raises(AttributeError, match="no attribute 'moon'"):
        room.moon  # noqa: B018


def test_opening_a_scene_needs_no_torch():
    code = "import sys; import hsmamba.data; print('torch' in sys.modules, 'xarray' in sys.modules)"
    assert run_python(code).split() == ["False", "False"]
