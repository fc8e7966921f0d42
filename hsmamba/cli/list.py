"""`hsmamba list`: the models, or the pretrained weights."""

from __future__ import annotations

import json
from typing import Annotated

import typer

from hsmamba.cli._common import JsonFlag, app, say


@app.command("list")
def list_command(
    pattern: Annotated[str, typer.Argument(help="Shell wildcard.")] = "*",
    pretrained: Annotated[bool, typer.Option(help="List weights instead of architectures.")] = False,
    task: Annotated[str | None, typer.Option(help="classification or fusion.")] = None,
    as_json: JsonFlag = False,
) -> None:
    """List the models, or the pretrained weights."""
    from hsmamba import list_models

    names = list_models(pattern, pretrained=pretrained, task=task)
    say(json.dumps(names) if as_json else "\n".join(names))
