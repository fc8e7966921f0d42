"""A Hub on loopback, and processes that run the real client against it."""

import json
import os
import subprocess
import sys

import numpy as np
import pytest
import torch

import hsmamba
from hsmamba.data import PCA, Compose, Standardise
from hsmamba.zoo import manifest, save
from hsmamba.zoo.source import read_folder, record_of
from tests.conftest import ROOT
from tests.zoo.hub_server import HubServer
from tests.zoo.samples import METRICS, SCHEMA, SMALL, Tiny

_WORKER = """
import json, sys
from hsmamba.errors import HsmambaError
from hsmamba.zoo import hub, manifest, save, source
result = None
try:
    exec(sys.argv[1])
    answer = {"result": result}
except (HsmambaError, ValueError) as error:
    answer = {"error": type(error).__name__, "text": str(error)}
answer["torch"] = "torch" in sys.modules
print(json.dumps(answer, default=str))
"""


@pytest.fixture(scope="session")
def validator():
    jsonschema = pytest.importorskip("jsonschema", reason="checks the manifest against its schema")
    return jsonschema.Draft202012Validator(SCHEMA)


@pytest.fixture
def hub():
    with HubServer() as server:
        yield server


@pytest.fixture
def client(hub, tmp_path):
    """Start `python -c CODE` with the client's variables set for the loopback Hub; what it leaves in `result` returns.

    The variables are read when huggingface_hub is imported, hence a process of its own for every call.
    """

    def start(code, **variables):
        inherited = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith(("HF_", "HUGGING")) and not name.lower().endswith("_proxy")
        }
        variables = {
            "HF_ENDPOINT": hub.url,
            "HF_HOME": str(tmp_path / "home"),
            "HF_HUB_DISABLE_XET": "1",
            "HF_HUB_DISABLE_PROGRESS_BARS": "1",
            "OMP_NUM_THREADS": "1",
            "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")]),
            **variables,
        }
        return subprocess.Popen(
            [sys.executable, "-c", _WORKER, code],
            env=inherited | variables,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def finish(process):
        out, err = process.communicate(timeout=300)
        assert process.returncode == 0, err
        return json.loads(out.splitlines()[-1])

    def run(code, **variables):
        return finish(start(code, **variables))

    run.start, run.finish = start, finish
    return run


@pytest.fixture
def tiny():
    return Tiny


@pytest.fixture
def saved(tmp_path, tiny):
    return save.save_pretrained(tiny(), tmp_path / "saved", metrics=METRICS)


@pytest.fixture
def own(tmp_path, monkeypatch):
    """Let the library have a manifest of these records and its embedded weights in a folder of the test."""

    def use(**weights):
        path = tmp_path / "weights_manifest.json"
        path.write_text(json.dumps({"schema": 1, "weights": weights}), encoding="utf-8")
        monkeypatch.setattr(manifest, "manifest_path", lambda: path)
        monkeypatch.setattr(manifest, "weights_folder", lambda: tmp_path / "weights")
        manifest._own_manifest.cache_clear()
        return tmp_path / "weights"

    yield use
    manifest._own_manifest.cache_clear()


@pytest.fixture
def model_folder(tmp_path):
    torch.manual_seed(0)
    model = hsmamba.create_model("md2f_mamba", **SMALL)
    pixels = np.random.default_rng(0).normal(size=(50, 9))
    transform = Compose([Standardise(), PCA(6)]).fit(pixels)
    return hsmamba.save_pretrained(
        model, tmp_path / "model", transform=transform, class_names=("a", "b", "c", "d"), bands=9
    )


@pytest.fixture
def record(model_folder, monkeypatch):
    """A manifest with one record, embedded in a package model_folder of its own."""
    made = record_of(read_folder(model_folder), "test")
    monkeypatch.setattr(manifest, "load_manifest", lambda path=None: {made.name: made})
    monkeypatch.setattr(manifest, "weights_folder", lambda: model_folder.parent)
    model_folder.rename(model_folder.parent / made.name)
    return made
