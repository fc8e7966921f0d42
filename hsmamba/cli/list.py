"""`hsmamba list`: the models, or the pretrained weights."""

from __future__ import annotations

from typing import Annotated

import typer

from hsmamba.cli._common import JsonFlag, app, say, tell


@app.command("list")
def list_command(
    pattern: Annotated[str, typer.Argument(help="Shell wildcard.")] = "*",
    pretrained: Annotated[bool, typer.Option("--pretrained", help="List weights instead of architectures.")] = False,
    task: Annotated[str | None, typer.Option(help="classification or fusion.")] = None,
    as_json: JsonFlag = False,
) -> None:
    """List the models, with parameters and what they are, or the pretrained weights, with what they take and figures.

    JSON has the names alone.
    """
    from hsmamba.zoo.listing import rows

    found = rows(pattern, pretrained=pretrained, task=task)
    if as_json:
        tell([name for name, *_ in found])
        return
    if not found:
        raise ValueError(f"no {'weight' if pretrained else 'model'} is named {pattern!r}; name '*' to see all")
    widths = [max(len(row[column]) for row in found) for column in (0, 1)]
    for name, size, text in found:
        say(f"{name:<{widths[0]}}  {size:<{widths[1]}}  {text}")
