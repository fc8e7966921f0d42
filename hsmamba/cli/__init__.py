"""The command line, one file a verb.

Everything heavy is imported inside the commands, so that `--help` answers at once. A user's mistake ends with one line
on standard error and exit code 2, Ctrl-C with exit code 130.
"""

from __future__ import annotations

import atexit
import importlib
import os
import signal
import sys
import threading
import warnings
from functools import partial
from typing import TYPE_CHECKING, NoReturn, TextIO

from hsmamba.errors import HsmambaError, HsmambaWarning

if TYPE_CHECKING:
    from types import FrameType

    from typer import Typer

# MB of what GDAL has read and written that it holds, some tiles of many bands; by itself a twentieth of the memory.
_CACHE = "128"

_MISTAKES = (HsmambaError, ValueError, TypeError, OSError)

__all__ = ["VERBS", "load_app", "main"]

VERBS = (
    "list", "info", "data", "demo", "app", "doctor", "show", "classify", "fuse", "finetune", "evaluate", "train",
    "download", "verify", "convert", "export", "benchmark", "bench",
)  # fmt: skip


def load_app() -> Typer:
    """Import the verbs and return the app."""
    from hsmamba.cli._common import app

    for verb in VERBS:  # each file gives the app its command; the help lists them in this order
        importlib.import_module(f"hsmamba.cli.{verb}")
    return app


def _show_warning(
    message: Warning | str,
    category: type[Warning],
    filename: str,
    lineno: int,
    file: TextIO | None = None,
    line: str | None = None,
) -> None:
    """Say in a line what a command goes on with; other packages' warnings are none of the user's."""
    if issubclass(category, HsmambaWarning):
        print(f"hsmamba: warning: {_in_words(message)}", file=sys.stderr)


def _in_words(message: Warning | Exception | str) -> str:
    """Write a message on one line, with the options of the command for the arguments of Python."""
    from hsmamba.cli._running import in_options

    return in_options(" ".join(str(message).split()))


def main() -> NoReturn:
    """Run the command line; a user's mistake ends with one line and exit code 2, Ctrl-C with exit code 130."""
    os.environ.setdefault("GDAL_CACHEMAX", _CACHE)
    interrupts: list[int] = []
    usual = signal.default_int_handler
    mine = signal.getsignal(signal.SIGINT) is usual and threading.current_thread() is threading.main_thread()
    try:
        if mine:
            signal.signal(signal.SIGINT, partial(_interrupt, interrupts))
        with warnings.catch_warnings():
            warnings.simplefilter("once", HsmambaWarning)
            warnings.showwarning = _show_warning
            load_app()()
    except KeyboardInterrupt:  # before the app is there, which turns its own into the same code
        sys.exit(130)
    except Exception as error:
        if interrupts:  # a library has made an error of its own of it
            sys.exit(130)
        if os.environ.get("HSMAMBA_TRACEBACK") or not isinstance(error, _MISTAKES):
            raise
        print(f"hsmamba: {_in_words(error)}", file=sys.stderr)
        sys.exit(2)
    finally:
        # What is done is done: Python's own end shall not be interrupted, which it would tell at length. It begins with
        # what is called at exit only after it has waited for threads.
        if mine:
            is_last = sys._getframe(1).f_back is None  # a script called, which does nothing more
            signal.signal(signal.SIGINT, signal.SIG_IGN if is_last else usual)
        atexit.register(signal.signal, signal.SIGINT, signal.SIG_IGN)
    sys.exit(0)


def _interrupt(interrupts: list[int], number: int, frame: FrameType | None) -> NoReturn:
    """End at once where something is being imported: libraries swallow Ctrl-C there and fail later, or die of it."""
    interrupts.append(number)
    while frame is not None:
        if frame.f_code.co_filename == "<frozen importlib._bootstrap>":
            os._exit(130)  # as harmless to files as being killed
        frame = frame.f_back
    raise KeyboardInterrupt
