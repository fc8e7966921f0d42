"""`hsmamba fuse`: sharpen a coarse image with a guide, row by row into the output."""

from __future__ import annotations

import json
import time
import warnings
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from hsmamba.cli._common import MODEL_HELP, DeviceOption, JsonFlag, app, check_writable, load_model, numbers, say
from hsmamba.errors import HsmambaWarning

if TYPE_CHECKING:
    from hsmamba.data.writers import WriteRows
    from hsmamba.engine.fusion.job import FusionJob

_SUFFIXES = (".tif", ".tiff", ".npy")


@app.command("fuse")
def fuse_command(
    guide: Annotated[Path, typer.Argument(help="The sharp image (PAN, RGB, SAR): GeoTIFF, ENVI .hdr, .npy, .mat.")],
    ms: Annotated[Path, typer.Argument(help="The coarse image (MS, HSI) of the same ground.")],
    model: Annotated[str, typer.Option("--model", "-m", help=MODEL_HELP)],
    out: Annotated[Path, typer.Option("--out", "-o", help="Output: .tif or .npy.")],
    maximum: Annotated[
        str | None,
        typer.Option(help="What is 1 to the network: 2047, '10000,255' (MS, guide) or a sensor, 'WV3'."),
    ] = None,
    tile: Annotated[int | None, typer.Option(help="Side of a tile or window in pixels of MS.")] = None,
    batch_size: Annotated[int, typer.Option(help="Windows of a global network at a time.")] = 8,
    nan: Annotated[str, typer.Option(help="raise: refuse invalid pixels; mask: leave them invalid.")] = "raise",
    adapt: Annotated[
        float | None,
        typer.Option(help="Seconds to tune on these images first; then the best on held-out tiles is used."),
    ] = None,
    gains: Annotated[
        str, typer.Option(help="match: bring the brightness to that of the weight's training; none: leave it.")
    ] = "match",
    guide_variable: Annotated[str | None, typer.Option(help="Name of the guide in a file with several arrays.")] = None,
    ms_variable: Annotated[str | None, typer.Option(help="Name of MS in a file with several arrays.")] = None,
    device: DeviceOption = None,
    as_json: JsonFlag = False,
) -> None:
    """Sharpen a coarse image with a guide; the result lies on the guide's grid, in the units of the coarse image."""
    check_writable(out, _SUFFIXES, (guide, ms))
    from hsmamba.data import open_image
    from hsmamba.engine.fusion.job import prepare_fusion

    images: dict[str, Any] = {
        "ms": open_image(ms, variable=ms_variable),
        "guide": open_image(guide, variable=guide_variable),
    }
    options: Any = {
        "tile": tile, "batch_size": batch_size, "device": device, "nan": nan, "adapt": adapt,
        "gains": None if gains == "none" else gains, "progress": not as_json,
    }  # fmt: skip
    network = load_model(model, device=device)
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        job = prepare_fusion(network, **images, maximum=numbers(maximum), **options)
    notes = [str(note.message) for note in told if issubclass(note.category, HsmambaWarning)]
    for note in notes:
        typer.echo(f"hsmamba: warning: {note}", err=True)
    report = None if job.adaptation is None else job.adaptation.report
    if report is not None and not as_json:
        say(report)
    start = time.perf_counter()
    with _writer(out, job) as write:
        job.run(write)
    seconds = time.perf_counter() - start
    height, width, bands = job.shape
    if as_json:
        found = {} if report is None else {"adapt": report.to_dict()}
        say(json.dumps({"shape": job.shape, "seconds": seconds, "file": str(out), "warnings": notes, **found}))
        return
    say(f"wrote {out}: {height} x {width} pixels, {bands} bands, {job.dtype}")
    say(f"took {seconds:.1f} s, {height * width / seconds:,.0f} pixels a second")


def _writer(path: Path, job: FusionJob) -> AbstractContextManager[WriteRows]:
    """Open the output for rows; it appears when it is whole."""
    from hsmamba.data.writers import array_rows, raster_rows

    if path.suffix.lower() == ".npy":
        return array_rows(path, job.shape, job.dtype)
    grid, values = job.images.guide.array, job.coarse.array
    return raster_rows(path, job.shape, job.dtype, grid=grid, values=values, nodata=job.fill_value)
