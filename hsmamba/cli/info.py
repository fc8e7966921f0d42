"""`hsmamba info`: what is known of a model, or which scan backends run here."""

from __future__ import annotations

from typing import Annotated

import typer

from hsmamba.cli._common import MODEL_HELP, JsonFlag, app, named, say, tell


@app.command()
def info(
    name: Annotated[str | None, typer.Argument(help=MODEL_HELP)] = None,
    backends: Annotated[bool, typer.Option("--backends", help="The backends of the selective scan here.")] = False,
    as_json: JsonFlag = False,
) -> None:
    """Tell what is known of a model: size, cost, inputs, weights with their metrics, paper."""
    if backends:
        from hsmamba.ops import available_backends

        states = available_backends()
        if as_json:
            tell({key: state._asdict() for key, state in states.items()})
            return
        for key, state in states.items():
            say(f"{key:<10} {state}")
        return
    if name is None:
        raise ValueError("name a model (hsmamba list shows them), or ask for --backends")
    from hsmamba import model_info

    found = model_info(named(name))
    tell(found.to_json() if as_json else str(found))
