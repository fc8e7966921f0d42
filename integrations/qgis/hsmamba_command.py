"""What the processing scripts beside it share: command lines of `hsmamba`, and how they are run, without QGIS.

QGIS brings a Python of its own, in which torch hardly ever is. So the scripts call the program `hsmamba` of whatever
environment it was installed in.
"""

from __future__ import annotations

import os
import queue
import shutil
import subprocess
import threading
from collections.abc import Callable, Sequence
from pathlib import Path

PROGRAM = "hsmamba"
_OF_QGIS = ("PYTHONHOME", "PYTHONPATH", "PYTHONEXECUTABLE")  # variables that point other Pythons to QGIS's libraries


class CommandError(RuntimeError):
    """The program is not there, said no, or was stopped."""


def source_file(source: str) -> str:
    """Return the file of a layer's source: `fields.gpkg|layername=crops` names a table in it."""
    return source.partition("|")[0]


def confidence_file(out: str) -> str:
    """Where `hsmamba classify` writes how sure it is of a map."""
    path = Path(out)
    return str(path.with_name(f"{path.stem}_confidence.tif"))


def classify_command(
    scene: str,
    model: str,
    out: str,
    *,
    aux: str = "",
    area: str = "",
    smooth: bool = False,
    mask: bool = True,
    program: str = PROGRAM,
) -> list[str]:
    """Make the command line that maps a scene.

    Args:
        scene: The image.
        model: A weight of the zoo, a model folder, or `hf-hub:owner/repo`.
        out: The map, a `.tif`.
        aux: An image of a second source on the same grid.
        area: Polygons that limit the map.
        smooth: Whether to diffuse the probabilities between neighbours that look alike.
        mask: Whether pixels without data are left out, rather than refused.
        program: `hsmamba`, or its path.
    """
    command = [program, "classify", scene, "--model", _model(model), "--out", _geotiff(out)]
    command += ["--aux", aux] if aux else []
    command += ["--area", area] if area else []
    command += ["--regularise", "on"] if smooth else []
    return [*command, *_masked(mask)]


def sharpen_command(
    ms: str,
    guide: str,
    model: str,
    out: str,
    *,
    adapt: float = 0.0,
    maximum: str = "",
    mask: bool = True,
    program: str = PROGRAM,
) -> list[str]:
    """Make the command line that sharpens an image.

    Args:
        ms: The coarse image.
        guide: The sharp image of the same ground.
        model: A weight of the zoo, a model folder, `hf-hub:owner/repo`, or a classical method (`GSA`, `MTF-GLP-HPM-R`).
        out: The sharpened image, a `.tif`.
        adapt: Seconds to tune on these images first; 0 does not. Classical methods have nothing to tune.
        maximum: What is 1 to the network: `2047`, or `10000,255` (coarse, sharp).
        mask: Whether pixels without data are left out, rather than refused.
        program: `hsmamba`, or its path.
    """
    command = [program, "fuse", ms, guide, "--model", _model(model), "--out", _geotiff(out)]
    command += ["--adapt", f"{adapt:g}"] if adapt else []
    command += ["--maximum", maximum] if maximum else []
    return [*command, *_masked(mask)]


def _model(model: str) -> str:
    if not model.strip():
        raise CommandError("no model is named; give a weight (hsmamba list --pretrained names them) or a model folder")
    return model.strip()


def _geotiff(out: str) -> str:
    if Path(out).suffix.lower() not in (".tif", ".tiff"):
        raise CommandError(f"the output is {out}; it is written as GeoTIFF: give it the ending .tif")
    return out


def _masked(mask: bool) -> list[str]:
    return ["--nan", "mask"] if mask else []


def run(command: Sequence[str], tell: Callable[[str], None], stopped: Callable[[], bool] = lambda: False) -> None:
    """Run a command line, and hand on what it says.

    Args:
        command: Of `classify_command` or `sharpen_command`.
        tell: Takes each line of its output.
        stopped: Asked several times a second; the program is ended once it says True.

    Raises:
        CommandError: The program is not there, ends with an error (its last line), or was stopped.
    """
    program = shutil.which(command[0])
    if program is None:
        raise CommandError(
            f'there is no program {command[0]!r}; install it (pip install "hsmamba[geo]") and give its whole path, '
            "such as /home/me/venv/bin/hsmamba"
        )
    environment = {name: value for name, value in os.environ.items() if name not in _OF_QGIS}
    hidden = getattr(subprocess, "CREATE_NO_WINDOW", 0)  # on Windows a console would open
    tell(subprocess.list2cmdline(command))
    with subprocess.Popen(
        [program, *command[1:]], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        env=environment, creationflags=hidden, encoding="utf-8", errors="replace",
    ) as process:  # fmt: skip
        lines: queue.Queue[str | None] = queue.Queue()
        threading.Thread(target=_read, args=(process, lines), daemon=True).start()
        last = ""
        while (line := _next(lines, process, stopped)) is not None:
            if line:
                last = line
                tell(line)
    if process.returncode:
        raise CommandError(last or f"{command[0]} ended with code {process.returncode}")


def _read(process: subprocess.Popen[str], lines: queue.Queue[str | None]) -> None:
    """Put lines into a queue, and None at their end: reading blocks, and who waits for it cannot be stopped."""
    for line in process.stdout or ():
        lines.put(line.rstrip())
    lines.put(None)


def _next(lines: queue.Queue[str | None], process: subprocess.Popen[str], stopped: Callable[[], bool]) -> str | None:
    """Wait for the next line; None at the end."""
    while True:
        if stopped():
            process.terminate()
            raise CommandError("stopped")
        try:
            return lines.get(timeout=0.2)
        except queue.Empty:
            continue
