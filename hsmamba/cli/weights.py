"""Commands on models and their weights: list, info, download, verify, convert."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from hsmamba.cli._common import MODEL_HELP, JsonFlag, app, check_writable, named, say


@app.command("list")
def list_command(
    pattern: Annotated[str, typer.Argument(help="Shell wildcard.")] = "*",
    pretrained: Annotated[bool, typer.Option(help="List weights instead of architectures.")] = False,
    task: Annotated[str | None, typer.Option(help="classification or fusion.")] = None,
    as_json: JsonFlag = False,
) -> None:
    """List the models, or the pretrained weights."""
    from hsmamba import list_models

    names = list_models(pattern, pretrained=pretrained, task=task)
    say(json.dumps(names) if as_json else "\n".join(names))


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
            say(json.dumps({key: state._asdict() for key, state in states.items()}))
            return
        for key, state in states.items():
            say(f"{key:<10} {state}")
        return
    if name is None:
        raise ValueError("name a model (hsmamba list shows them), or ask for --backends")
    from hsmamba import model_info

    found = model_info(name)
    say(found.to_json() if as_json else found)


@app.command()
def download(
    name: Annotated[str, typer.Argument(help="architecture.tag or hf-hub:owner/repo[@revision].")],
    cache_dir: Annotated[Path | None, typer.Option(help="Default: the Hugging Face cache.")] = None,
    as_json: JsonFlag = False,
) -> None:
    """Fetch a weight into the cache, verified, and print where its files are."""
    from hsmamba.zoo.source import find_folder

    files = {key: str(path) for key, path in find_folder(name, cache_dir=cache_dir).files.items()}
    say(json.dumps(files) if as_json else "\n".join(f"{key}: {path}" for key, path in files.items()))


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
        say(json.dumps(checked))
        return
    for weight, hashes in checked.items():
        for key, digest in hashes.items():
            say(f"ok  {weight}  {key}  {digest}")


@app.command()
def convert(
    checkpoint: Annotated[
        Path, typer.Argument(help="Official checkpoint: a state dictionary, .pth, .pt or .safetensors.")
    ],
    out: Annotated[Path, typer.Argument(help="Model folder to write.")],
    arch: Annotated[str, typer.Option(help="Our architecture, for example md2f_mamba_ref.")],
    config: Annotated[
        str, typer.Option(help="Official configuration as JSON; what the tensors tell may be left out.")
    ] = "{}",
    license: Annotated[str, typer.Option(help="Licence of the checkpoint.")] = "unknown",
) -> None:
    """Convert an official checkpoint into a model folder."""
    check_writable(out / "config.json")
    from hsmamba import load_official, save_pretrained
    from hsmamba.zoo.official import read_official

    model: Any = load_official(arch, read_official(checkpoint), **json.loads(config))
    data = {"source": f"official checkpoint {checkpoint.name}"}
    say(f"wrote {save_pretrained(model, out, license=license, data=data)}")
