"""`hsmamba convert`: make a model folder of a checkpoint, official or one's own."""

from __future__ import annotations

import contextlib
import json
from pathlib import Path
from typing import Annotated, Any

import typer

from hsmamba.cli._common import app, check_writable, say


@app.command()
def convert(
    checkpoint: Annotated[
        Path, typer.Argument(help="Official checkpoint or one's own: a state dictionary, .pth, .pt or .safetensors.")
    ],
    out: Annotated[Path, typer.Argument(help="Model folder to write.")],
    arch: Annotated[str, typer.Option(help="Our architecture, for example md2f_mamba_ref.")],
    config: Annotated[
        str, typer.Option(help="Its configuration as JSON; what the tensors tell may be left out.")
    ] = "{}",
    license: Annotated[str, typer.Option(help="Licence of the checkpoint.")] = "unknown",
) -> None:
    """Convert an official checkpoint, or a state that you saved, into a model folder."""
    check_writable(out / "config.json")
    from hsmamba import load_official, save_pretrained
    from hsmamba.zoo.official import read_official

    model: Any = load_official(arch, read_official(checkpoint), **_configuration(config))
    data = {"source": f"checkpoint {checkpoint.name}"}
    say(f"wrote {save_pretrained(model, out, license=license, data=data)}")


def _configuration(text: str) -> dict[str, Any]:
    with contextlib.suppress(ValueError, RecursionError):
        if isinstance(value := json.loads(text), dict):
            return value
    raise ValueError(f"--config is {text[:200]!r}, expected a JSON object such as '{{\"in_chans\": 30}}'")
