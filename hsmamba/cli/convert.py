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
    arch: Annotated[
        str | None, typer.Option(help="Our architecture, for example md2f_mamba_ref; default what its names tell.")
    ] = None,
    config: Annotated[
        str, typer.Option(help="Its configuration as JSON; what the tensors tell may be left out.")
    ] = "{}",
    license: Annotated[str, typer.Option(help="Licence of the checkpoint.")] = "unknown",
) -> None:
    """Convert an official checkpoint, or a state that you saved, into a model folder."""
    check_writable(out / "config.json")
    from hsmamba import save_pretrained
    from hsmamba.zoo.official import read_nested

    given = _configuration(config)
    state, nests = read_nested(checkpoint)
    model = _network(checkpoint, state, nests, arch, given)
    data = {"source": f"checkpoint {checkpoint.name}"}
    say(f"wrote {save_pretrained(model, out, license=license, data=data)}")


def _network(
    checkpoint: Path, state: dict[str, Any], nests: tuple[str, ...], arch: str | None, config: dict[str, Any]
) -> Any:
    """Load the state, and say what it was."""
    from hsmamba import load_official
    from hsmamba.errors import WeightsError
    from hsmamba.zoo.official import architecture_of

    if arch is not None:
        return load_official(arch, state, **config)
    found, theirs = architecture_of(state, what=str(checkpoint))
    what = f"{'the official' if theirs else 'our'} {found}"
    try:
        model: Any = load_official(found, state, **config)
    except WeightsError as error:
        raise WeightsError(
            f"{checkpoint} has {len(state)} tensors with the names of {what}, but is none of that network as it was "
            f"released: {error}"
        ) from error
    where = f", under {' > '.join(map(repr, nests))}" if nests else ""
    sizes = ", ".join(f"{key}={value!r}" for key, value in model.model_args.items())
    say(f"{checkpoint} is a checkpoint of {what}{where}: {len(state)} tensors, {sizes}")
    return model


def _configuration(text: str) -> dict[str, Any]:
    with contextlib.suppress(ValueError, RecursionError):
        if isinstance(value := json.loads(text), dict):
            return value
    raise ValueError(f"--config is {text[:200]!r}, expected a JSON object such as '{{\"in_chans\": 30}}'")
