"""Measure how much memory the command line takes for scenes of growing size.

Run from the repository's root:
python tools/memory.py [classify] [fuse] [--gigabytes 0.5 2 8 32] [--seconds 120] [--method EXP] [--zarr].

Each scene is a tiled GeoTIFF of that size whose values are a hole in the file: it takes no room on the disk, and reads
as zeros, uncompressed. `classify` runs a linear classifier (`lda`) on four components of all bands; `fuse` runs a small
RSANet, or the classical `--method`, into a GeoTIFF, or with `--zarr` into chunks that are compressed, for a result that
would not fit on the disk. A run that takes longer than `--seconds` is interrupted there, and the table says
which share of its rows was done. Peaks are those of the process (`VmHWM`, and of it what is no mapped file, `RssAnon`
sampled ten times a second), less those of the same command on a scene of a few pixels: the interpreter with its
libraries.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import signal
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

WIDTH, TILE = 4096, 256
BANDS = 224  # of a hyperspectral scene
MS_BANDS, RATIO = 4, 4


@dataclass
class Peak:
    """What a run took."""

    whole: float  # MB
    anonymous: float  # MB
    share: float  # of the rows that were done
    seconds: float


def sparse_tiff(path: Path, height: int, width: int, bands: int) -> Path:
    """Write a BigTIFF of uint16 in tiles, all bands of a pixel together, whose values are a hole.

    Layout: TIFF 6.0 (Adobe, 1992), sections 2 and 15; BigTIFF (Aware Systems, https://www.awaresystems.be/imaging/tiff/
    bigtiff.html).
    """
    count = -(-height // TILE) * -(-width // TILE)
    size = TILE * TILE * bands * 2
    extra: list[bytes] = []
    place = 16 + 8 + 20 * 12 + 8  # header, number of entries, entries, next directory

    def entry(tag: int, kind: str, *values: int) -> bytes:
        nonlocal place
        code = {"H": 3, "I": 4, "Q": 16}[kind]
        data = struct.pack(f"<{len(values)}{kind}", *values)
        if len(data) > 8:
            extra.append(data)
            place, data = place + len(data), struct.pack("<Q", place)
        return struct.pack("<HHQ", tag, code, len(values)) + data.ljust(8, b"\0")

    start = 16 + 8 + 20 * 12 + 8 + 4 * bands + 2 * bands + 16 * count
    start += -start % 4096
    entries = [
        entry(256, "I", width), entry(257, "I", height), entry(258, "H", *[16] * bands), entry(259, "H", 1),
        entry(262, "H", 1), entry(277, "H", bands), entry(284, "H", 1), entry(322, "I", TILE), entry(323, "I", TILE),
        entry(324, "Q", *(start + size * tile for tile in range(count))), entry(325, "Q", *[size] * count),
        *([entry(338, "H", *[0] * (bands - 1))] if bands > 1 else []),
    ]  # fmt: skip
    with path.open("wb") as file:
        file.write(struct.pack("<2sHHHQ", b"II", 43, 8, 0, 16))
        file.write(struct.pack("<Q", len(entries)) + b"".join(entries) + struct.pack("<Q", 0))
        file.seek(16 + 8 + 20 * 12 + 8)
        file.write(b"".join(extra))
        file.truncate(start + size * count)
    return path


def classifier(folder: Path) -> Path:
    """Save a linear classifier of four components."""
    import torch

    from hsmamba import create_model, save_pretrained
    from hsmamba.data import PCA, Compose, Standardise

    torch.manual_seed(0)
    model = create_model("lda", in_chans=4, num_classes=5, windows=(1, 3))
    pixels = np.random.default_rng(0).normal(size=(500, BANDS)).astype(np.float32)
    return save_pretrained(model, folder, transform=Compose([Standardise(), PCA(4)]).fit(pixels))


def sharpener(folder: Path) -> Path:
    """Save a small fusion network."""
    import torch

    from hsmamba import create_model, save_pretrained
    from hsmamba.data import Compose, SensorScale

    torch.manual_seed(0)
    network = create_model("rsanet", in_chans=MS_BANDS, dim=4, depth=1, recursions=1)
    transform = Compose([SensorScale(1 / 2047), SensorScale(1 / 2047, on="aux")])
    return save_pretrained(network, folder, transform=transform, data={"sensor": "QB"})


def classify_command(folder: Path, model: Path, gigabytes: float) -> tuple[list[str], int]:
    """Make a scene; return the command for it and its rows."""
    width = WIDTH if gigabytes else TILE
    height = max(TILE, round(gigabytes * 1e9 / (width * BANDS * 2)))
    scene = sparse_tiff(folder / "scene.tif", height, width, BANDS)
    return ["classify", str(scene), "-m", str(model), "-o", str(folder / "map.tif"), "--scale", "1"], height


def fuse_command(folder: Path, model: Path, gigabytes: float, out: str = "fused.tif") -> tuple[list[str], int]:
    """Make a pair; return the command for it and the rows of its guide."""
    width = WIDTH * RATIO if gigabytes else TILE
    height = RATIO * max(TILE // RATIO, round(gigabytes * 1e9 / (width * 2 * (1 + MS_BANDS / RATIO**2)) / RATIO))
    guide = sparse_tiff(folder / "pan.tif", height, width, 1)
    ms = sparse_tiff(folder / "ms.tif", height // RATIO, width // RATIO, MS_BANDS)
    return ["fuse", str(ms), str(guide), "-m", str(model), "-o", str(folder / out)], height


Prepare = Callable[[Path, Path, float], tuple[list[str], int]]
COMMANDS: dict[str, tuple[Callable[[Path], Path], Prepare]] = {
    "classify": (classifier, classify_command),
    "fuse": (sharpener, fuse_command),
}


def measure(command: list[str], seconds: float) -> Peak:
    """Run the command line, and interrupt it when the time is up."""
    start = time.perf_counter()
    code = "from hsmamba.cli import main; main()"
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(ROOT), *sys.path]), "OMP_NUM_THREADS": "1"}
    with tempfile.TemporaryFile("w+", errors="replace") as log:
        process = subprocess.Popen([sys.executable, "-c", code, *command], stderr=log, stdout=log, env=environment)
        status, peak, anonymous, told = Path(f"/proc/{process.pid}/status"), 0.0, 0.0, False
        while process.poll() is None:
            found = dict(re.findall(r"(VmHWM|RssAnon):\s+(\d+) kB", status.read_text()))
            peak = max(peak, float(found.get("VmHWM", 0)) / 1e3)
            anonymous = max(anonymous, float(found.get("RssAnon", 0)) / 1e3)
            if not told and time.perf_counter() - start > seconds:
                process.send_signal(signal.SIGINT)
                told = True
            time.sleep(0.1)
        log.seek(0)
        text = log.read()
    if process.returncode not in (0, 130):
        raise SystemExit(f"{' '.join(command)} failed: {text[-2000:]}")
    rates = re.findall(r"(\d+)%\|", text)
    share = 1.0 if process.returncode == 0 else float(rates[-1]) / 100 if rates else 0.0
    return Peak(peak, anonymous, share, time.perf_counter() - start)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("verbs", nargs="*", default=list(COMMANDS), metavar="VERB", help=f"of {', '.join(COMMANDS)}")
    parser.add_argument("--gigabytes", type=float, nargs="+", default=[0.5, 2, 8, 32])
    parser.add_argument("--seconds", type=float, default=120.0, help="of a run, at most")
    parser.add_argument("--method", help="classical, to fuse by instead of the network: EXP, GSA, ...")
    parser.add_argument("--zarr", action="store_true", help="write what is fused compressed")
    args = parser.parse_args()
    print(f"{'verb':<10}{'input':>9}{'rows':>10}{'done':>7}{'seconds':>9}{'peak':>10}{'without mapped files':>22}")
    for verb in args.verbs:
        make, prepare = COMMANDS[verb]
        if verb == "fuse" and args.zarr:
            prepare = partial(fuse_command, out="fused.zarr")
        with tempfile.TemporaryDirectory(prefix="memory-") as name:
            folder = Path(name)
            model = Path(args.method) if verb == "fuse" and args.method else make(folder / "model")
            least = measure(prepare(folder, model, 0)[0], args.seconds)
            row = f"{verb:<10}{'tiny':>9}{TILE:>10}{'':>16}{least.whole:>7.0f} MB{least.anonymous:>19.0f} MB"
            print(row, flush=True)
            for gigabytes in args.gigabytes:
                shutil.rmtree(folder / "fused.zarr", ignore_errors=True)
                command, rows = prepare(folder, model, gigabytes)
                found = measure(command, args.seconds)
                more = found.whole - least.whole, found.anonymous - least.anonymous
                print(
                    f"{verb:<10}{gigabytes:>6g} GB{rows:>10}{found.share:>7.0%}{found.seconds:>9.0f}"
                    f"{more[0]:>+7.0f} MB{more[1]:>+19.0f} MB",
                    flush=True,
                )


if __name__ == "__main__":
    main()
