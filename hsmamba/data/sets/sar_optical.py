"""Pairs of SAR and optical images of 10 m, out of the folder of data: the SAR guides an optical image made coarse.

Both sensors share the grid. The optical image is the truth; its coarse image is simulated by the protocol, as no set
has one. SAR in dB is brought to 0..1 as DSen2-CR does (Meraner et al., ISPRS Journal 166, 2020): VV from -25 to 0, VH
from -32.5 to 0; reflectance x 10000 is divided by 10000.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import torch

from hsmamba.data.files.readers import open_file
from hsmamba.data.pairs import FusionPairs, simulated_pair, training_image
from hsmamba.data.scene import PathLike
from hsmamba.data.sensors import get_sensor
from hsmamba.data.sets.catalog import CATALOG, find_data
from hsmamba.errors import DataNotFoundError, SceneError

Files: TypeAlias = "tuple[list[Path], list[Path]]"  # of the SAR and of the optical image, in the order of their bands

_LOW = (-25.0, -32.5)  # of VV and VH in dB; the highest is 0
_WHITE = 10000.0
_TEN_METRES = ("B02", "B03", "B04", "B08")


def load_sar_optical(
    name: str,
    root: PathLike | None = None,
    *,
    ratio: int = 4,
    val: float = 0.1,
    test: float = 0.3,
    limit: int | None = None,
) -> FusionPairs:
    """Load pairs of a set: its sorted images are divided, the first train, the last test.

    Args:
        name: Of the set.
        root: Folder of data, default the environment variable HSMAMBA_DATA.
        ratio: Scale ratio of the coarse optical image.
        val: Share of the images for validation; at least one where it is not 0 and two remain.
        test: Share of the images for the test, at least one.
        limit: Images that are read at most, evenly over the sorted files; None for all.

    Raises:
        DataNotFoundError: There are no such files, or one has no partner.
        SceneError: A file has other bands or another grid.
        ValueError: Shares that leave nothing to train on.
    """
    folder = find_data(name, root)
    files = _FINDERS[name](folder)
    facts = CATALOG[name].facts
    if not files:
        raise DataNotFoundError(
            f"there are no pairs in {str(folder)!r}, expected {'; '.join(facts.files)}: unpack {facts.title} there"
        )
    names = sorted(files)
    if limit is not None and limit < len(names):
        names = [names[round(i * (len(names) - 1) / max(limit - 1, 1))] for i in range(limit)]
    tests = max(round(test * len(names)), 1) if test else 0
    held = max(round(val * len(names)), 1) if val and len(names) - tests > 1 else 0
    if len(names) <= tests + held and len(names) > 1:
        raise ValueError(f"val={val} and test={test} leave none of {len(names)} images to train on; lower one of them")
    first = len(names) - tests - held
    images = {key: _image(key, files[key], ratio) for key in names}
    options: dict[str, Any] = {"ratio": ratio, "sensor": "generic"}
    return FusionPairs(
        name=facts.title,
        ratio=ratio,
        sensor=get_sensor("generic"),
        maximum=_WHITE,
        train=tuple(training_image(*images[key], **options) for key in names[:first]),
        val=tuple(simulated_pair(*images[key], **options) for key in names[first : first + held]),
        test=tuple(simulated_pair(*images[key], **options) for key in names[first + held :]),
        guide_maximum=1.0,
    )


def _image(name: str, files: Files, ratio: int) -> tuple[str, torch.Tensor, torch.Tensor]:
    """Read an optical image (C, H, W) and the SAR beside it (2, H, W), both from 0 to 1."""
    sar, optical = (np.concatenate([_bands(path) for path in paths]) for paths in files)
    if sar.shape[0] != len(_LOW) or sar.shape[1:] != optical.shape[1:]:
        raise SceneError(
            f"{name} has SAR of {sar.shape} and an optical image of {optical.shape}; expected VV and VH on the same "
            "grid: fetch the data anew"
        )
    low = np.array(_LOW, np.float32)[:, None, None]
    finite = np.nan_to_num(sar, nan=float(min(_LOW)), neginf=float(min(_LOW)))
    guide = 1 - np.clip(finite, low, 0) / low
    rows, columns = (length // ratio * ratio for length in sar.shape[1:])
    gt = np.clip(np.nan_to_num(optical), 0, None) / np.float32(_WHITE)
    return name, torch.from_numpy(gt[:, :rows, :columns].copy()), torch.from_numpy(guide[:, :rows, :columns].copy())


def _bands(path: Path) -> npt.NDArray[np.float32]:
    """Read the bands of a GeoTIFF, (C, H, W)."""
    values = np.asarray(open_file(path, masked=True).variables[""].read(), dtype=np.float32)
    return np.ascontiguousarray((values[..., None] if values.ndim == 2 else values).transpose(2, 0, 1))


def _by_name(pattern: str, turn: Callable[[Path], Path]) -> Callable[[Path], dict[str, Files]]:
    """Make a finder of sets whose optical image has a name that follows from that of the SAR."""

    def find(folder: Path) -> dict[str, Files]:
        found: dict[str, Files] = {}
        for sar in sorted(folder.rglob(pattern)):
            if not (optical := turn(sar)).is_file():
                raise DataNotFoundError(f"there is no {str(optical)!r} beside {str(sar)!r}; fetch the data anew")
            found[sar.stem] = [sar], [optical]
        return found

    return find


def _sen12ms(sar: Path) -> Path:
    """Name the optical image of SEN12MS: s2 for s1 in the file, its folder and, in SEN12MS-CR, the one above."""
    above = sar.parent.parent
    scene = sar.parent.name.replace("s1_", "s2_")
    return above.parent / above.name.replace("_s1", "_s2") / scene / sar.name.replace("_s1_", "_s2_")


def _bigearthnet(folder: Path) -> dict[str, Files]:
    """Find the patches; the metadata of the SAR name the optical one."""
    found: dict[str, Files] = {}
    optical = {path.name: path for path in sorted(folder.rglob("S2*_MSIL2A_*")) if path.is_dir()}
    for path in sorted(folder.rglob("S1*_labels_metadata.json")):
        stem = path.name.removesuffix("_labels_metadata.json")
        try:
            partner = str(json.loads(path.read_text(encoding="utf-8"))["corresponding_s2_patch"])
        except (ValueError, KeyError, TypeError) as error:
            raise SceneError(f"{str(path)!r} names no corresponding_s2_patch ({error}); fetch the data anew") from error
        if partner not in optical:
            raise DataNotFoundError(f"there is no folder {partner}, the optical patch of {stem}; fetch the data anew")
        radar = [path.parent / f"{stem}_{channel}.tif" for channel in ("VV", "VH")]
        bands = [optical[partner] / f"{partner}_{band}.tif" for band in _TEN_METRES]
        if missing := [str(file) for file in radar + bands if not file.is_file()]:
            raise DataNotFoundError(f"there is no {', '.join(missing)}; fetch the data anew")
        found[stem] = radar, bands
    return found


_FINDERS: Mapping[str, Callable[[Path], dict[str, Files]]] = {
    "sen12ms": _by_name("*_s1_*_p*.tif", _sen12ms),
    "terramesh": _by_name("*_S1RTC.tif", lambda sar: sar.with_name(sar.name.replace("_S1RTC", "_S2L2A"))),
    "sen1floods11": _by_name(
        "*_S1Hand.tif", lambda sar: sar.parent.parent / "S2" / sar.name.replace("_S1Hand", "_S2Hand")
    ),
    "bigearthnet_s1s2": _bigearthnet,
}
