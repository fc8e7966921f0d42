"""Readers of the data that the recipes for fusion train on, out of a folder of the user's own.

The folder (`root`) holds

    cave/SCENE.train.xz, cave/SCENE.test.xz    packed CAVE scenes, see `read_cave`
    worldview2_ikonos/imgWV2.mat, imgIK.mat    `I_MS` (320, 320, C) and `I_PAN` (1280, 1280)

None of it comes with the package: each set has its own terms.
"""

from __future__ import annotations

import lzma
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from hsmamba.data.pairs import FusionPair, FusionPairs, TrainingImage, simulated_pair, training_image, wald_pairs
from hsmamba.data.sensors import get_sensor
from hsmamba.data.srf import nikon_d700, simulate_bands
from hsmamba.errors import SceneError

CAVE_BANDS = 31  # 400, 410, ..., 700 nm
CAVE_MAXIMUM = 4095  # the packed scenes have 12 bits
# Scenes of the usual training part that choose the epoch: two that resemble neither each other nor most of the rest.
CAVE_VALIDATION = ("fake_and_real_sushi", "pompoms")


def read_cave(path: str | Path) -> npt.NDArray[np.uint16]:
    """Read a packed CAVE scene.

    The packed form is the differences along the bands as little-endian int16, split into a plane of low bytes and one
    of high bytes, xz-compressed.

    Args:
        path: The file.

    Returns:
        (31, H, H) uint16, 12 bits a sample.

    Raises:
        FileNotFoundError: No such file.
        SceneError: The file is something else.
    """
    try:
        raw = np.frombuffer(lzma.decompress(Path(path).read_bytes()), np.uint8)
        side = round((raw.size // 2 // CAVE_BANDS) ** 0.5)
        low, high = raw.reshape(2, CAVE_BANDS, side, side).astype(np.uint16)
    except (lzma.LZMAError, ValueError) as error:
        raise SceneError(f"{path} is no packed CAVE scene ({error}); see hsmamba.data.fusion_sets.read_cave") from error
    steps = (low | (high << 8)).view(np.int16)
    return np.cumsum(steps, axis=0, dtype=np.int32).astype(np.uint16)


def load_cave(
    root: str | Path, *, ratio: int, val: Sequence[str] = CAVE_VALIDATION, val_size: int = 192, sensor: str = "generic"
) -> FusionPairs:
    """Load the CAVE benchmark: 31 bands and an RGB guide by the response of a Nikon D700.

    The coarse image is simulated by the protocol: MTF of `sensor`, decimation, interp23.

    Args:
        root: The data folder; every `*.train.xz` and `*.test.xz` in its `cave/` is read.
        ratio: Scale ratio, usually 4 or 8.
        val: Training scenes that are set aside for validation.
        val_size: Side of the centre of those scenes that is looked at.
        sensor: Sensor of the MTF.

    Returns:
        The pairs, values in [0, 1].

    Raises:
        FileNotFoundError: There are no such files.
        SceneError: A file is something else, or `val` names a scene that is not there.
    """
    folder = Path(root) / "cave"
    train: list[TrainingImage] = []
    chosen: list[FusionPair] = []
    test: list[FusionPair] = []
    files = {kind: sorted(folder.glob(f"*.{kind}.xz")) for kind in ("train", "test")}
    names = [path.name.partition(".")[0] for path in files["train"]]
    if not any(files.values()):
        raise FileNotFoundError(f"no *.train.xz and no *.test.xz in {folder}; --data names the folder that holds cave/")
    if unknown := sorted(set(val) - set(names)):
        raise SceneError(f"no training scene {', '.join(unknown)} in {folder}; there are {', '.join(names) or 'none'}")
    for path in files["train"] + files["test"]:
        name = path.name.partition(".")[0]
        gt = torch.from_numpy(read_cave(path).astype(np.float32) / CAVE_MAXIMUM)
        if name in val:
            low = (gt.shape[-1] - val_size) // 2
            gt = gt[:, low : low + val_size, low : low + val_size]
        images: tuple[str, Tensor, Tensor] = (name, gt, simulate_bands(gt[None], nikon_d700())[0])
        if path in files["train"] and name not in val:
            train.append(training_image(*images, ratio=ratio, sensor=sensor))
        else:
            (test if path in files["test"] else chosen).append(simulated_pair(*images, ratio=ratio, sensor=sensor))
    found = get_sensor(sensor)
    return FusionPairs(f"CAVE x{ratio}", ratio, found, 1.0, tuple(train), tuple(chosen), tuple(test))


def _load_mat(root: str | Path, file: str, sensor: str, name: str, **options: Any) -> FusionPairs:
    """Load a MATLAB file with `I_MS` and `I_PAN` and make pairs of it."""
    from scipy.io import loadmat

    path = Path(root) / "worldview2_ikonos" / file
    if not path.is_file():
        raise FileNotFoundError(f"no file {path}; --data names the folder that holds worldview2_ikonos/")
    content = loadmat(path)
    if missing := {"I_MS", "I_PAN"} - content.keys():
        raise SceneError(f"{path} has no variable {' and no '.join(sorted(missing))}")
    return wald_pairs(content["I_MS"], content["I_PAN"], sensor=sensor, name=name, **options)


def load_worldview2(root: str | Path, **options: Any) -> FusionPairs:
    """Load the WorldView-2 image, 8 bands and PAN; options are those of `wald_pairs`."""
    return _load_mat(root, "imgWV2.mat", "WV2", "WorldView-2", **options)


def load_ikonos(root: str | Path, **options: Any) -> FusionPairs:
    """Load the IKONOS image, 4 bands and PAN; options are those of `wald_pairs`."""
    return _load_mat(root, "imgIK.mat", "IKONOS", "IKONOS", **options)


FUSION_SETS: dict[str, Callable[..., FusionPairs]] = {
    "cave": load_cave,
    "worldview2": load_worldview2,
    "ikonos": load_ikonos,
}
