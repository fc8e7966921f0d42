"""A scene: hyperspectral cube, auxiliary bands, labels and what is known about them, and opening one from files."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import InitVar, dataclass
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from hsmamba._html import picture, table, titled
from hsmamba.data.bands import wavelengths_of
from hsmamba.data.composites import thumbnail
from hsmamba.data.drawing import draw_labels
from hsmamba.data.files.content import Content, is_real, reading
from hsmamba.data.files.geotiff import is_remote, read_remote
from hsmamba.data.files.lazy import rows_first
from hsmamba.data.files.mosaic import join_tiles
from hsmamba.data.files.readers import open_file
from hsmamba.data.files.vectors import is_vector
from hsmamba.data.georeference import check_same_ground
from hsmamba.data.image import Array, check_array, is_dataarray
from hsmamba.data.labels import Classes, clean_labels, is_label_map
from hsmamba.data.products import find_product
from hsmamba.errors import SceneError

PathLike: TypeAlias = "str | os.PathLike[str]"

_GRID = 0.1  # pixels that two images of one grid may lie apart


@dataclass(eq=False)
class Scene:
    """One scene on one grid of H rows and W columns.

    Attributes:
        hsi: Cube (H, W, B) of any real dtype: numpy (also a memory map) or DataArray with dims (y, x, band).
        labels: Integer map (H, W), 0 = unlabelled, classes 1..K; None where nothing is labelled. Maps as people have
            them are brought to this form, with a warning where something had to be decided: floating point numbers,
            other values for unlabelled pixels, classes from 0 (see `open_scene`).
        aux: Bands of another sensor (H, W, C) on the same grid, or None.
        class_names: Name of class k at index k - 1; empty where unknown.
        wavelengths: Band centres (B,) in nm, or None.
        fwhm: Widths of the bands (B,) at half their maximum in nm, or None.
        bad_bands: (B,) bool, True = not to be used, or None.
        band_names: Name of every band; empty where unknown.
        name: Short name.
        source: Where the data come from.
        license: Their terms.
        classes: Argument, kept nowhere: the codes of the classes 1..K in `labels`, or their names by code.

    Raises:
        SceneError: Dimensions, grids, labels or lengths do not fit each other.
    """

    hsi: Array
    labels: Array | None = None
    aux: Array | None = None
    class_names: tuple[str, ...] = ()
    wavelengths: npt.NDArray[np.float64] | None = None
    fwhm: npt.NDArray[np.float64] | None = None
    bad_bands: npt.NDArray[np.bool_] | None = None
    band_names: tuple[str, ...] = ()
    name: str = ""
    source: str = ""
    license: str = ""
    classes: InitVar[Classes | None] = None

    def __post_init__(self, classes: Classes | None) -> None:
        """Bring the fields to their types and hold them against each other."""
        self.class_names = tuple(self.class_names)
        self.hsi, self.aux = rows_first(self.hsi), rows_first(self.aux)
        check_array(self.hsi, "hsi", ("y", "x", "band"))
        if 0 in self.hsi.shape:
            raise SceneError(f"hsi is empty: shape {tuple(self.hsi.shape)}; at least one pixel and one band are needed")
        if self.aux is not None:
            check_array(self.aux, "aux", ("y", "x", "band"))
            _check_grid(self.hsi, self.aux, "aux")
        if self.labels is not None:
            self.labels, self.class_names = clean_labels(self.labels, self.class_names, classes)
            _check_grid(self.hsi, self.labels, "labels")
        if self.wavelengths is None:
            self.wavelengths, self.fwhm = wavelengths_of(self.hsi)
        if self.wavelengths is not None:
            self.wavelengths = np.asarray(self.wavelengths, dtype=np.float64)
            _check_length(self.wavelengths, self.num_bands, "wavelengths")
        if self.fwhm is not None:
            self.fwhm = np.asarray(self.fwhm, dtype=np.float64)
            _check_length(self.fwhm, self.num_bands, "fwhm")
        self.band_names = tuple(self.band_names)
        if self.band_names and len(self.band_names) != self.num_bands:
            raise SceneError(f"there are {len(self.band_names)} band names for {self.num_bands} bands; name every band")
        if self.bad_bands is not None:
            self.bad_bands = np.asarray(self.bad_bands).astype(bool)
            _check_length(self.bad_bands, self.num_bands, "bad_bands")

    def __repr__(self) -> str:
        """Say what it holds, without the numbers."""
        bands = f"{self.num_bands} bands"
        if self.wavelengths is not None and np.isfinite(self.wavelengths).any():
            bands += f" from {np.nanmin(self.wavelengths):.0f} to {np.nanmax(self.wavelengths):.0f} nm"
        parts = [" x ".join(map(str, self.shape)) + " pixels", f"{bands}, {np.dtype(self.hsi.dtype)}"]
        if self.aux is not None:
            parts.append(f"{self.aux.shape[2]} auxiliary bands")
        if self.labels is not None:
            labelled = int(np.count_nonzero(np.asarray(self.labels)))
            parts.append(f"{labelled} labelled pixels of {self.num_classes} classes")
        return f"Scene({self.name!r}: {'; '.join(parts)})"

    def _repr_html_(self) -> str:
        """Show a small picture and what it holds, in notebooks."""
        rows = [("source", self.source), ("licence", self.license)]
        if self.labels is not None:
            counts = np.bincount(np.asarray(self.labels).ravel(), minlength=self.num_classes + 1)[1:]
            names = self.class_names or tuple(f"class {k}" for k in range(1, len(counts) + 1))
            rows.append(("classes", ", ".join(f"{name} ({n})" for name, n in zip(names, counts, strict=False))))
        small = picture(thumbnail(self.hsi, self.wavelengths), "composite of three bands")
        return titled(repr(self), small, table([row for row in rows if row[1]]))

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns (H, W)."""
        return int(self.hsi.shape[0]), int(self.hsi.shape[1])

    @property
    def num_bands(self) -> int:
        """Bands B of the cube, bad ones included."""
        return int(self.hsi.shape[2])

    @property
    def num_classes(self) -> int:
        """Classes K: the number of class names, else the highest label, else 0."""
        if self.class_names or self.labels is None:
            return len(self.class_names)
        return int(np.asarray(self.labels).max())

    @property
    def good_bands(self) -> npt.NDArray[np.int64]:
        """Indices of the bands that are not bad, as `SelectBands` takes them."""
        return np.arange(self.num_bands) if self.bad_bands is None else np.flatnonzero(~self.bad_bands)


def _check_grid(hsi: Array, other: Array, what: str) -> None:
    if tuple(other.shape[:2]) != tuple(hsi.shape[:2]):
        raise SceneError(
            f"{what} has the grid {tuple(other.shape[:2])} (rows, columns), hsi has {tuple(hsi.shape[:2])}; "
            f"resample {what} to the grid of hsi"
        )
    if is_dataarray(other) or what == "aux":  # labels without a place are usually made on the grid of the cube
        check_same_ground(other, hsi, (what, "hsi"), tolerance=_GRID)


def _check_length(values: npt.NDArray[Any], bands: int, what: str) -> None:
    if values.shape != (bands,):
        raise SceneError(f"{what} has shape {values.shape}; expected ({bands},), one value a band of hsi")


def open_scene(
    path: PathLike | Sequence[PathLike],
    *,
    variable: str | None = None,
    labels: PathLike | Array | None = None,
    labels_variable: str | None = None,
    labels_field: str | None = None,
    aux: PathLike | Array | None = None,
    aux_variable: str | None = None,
    class_names: Sequence[str] = (),
    classes: Classes | None = None,
) -> Scene:
    """Open a scene from a file, or a satellite product from its folder.

    Reads MATLAB (`.mat`, v5 and v7.3), numpy (`.npy` as a memory map, `.npz`), GeoTIFF (`.tif`, as a lazy DataArray)
    and ENVI (`.hdr`, as a memory map, or as a lazy DataArray where it has a place, a scale or a "no data" value).
    Numbers stay as they are stored: no scale factor is applied. What a raster says to be invalid, by a "no data" value,
    a mask or an alpha band, becomes NaN; an alpha band is no band of the cube. Wavelengths and widths (in nm), names
    and bad bands come from the header where it has them. No other file is read than those that belong to the format.
    Products of EnMAP, PRISMA, EMIT, DESIS, Sentinel-2 and Landsat are read as they are delivered
    (`hsmamba.data.products`), with scale and offset in the attributes of the DataArray.

    Args:
        path: The file with the hyperspectral cube, or a product's folder, metadata or main file. Several rasters of one
            grid are the tiles of a mosaic, and so are those of a virtual raster (`.vrt`): one scene, as large as all of
            them, in which the last tile counts that has data. A GeoTIFF may be an address (`https://`, `s3://`,
            `/vsicurl/` and others of GDAL), of which the windows are fetched that are read.
        variable: Name of the cube in a `.mat` or `.npz`; not needed where just one array has three dimensions.
        labels: Label map: a file of any of these formats or an array (H, W). By default, a `.mat` or `.npz` with just
            one two-dimensional integer array on the grid of the cube has that as its labels; failing that, one of
            whole numbers whose name says what it is (gt, labels, ground_truth).
            Unlabelled is 0, and what is declared as "no data"; NaN, infinity, negative numbers, 255 and the
            highest number of the dtype, too, which a warning says. Where -1 stands beside 0, 0 is taken as a class:
            0..K - 1 become the classes 1..K, named by their codes. Class numbers are kept as they are, gaps included,
            so that the tiles of a data set agree.
            A shapefile, GeoJSON (`.geojson`, `.json`) or GeoPackage is drawn on the grid of the cube: a pixel has the
            class of the polygons that hold its centre, or of the points in it; pixels of two classes are unlabelled.
        labels_variable: Name of the label map in its file, or in `path` where `labels` is not given; of the layer of a
            GeoPackage.
        labels_field: Field of polygons and points that holds their class: texts, which become classes in sorted order
            (or in that of `class_names`), or numbers, which are classes like those of a label map.
        aux: Bands of another sensor on the same grid: a file, a product or an array (H, W, C).
        aux_variable: Name of these bands in their file, or in `path` where `aux` is not given.
        class_names: Name of class k at k - 1; by default those of an ENVI classification file.
        classes: Legend, for labels that are codes: [10, 20, 30], or with names {10: "corn", 20: "oats"}. The codes
            become the classes 1..K in this order, with these names or named by code; every other code is unlabelled.
            Numbers above 255 with gaps want it.

    Raises:
        SceneError: No such file, an unknown or damaged format, several arrays to choose from (listed in the text), or
            parts that do not fit each other; labels of several bands, or that are no whole numbers.
        MissingExtraError: The format needs a package that is not installed.
    """
    main, path, product = _opened(path, masked=True)
    three = [name for name, found in main.variables.items() if len(found.shape) == 3]
    hsi = _take(path, main, three, variable, "variable", "array with three dimensions (rows, columns, bands)")
    grid = (int(hsi.shape[0]), int(hsi.shape[1])) if hsi.ndim == 3 else (0, 0)
    names = tuple(class_names)
    label_map: Array | None
    if isinstance(labels, (str, os.PathLike)) and is_vector(labels):
        label_map, names = draw_labels(
            Path(labels), hsi, field=labels_field, layer=labels_variable, names=names, classes=classes
        )
    elif labels_field is not None:
        raise SceneError(
            f"labels_field={labels_field!r} is for labels in a shapefile, GeoJSON or GeoPackage; leave it out"
        )
    else:
        label_map, names = _open_labels(path, main, grid, labels, labels_variable, names, classes)
    return Scene(
        hsi=hsi,
        labels=label_map,
        aux=_open_aux(path, main, grid, aux, aux_variable),
        class_names=names,
        wavelengths=main.wavelengths,
        fwhm=main.fwhm,
        bad_bands=main.bad_bands,
        band_names=main.band_names,
        name=str(hsi.name) if product and is_dataarray(hsi) else path.stem,
        source=path.name,
    )


def open_image(path: PathLike | Sequence[PathLike], *, variable: str | None = None) -> Array:
    """Open one image of a pair that is to be fused, as it is stored.

    Args:
        path: A file of a format, a product, tiles or an address, as `open_scene` reads them.
        variable: Name of the image in a `.mat` or `.npz`; not needed where just one array has two or three dimensions.

    Returns:
        (H, W, B) or (H, W), as a memory map or lazily where the format permits, in the dtype that it is stored in. A
        raster has its "no data" value in the attribute `_FillValue`; where a mask, an alpha band or values that differ
        between bands tell which pixels are valid, a coordinate `valid` (y, x) does.

    Raises:
        SceneError: No such file, an unknown or damaged format, several arrays to choose from (listed in the text).
        MissingExtraError: The format needs a package that is not installed.
    """
    content, path, _ = _opened(path, masked=False)
    images = [name for name, found in content.variables.items() if len(found.shape) in (2, 3)]
    return _take(path, content, images, variable, "variable", "array of two or three dimensions (rows, columns, bands)")


def _opened(path: PathLike | Sequence[PathLike], *, masked: bool) -> tuple[Content, Path, bool]:
    """Open a file, a product, tiles or an address; with the path to name it by, and whether it is a product."""
    if isinstance(path, (str, os.PathLike)):
        product = None if is_remote(path) else find_product(Path(path))
        return _open(path, masked=masked), Path(path), product is not None
    paths = list(path)
    if not paths:
        raise SceneError("there are no tiles in an empty list; give the paths of one raster or more")
    if len(paths) == 1:
        return _opened(paths[0], masked=masked)
    tiles = [(Path(one), _open(one, masked=masked)) for one in paths]
    with reading(tiles[0][0]):
        return join_tiles(tiles, masked=masked), tiles[0][0], False


def _open(path: PathLike, *, masked: bool) -> Content:
    if is_remote(path):
        return read_remote(str(path), masked)
    product = find_product(Path(path))
    return product() if product else open_file(Path(path), masked=masked)


def _take(path: Path, content: Content, names: list[str], chosen: str | None, argument: str, wanted: str) -> Array:
    """Read the chosen variable, or the only candidate of real numbers."""
    names = [name for name in names if is_real(content.variables[name].dtype)]
    listing = "; ".join(f"{name!r} {found.shape} {found.dtype}" for name, found in content.variables.items() if name)
    if chosen is not None and chosen not in content.variables:
        raise SceneError(f"{str(path)!r} has no variable {chosen!r}; it has {listing or 'no named arrays'}")
    if chosen is None and len(names) != 1:
        shapes = listing or "; ".join(f"{found.shape} {found.dtype}" for found in content.variables.values())
        if not names:
            raise SceneError(
                f"{str(path)!r} has no {wanted}; it has {shapes or 'no numeric arrays'}: give a file that has one"
            )
        raise SceneError(f"{str(path)!r} has more than one {wanted}; it has {shapes}: give {argument}=... by name")
    with reading(path):
        return content.variables[chosen if chosen is not None else names[0]].read()


def _open_labels(
    path: Path,
    main: Content,
    grid: tuple[int, int],
    labels: PathLike | Array | None,
    chosen: str | None,
    names: tuple[str, ...],
    classes: Classes | None,
) -> tuple[Array | None, tuple[str, ...]]:
    """Return the label map and the names of its classes."""
    if not (labels is None or isinstance(labels, (str, os.PathLike))):
        return clean_labels(labels, names, classes)
    content = main
    if labels is not None:
        path = Path(labels)
        content = open_file(path, masked=False)
    with reading(path):
        given = _find_labels(path, content, grid, chosen, own=content is main)
    if given is None:
        if classes is not None:
            raise SceneError(f"classes= is the legend of labels, and {str(path)!r} has none; give labels=...")
        return None, names
    what = f"the label map in {str(path)!r}"
    return clean_labels(given, names or content.class_names, classes, nodata=content.nodata, what=what)


def _find_labels(path: Path, content: Content, grid: tuple[int, int], chosen: str | None, own: bool) -> Array | None:
    """Read the chosen label map of a file, or the only one on the grid; the cube's `own` file may have none."""
    found = content.variables
    flat = [name for name, variable in found.items() if variable.shape in (grid, (*grid, 1))]
    if own and chosen is None:
        flat = [key for key in flat if len(found[key].shape) == 2]
        whole = [key for key in flat if np.dtype(found[key].dtype).kind in "iu"]
        flat = whole or [key for key in flat if is_label_map(key, found[key].read)]
        if not flat:
            return None
    several = [variable.shape for variable in found.values() if variable.shape[:2] == grid and len(variable.shape) == 3]
    if not flat and chosen is None and len(found) == len(several) == 1:
        return content.variables[next(iter(found))].read()  # refused with its bands
    wanted = f"label map of {grid[0]} x {grid[1]} pixels, the grid of the cube"
    return _take(path, content, flat, chosen, "labels_variable", wanted)


def _open_aux(
    path: Path, main: Content, grid: tuple[int, int], aux: PathLike | Array | None, chosen: str | None
) -> Array | None:
    content = main
    if isinstance(aux, (str, os.PathLike)):
        path, content = Path(aux), _open(aux, masked=True)
    elif aux is not None or chosen is None:
        return aux
    fitting = [name for name, found in content.variables.items() if found.shape[:2] == grid and len(found.shape) < 4]
    wanted = f"array on the grid of the cube, {grid[0]} x {grid[1]} pixels"
    array = _take(path, content, fitting, chosen, "aux_variable", wanted)
    return array[..., None] if array.ndim == 2 and isinstance(array, np.ndarray) else array
