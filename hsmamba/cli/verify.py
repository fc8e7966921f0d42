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
    """Check the SHA-256 of every file of a weight; where it brings a check, also that it computes the same here."""
    from hsmamba.zoo.files import sha256_file
    from hsmamba.zoo.manifest import is_embedded, load_manifest
    from hsmamba.zoo.source import find_folder

    checked: dict[str, dict[str, str | float]] = {}
    for weight in [name] if name else [key for key, record in load_manifest().items() if is_embedded(record)]:
        # Looking the folder up verifies every file; the hashes are printed for the user's own records.
        folder = find_folder(named(weight))
        checked[weight] = {key: sha256_file(file) for key, file in folder.files.items()}
        if (check := folder.load_check()) is not None:
            from hsmamba import create_model
            from hsmamba.zoo.check import compare_check

            checked[weight]["difference"] = compare_check(create_model(named(weight)), check, name=weight)
    if as_json:
        tell(checked)
        return
    for weight, found in checked.items():
        for key, value in found.items():
            say(f"ok  {weight}  {key}  {value if isinstance(value, str) else f'{value:.1e} of its check output'}")
