"""`hsmamba download`: fetch a weight into the cache."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from hsmamba.cli._common import JsonFlag, app, tell


@app.command()
def download(
    name: Annotated[str, typer.Argument(help="architecture.tag or hf-hub:owner/repo[@revision].")],
    cache_dir: Annotated[Path | None, typer.Option(help="Default: the Hugging Face cache.")] = None,
    as_json: JsonFlag = False,
) -> None:
    """Fetch a weight into the cache, verified, and print where its files are."""
    from hsmamba.zoo.source import find_folder

    files = {key: str(path) for key, path in find_folder(name, cache_dir=cache_dir).files.items()}
    tell(files if as_json else "\n".join(f"{key}: {path}" for key, path in files.items()))
