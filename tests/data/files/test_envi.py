"""ENVI images: maps with their bands, class names, values without data."""

import numpy as np
import pytest

from hsmamba.data import open_scene, valid_mask
from hsmamba.errors import SceneError
from tests.conftest import DATA
from tests.data.files.samples import cube, truth, write_envi


@pytest.mark.parametrize("interleave", ["bsq", "bil", "bip"])
def test_envi_images_are_mapped_with_their_bands(tmp_path, interleave):
    centres = [0.4, 0.55, 1.2, 2.4]
    write_envi(
        tmp_path / "a.hdr", cube(), interleave, wavelength=centres, wavelength_units="Micrometers", bbl=[1, 1, 0, 1]
    )
    scene = open_scene(tmp_path / "a.hdr")
    assert isinstance(scene.hsi, np.memmap) and np.array_equal(scene.hsi, cube())
    assert np.allclose(scene.wavelengths, [400, 550, 1200, 2400])
    assert scene.bad_bands.tolist() == [False, False, True, False]


def test_envi_classifications_bring_their_class_names(tmp_path):
    write_envi(tmp_path / "cube.hdr", cube())
    names = ["Unclassified", "corn", "oats", "woods"]
    write_envi(tmp_path / "map.hdr", truth()[..., None], file_type="ENVI Classification", classes=4, class_names=names)
    scene = open_scene(tmp_path / "cube.hdr", labels=tmp_path / "map.hdr")
    assert scene.class_names == ("corn", "oats", "woods") and np.array_equal(scene.labels, truth())


def test_envi_values_without_data_become_nan(tmp_path):
    values = cube(np.int16)
    values[2, 3] = -9999
    write_envi(tmp_path / "a.hdr", values, data_ignore_value=-9999)
    scene = open_scene(tmp_path / "a.hdr")
    assert scene.hsi.dtype == np.float32 and np.argwhere(~valid_mask(scene.hsi, "mask")).tolist() == [[2, 3]]
    write_envi(tmp_path / "b.hdr", cube(np.int16), data_ignore_value=-9999)
    assert isinstance(open_scene(tmp_path / "b.hdr").hsi, np.memmap)


def test_a_missing_envi_data_file_is_named(tmp_path):
    write_envi(tmp_path / "a.hdr", cube())
    (tmp_path / "a.img").unlink()
    with pytest.raises(SceneError, match=r"a\.hdr.*data file"):
        open_scene(tmp_path / "a.hdr")


@pytest.mark.skipif(not DATA.is_dir(), reason="the shared data are not here")
def test_the_real_envi_cube_opens():
    pytest.importorskip("spectral", reason="needs the geo extra")
    folder = DATA / "envi_samples" / "EnMAP-Box"
    scene = open_scene(folder / "cubus_gamsberg_subset.hdr")
    assert scene.hsi.shape == (25, 10, 189) and scene.wavelengths[0] == pytest.approx(426.82)
    with pytest.raises(SceneError, match="spectral library"):
        open_scene(folder / "gamsberg_field_library.hdr")
