"""The app as a user starts it, in a process of its own."""

import os
import re
import subprocess
import sys
from contextlib import contextmanager

import pytest


@contextmanager
def started(*arguments):
    """Run `hsmamba app`; give the address of its page."""
    words = ["hsmamba", "app", "--no-browser", *arguments]
    code = f"import sys; sys.argv = {words!r}; from hsmamba.cli import main; main()"
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path)), "PYTHONUNBUFFERED": "1"}
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, env=environment)
    try:
        said = re.search(r"http://\S+", process.stdout.readline())
        assert said, "the app has not started"
        yield said[0]
    finally:
        process.terminate()
        process.wait(20)


@pytest.fixture(scope="session")
def address():
    pytest.importorskip("starlette")
    pytest.importorskip("uvicorn")
    with started() as found:
        yield found
