"""The command line, one file a verb.

Everything heavy is imported inside the commands, so that `--help` answers at once. A user's mistake ends with one line
on standard error and exit code 2.
"""

from __future__ import annotations

import importlib
import os
import sys
from typing import Annotated, NoReturn

import typer

from hsmamba.cli._common import app, say
from hsmamba.errors import HsmambaError

__all__ = ["VERBS", "app", "main"]

VERBS = (
    "list", "info", "demo", "classify", "fuse", "finetune", "evaluate", "train", "download", "verify", "convert",
    "export", "bench",
)  # fmt: skip

for _verb in VERBS:  # each file gives the app its command; the help lists them in this order
    importlib.import_module(f"hsmamba.cli.{_verb}")


def main() -> NoReturn:
    """Run the command line; a user's mistake ends with one line and exit code 2."""
    try:
        app()
    except (HsmambaError, ValueError, TypeError, OSError) as error:
        if os.environ.get("HSMAMBA_TRACEBACK"):
            raise
        typer.echo(f"hsmamba: {' '.join(str(error).split())}", err=True)
        sys.exit(2)
    sys.exit(0)


@app.callback(invoke_without_command=True)
def _root(version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False) -> None:
    if version:
        from hsmamba import __version__

        say(__version__)
        raise typer.Exit
