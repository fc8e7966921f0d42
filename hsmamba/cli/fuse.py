"""`hsmamba fuse`: sharpen a coarse image with a guide, row by row into the output."""

from __future__ import annotations

import time
import warnings
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from hsmamba.cli._common import (
    MODEL_HELP,
    DeviceOption,
    JsonFlag,
    QuietFlag,
    app,
    check_writable,
    load_model,
    numbers,
    say,
    shows_progress,
    tell,
)
from hsmamba.cli._rows import AreaOption, CogOption, ResumeOption, kept_rows
from hsmamba.cli._running import in_options
from hsmamba.errors import HsmambaWarning

if TYPE_CHECKING:
    from hsmamba.data.spool import Spool
    from hsmamba.data.writers import WriteRows
    from hsmamba.engine.fusion.job import FusionJob


@app.command("fuse")
def fuse_command(
    ms: Annotated[
        str, typer.Argument(help="The coarse image (MS, HSI): .tif, .vrt, ENVI .hdr, .npy, .mat; - for none.")
    ],
    guide: Annotated[str, typer.Argument(help="The sharp image (PAN, RGB, SAR) of the same ground.")],
    model: Annotated[
        str,
        typer.Option(
            "--model",
            "-m",
            help=f"{MODEL_HELP} Or a classical method: EXP, Brovey, GSA, MTF-GLP-HPM, MTF-GLP-FS, MTF-GLP-HPM-R.",
        ),
    ],
    out: Annotated[Path, typer.Option("--out", "-o", help="Output: .tif, .hdr (ENVI), .zarr or .npy.")],
    ms_up: Annotated[
        str | None, typer.Option(help="The coarse image on the guide's grid; with - as MS where it is all there is.")
    ] = None,
    maximum: Annotated[
        str | None,
        typer.Option(help="What is 1 to the network: 2047, '10000,255' (MS, guide) or a sensor, 'WV3'."),
    ] = None,
    tile: Annotated[int | None, typer.Option(help="Side of a tile or window in pixels of MS.")] = None,
    overlap: Annotated[
        int | None, typer.Option(help="Pixels of MS that windows share; three quarters of one: as LE-Mamba's authors.")
    ] = None,
    batch_size: Annotated[
        int | None, typer.Option(help="Windows of a global network at a time; default 8, on a GPU up to 64.")
    ] = None,
    nan: Annotated[str, typer.Option(help="raise: refuse invalid pixels; mask: leave them invalid.")] = "raise",
    adapt: Annotated[
        float | None,
        typer.Option(help="Seconds to tune on these images first; then the best on held-out tiles is used."),
    ] = None,
    gains: Annotated[
        str | None,
        typer.Option(help="match: bring the brightness to that of the weight's training (default); none: leave it."),
    ] = None,
    consistent: Annotated[
        bool | None,
        typer.Option(
            help="Make the result agree with both images by the MTF and the guide's bands; default: the weight's."
        ),
    ] = None,
    sensor: Annotated[
        str | None, typer.Option(help="Whose MTF a classical method takes: WV2, IKONOS, ...; default generic.")
    ] = None,
    ms_variable: Annotated[str | None, typer.Option(help="Name of MS in a file with several arrays.")] = None,
    guide_variable: Annotated[str | None, typer.Option(help="Name of the guide in a file with several arrays.")] = None,
    area: AreaOption = None,
    cog: CogOption = False,
    resume: ResumeOption = False,
    device: DeviceOption = None,
    quiet: QuietFlag = False,
    as_json: JsonFlag = False,
) -> None:
    """Sharpen a coarse image with a guide; the result lies on the guide's grid, in the units of the coarse image."""
    from hsmamba.data.area import open_area
    from hsmamba.data.outputs import IMAGES, image_rows

    images = {"ms": None if ms == "-" else ms, "guide": guide, "ms_up": ms_up}
    inputs: list[str | Path] = [path for path in (*images.values(), area) if path is not None]
    check_writable(out, IMAGES, inputs)
    if resume and adapt is not None:
        raise ValueError(
            "what --adapt tunes is another network each time, so that --resume cannot go on with it; leave one out"
        )
    opened = _opened(images, {"ms": ms_variable, "guide": guide_variable})
    wanted = None if area is None else open_area(area, opened["guide"])
    options = {"maximum": numbers(maximum), "tile": tile, "overlap": overlap, "batch_size": batch_size}
    options |= {"adapt": adapt, "gains": gains, "consistent": consistent}
    given = {name: value for name, value in options.items() if value is not None}
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        job = _job(model, opened, given, sensor=sensor, device=device, nan=nan, progress=shows_progress(as_json))
    notes = [in_options(str(note.message)) for note in told if issubclass(note.category, HsmambaWarning)]
    for note in notes:
        typer.echo(f"hsmamba: warning: {note}", err=True)
    job = replace(job, wanted=wanted)
    report = None if job.adaptation is None else job.adaptation.report
    if report is not None and not as_json:
        say(report)
    start = time.perf_counter()
    decided = {"model": model, "guide": guide_variable, "ms": ms_variable, **options, "sensor": sensor, "nan": nan}
    place = {"grid": job.images.guide.array, "values": job.coarse.array}
    row = [(job.shape[1:], job.dtype)]
    with (
        kept_rows(out, job.model, inputs, decided, row, job.shape[0], resume=resume) as spool,
        image_rows(out, job.shape, job.dtype, nodata=job.fill_value, cog=cog, **place) as write,
    ):
        _run(job, write, spool)
    seconds = time.perf_counter() - start
    height, width, bands = job.shape
    if as_json:
        found = {} if report is None else {"adapt": report.to_dict()}
        tell({"shape": job.shape, "seconds": seconds, "file": str(out), "warnings": notes, **found})
        return
    say(f"wrote {out}: {height} x {width} pixels, {bands} bands, {job.dtype}")
    say(f"took {seconds:.1f} s, {height * width / seconds:,.0f} pixels a second")


def _opened(images: dict[str, str | None], variables: dict[str, str | None]) -> dict[str, Any]:
    """Open the images, and tell the order where they are swapped."""
    from hsmamba.data import open_image

    opened = {name: open_image(path, variable=variables.get(name)) for name, path in images.items() if path is not None}
    ms, guide = opened.get("ms"), opened["guide"]
    if ms is not None and ms.shape[0] > guide.shape[0] and ms.shape[1] > guide.shape[1]:
        raise ValueError(
            f"the first image is {ms.shape[0]} x {ms.shape[1]} pixels, the second {guide.shape[0]} x {guide.shape[1]}: "
            "the coarse image comes first, the sharp one second, as in Python (it was the other way round before); "
            "swap them"
        )
    return opened


def _job(model: str, images: dict[str, Any], given: dict[str, Any], *, sensor: str | None, **options: Any) -> FusionJob:
    """Prepare a fusion by a network, or by a classical method, which takes no option of networks."""
    from hsmamba.engine.fusion.classical_job import method_named, prepare_classical
    from hsmamba.engine.fusion.job import prepare_fusion

    device = options.pop("device")
    if method_named(model) is None:
        if sensor is not None:
            raise ValueError("--sensor is for classical methods, a network brings its own; leave it out")
        gains = None if given.get("gains") == "none" else given.get("gains", "match")
        chosen = {**given, "gains": gains, **options}
        network = load_model(model, device=device)
        return prepare_fusion(network, images.pop("ms", None), **images, device=device, **chosen)
    options["consistent"] = bool(given.pop("consistent", False))
    odd = [f"--{name.replace('_', '-')}" for name in (*given, *(["ms_up"] if "ms_up" in images else []))]
    if odd:
        raise ValueError(f"{model} is a classical method and has no use for {' and '.join(odd)}; leave that out")
    if "ms" not in images:
        raise ValueError(f"{model} is a classical method; give the coarse image on its own grid as MS")
    return prepare_classical(model, images["ms"], images["guide"], sensor=sensor or "generic", **options)


def _run(job: FusionJob, write: WriteRows, spool: Spool) -> None:
    """Write what is kept of an interrupted run, and go on."""

    def keep(top: int, rows: Any) -> None:
        write(top, rows)
        spool.write(top, rows)

    for top, (rows,) in spool.read():
        write(top, rows)
    job.run(write if job.adaptation is not None else keep, start=spool.done)
