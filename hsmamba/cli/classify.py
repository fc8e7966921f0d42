"""`hsmamba classify`: label every pixel of a scene and write the map."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from hsmamba.cli._common import (
    MODEL_HELP,
    AuxOption,
    DeviceOption,
    JsonFlag,
    NanOption,
    SceneArgument,
    VariableOption,
    app,
    check_writable,
    load_model,
    open_or_load,
    say,
)

if TYPE_CHECKING:
    from hsmamba.data import Scene


@app.command("classify")
def classify_command(
    scene: SceneArgument,
    model: Annotated[str, typer.Option("--model", "-m", help=MODEL_HELP)],
    out: Annotated[list[Path], typer.Option("--out", "-o", help="Output: .tif, .npz, .npy or .png; may be repeated.")],
    variable: VariableOption = None,
    aux: AuxOption = None,
    nan: NanOption = "raise",
    tta: Annotated[
        bool, typer.Option("--tta", help="Average over flips and quarter turns (8 times the work).")
    ] = False,
    batch_size: Annotated[int | None, typer.Option(help="Pixels at a time.")] = None,
    device: DeviceOption = None,
    as_json: JsonFlag = False,
) -> None:
    """Classify every pixel of a scene and write the map."""
    for path in out:
        if path.suffix not in _WRITERS:
            raise ValueError(f"cannot write {path.suffix or 'a file without suffix'}; choose {', '.join(_WRITERS)}")
        check_writable(path)
    opened = open_or_load(scene, variable, aux=aux)
    from hsmamba import classify
    from hsmamba.engine.classification.classes import shown_in_classes
    from hsmamba.models import as_classifier

    network = as_classifier(load_model(model, device=device))
    start = time.perf_counter()
    labels, confidence = classify(network, opened, batch_size=batch_size, nan=nan, tta=tta, progress=not as_json)
    seconds = time.perf_counter() - start
    opened = shown_in_classes(network, opened)
    for path in out:
        _WRITERS[path.suffix](path, opened, labels, confidence)
    counts = _counts(labels, opened.class_names)
    if as_json:
        say(json.dumps({"pixels": counts, "seconds": seconds, "files": [str(path) for path in out]}))
        return
    width = max(len(key) for key in counts)
    say("\n".join(f"{key:<{width}}  {count:>9}" for key, count in counts.items()))
    say(f"wrote {', '.join(map(str, out))}; took {seconds:.1f} s")


def _counts(labels: Any, names: tuple[str, ...]) -> dict[str, int]:
    import numpy as np

    values, counts = np.unique(np.asarray(labels), return_counts=True)
    label = dict(enumerate(("unclassified", *names)))
    return {label.get(int(v), f"class {v}"): int(n) for v, n in zip(values, counts, strict=True)}


def _write_arrays(path: Path, scene: Scene, labels: Any, confidence: Any) -> None:
    import numpy as np

    from hsmamba._files import atomic_path

    with atomic_path(path) as temporary:
        if path.suffix == ".npy":
            np.save(temporary, np.asarray(labels))
        else:
            np.savez_compressed(temporary, labels=np.asarray(labels), confidence=np.asarray(confidence))


def _write_tif(path: Path, scene: Scene, labels: Any, confidence: Any) -> None:
    from hsmamba.data.writers import write_raster

    write_raster(path, labels, nodata=0)
    write_raster(path.with_name(f"{path.stem}_confidence{path.suffix}"), confidence)


def _write_png(path: Path, scene: Scene, labels: Any, confidence: Any) -> None:
    from hsmamba import viz
    from hsmamba._files import atomic_path

    figure = viz.classification_map(scene, labels, confidence)
    with atomic_path(path) as temporary:
        figure.savefig(temporary, dpi=150)


_WRITERS = {".tif": _write_tif, ".tiff": _write_tif, ".npz": _write_arrays, ".npy": _write_arrays, ".png": _write_png}
