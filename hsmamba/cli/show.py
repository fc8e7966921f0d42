"""`hsmamba show`: what a file holds, as this library sees it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from hsmamba.cli._common import (
    MODEL_HELP,
    AuxOption,
    ClassesOption,
    JsonFlag,
    LabelsFieldOption,
    LabelsOption,
    LabelsVariableOption,
    SceneArgument,
    VariableOption,
    app,
    check_writable,
    load_model,
    numbers,
    open_or_load,
    say,
    tell,
)

if TYPE_CHECKING:
    from hsmamba.data import Scene

_PICTURES = (".png", ".pdf", ".svg", ".jpg")


@app.command("show")
def show_command(
    scene: SceneArgument,
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="Draw it: composite, labels, spectra, histogram (.png, .svg).")
    ] = None,
    model: Annotated[str | None, typer.Option("--model", "-m", help=f"Try whether it fits: {MODEL_HELP}")] = None,
    bands: Annotated[str | None, typer.Option(help="Of the composite, from 0: 29,19,9.")] = None,
    labels: LabelsOption = None,
    variable: VariableOption = None,
    labels_variable: LabelsVariableOption = None,
    labels_field: LabelsFieldOption = None,
    classes: ClassesOption = None,
    aux: AuxOption = None,
    as_json: JsonFlag = False,
) -> None:
    """Tell what a file holds: size, bands, place, invalid pixels, numbers, labels; and draw it."""
    if out is not None:
        check_writable(out, _PICTURES, [scene])
    opened = _open(scene, variable, labels, labels_variable, aux, classes, labels_field)
    found = _facts(opened)
    if model is not None:
        found["model"] = _tried(model, opened)
    if out is not None:
        from hsmamba import viz
        from hsmamba._files import atomic_path

        chosen = None if bands is None else [int(band) for band in _listed(bands)]
        figure = viz.overview(opened, bands=chosen, title=opened.name)
        with atomic_path(out) as temporary:
            figure.savefig(temporary, dpi=120)
        found["picture"] = str(out)
    if as_json:
        tell(found)
        return
    width = max(len(name) for name in found)
    for name, value in found.items():
        say(f"{name:<{width}}  {_in_words(value)}")


def _listed(text: str) -> tuple[float, ...]:
    found = numbers(text)
    return found if isinstance(found, tuple) else (found,)


def _open(path: str, *options: Any) -> Scene:
    """Open a scene, or an image of one band as a scene of one."""
    import numpy as np

    from hsmamba.data import Scene, open_image
    from hsmamba.errors import SceneError

    try:
        return open_or_load(path, *options)
    except SceneError as error:
        if not Path(path).is_file() or any(option is not None for option in options):
            raise
        image = open_image(path)
        if image.ndim != 2:
            raise error from None
        return Scene(np.asarray(image)[..., None], name=Path(path).stem, source=Path(path).name)


def _facts(scene: Scene) -> dict[str, Any]:
    """What the gate sees; the words are those of the errors that it would make of it."""
    import numpy as np

    from hsmamba.data.georeference import Georeference
    from hsmamba.data.units import likely, top
    from hsmamba.data.validity import Validity, valid_mask

    place = Georeference.of(scene.hsi)
    good = valid_mask(scene.hsi, "mask", bands=scene.good_bands)
    step = max(1, int(np.sqrt(good.size / 65536)))
    sample = np.asarray(scene.hsi[::step, ::step], np.float64)[good[::step, ::step]][:, scene.good_bands]
    facts: dict[str, Any] = {
        "name": scene.name,
        "rows": scene.shape[0],
        "columns": scene.shape[1],
        "bands": scene.num_bands,
        "type": str(np.dtype(scene.hsi.dtype)),
        "place": None if place is None else _place(place),
        "wavelengths": _span(scene.wavelengths),
        "bad bands": int(scene.num_bands - scene.good_bands.size),
        "invalid pixels": int((~good).sum()),
        "stands for no data": Validity.of(scene.hsi).in_words(),
        "numbers": [float(value) for value in np.percentile(sample, (0, 1, 50, 99, 100))] if sample.size else None,
        "likely full scale": likely(top(sample)) if sample.size else None,
        "auxiliary bands": 0 if scene.aux is None else int(scene.aux.shape[2]),
    }
    if scene.labels is not None:
        counts = np.bincount(np.asarray(scene.labels).ravel().astype(int), minlength=scene.num_classes + 1)
        names = scene.class_names or tuple(f"class {k}" for k in range(1, scene.num_classes + 1))
        facts["labels"] = {name: int(n) for name, n in zip(names, counts[1:], strict=False)}
    return facts


def _place(place: Any) -> dict[str, Any]:
    name = str(place.crs or "").partition('"')[2].partition('"')[0]
    corner = place.affine and {"upper left": [place.affine[2], place.affine[5]], "pixel": abs(place.affine[0])}
    return {"crs": name or None, **(corner or {"control points": len(place.gcps), "rpcs": place.rpcs is not None})}


def _span(wavelengths: Any) -> list[float] | None:
    import numpy as np

    if wavelengths is None or not np.isfinite(wavelengths).any():
        return None
    return [float(np.nanmin(wavelengths)), float(np.nanmax(wavelengths))]


def _tried(model: str, scene: Scene) -> str:
    """Tell whether a classifier takes the scene, with the words of the gate."""
    import warnings

    from hsmamba.cli._running import in_options
    from hsmamba.engine.classification.job import prepare_classification
    from hsmamba.errors import HsmambaError, HsmambaWarning

    network = load_model(model)
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        try:
            prepare_classification(network, scene)
        except (HsmambaError, ValueError, TypeError) as error:
            return in_options(f"{model} does not take it: {error}")
    notes = "; ".join(str(note.message) for note in told if issubclass(note.category, HsmambaWarning))
    return in_options(f"{model} takes it" + (f", with a warning: {notes}" if notes else ""))


def _in_words(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{key} {_in_words(part)}" for key, part in value.items())
    if isinstance(value, list):
        return " ".join(f"{part:.9g}" for part in value)
    return "-" if value in (None, "") else f"{value:.9g}" if isinstance(value, float) else str(value)
