"""Pairs of the other sensors: the ground that coarse and sharp pixels share, file by file."""

import numpy as np
import pytest
import torch
from scipy.io import savemat

from hsmamba.data import load_pairs
from hsmamba.data.sets.eo1_paris import _centres
from hsmamba.errors import DataNotFoundError, SceneError, SplitError
from tests.conftest import DATA

SHARES = {"val": 0.25, "test": 0.25, "guard": 2}


def write(path, bands, dtype):
    rasterio = pytest.importorskip("rasterio")
    pytest.importorskip("rioxarray")
    path.parent.mkdir(parents=True, exist_ok=True)
    count, height, width = bands.shape
    profile = {"driver": "GTiff", "width": width, "height": height, "count": count, "dtype": dtype}
    transform = rasterio.transform.from_origin(0, 0, 1, 1)
    with rasterio.open(path, "w", transform=transform, **profile) as file:
        file.write(bands.astype(dtype))


def test_landsat_pan_is_moved_by_half_a_pixel_where_it_is_reduced_and_stays_where_it_is_not(tmp_path):
    """Bands and PAN show one ramp: MS pixel j is centred on PAN pixel 2 j + 1."""
    ms = np.broadcast_to(1000 + 20.0 * np.arange(24), (64, 24))
    for band in range(1, 8):
        write(tmp_path / "landsat8_cc0" / f"l8_B{band}.tif", ms[None], "uint16")
    write(tmp_path / "landsat8_cc0" / "l8_B8.tif", np.broadcast_to(990 + 10.0 * np.arange(48), (1, 129, 48)), "uint16")
    pairs = load_pairs("landsat8", tmp_path, **SHARES)
    assert (pairs.ratio, pairs.in_chans, pairs.guide_chans) == (2, 7, 1) and pairs.wavelengths[3] == 654.59
    inner = slice(4, -4)  # the rim, where filters repeat the edge, is bent
    test = pairs.test[0]
    torch.testing.assert_close(test.guide[0, :, inner], test.gt[0, :, inner], rtol=0, atol=1e-4)
    full = pairs.full[0]
    torch.testing.assert_close(full.guide[0, 1::2, 1::2], full.ms[0], rtol=0, atol=1e-6)
    (tmp_path / "landsat8_cc0" / "l8_B8.tif").unlink()
    with pytest.raises(DataNotFoundError, match=r"l8_B8\.tif'; fetch"):
        load_pairs("landsat8", tmp_path)


def test_sentinel_bands_are_cut_to_the_same_ground(tmp_path):
    """The 10 m crop begins 10 m east of the 20 m crop."""
    east = 10.0 * np.arange(49)  # metres of 10 m pixels from the 20 m crop's western edge
    coarse = (500 + east[:48]).reshape(24, 2).mean(1)
    for band in ("B05", "B06", "B07", "B8A", "B11", "B12"):
        write(tmp_path / "sentinel2_cc0" / f"s2_{band}.tif", np.broadcast_to(coarse, (1, 64, 24)), "uint16")
    for band in ("B02", "B03", "B04", "B08"):
        sharp = np.broadcast_to(500 + east[1:], (1, 128, 48))
        write(tmp_path / "sentinel2_cc0" / f"s2_{band}.tif", sharp, "uint16")
    pairs = load_pairs("sentinel2", tmp_path, **SHARES)
    assert (pairs.ratio, pairs.in_chans, pairs.guide_chans, len(pairs.wavelengths)) == (2, 6, 4, 6)
    test, inner = pairs.test[0], slice(4, -4)
    torch.testing.assert_close(test.guide[2, :, inner], test.gt[0, :, inner], rtol=0, atol=2e-3)
    write(tmp_path / "sentinel2_cc0" / "s2_B02.tif", np.ones((1, 100, 48)), "uint16")
    for band in ("B03", "B04", "B08"):
        write(tmp_path / "sentinel2_cc0" / f"s2_{band}.tif", np.ones((1, 100, 48)), "uint16")
    with pytest.raises(SceneError, match=r"\(64, 24\) pixels of 20 m and \(100, 48\) of 10 m; expected twice"):
        load_pairs("sentinel2", tmp_path)


def test_quickbird_bands_are_averaged_to_their_own_size(tmp_path):
    rng = np.random.default_rng(0)
    bands, pan = rng.integers(100, 900, (4, 130, 64)), rng.integers(100, 900, (1, 130, 64))
    for part, image in (("XS", bands), ("PAN", pan)):
        write(tmp_path / "quickbird_toulouse" / f"QB_Toulouse_Ortho_{part}.tif", image, "uint32")
    pairs = load_pairs("quickbird", tmp_path, val=0, test=0)
    assert (pairs.ratio, pairs.maximum, pairs.sensor.name) == (4, 2047, "QB")
    expected = bands[2, :4, :4].mean() / 2047
    assert float(pairs.train[0].gt[2, 0, 0]) == pytest.approx(expected, rel=1e-5)
    write(tmp_path / "quickbird_toulouse" / "QB_Toulouse_Ortho_PAN.tif", pan[:, :100], "uint32")
    with pytest.raises(SceneError, match=r"bands of \(130, 64, 4\) and PAN of \(100, 64, 1\)"):
        load_pairs("quickbird", tmp_path)


def test_hyperion_and_ali_make_pairs_of_ratio_three(tmp_path):
    rng = np.random.default_rng(0)
    arrays = {"HSim": rng.random((72, 58, 128)), "PCim": rng.random((216, 174))}
    path = tmp_path / "eo1_paris" / "paris_data_hs_pan.mat"
    path.parent.mkdir()
    savemat(path, {**arrays, "non_del_bands": np.arange(8, 136, dtype=np.uint8)[None]})
    pairs = load_pairs("eo1", tmp_path)
    assert (pairs.ratio, pairs.in_chans, len(pairs.wavelengths)) == (3, 128, 128)
    # Hyperion's bands 8, 57, 77 and 224 by its table of calibration
    np.testing.assert_allclose(_centres(np.array([8, 57, 77, 224])), [426.82, 925.41, 912.45, 2395.5], atol=0.1)
    savemat(path, arrays)
    with pytest.raises(SceneError, match=r"expected .*'non_del_bands': \(1, 128\)"):
        load_pairs("eo1", tmp_path)


def test_crops_get_a_simulated_pan_and_are_cut_by_rows(tmp_path):
    cube = np.random.default_rng(0).uniform(1, 9000, (128, 48, 48)).astype(np.float32)
    write(tmp_path / "hsi_crops" / "chikusei_48x48.tif", cube, "float32")
    pairs = load_pairs("hsi_chikusei", tmp_path, val=0.125)
    rows = [image[0].gt.shape[1] for image in (pairs.train, pairs.val, pairs.test)]
    assert rows == [16, 8, 16] and pairs.maximum == float(cube[:, :16].max())
    scaled = torch.from_numpy(cube) / pairs.maximum
    torch.testing.assert_close(pairs.test[0].gt, scaled[:, 32:])
    torch.testing.assert_close(pairs.test[0].guide[0], scaled[17:105, 32:].mean(0))
    with pytest.raises(
        SplitError, match=r"val=0, test=0\.95 and guard=\d+ 48 pixels of ms along the axis come to 0 for train"
    ):
        load_pairs("hsi_chikusei", tmp_path, test=0.95)
    with pytest.raises(ValueError, match="ratio is 5; it must divide the 48 pixels"):
        load_pairs("hsi_chikusei", tmp_path, ratio=5)
    write(tmp_path / "hsi_crops" / "dc_48x48.tif", cube[:20], "float32")
    with pytest.raises(SceneError, match=r"shape \(48, 48, 20\); expected 48 x 48"):
        load_pairs("hsi_dc_mall", tmp_path)


@pytest.mark.skipif(not DATA.is_dir(), reason="the shared data are not here")
@pytest.mark.parametrize(
    "name, sizes",
    [
        ("quickbird", (4, 4, 1, (36, 124))),
        ("landsat8", (2, 7, 1, (180, 626))),
        ("sentinel2", (2, 6, 4, (144, 478))),
        ("eo1", (3, 128, 1, (21, 57))),
        ("hsi_chikusei", (4, 128, 1, (16, 48))),
        ("hsi_dc_mall", (4, 191, 1, (16, 48))),
        ("hsi_beltsville", (4, 360, 1, (16, 48))),
        ("hsi_cuprite", (4, 357, 1, (16, 48))),
    ],
)
def test_real_images_have_their_sizes(name, sizes):
    pytest.importorskip("rioxarray")
    pairs = load_pairs(name, DATA)
    assert (pairs.ratio, pairs.in_chans, pairs.guide_chans, tuple(pairs.test[0].gt.shape[1:])) == sizes
