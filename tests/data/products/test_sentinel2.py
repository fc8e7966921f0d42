"""Sentinel-2 L2A: eleven bands on the grid of 20 m, scale and offset, classes, place; what is refused."""

import numpy as np
import pytest

from hsmamba.data import open_scene
from hsmamba.errors import HsmambaWarning, SceneError
from tests.data.products.samples import (
    SAFE,
    SENTINEL2_BANDS,
    SENTINEL2_OUT,
    sentinel2_name,
    sentinel2_xml,
    write_jp2,
    write_sentinel2,
)


def test_the_bands_come_out_on_the_grid_of_20_metres(tmp_path):
    folder, values = write_sentinel2(tmp_path)
    scene = open_scene(folder)
    repeated = [
        array.repeat(3, axis=0).repeat(3, axis=1) if band in ("B01", "B09") else array for band, array in values.items()
    ]
    expected = np.stack(repeated, axis=-1).astype(np.float32)
    expected[0, 1] = expected[2, 3] = np.nan
    expected[4, 5:7, 1] = np.nan
    assert np.array_equal(scene.hsi, expected, equal_nan=True)
    assert np.array_equal(scene.hsi[7:11, 4:20, [8, 0]], expected[7:11, 4:20, [8, 0]])
    own = [SENTINEL2_BANDS[band.replace("B0", "B")] for band in SENTINEL2_OUT]
    assert scene.wavelengths.tolist() == [centre for centre, _, _ in own] == sorted(scene.wavelengths)
    assert scene.fwhm.tolist() == [width for _, width, _ in own]
    assert scene.band_names == SENTINEL2_OUT and scene.bad_bands is None
    assert scene.name == SAFE and scene.source == f"{SAFE}.SAFE"
    assert open_scene(folder / "MTD_MSIL2A.xml").hsi.identical(scene.hsi)


def test_reflectance_has_an_offset_since_baseline_4(tmp_path):
    attrs = open_scene(write_sentinel2(tmp_path)[0]).hsi.attrs
    assert attrs["scale_factor"] == 1e-4 and attrs["add_offset"] == -0.1
    old = open_scene(write_sentinel2(tmp_path, xml=sentinel2_xml(offsets=False, response=False))[0])
    assert old.hsi.attrs["add_offset"] == 0 and old.fwhm is None and "fwhm" not in old.hsi.coords


def test_the_place_is_that_of_the_files(tmp_path):
    hsi = open_scene(write_sentinel2(tmp_path)[0]).hsi
    assert hsi.rio.crs.to_epsg() == 32633
    assert np.allclose(hsi.rio.transform().to_gdal(), (366000, 20, 0, 5810000, 0, -20))
    assert hsi.x[0] == 366010 and hsi.y[-1] == 5810000 - 36 * 20 + 10


def test_without_its_classification_it_is_said_that_defective_pixels_count(tmp_path):
    folder, values = write_sentinel2(tmp_path, classes=False)
    with pytest.warns(HsmambaWarning, match=r"lacks its quality mask \*_SCL_20m\.jp2"):
        scene = open_scene(folder)
    assert scene.hsi[2, 3, 1] == values["B02"][2, 3] and np.isnan(scene.hsi[4, 5, 1])


def test_a_missing_or_misplaced_band_is_refused(tmp_path):
    folder, values = write_sentinel2(tmp_path)
    image = folder / f"{sentinel2_name('B05', 20)}.jp2"
    write_jp2(image, values["B05"], 10)
    with pytest.raises(SceneError, match=r"_B05_20m\.jp2' lies at \(366000\.0, 10\.0.*expected one grid"):
        open_scene(folder)
    write_jp2(image, values["B05"][1:], 20)
    with pytest.raises(SceneError, match=r"_B05_20m\.jp2' has \(35, 30\) pixels .* expected \(36, 30\)"):
        open_scene(folder)
    image.write_bytes(image.read_bytes()[:30])
    with pytest.raises(SceneError, match=r"_B05_20m\.jp2' could not be read"):
        open_scene(folder)
    image.unlink()
    with pytest.raises(SceneError, match=r"lacks its file '.*_B05_20m\.jp2'"):
        open_scene(folder)


@pytest.mark.parametrize(
    ("xml", "cause"),
    [
        (sentinel2_xml(granules=2), r"lists 2 tiles \(Granule\)"),
        (sentinel2_xml(files=[]), "lists 0 files of B01 at 60 m"),
        (sentinel2_xml(special="OTHER"), "names no special value NODATA"),
        (sentinel2_xml().replace('physicalBand="B9"', 'physicalBand="X"'), r"has no .*Spectral_Information of B09"),
        (sentinel2_xml().replace('<BOA_ADD_OFFSET band_id="8">-1000<', '<BOA_ADD_OFFSET band_id="8"><'), "band_id='8'"),
        (sentinel2_xml().replace('unit="nm">442.3', 'unit="GHz">442.3'), "a unit that is no length"),
        (sentinel2_xml().replace("GRANULE/", "GRANULE/../../GRANULE/"), "leads out of the product's folder"),
        (sentinel2_xml().replace("GRANULE/", "/GRANULE/"), "leads out of the product's folder"),
        ("<!DOCTYPE a>" + sentinel2_xml().partition("?>")[2].strip(), "document type declaration"),
        (sentinel2_xml().replace('none">10000', 'none">0'), "BOA_QUANTIFICATION_VALUE 0.0; expected a positive"),
        ("<a>", "is damaged XML"),
    ],
)
def test_damaged_or_hostile_metadata_are_refused(tmp_path, xml, cause):
    folder, _ = write_sentinel2(tmp_path, xml=xml)
    with pytest.raises(SceneError, match=cause):
        open_scene(folder)
