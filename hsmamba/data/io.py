"""Opening scenes: one function for every format, and the scenes that come with packages."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TypeAlias

import numpy as np

from hsmamba.data._formats import Content, Variable, open_file, reading
from hsmamba.data.scene import Array, Scene, is_dataarray
from hsmamba.errors import SceneError

PathLike: TypeAlias = "str | os.PathLike[str]"


def open_scene(
    path: PathLike,
    *,
    variable: str | None = None,
    labels: PathLike | Array | None = None,
    labels_variable: str | None = None,
    aux: PathLike | Array | None = None,
    aux_variable: str | None = None,
    class_names: Sequence[str] = (),
) -> Scene:
    """Open a scene from a file.

    Reads MATLAB (`.mat`, v5 and v7.3), numpy (`.npy` as a memory map, `.npz`), ENVI (`.hdr`, as a memory map) and
    GeoTIFF (`.tif`, as a lazy DataArray with coordinates and CRS). Numbers stay as they are stored: no scale factor is
    applied. Where a raster names a "no data" value, its pixels become NaN. Wavelengths (in nm) and bad bands come
    from the header where it has them.

    Args:
        path: The file with the hyperspectral cube.
        variable: Name of the cube in a `.mat` or `.npz`; not needed where just one array has three dimensions.
        labels: Label map, 0 = unlabelled: a file of any of these formats or an array (H, W). By default, a `.mat` or
            `.npz` with just one two-dimensional integer array on the grid of the cube has that as its labels.
        labels_variable: Name of the label map in its file, or in `path` where `labels` is not given.
        aux: Bands of another sensor on the same grid: a file or an array (H, W, C).
        aux_variable: Name of these bands in their file, or in `path` where `aux` is not given.
        class_names: Name of class k at k - 1; by default those of an ENVI classification file.

    Returns:
        The scene.

    Raises:
        SceneError: No such file, an unknown or damaged format, several arrays to choose from (listed in the text), or
            parts that do not fit each other.
        MissingExtraError: The format needs a package that is not installed.
    """
    path = Path(path)
    main = open_file(path, masked=True)
    three = [name for name, found in main.variables.items() if len(found.shape) == 3]
    hsi = _take(path, main, three, variable, "variable", "array with three dimensions (rows, columns, bands)")
    grid = (int(hsi.shape[0]), int(hsi.shape[1])) if hsi.ndim == 3 else (0, 0)
    label_map, names = _open_labels(path, main, grid, labels, labels_variable)
    return Scene(
        hsi=hsi,
        labels=label_map,
        aux=_open_aux(path, main, grid, aux, aux_variable),
        class_names=tuple(class_names) or names,
        wavelengths=main.wavelengths,
        bad_bands=main.bad_bands,
        name=path.stem,
        source=path.name,
    )


def open_image(path: PathLike, *, variable: str | None = None) -> Array:
    """Open one image of a pair that is to be fused, as it is stored.

    Args:
        path: A file of a format that `open_scene` reads.
        variable: Name of the image in a `.mat` or `.npz`; not needed where just one array has two or three dimensions.

    Returns:
        (H, W, B) or (H, W), as a memory map or lazily where the format permits. A GeoTIFF keeps its dtype, and its
        "no data" value in the attribute `_FillValue`.

    Raises:
        SceneError: No such file, an unknown or damaged format, several arrays to choose from (listed in the text).
        MissingExtraError: The format needs a package that is not installed.
    """
    path = Path(path)
    content = open_file(path, masked=path.suffix.lower() not in (".tif", ".tiff"))
    images = [name for name, found in content.variables.items() if len(found.shape) in (2, 3)]
    return _take(path, content, images, variable, "variable", "array of two or three dimensions (rows, columns, bands)")


def _take(path: Path, content: Content, names: list[str], chosen: str | None, argument: str, wanted: str) -> Array:
    """Read the chosen variable, or the only candidate."""
    listing = "; ".join(f"{name!r} {found.shape} {found.dtype}" for name, found in content.variables.items() if name)
    if chosen is not None and chosen not in content.variables:
        raise SceneError(f"{str(path)!r} has no variable {chosen!r}; it has {listing or 'no named arrays'}")
    if chosen is None and len(names) != 1:
        count = "no" if not names else "more than one"
        shapes = listing or "; ".join(f"{found.shape} {found.dtype}" for found in content.variables.values())
        raise SceneError(
            f"{str(path)!r} has {count} {wanted}; it has {shapes or 'no numeric arrays'}: give {argument}=... by name"
        )
    with reading(path):
        return content.variables[chosen if chosen is not None else names[0]].read()


def _open_labels(
    path: Path, main: Content, grid: tuple[int, int], labels: PathLike | Array | None, chosen: str | None
) -> tuple[Array | None, tuple[str, ...]]:
    """Return the label map and the class names that its file has."""
    content = main
    if isinstance(labels, (str, os.PathLike)):
        path = Path(labels)
        content = open_file(path, masked=False)
    elif labels is not None:
        return labels, ()
    flat = [name for name, found in content.variables.items() if found.shape in (grid, (*grid, 1))]
    if content is main and chosen is None:
        flat = [name for name in flat if _is_integer_map(main.variables[name])]
        if not flat:
            return None, ()
    wanted = f"label map of {grid[0]} x {grid[1]} pixels, the grid of the cube"
    return _as_labels(path, _take(path, content, flat, chosen, "labels_variable", wanted), content), content.class_names


def _open_aux(
    path: Path, main: Content, grid: tuple[int, int], aux: PathLike | Array | None, chosen: str | None
) -> Array | None:
    content = main
    if isinstance(aux, (str, os.PathLike)):
        path = Path(aux)
        content = open_file(path, masked=True)
    elif aux is not None or chosen is None:
        return aux
    fitting = [name for name, found in content.variables.items() if found.shape[:2] == grid and len(found.shape) < 4]
    wanted = f"array on the grid of the cube, {grid[0]} x {grid[1]} pixels"
    array = _take(path, content, fitting, chosen, "aux_variable", wanted)
    return array[..., None] if array.ndim == 2 and isinstance(array, np.ndarray) else array


def _is_integer_map(found: Variable) -> bool:
    return len(found.shape) == 2 and np.dtype(found.dtype).kind in "iu"


def _as_labels(path: Path, array: Array, content: Content) -> Array:
    """Bring a label map to integers (H, W) with 0 where there are no data."""
    if array.ndim == 3:
        array = array.isel(band=0, drop=True) if is_dataarray(array) else array[..., 0]
    values = np.array(array)
    if content.nodata is not None:
        values[values == content.nodata] = 0
    if values.dtype.kind in "fb":
        whole = values.astype(np.int64, casting="unsafe") if np.isfinite(values.astype(float)).all() else None
        if whole is None or (whole != values).any():
            raise SceneError(f"the label map in {str(path)!r} has dtype {values.dtype} and values that are no integers")
        values = whole
    return array.copy(data=values) if is_dataarray(array) else values
