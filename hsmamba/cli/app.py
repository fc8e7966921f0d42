"""`hsmamba app`: the page in a browser."""

from __future__ import annotations

from typing import Annotated

import typer

from hsmamba.cli._common import app, say


@app.command("app")
def app_command(
    scene: Annotated[
        str | None,
        typer.Argument(help="A scene to begin with: a file, a product's folder, or a name ('muufl_crop')."),
    ] = None,
    port: Annotated[int, typer.Option(help="Of 127.0.0.1; default one that is free.", min=0, max=65535)] = 0,
    browser: Annotated[bool, typer.Option("--browser/--no-browser", help="Open the page in the browser.")] = True,
) -> None:
    """Label, classify and sharpen in a page of this machine's browser; Ctrl-C ends it."""
    from hsmamba.app.server import serve

    def ready(address: str) -> None:
        say(f"hsmamba app is at {address}\nonly this machine reaches it, by this address alone; Ctrl-C ends it")

    serve(scene, port=port, browser=browser, ready=ready)
