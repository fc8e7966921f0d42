"""`hsmamba classify`: label every pixel of a scene and write the map."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from hsmamba.cli._common import (
    MODEL_HELP,
    AuxOption,
    DeviceOption,
    JsonFlag,
    NanOption,
    QuietFlag,
    ScaleOption,
    SceneArgument,
    VariableOption,
    app,
    check_writable,
    load_model,
    numbers,
    open_or_load,
    say,
    shows_progress,
    tell,
)

if TYPE_CHECKING:
    from hsmamba.data import Scene
    from hsmamba.data.class_maps import WriteMap
    from hsmamba.engine.classification.job import ClassifyJob


@app.command("classify")
def classify_command(
    scene: SceneArgument,
    model: Annotated[str, typer.Option("--model", "-m", help=MODEL_HELP)],
    out: Annotated[list[Path], typer.Option("--out", "-o", help="Output: .tif, .npz, .npy or .png; may be repeated.")],
    variable: VariableOption = None,
    aux: AuxOption = None,
    nan: NanOption = "raise",
    scale: ScaleOption = None,
    tta: Annotated[
        bool, typer.Option("--tta", help="Average over flips and quarter turns (8 times the work).")
    ] = False,
    regularise: Annotated[
        str, typer.Option(help="on: diffuse the probabilities between neighbours that look alike; off.")
    ] = "off",
    batch_size: Annotated[int | None, typer.Option(help="Pixels at a time.")] = None,
    device: DeviceOption = None,
    quiet: QuietFlag = False,
    as_json: JsonFlag = False,
) -> None:
    """Classify every pixel of a scene and write the map, row by row."""
    from hsmamba.data.class_maps import MAPS, confidence_path
    from hsmamba.data.qgis import style_path
    from hsmamba.data.writers import RASTERS

    rasters = [path for path in out if path.suffix.lower() in RASTERS]
    beside = [confidence_path(path) for path in rasters]
    written = (*out, *beside, *map(style_path, rasters))
    if len({path.absolute() for path in (*out, *beside)}) < len(out) + len(beside):
        raise ValueError("two of the outputs are one file (map.tif also writes map_confidence.tif); rename one")
    for path in (*out, *beside):
        check_writable(path, (*MAPS, ".png"), [scene, *([] if aux is None else [aux])])
    factors = numbers(scale)
    opened = open_or_load(scene, variable, aux=aux)
    from hsmamba.engine.classification.classes import shown_in_classes
    from hsmamba.engine.classification.job import prepare_classification
    from hsmamba.models import as_classifier

    network = as_classifier(load_model(model, device=device))
    options: Any = {
        "batch_size": batch_size, "nan": nan, "scale": factors, "tta": tta, "regularise": regularise,
        "progress": shows_progress(as_json),
    }  # fmt: skip
    job = prepare_classification(network, opened, **options)
    start = time.perf_counter()
    opened = shown_in_classes(network, opened)
    counts = _run(job, out, opened)
    seconds = time.perf_counter() - start
    if as_json:
        tell({"pixels": counts, "seconds": seconds, "files": [str(path) for path in written]})
        return
    width = max(len(key) for key in counts)
    say("\n".join(f"{key:<{width}}  {count:>9}" for key, count in counts.items()))
    say(f"wrote {', '.join(map(str, written))}; took {seconds:.1f} s")


def _run(job: ClassifyJob, out: list[Path], scene: Scene) -> dict[str, int]:
    """Run a classification once into all outputs; return the number of pixels by class."""
    import numpy as np

    from hsmamba.data.class_maps import map_rows

    counts = np.zeros(job.model.num_classes + 1, dtype=np.int64)
    grid, names = job.sources["hsi"], scene.class_names
    with ExitStack() as outputs:
        writers = [
            outputs.enter_context(
                _picture(path, job.shape, job.dtype, scene)
                if path.suffix.lower() == ".png"
                else map_rows(path, job.shape, job.dtype, grid=grid, class_names=names)
            )
            for path in out
        ]

        def write(top: int, labels: Any, confidence: Any) -> None:
            counts[:] += np.bincount(labels.ravel(), minlength=counts.size)
            for one in writers:
                one(top, labels, confidence)

        job.run(write)
    return {name: int(n) for name, n in zip(("unclassified", *names), counts, strict=True) if n}


@contextmanager
def _picture(path: Path, shape: tuple[int, int], dtype: Any, scene: Scene) -> Iterator[WriteMap]:
    """Hold a map and draw it."""
    import numpy as np

    from hsmamba import viz
    from hsmamba._files import atomic_path

    whole = np.zeros(shape, dtype), np.zeros(shape, np.float32)

    def write(top: int, *rows: Any) -> None:
        for array, part in zip(whole, rows, strict=True):
            array[top : top + len(part)] = part

    with atomic_path(path) as temporary:
        yield write
        viz.classification_map(scene, *whole).savefig(temporary, dpi=150)
