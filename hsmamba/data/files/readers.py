"""The table of the readers by a file's extension."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from hsmamba.data.files.content import Content, reading
from hsmamba.data.files.envi import read_envi
from hsmamba.data.files.geotiff import read_geotiff
from hsmamba.data.files.guard import check_file
from hsmamba.data.files.matlab import read_mat
from hsmamba.data.files.numpy_files import read_npy, read_npz
from hsmamba.data.files.vrt import read_vrt
from hsmamba.errors import SceneError

READERS: dict[str, Callable[[Path, bool], Content]] = {
    ".mat": read_mat,
    ".npy": read_npy,
    ".npz": read_npz,
    ".hdr": read_envi,
    ".tif": read_geotiff,
    ".tiff": read_geotiff,
    ".vrt": read_vrt,
}


def open_file(path: Path, *, masked: bool) -> Content:
    """Look into a file of one of the `READERS`.

    `masked` gives NaN where a raster has its "no data" value (the array becomes floating point then). SceneError where
    there is no such file, or it is damaged; MissingExtraError where its format needs a package that is not installed.
    """
    reader = READERS.get(path.suffix.lower())
    if reader is None:
        header = next((h for h in (path.with_suffix(".hdr"), Path(f"{path}.hdr")) if h.is_file()), None)
        hint = f"give the ENVI header {str(header)!r}" if header else "convert the file to one of them"
        raise SceneError(
            f"{str(path)!r} has the extension {path.suffix!r}; expected one of {', '.join(READERS)}: {hint}"
        )
    check_file(path)
    with reading(path):
        return reader(path, masked)
