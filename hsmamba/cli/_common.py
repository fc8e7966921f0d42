"""What the commands share: the app, options that occur more than once, and how models, scenes and outputs are named."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from hsmamba.cli._running import Group, be_quiet, is_quiet

if TYPE_CHECKING:
    from torch import nn

    from hsmamba.data import Scene, Split

app = typer.Typer(
    name="hsmamba",
    cls=Group,
    help="A zoo of remote-sensing models with pretrained weights: classify a scene, sharpen an image, fine-tune.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)

QuietFlag = Annotated[bool, typer.Option("--quiet", "-q", help="Print errors and warnings alone.", callback=be_quiet)]
JsonFlag = Annotated[bool, typer.Option("--json", help="Print JSON for programs.")]
TilesArgument = Annotated[
    list[str],
    typer.Argument(
        help="A .mat, .npy, .npz, ENVI .hdr, GeoTIFF or .vrt file, an address, 'indian_pines', or tiles of one grid."
    ),
]
SceneArgument = Annotated[str, typer.Argument(help="A .mat, .npy, .npz, ENVI .hdr or GeoTIFF file, or 'indian_pines'.")]
VariableOption = Annotated[str | None, typer.Option(help="Name of the cube in a file with several arrays.")]
LabelsOption = Annotated[
    Path | None, typer.Option(help="Label image on the same grid, or polygons: .shp, .geojson, .gpkg.")
]
LabelsFieldOption = Annotated[str | None, typer.Option(help="Field of the polygons that holds the class.")]
ClassesOption = Annotated[
    str | None, typer.Option(help="Legend of labels that are codes: 10,20,30 or 10=corn,20=oats.", metavar="LEGEND")
]
AuxOption = Annotated[Path | None, typer.Option(help="Second source on the same grid: LiDAR, SAR, another camera.")]
LabelsVariableOption = Annotated[str | None, typer.Option(help="Name of the labels in a file with several arrays.")]


def _device(name: str | None) -> str | None:
    """Refuse a device that is not there before any work is done."""
    if name is not None:
        import torch

        try:
            torch.zeros(1, device=name).item()
        except Exception as error:  # which one depends on the device and on how torch was built
            reason = str(error).splitlines()[0]
            raise ValueError(
                f"--device is {name!r}, which is none here ({reason}); leave it out for the CPU"
            ) from error
    return name


DeviceOption = Annotated[str | None, typer.Option(help="cpu, cuda, cuda:1, mps; default cpu.", callback=_device)]
NanOption = Annotated[str, typer.Option(help="raise: refuse invalid pixels (NaN, no data); mask: leave them out.")]
ScaleOption = Annotated[
    str | None,
    typer.Option(help="What to multiply the scene's numbers by: 10000, or '10000,1' (scene, second source)."),
]
MODEL_HELP = "architecture.tag, hf-hub:owner/repo[@revision] or local-dir:path (a folder alone will do)."


@app.callback(invoke_without_command=True)
def _root(version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False) -> None:
    if version:
        from hsmamba import __version__

        say(__version__)
        raise typer.Exit


def say(text: object = "") -> None:
    """Print a result for people, unless the command is to be quiet; of several processes the first does so for all."""
    if not is_quiet() and _is_first():
        typer.echo(str(text))


def tell(found: object) -> None:
    """Print a result for programs as JSON, or a text that was asked for; once for all processes of a launch."""
    if _is_first():
        typer.echo(found if isinstance(found, str) else json.dumps(found))


def _is_first() -> bool:
    return int(os.environ.get("WORLD_SIZE") or 1) < 2 or int(os.environ.get("RANK") or 0) == 0


def shows_progress(as_json: bool) -> bool:
    """Whether a command shows how far it is, where it runs on a terminal."""
    return not as_json and not is_quiet()


def open_or_load(
    path: str | list[str],
    variable: str | None,
    labels: Path | None = None,
    labels_variable: str | None = None,
    aux: Path | None = None,
    classes: str | None = None,
    labels_field: str | None = None,
) -> Scene:
    """Open a file or tiles, or load a scene by its name."""
    from hsmamba.data import load_scene, open_scene

    options: dict[str, Any] = {
        "variable": variable,
        "labels": labels,
        "labels_variable": labels_variable,
        "labels_field": labels_field,
        "aux": aux,
        "classes": None if classes is None else _legend(classes),
    }
    if isinstance(path, list) and len(path) == 1:
        path = path[0]
    if isinstance(path, list) or Path(path).suffix or Path(path).exists():
        return open_scene(path, **options)
    if given := [f"--{name.replace('_', '-')}" for name, value in options.items() if value is not None]:
        raise ValueError(f"{path!r} is the name of a scene, which has all it needs; leave {' and '.join(given)} out")
    return load_scene(path)


def _legend(text: str) -> dict[int, str] | list[int]:
    """Read the codes of classes, "10,20,30", or their names by code, "10=corn,20=oats"."""
    entries = [entry.partition("=") for entry in text.split(",")]
    try:
        codes = [int(code) for code, _, _ in entries]
    except ValueError:
        codes = []
    named = [name.strip() for _, equals, name in entries if equals]
    if not codes or len(named) not in (0, len(codes)):
        raise ValueError(f"--classes is {text!r}; expected the codes of the classes, 10,20,30 or 10=corn,20=oats")
    return dict(zip(codes, named, strict=True)) if named else codes


def named(model: str) -> str:
    """Let a model folder, or that of a run, be named without its prefix, unless the zoo has a model of that name."""
    from hsmamba.zoo.factory import is_model

    if not is_model(model):
        for folder in (Path(model), Path(model) / "model"):
            if (folder / "config.json").is_file():
                return f"local-dir:{folder}"
    return model


def numbers(text: str | None) -> Any:
    """Read a number, or several that commas part, as a tuple; what is no number stays as it is."""
    if text is None:
        return None
    try:
        found = tuple(float(part) for part in text.split(","))
    except ValueError:
        return text
    return found[0] if len(found) == 1 else found


def load_model(name: str, **kwargs: Any) -> nn.Module:
    from hsmamba.zoo.factory import create_model

    return create_model(named(name), pretrained=True, **kwargs)


def split_of(model: str) -> Split:
    from hsmamba.zoo.source import find_folder

    split = find_folder(named(model)).load_split()
    if split is None:
        raise ValueError(f"{model} carries no split; give one with --split, or --all for every labelled pixel")
    return split


def check_writable(path: Path, suffixes: Sequence[str] = (), inputs: Sequence[str | Path] = ()) -> None:
    """Refuse an output that cannot be written, or is an input, before the work is done, not after."""
    if suffixes and path.suffix.lower() not in suffixes:
        raise ValueError(f"cannot write {path.suffix or 'a file without suffix'}; choose {', '.join(suffixes)}")
    folder = path.absolute().parent
    while not folder.exists():
        folder = folder.parent
    try:
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise ValueError(f"cannot write {str(path)!r}: {folder}: {error.strerror}; choose another folder") from None
    if path.is_dir() and path.suffix.lower() == ".zarr":
        raise ValueError(
            f"cannot write {str(path)!r}: it is there, and no Zarr group replaces another; move it away, or name "
            "another"
        )
    if path.is_dir():
        raise ValueError(f"cannot write {str(path)!r}: it is a folder; name a file in it")
    if path.exists() and any(Path(one).exists() and path.samefile(one) for one in inputs):
        raise ValueError(f"{str(path)!r} is an input and would be lost; name another file for the output")
