"""PRISMA L2D: two cubes in one, in ascending wavelength, with scale, errors and place; what is refused."""

import numpy as np
import pytest

from hsmamba.data import open_scene
from hsmamba.errors import SceneError
from tests.data.products.samples import PRISMA, PRISMA_DETECTORS, PRISMA_FIELDS, write_prisma

# Detector and index in the file of what comes out, by ascending wavelength.
ORDER = (("Vnir", 4), ("Vnir", 3), ("Swir", 3), ("Vnir", 2), ("Swir", 2), ("Vnir", 1), ("Swir", 1), ("Swir", 0))


def test_the_cubes_of_both_detectors_come_out_as_one_in_ascending_wavelength(tmp_path):
    path, cubes = write_prisma(tmp_path)
    scene = open_scene(path)
    expected = np.stack([cubes[detector][..., index] for detector, index in ORDER], axis=-1).astype(np.float32)
    expected[0, 1] = np.nan
    for place in (5, 6):  # the second bands of the file
        expected[2, [3, 5], place] = np.nan
        assert scene.hsi[2, 4, place] == 0  # negative, stored as the smallest
    assert np.array_equal(scene.hsi, expected, equal_nan=True)
    for attribute, which in (("wavelengths", 0), ("fwhm", 1)):
        values = [PRISMA_DETECTORS[detector][which][index] for detector, index in ORDER]
        assert np.allclose(getattr(scene, attribute), values, atol=1e-3)
        assert np.array_equal(scene.hsi[attribute.rstrip("s")], getattr(scene, attribute))
    assert scene.band_names == tuple(f"{detector.upper()} {index + 1}" for detector, index in ORDER)
    assert scene.bad_bands is None and scene.name == PRISMA[:-4] and scene.source == PRISMA


def test_reflectance_is_scaled_between_the_extremes_of_each_detector(tmp_path):
    path, _ = write_prisma(tmp_path)
    attrs = open_scene(path).hsi.attrs
    assert "scale_factor" not in attrs and attrs["add_offset"] == 0
    highest = {"Vnir": 1.25, "Swir": 0.75}
    assert np.allclose(attrs["scales"], [highest[detector] / 65535 for detector, _ in ORDER])
    path, _ = write_prisma(tmp_path, {"L2ScaleSwirMin": 0.25, "L2ScaleVnirMin": 0.75})
    attrs = open_scene(path).hsi.attrs
    assert attrs["scale_factor"] == 0.5 / 65535 and set(attrs["offsets"]) == {0.25, 0.75}


def test_corners_are_the_centres_of_pixels(tmp_path):
    hsi = open_scene(write_prisma(tmp_path)[0]).hsi
    assert hsi.rio.crs.to_epsg() == 32633 and hsi.shape[:2] == (12, 10)
    assert hsi.rio.transform().to_gdal() == (365985, 30, 0, 5810015, 0, -30)
    assert hsi.x[0] == 366000 and hsi.x[-1] == 366270 and hsi.y[0] == 5810000 and hsi.y[-1] == 5809670


def test_a_folder_with_one_file_is_the_product(tmp_path):
    write_prisma(tmp_path)
    assert open_scene(tmp_path).name == PRISMA[:-4]
    write_prisma(tmp_path)[0].rename(tmp_path / "other.he5")
    write_prisma(tmp_path)
    with pytest.raises(SceneError, match="several products"):
        open_scene(tmp_path)


@pytest.mark.parametrize(
    ("attributes", "cause"),
    [
        ({"List_Cw_Vnir": np.ones(4, np.float32)}, "4 wavelengths, 5 widths and 5 flags for the 5 bands of its Vnir"),
        ({"List_Fwhm_Swir": np.full(5, np.nan)}, "expected a finite one a band"),
        ({"L2ScaleVnirMax": np.bytes_("x")}, "attribute 'L2ScaleVnirMax' = .* expected one finite number"),
        ({"Product_URcorner_easting": 400000.0}, r"corners 34000.0 m and 330.0 m apart; expected 270.0 and 330.0 m"),
        ({"Epsg_Code": 1}, "could not be read"),
    ],
)
def test_attributes_that_do_not_fit_are_refused(tmp_path, attributes, cause):
    path, _ = write_prisma(tmp_path, attributes)
    with pytest.raises(SceneError, match=cause):
        open_scene(path)


def test_a_missing_attribute_array_or_another_product_is_refused(tmp_path):
    h5py = pytest.importorskip("h5py")
    path, _ = write_prisma(tmp_path)
    with h5py.File(path, "a") as file:
        del file.attrs["L2ScaleSwirMax"]
    with pytest.raises(SceneError, match="has no attribute 'L2ScaleSwirMax'"):
        open_scene(path)
    with h5py.File(path, "a") as file:
        del file[PRISMA_FIELDS]["SWIR_Cube"]
    with pytest.raises(SceneError, match=r"has no array '.*/SWIR_Cube'"):
        open_scene(path)
    with h5py.File(path, "w") as file:
        file["HDFEOS/SWATHS/PRS_L1_HCO/Data Fields/VNIR_Cube"] = np.zeros((2, 2, 2))
    with pytest.raises(SceneError, match="holds no PRISMA L2D"):
        open_scene(path)
    path.write_bytes(b"text")
    with pytest.raises(SceneError, match="is no HDF5 file"):
        open_scene(path)
    with pytest.raises(SceneError, match="there is no file"):
        open_scene(tmp_path / "gone.he5")


def test_numbers_in_other_files_are_not_read(tmp_path):
    h5py = pytest.importorskip("h5py")
    path, _ = write_prisma(tmp_path)
    name = f"{PRISMA_FIELDS}/VNIR_Cube"
    (tmp_path / "raw").write_bytes(bytes(2 * 12 * 5 * 10))
    layout = h5py.VirtualLayout((12, 5, 10), np.uint16)
    layout[:] = h5py.VirtualSource(PRISMA, f"{PRISMA_FIELDS}/SWIR_Cube", (12, 5, 10))
    external = [(str(tmp_path / "raw"), 0, 1200)]
    replacements = {
        "in other files": [
            lambda file: file.create_dataset(name, (12, 5, 10), np.uint16, external=external),
            lambda file: file.create_virtual_dataset(name, layout),
        ],
        "has a link in place of": [
            lambda file: file.__setitem__(name, h5py.ExternalLink("other.h5", "/a")),
            lambda file: file.__setitem__(name, h5py.SoftLink("/a")),
        ],
    }
    for cause, makers in replacements.items():
        for make in makers:
            with h5py.File(path, "a") as file:
                del file[name]
                make(file)
            with pytest.raises(SceneError, match=cause):
                open_scene(path)


def test_a_file_that_is_cut_off_is_refused_when_it_is_read(tmp_path):
    path, _ = write_prisma(tmp_path)
    hsi = open_scene(path).hsi
    path.write_bytes(path.read_bytes()[:4000])
    with pytest.raises(SceneError, match=r"PRS_L2D.*could not be read"):
        np.asarray(hsi)
