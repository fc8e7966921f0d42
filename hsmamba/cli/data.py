"""`hsmamba data`: the data sets that are known by name, what is known of them, and whether a folder holds one."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from hsmamba.cli._common import JsonFlag, app, say

_data = typer.Typer(
    help="Data sets by name: list them, tell what is known of one, check a folder.", no_args_is_help=True
)
app.add_typer(_data, name="data")


@_data.command("list")
def list_sets(
    kind: Annotated[str | None, typer.Option(help="scene, plots or pairs.")] = None, as_json: JsonFlag = False
) -> None:
    """List the data sets: name, kind, what it is, where it is distributed."""
    from hsmamba.data.sets.catalog import CATALOG

    kinds = {entry.kind for entry in CATALOG.values()}
    if kind is not None and kind not in kinds:
        raise ValueError(f"--kind is {kind!r}; it is one of {', '.join(sorted(kinds))}")
    rows = [(name, entry) for name, entry in CATALOG.items() if kind in (None, entry.kind)]
    if as_json:
        say(json.dumps([name for name, _ in rows]))
        return
    for name, entry in rows:
        say(f"{name:<24}{entry.kind:<8}{entry.facts.title}; {entry.facts.page}")


@_data.command()
def info(
    name: Annotated[str, typer.Argument(help="Of a data set; hsmamba data list shows them.")], as_json: JsonFlag = False
) -> None:
    """Tell what is known of a data set: page, licence, citation, files, sizes, classes and their pixels."""
    from hsmamba.data.sets.check import describe

    record = describe(name)
    say(json.dumps(record) if as_json else _page(record))


def _page(record: dict[str, Any]) -> str:
    """Write a record for people; what is not known is left out."""
    lines = [f"{record.pop('name')}: {record.pop('title')}"]
    classes, copies = record.pop("classes"), record.pop("copies")
    lines += [f"  {key:<10}{_words(value)}" for key, value in record.items() if value not in ("", None, [], {})]
    for number, files in enumerate(copies, start=1):
        head = "files" if len(copies) == 1 else f"files, form {number} of {len(copies)}"
        lines += [f"  {head}"] + [f"    {file}" for file in files]
    if classes:
        lines += ["  classes"] + [
            f"    {n:>3} {key:<32}{count or '':>8}" for n, (key, count) in enumerate(classes.items(), 1)
        ]
    return "\n".join(lines)


def _words(value: Any) -> str:
    return " x ".join(map(str, value)) if isinstance(value, list) else str(value)


@_data.command()
def check(
    name: Annotated[str, typer.Argument(help="Of a data set.")],
    folder: Annotated[Path, typer.Argument(help="Folder of data, or the folder of the set.")],
    as_json: JsonFlag = False,
) -> None:
    """Look whether a folder holds a data set, and say what is wrong; exit code 1 where something is."""
    from hsmamba.data.sets.check import check_data

    if not folder.is_dir():
        raise ValueError(f"there is no folder {str(folder)!r}; give the one that holds the data")
    found = check_data(name, folder)
    if as_json:
        say(json.dumps([{"ok": one.ok, "text": one.text} for one in found]))
    else:
        say("\n".join(map(str, found)))
    if any(one.ok is False for one in found):
        raise typer.Exit(1)
