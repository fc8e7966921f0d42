"""Arrays to write, and writers of every format that is read."""

import numpy as np
import pytest
import scipy.io


def cube(dtype=np.uint16, height=6, width=5, bands=4):
    return np.random.default_rng(0).integers(0, 4000, (height, width, bands)).astype(dtype)


def truth(dtype=np.uint8):
    return (np.arange(30).reshape(6, 5) % 4).astype(dtype)


def write_mat(path, **arrays):
    scipy.io.savemat(path, arrays)


def write_mat73(path, **arrays):
    h5py = pytest.importorskip("h5py", reason="needs the geo extra")
    with h5py.File(path, "w", userblock_size=512) as file:
        for name, array in arrays.items():
            file[name] = array.T
            file[name].attrs["MATLAB_class"] = np.bytes_(str(array.dtype))
        file["note"] = np.frombuffer("text".encode("utf-16-le"), np.uint16)[:, None]
        file["note"].attrs["MATLAB_class"] = np.bytes_("char")
        file.create_group("#refs#")
    with path.open("r+b") as file:  # the block before the HDF5 data that makes it a MATLAB file
        file.write(b"MATLAB 7.3 MAT-file".ljust(116) + bytes(8) + b"\x00\x02IM")


def write_npz(path, **arrays):
    np.savez(path, **arrays)


NAMED = {".mat": write_mat, "73.mat": write_mat73, ".npz": write_npz}


def write_envi(path, array, interleave="bsq", **metadata):
    envi = pytest.importorskip("spectral.io.envi", reason="needs the test extra")
    metadata = {key.replace("_", " "): value for key, value in metadata.items()}
    envi.save_image(str(path), array, interleave=interleave, metadata=metadata, force=True, dtype=array.dtype)


def write_swapped_envi(path, array, **fields):
    """Write big-endian int16 or float32 numbers, which the package of `write_envi` does not."""
    code = {"i": 2, "f": 4}[array.dtype.kind]  # and the bytes of a number
    array.astype(f">{array.dtype.kind}{code}").tofile(path.with_suffix(".img"))
    lines, samples, bands = array.shape
    fields |= {"lines": lines, "samples": samples, "bands": bands, "data type": code, "interleave": "bip"}
    text = [f"{key.replace('_', ' ')} = {value}" for key, value in (fields | {"byte order": 1}).items()]
    path.write_text("\n".join(["ENVI", *text, ""]))


def write_tif(path, array, *, pixel=30, nodata=None, tags=(), texts=(), imagery=()):
    rasterio = pytest.importorskip("rasterio", reason="needs the geo extra")
    pytest.importorskip("rioxarray", reason="needs the geo extra")
    transform = rasterio.transform.from_origin(366000, 5810000, pixel, pixel)
    height, width, bands = array.shape
    profile = {"count": bands, "height": height, "width": width, "dtype": array.dtype, "nodata": nodata}
    with rasterio.open(path, "w", driver="GTiff", crs="EPSG:32633", transform=transform, **profile) as file:
        file.write(array.transpose(2, 0, 1))
        for band, tag in enumerate(tags, start=1):
            file.update_tags(band, **tag)
        for band, tag in enumerate(imagery, start=1):
            file.update_tags(band, ns="IMAGERY", **tag)
        for band, text in enumerate(texts, start=1):
            file.set_band_description(band, text)
    return path


def write_tile(path, array, row=0, column=0, *, tags=(), **more):
    """Write a tile at a place of the grid of `write_tif`."""
    rasterio = pytest.importorskip("rasterio", reason="needs the geo extra")
    write_tif(path, array, tags=tags, **more)
    with rasterio.open(path, "r+") as file:
        file.transform = file.transform @ rasterio.Affine.translation(column, row)
    return path


def write_vrt(path, paths, shape, origin=(0, 0), *, nodata=None, band_of=lambda band: band, inner="", size=None):
    """Write what gdalbuildvrt writes."""
    rasterio = pytest.importorskip("rasterio", reason="needs the geo extra")
    sources, bands = [], []
    with rasterio.open(paths[0]) as file:
        first, crs = file.transform @ rasterio.Affine.translation(-origin[1], -origin[0]), file.crs.to_wkt()
    for band in range(1, shape[2] + 1):
        sources = [
            f'<ComplexSource><SourceFilename relativeToVRT="1">{one.relative_to(path.parent)}</SourceFilename>'
            f"<SourceBand>{band_of(band)}</SourceBand>{inner}</ComplexSource>"
            for one in paths
        ]
        fill = "" if nodata is None else f"<NoDataValue>{nodata}</NoDataValue>"
        bands.append(f'<VRTRasterBand dataType="UInt16" band="{band}">{fill}{"".join(sources)}</VRTRasterBand>')
    rows, columns = size or shape[:2]
    transform = ", ".join(map(repr, first.to_gdal()))
    path.write_text(
        f'<VRTDataset rasterXSize="{columns}" rasterYSize="{rows}"><SRS>{crs}</SRS>'
        f"<GeoTransform>{transform}</GeoTransform>{''.join(bands)}</VRTDataset>"
    )
    return path
