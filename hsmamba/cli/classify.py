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
    TilesArgument,
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
from hsmamba.cli._rows import AreaOption, CogOption, ResumeOption, kept_rows

if TYPE_CHECKING:
    from hsmamba.data import Scene
    from hsmamba.data.class_maps import WriteMap
    from hsmamba.data.spool import Spool
    from hsmamba.engine.classification.job import ClassifyJob


_MOST_DRAWN = 2**26  # pixels of a picture


@app.command("classify")
def classify_command(
    scene: TilesArgument,
    model: Annotated[str, typer.Option("--model", "-m", help=MODEL_HELP)],
    out: Annotated[
        list[Path],
        typer.Option("--out", "-o", help="Output: .tif, .hdr (ENVI), .zarr, .npz, .npy, .png; may be repeated."),
    ],
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
    half: Annotated[
        float, typer.Option(help="Share of labels that half precision may change, for GPUs; 0 for single precision.")
    ] = 0.0,
    area: AreaOption = None,
    cog: CogOption = False,
    resume: ResumeOption = False,
    device: DeviceOption = None,
    quiet: QuietFlag = False,
    as_json: JsonFlag = False,
) -> None:
    """Classify every pixel of a scene and write the map, row by row."""
    import numpy as np

    from hsmamba.data.area import open_area
    from hsmamba.data.class_maps import MAPS, PAIRS, confidence_path
    from hsmamba.data.qgis import style_path
    from hsmamba.data.writers import RASTERS

    beside = [confidence_path(path) for path in out if path.suffix.lower() in PAIRS]
    written = (*out, *beside, *(style_path(path) for path in out if path.suffix.lower() in RASTERS))
    if len({path.absolute() for path in (*out, *beside)}) < len(out) + len(beside):
        raise ValueError("two of the outputs are one file (map.tif also writes map_confidence.tif); rename one")
    inputs: list[str | Path] = [*scene, *(path for path in (aux, area) if path is not None)]
    for path in (*out, *beside):
        check_writable(path, (*MAPS, ".png"), inputs)
    factors = numbers(scale)
    opened = open_or_load(scene, variable, aux=aux)
    from hsmamba.engine.classification.classes import shown_in_classes
    from hsmamba.engine.classification.job import prepare_classification
    from hsmamba.models import as_classifier

    network = as_classifier(load_model(model, device=device))
    options: Any = {
        "batch_size": batch_size, "nan": nan, "scale": factors, "tta": tta, "regularise": regularise,
        "half": half, "progress": shows_progress(as_json),
    }  # fmt: skip
    wanted = None if area is None else open_area(area, opened.hsi)
    job = prepare_classification(network, opened, wanted=wanted, **options)
    start = time.perf_counter()
    opened = shown_in_classes(network, opened)
    decided = {"variable": variable, **options, "progress": None, "device": device}
    row = (job.shape[1],)
    rows = [(row, job.dtype), (row, np.dtype(np.float32))]
    with kept_rows(out[0], network, inputs, decided, rows, job.shape[0], resume=resume) as spool:
        counts = _run(job, out, opened, spool, cog=cog)
    seconds = time.perf_counter() - start
    if as_json:
        tell({"pixels": counts, "seconds": seconds, "files": [str(path) for path in written]})
        return
    width = max(len(key) for key in counts)
    say("\n".join(f"{key:<{width}}  {count:>9}" for key, count in counts.items()))
    say(f"wrote {', '.join(map(str, written))}; took {seconds:.1f} s")


def _run(job: ClassifyJob, out: list[Path], scene: Scene, spool: Spool, *, cog: bool) -> dict[str, int]:
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
                else map_rows(path, job.shape, job.dtype, grid=grid, class_names=names, cog=cog)
            )
            for path in out
        ]

        def write(top: int, labels: Any, confidence: Any) -> None:
            counts[:] += np.bincount(labels.ravel(), minlength=counts.size)
            for one in writers:
                one(top, labels, confidence)

        def keep(top: int, labels: Any, confidence: Any) -> None:
            write(top, labels, confidence)
            spool.write(top, labels, confidence)

        for top, rows in spool.read():
            write(top, *rows)
        job.run(keep, start=spool.done)
    return {name: int(n) for name, n in zip(("unclassified", *names), counts, strict=True) if n}


@contextmanager
def _picture(path: Path, shape: tuple[int, int], dtype: Any, scene: Scene) -> Iterator[WriteMap]:
    """Hold a map and draw it."""
    import numpy as np

    from hsmamba import viz
    from hsmamba._files import atomic_path

    if shape[0] * shape[1] > _MOST_DRAWN:
        raise ValueError(f"a picture holds its {shape[0]} x {shape[1]} pixels in memory; write .tif instead of .png")
    whole = np.zeros(shape, dtype), np.zeros(shape, np.float32)

    def write(top: int, *rows: Any) -> None:
        for array, part in zip(whole, rows, strict=True):
            array[top : top + len(part)] = part

    with atomic_path(path) as temporary:
        yield write
        viz.classification_map(scene, *whole).savefig(temporary, dpi=150)
