"""A crop of the IEEE GRSS data fusion contest of 2018, out of the folder of data."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from hsmamba.data.files.readers import open_file
from hsmamba.data.scene import PathLike, Scene
from hsmamba.data.sets.catalog import find_data
from hsmamba.errors import SceneError


def load_dfc2018(root: PathLike | None = None) -> Scene:
    """Load the scene; see `load_scene`."""
    path = find_data("dfc2018_houston_crop", root)
    variables = open_file(path, masked=False).variables
    shapes = {"hyprImg": (128, 128, 48), "rgbImg": (512, 512, 3), "clasLabs": (512, 512)}
    found = {key: variables[key].shape for key in shapes if key in variables}
    if found != shapes:
        raise SceneError(f"{str(path)!r} has {found}; expected {shapes}: fetch the file anew")
    hsi, fine, labels = (np.asarray(variables[key].read()) for key in shapes)
    rows, columns = hsi.shape[:2]
    aux = fine.reshape(rows, 4, columns, 4, 3).swapaxes(1, 2).reshape(rows, columns, 48)
    return Scene(
        hsi=hsi,
        labels=_majority(labels.reshape(rows, 4, columns, 4).swapaxes(1, 2).reshape(rows, columns, 16)),
        aux=np.ascontiguousarray(aux),
        class_names=tuple(f"class {k}" for k in range(1, int(labels.max()) + 1)),
        name="dfc2018_houston_crop",
        source="IEEE GRSS Data Fusion Contest 2018, a crop; the file names no classes",
        license="research",
    )


def _majority(fine: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    """Return the label (H, W) that half or more of the fine pixels (H, W, n) have, else 0; ties go to the lower one."""
    counts = np.stack([(fine == k).sum(-1) for k in range(int(fine.max()) + 1)], -1)
    counts[..., 0] = 0
    return np.where(2 * counts.max(-1) >= fine.shape[-1], counts.argmax(-1), 0).astype(np.uint8)
