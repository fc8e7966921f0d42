"""Landsat Collection 2: reflective bands of 30 m of three sensors, both levels, all forms of the metadata."""

import numpy as np
import pytest

from hsmamba.data import open_scene
from hsmamba.errors import HsmambaWarning, SceneError
from tests.data.products.samples import LANDSAT, OLI, landsat_groups, landsat_text, write_landsat, write_raster


@pytest.mark.parametrize("form", ["txt", "json", "xml"])
def test_level_2_gives_the_surface_reflectance_of_the_bands_of_30_metres(tmp_path, form):
    folder, values = write_landsat(tmp_path, form=form)
    scene = open_scene(folder)
    expected = np.stack([values[number] for number in range(1, 8)], axis=-1).astype(np.float32)
    expected[0, 1] = np.nan
    expected[2, 3, [1, 4]] = np.nan
    assert np.array_equal(scene.hsi, expected, equal_nan=True)
    assert scene.wavelengths.tolist() == [centre for number, centre in OLI if number != 9]
    assert scene.fwhm[4] == 28.25 and scene.band_names == tuple(f"SR_B{number}" for number in range(1, 8))
    assert scene.hsi.attrs["scale_factor"] == 2.75e-05 and scene.hsi.attrs["add_offset"] == -0.2
    assert scene.name == scene.source == LANDSAT["L2SP"] and scene.bad_bands is None
    assert open_scene(folder / f"{LANDSAT['L2SP']}_MTL.{form}").hsi.identical(scene.hsi)


def test_level_1_gives_reflectance_under_the_height_of_the_sun(tmp_path):
    folder, values = write_landsat(tmp_path, "L1TP")
    scene = open_scene(folder)
    assert scene.band_names == tuple(f"B{number}" for number, _ in OLI)
    assert scene.wavelengths.tolist() == [centre for _, centre in OLI] == sorted(scene.wavelengths)
    assert np.array_equal(scene.hsi[5], np.stack([values[number][5] for number, _ in OLI], axis=-1))
    assert scene.hsi.attrs["scale_factor"] == pytest.approx(2e-5 / 0.5)  # the sine of 30 degrees
    assert scene.hsi.attrs["add_offset"] == pytest.approx(-0.1 / 0.5)
    assert np.isnan(scene.hsi[2, 3, [1, 4]]).all() and not np.isnan(scene.hsi[2, 4]).any()


def test_thematic_mappers_drop_pixels(tmp_path):
    scene = open_scene(write_landsat(tmp_path, "L2SP_TM")[0])
    assert scene.band_names == ("SR_B1", "SR_B2", "SR_B3", "SR_B4", "SR_B5", "SR_B7")
    assert scene.wavelengths.tolist() == [485, 560, 660, 830, 1650, 2215]
    assert np.isnan(scene.hsi[2, 4]).all()
    assert np.flatnonzero(np.isnan(scene.hsi[2, 3])).tolist() == [1, 4]


def test_the_place_is_that_of_the_files(tmp_path):
    hsi = open_scene(write_landsat(tmp_path)[0]).hsi
    assert hsi.rio.crs.to_epsg() == 32633
    assert hsi.rio.transform().to_gdal() == (366000, 30, 0, 5810000, 0, -30)


def test_without_its_masks_it_is_said_that_defective_pixels_count(tmp_path):
    folder, values = write_landsat(tmp_path, masks=False)
    with pytest.warns(HsmambaWarning) as said:
        scene = open_scene(folder)
    assert [text for one in said for text in ("QA_PIXEL", "QA_RADSAT") if text in str(one.message)] == [
        "QA_PIXEL",
        "QA_RADSAT",
    ]
    assert scene.hsi[2, 3, 1] == values[2][2, 3] and np.isnan(scene.hsi[0, 1]).all()


def test_text_comes_before_the_other_forms_and_one_folder_is_one_product(tmp_path):
    folder, _ = write_landsat(tmp_path)
    (folder / f"{LANDSAT['L2SP']}_MTL.json").write_text("damaged")
    assert open_scene(folder).num_bands == 7
    (folder / "LC08_other_MTL.txt").write_text("")
    with pytest.raises(SceneError, match="several products"):
        open_scene(folder)


def test_a_missing_or_misplaced_band_is_refused(tmp_path):
    folder, values = write_landsat(tmp_path)
    image = folder / f"{LANDSAT['L2SP']}_SR_B4.TIF"
    write_raster(image, values[4], pixel=15)
    with pytest.raises(SceneError, match=r"_SR_B4\.TIF' lies at .*expected one grid"):
        open_scene(folder)
    image.unlink()
    with pytest.raises(SceneError, match=r"lacks its file '.*_SR_B4\.TIF'"):
        open_scene(folder)


@pytest.mark.parametrize(
    ("groups", "cause"),
    [
        (landsat_groups(COLLECTION_NUMBER="01"), "collection 01 and level L2SP; expected collection 2"),
        (landsat_groups(PROCESSING_LEVEL="ARD"), "level ARD; expected collection 2, level 1 or 2"),
        (landsat_groups(SENSOR_ID="MSS"), "the sensor 'MSS'; expected one of OLI_TIRS, OLI, ETM, TM"),
        (landsat_groups(FILE_NAME_BAND_3=None), "has no FILE_NAME_BAND_3 in its group PRODUCT_CONTENTS"),
        (landsat_groups(FILE_NAME_BAND_3="../b3.TIF"), "leads out of the product's folder"),
        (landsat_groups(REFLECTANCE_ADD_BAND_3="none"), "REFLECTANCE_ADD_BAND_3 'none'; expected a finite number"),
        ({"PRODUCT_CONTENTS": {}}, "has no COLLECTION_NUMBER"),
    ],
)
def test_other_products_and_damaged_metadata_are_refused(tmp_path, groups, cause):
    folder, _ = write_landsat(tmp_path, groups=groups)
    with pytest.raises(SceneError, match=cause):
        open_scene(folder)


def test_a_scene_by_night_has_no_reflectance(tmp_path):
    folder, _ = write_landsat(tmp_path, "L1TP", groups=landsat_groups("L1TP", SUN_ELEVATION="-12.5"))
    with pytest.raises(SceneError, match=r"SUN_ELEVATION -12.5; expected degrees above the horizon"):
        open_scene(folder)


def test_json_and_xml_that_are_damaged_or_hostile_are_refused(tmp_path):
    for text in ("[]", "{", '{"LANDSAT_METADATA_FILE": 3}', "[" * 100000):
        (tmp_path / "LC08_a_MTL.json").write_text(text)
        with pytest.raises(SceneError, match="is no JSON with the groups of LANDSAT_METADATA_FILE"):
            open_scene(tmp_path / "LC08_a_MTL.json")
    xml = landsat_text(landsat_groups(), "xml").partition("?>")[2]
    (tmp_path / "LC08_a_MTL.xml").write_text(f"<!DOCTYPE a>{xml}")
    with pytest.raises(SceneError, match="document type declaration"):
        open_scene(tmp_path / "LC08_a_MTL.xml")
