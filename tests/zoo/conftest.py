"""A Hub on loopback, and processes that run the real client against it."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

from tests.conftest import ROOT
from tests.zoo.hub_server import HubServer

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
        out, err = process.communicate(timeout=60)
        assert process.returncode == 0, err
        return json.loads(out.splitlines()[-1])

    def run(code, **variables):
        return finish(start(code, **variables))

    run.start, run.finish = start, finish
    return run


@pytest.fixture
def tiny():
    from tests.zoo.tiny_model import Tiny

    return Tiny
