"""`hsmamba verify`: check the files of a weight."""

from __future__ import annotations

from typing import Annotated

import typer

from hsmamba.cli._common import MODEL_HELP, JsonFlag, app, named, say, tell


@app.command()
def verify(
    name: Annotated[str | None, typer.Argument(help=f"{MODEL_HELP} Default: all embedded weights.")] = None,
    as_json: JsonFlag = False,
) -> None:
    """Check the SHA-256 of every file of a weight."""
    from hsmamba import list_pretrained
    from hsmamba.zoo.files import sha256_file
    from hsmamba.zoo.source import find_folder

    checked = {}
    for weight in [name] if name else list_pretrained():
        # Looking the folder up verifies every file; the hashes are printed for the user's own records.
        checked[weight] = {key: sha256_file(file) for key, file in find_folder(named(weight)).files.items()}
    if as_json:
        tell(checked)
        return
    for weight, hashes in checked.items():
        for key, digest in hashes.items():
            say(f"ok  {weight}  {key}  {digest}")
