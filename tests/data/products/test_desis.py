"""DESIS L2A: values, bands and place as its metadata tell, and what is refused."""

import numpy as np
import pytest

from hsmamba.data import open_scene
from hsmamba.errors import SceneError
from tests.data.products.samples import DESIS, DESIS_BANDS, desis_xml, write_desis


def test_a_product_gives_its_values_and_what_is_known_of_its_bands(tmp_path):
    folder, values = write_desis(tmp_path)
    scene = open_scene(folder)
    expected = values.astype(np.float32)
    expected[0, 1] = np.nan
    assert np.array_equal(scene.hsi, expected, equal_nan=True)
    assert scene.wavelengths.tolist() == [centre for centre, _ in DESIS_BANDS]
    assert scene.fwhm.tolist() == [width for _, width in DESIS_BANDS]
    assert scene.hsi.attrs["scale_factor"] == 0.0001 and scene.hsi.attrs["add_offset"] == 0
    assert scene.band_names == ("Band 1", "Band 2", "Band 3", "Band 4") and scene.bad_bands is None
    assert scene.hsi.rio.crs.to_epsg() == 32633
    assert scene.hsi.rio.transform().to_gdal() == (366000, 30, 0, 5810000, 0, -30)
    assert scene.name == DESIS


def test_folder_metadata_and_image_are_the_same_product(tmp_path):
    folder, _ = write_desis(tmp_path)
    whole = open_scene(folder).hsi
    for name in (f"{DESIS}-METADATA.xml", f"{DESIS}-SPECTRAL_IMAGE.tif"):
        assert open_scene(folder / name).hsi.identical(whole)
    (folder / f"{DESIS}-SPECTRAL_IMAGE.tif").rename(folder / f"{DESIS}-SPECTRAL_IMAGE.TIF")
    assert np.array_equal(open_scene(folder).hsi, whole, equal_nan=True)


@pytest.mark.parametrize(
    ("xml", "cause"),
    [
        (desis_xml(DESIS_BANDS[:3]), "4 bands; expected .* 3 after the bands in"),
        (desis_xml().replace("<gainOfBand>0.0001</gainOfBand>", ""), "has no element 'gainOfBand'"),
        (desis_xml().replace("551.1<", "green<"), "wavelengthCenterOfBand 'green'; expected a finite number"),
        (desis_xml()[:-9], "is damaged XML"),
        ("<!DOCTYPE hsi_doc>" + desis_xml().partition("?>")[2].strip(), "document type declaration"),
    ],
)
def test_damaged_or_hostile_metadata_are_refused(tmp_path, xml, cause):
    folder, _ = write_desis(tmp_path, xml=xml)
    with pytest.raises(SceneError, match=cause):
        open_scene(folder)


def test_a_missing_image_and_another_level_are_refused(tmp_path):
    folder, _ = write_desis(tmp_path)
    (folder / f"{DESIS}-SPECTRAL_IMAGE.tif").unlink()
    with pytest.raises(SceneError, match=r"lacks its file 'DESIS.*-SPECTRAL_IMAGE\.tif'"):
        open_scene(folder)
    (folder / f"{DESIS}-METADATA.xml").rename(folder / f"{DESIS.replace('L2A', 'L1C')}-METADATA.xml")
    with pytest.raises(SceneError, match="is of another level than L2A"):
        open_scene(folder)
