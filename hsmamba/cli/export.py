"""`hsmamba export`: write a weight as a model folder of one's own."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from hsmamba.cli._common import MODEL_HELP, app, check_writable, named, say


@app.command()
def export(
    name: Annotated[str, typer.Argument(help=MODEL_HELP)],
    out: Annotated[Path, typer.Argument(help="Model folder to write: tensors, config.json and card.")],
    repo_id: Annotated[str | None, typer.Option(help="Hub repository that the card shall name, owner/repo.")] = None,
    cache_dir: Annotated[Path | None, typer.Option(help="Default: the Hugging Face cache.")] = None,
) -> None:
    """Write a weight as a model folder, to keep, to change or to put on the Hub."""
    check_writable(out / "config.json")
    from hsmamba.zoo.save import export as write
    from hsmamba.zoo.source import find_folder

    say(f"wrote {write(find_folder(named(name), cache_dir=cache_dir), out, repo_id=repo_id)}")
