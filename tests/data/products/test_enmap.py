"""EnMAP L2A: values, bands, pixels and place as its metadata tell, and what is refused."""

import numpy as np
import pytest

from hsmamba.data import open_scene, valid_mask
from hsmamba.errors import HsmambaWarning, SceneError
from tests.data.products.samples import ENMAP, ENMAP_BANDS, enmap_xml, write_enmap, write_raster


def test_a_product_gives_its_values_and_what_is_known_of_its_bands(tmp_path):
    folder, values = write_enmap(tmp_path)
    scene = open_scene(folder)
    expected = values.astype(np.float32)
    expected[..., 4] = np.nan
    expected[0, 1] = np.nan
    expected[2, 3, 1] = np.nan
    assert scene.hsi.dims == ("y", "x", "band") and scene.hsi.dtype == np.float32
    assert np.array_equal(scene.hsi, expected, equal_nan=True)
    assert scene.wavelengths.tolist() == [centre for _, centre, _ in ENMAP_BANDS]
    assert scene.fwhm.tolist() == [width for _, _, width in ENMAP_BANDS]
    assert scene.bad_bands.tolist() == [False, False, False, False, True, False]
    assert scene.band_names == tuple(f"Band {number}" for number in range(1, 7))
    assert scene.hsi.attrs["scale_factor"] == 0.0001 and scene.hsi.attrs["add_offset"] == 0
    assert scene.hsi.attrs["long_name"] == scene.band_names
    assert np.array_equal(scene.hsi.wavelength, scene.wavelengths) and np.array_equal(scene.hsi.fwhm, scene.fwhm)
    assert scene.name == ENMAP and scene.source == ENMAP
    assert np.argwhere(~valid_mask(scene.hsi, "mask", bands=scene.good_bands)).tolist() == [[0, 1], [2, 3]]


def test_the_place_is_that_of_the_image(tmp_path):
    folder, _ = write_enmap(tmp_path)
    hsi = open_scene(folder).hsi
    assert hsi.rio.crs.to_epsg() == 32633
    assert hsi.rio.transform().to_gdal() == (366000, 30, 0, 5810000, 0, -30)
    assert hsi.spatial_ref.attrs["GeoTransform"] == "366000.0 30.0 0.0 5810000.0 0.0 -30.0"
    assert hsi.x[0] == 366015 and hsi.y[0] == 5809985 and hsi.y[1] == 5809955


def test_folder_metadata_and_image_are_the_same_product(tmp_path):
    folder, _ = write_enmap(tmp_path)
    whole = open_scene(folder)
    for name in (f"{ENMAP}-METADATA.XML", f"{ENMAP}-SPECTRAL_IMAGE.TIF"):
        scene = open_scene(folder / name)
        assert scene.hsi.identical(whole.hsi) and scene.name == ENMAP and scene.source == name


def test_copies_of_the_catalogue_are_found(tmp_path):
    folder, _ = write_enmap(tmp_path, suffix="_COG")
    scene = open_scene(folder / f"{ENMAP}-SPECTRAL_IMAGE_COG.TIF")
    assert scene.num_bands == 6 and np.isnan(scene.hsi[2, 3, 1])


def test_an_image_without_its_metadata_is_a_plain_geotiff(tmp_path):
    folder, values = write_enmap(tmp_path)
    (folder / f"{ENMAP}-METADATA.XML").unlink()
    scene = open_scene(folder / f"{ENMAP}-SPECTRAL_IMAGE.TIF")
    assert scene.wavelengths is None and np.array_equal(scene.hsi[5, :, 0], values[5, :, 0])


def test_labels_and_aux_lie_beside_a_product(tmp_path):
    folder, _ = write_enmap(tmp_path)
    write_raster(tmp_path / "labels.tif", np.ones((12, 10), np.uint8))
    write_raster(tmp_path / "aux.tif", np.full((12, 10, 2), 7, np.float32))
    scene = open_scene(folder, labels=tmp_path / "labels.tif", aux=tmp_path / "aux.tif", class_names=["grass"])
    assert int(scene.labels.sum()) == 120 and scene.aux.shape == (12, 10, 2) and scene.num_classes == 1


def test_without_a_pixel_mask_it_is_said_that_defective_pixels_count(tmp_path):
    folder, values = write_enmap(tmp_path, mask=False)
    with pytest.warns(HsmambaWarning, match=r"lacks its quality mask ENMAP.*-QL_PIXELMASK\.TIF"):
        scene = open_scene(folder)
    assert scene.hsi[2, 3, 1] == values[2, 3, 1] and np.isnan(scene.hsi[0, 1]).all()


def test_bands_that_are_not_delivered_are_bad(tmp_path):
    folder, _ = write_enmap(tmp_path, xml=enmap_xml(vnir="1,3"))
    assert open_scene(folder).bad_bands.tolist() == [False, True, False, False, True, False]


@pytest.mark.parametrize(
    ("xml", "cause"),
    [
        (enmap_xml(level="L1B"), "level 'L1B'; expected L2A"),
        (enmap_xml(bands=ENMAP_BANDS[:5]), "6 bands; expected .* 5 after the bands in"),
        (enmap_xml().replace("<level>L2A</level>", ""), "has no element 'base/level'"),
        (enmap_xml().replace("418.24", "blue"), "wavelengthCenterOfBand 'blue'; expected a finite number"),
        (enmap_xml().replace("418.24", "NaN"), "wavelengthCenterOfBand 'NaN'; expected a finite number"),
        (enmap_xml()[:-40], "is damaged XML"),
        ("", "is damaged XML"),
        (enmap_xml(image="other.TIF"), "lacks its file 'other.TIF'"),
        (enmap_xml(image="../other.TIF"), "leads out of the product's folder"),
        (enmap_xml(image="/etc/passwd"), "leads out of the product's folder"),
        (enmap_xml(image="vrt://other.TIF"), "leads out of the product's folder"),
        ('<!DOCTYPE a [<!ENTITY b "c">]>' + enmap_xml().partition("?>")[2].strip(), "document type declaration"),
    ],
)
def test_other_levels_and_damaged_or_hostile_metadata_are_refused(tmp_path, xml, cause):
    folder, _ = write_enmap(tmp_path, xml=xml or " ")
    with pytest.raises(SceneError, match=cause):
        open_scene(folder)


def test_a_mask_of_another_shape_is_refused(tmp_path):
    folder, _ = write_enmap(tmp_path)
    write_raster(folder / f"{ENMAP}-QL_PIXELMASK.TIF", np.zeros((12, 9, 6), np.uint8))
    with pytest.raises(SceneError, match=r"has \(12, 9\) pixels .* expected \(12, 10\)"):
        open_scene(folder)


def test_a_virtual_raster_in_the_place_of_the_image_is_refused(tmp_path):
    folder, _ = write_enmap(tmp_path)
    image = folder / f"{ENMAP}-SPECTRAL_IMAGE.TIF"
    image.rename(tmp_path / "secret.tif")
    image.write_text(
        f"""<VRTDataset rasterXSize="10" rasterYSize="12"><VRTRasterBand dataType="Int16" band="1"><SimpleSource>
        <SourceFilename>{tmp_path}/secret.tif</SourceFilename></SimpleSource></VRTRasterBand></VRTDataset>"""
    )
    with pytest.raises(SceneError, match="could not be read"):
        open_scene(folder)
