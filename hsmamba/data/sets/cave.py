"""CAVE, the benchmark of hyperspectral and RGB fusion, out of the folder of data.

`cave/` holds it as it is distributed (SCENE_ms folders of 31 PNG files, however deep), or packed: SCENE.train.xz and
SCENE.test.xz.
"""

from __future__ import annotations

import lzma
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from hsmamba.data.pairs import FusionPairs, simulated_pair, training_image
from hsmamba.data.scene import PathLike
from hsmamba.data.sensors import get_sensor
from hsmamba.data.sets.catalog import find_data
from hsmamba.data.srf import nikon_d700, simulate_bands
from hsmamba.errors import DataNotFoundError, SceneError

CAVE_BANDS = 31  # 400, 410, ..., 700 nm
# The usual 20 training and 11 test scenes; watercolors, the 32nd, is in neither part.
CAVE_TRAINING = (
    *("beads", "cloth", "egyptian_statue", "face", "fake_and_real_food", "fake_and_real_lemons"),
    *("fake_and_real_peppers", "fake_and_real_strawberries", "fake_and_real_sushi", "glass_tiles", "oil_painting"),
    *("paints", "photo_and_face", "pompoms", "real_and_fake_apples", "real_and_fake_peppers", "sponges"),
    *("stuffed_toys", "superballs", "thread_spools"),
)
CAVE_TEST = (
    *("balloons", "cd", "chart_and_stuffed_toy", "clay", "fake_and_real_beers", "fake_and_real_lemon_slices"),
    *("fake_and_real_tomatoes", "feathers", "flowers", "hairs", "jelly_beans"),
)
# Scenes of the usual training part that choose the epoch: two that resemble neither each other nor most of the rest.
CAVE_VALIDATION = ("fake_and_real_sushi", "pompoms")
_TRAINING_SIDE = 384  # of the centre that packed training scenes hold


def read_cave(path: str | Path) -> npt.NDArray[np.float32]:
    """Read a CAVE scene: a folder of the distribution, or a packed file.

    A folder holds 31 PNG files of 16 bits, `SCENE_ms_01.png` (400 nm) to `SCENE_ms_31.png` (700 nm). The packed form
    has 12 bits a sample: the differences along the bands as little-endian int16, split into a plane of low bytes and
    one of high bytes, xz-compressed.

    Returns:
        (31, H, W), 0 to 1.

    Raises:
        FileNotFoundError: No such file.
        SceneError: It is something else.
    """
    path = Path(path)
    return _read_folder(path) if path.is_dir() else _read_packed(path)


def _read_folder(folder: Path) -> npt.NDArray[np.float32]:
    from PIL import Image

    files = sorted(folder.glob("*_[0-3][0-9].png"))
    if len(files) != CAVE_BANDS:
        raise SceneError(f"{folder} is no CAVE scene: it has {len(files)} files *_01.png, *_02.png, ..., expected 31")
    bands = []
    for path in files:
        with Image.open(path) as image:
            bands.append(np.asarray(image))
        if bands[-1].ndim != 2 or bands[-1].dtype.itemsize < 2:  # older Pillow reads 16 bits as int32
            raise SceneError(f"{path} has {image.mode} pixels, expected grey values of 16 bits")
    cube: npt.NDArray[np.float32] = np.stack(bands).astype(np.float32) / np.float32(65535)
    return cube


def _read_packed(path: Path) -> npt.NDArray[np.float32]:
    try:
        raw = np.frombuffer(lzma.decompress(path.read_bytes()), np.uint8)
        side = round((raw.size // 2 // CAVE_BANDS) ** 0.5)
        low, high = raw.reshape(2, CAVE_BANDS, side, side).astype(np.uint16)
    except (lzma.LZMAError, ValueError) as error:
        raise SceneError(f"{path} is no packed CAVE scene ({error}); see hsmamba.data.sets.cave.read_cave") from error
    steps = (low | (high << 8)).view(np.int16)
    cube: npt.NDArray[np.float32] = np.cumsum(steps, axis=0, dtype=np.int32).astype(np.float32) / np.float32(4095)
    return cube


def load_cave(
    root: PathLike | None = None,
    *,
    ratio: int,
    val: Sequence[str] = CAVE_VALIDATION,
    val_size: int = 192,
    sensor: str = "generic",
) -> FusionPairs:
    """Load the CAVE benchmark: 31 bands and an RGB guide by the response of a Nikon D700.

    The coarse image is simulated by the protocol: MTF of `sensor`, decimation, interp23.

    Args:
        root: Folder of data, default the environment variable HSMAMBA_DATA; its `cave/` holds the scenes of
            `CAVE_TRAINING` and `CAVE_TEST`, as `read_cave` reads them.
        ratio: Scale ratio, usually 4 or 8.
        val: Training scenes that are set aside for validation; nothing where there are test scenes alone.
        val_size: Side of the centre of those scenes that is looked at.
        sensor: Sensor of the MTF.

    Returns:
        The pairs, values in [0, 1]. Training scenes are the central 384 x 384 pixels.

    Raises:
        DataNotFoundError: There are no such files.
        SceneError: A file is something else, or `val` names a scene that is not there.
    """
    folder = find_data("cave", root)
    training, test = _cave_scenes(folder)
    if not training and not test:
        raise DataNotFoundError(
            f"there is no scene in {str(folder)!r}, neither *_ms folders of PNG files nor *.train.xz or *.test.xz; "
            f"unpack the data set there"
        )
    if training and (unknown := sorted(set(val) - training.keys())):
        raise SceneError(f"no training scene {', '.join(unknown)} in {folder}; there are {', '.join(training)}")

    def images(name: str, path: Path, side: int | None) -> tuple[str, Tensor, Tensor]:
        gt = torch.from_numpy(read_cave(path))
        if side is not None:
            top, left = (max(length - side, 0) // 2 for length in gt.shape[1:])
            gt = gt[:, top : top + side, left : left + side]
        return name, gt, simulate_bands(gt[None], nikon_d700())[0]

    options: dict[str, Any] = {"ratio": ratio, "sensor": sensor}
    train = [name for name in training if name not in val]
    return FusionPairs(
        name=f"CAVE x{ratio}",
        ratio=ratio,
        sensor=get_sensor(sensor),
        maximum=1.0,
        train=tuple(training_image(*images(name, training[name], _TRAINING_SIDE), **options) for name in train),
        val=tuple(
            simulated_pair(*images(name, training[name], val_size), **options) for name in training if name in val
        ),
        test=tuple(simulated_pair(*images(name, path, None), **options) for name, path in test.items()),
        wavelengths=tuple(400.0 + 10 * band for band in range(CAVE_BANDS)),
    )


def _cave_scenes(folder: Path) -> tuple[dict[str, Path], dict[str, Path]]:
    """Find the training and the test scenes, packed or as distributed, by name."""
    found = [
        {path.name.partition(".")[0]: path for path in sorted(folder.glob(f"*.{kind}.xz"))}
        for kind in ("train", "test")
    ]
    for path in sorted(folder.glob("**/*_ms_01.png")):
        name = path.name.removesuffix("_ms_01.png")
        for scenes, names in zip(found, (CAVE_TRAINING, CAVE_TEST), strict=True):
            if name in names:
                scenes.setdefault(name, path.parent)
    return found[0], found[1]
