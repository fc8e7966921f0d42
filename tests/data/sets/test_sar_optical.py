"""SAR beside optical images: which files belong together, scales, parts; and the real tiles."""

import tarfile

import numpy as np
import pytest

from hsmamba.data import load_pairs
from hsmamba.errors import DataNotFoundError, SceneError
from tests.conftest import DATA
from tests.data.sets import layouts

CASES = [(name, make) for name, makers in layouts.SAR.items() for make in makers]
BANDS = {"sen12ms": 13, "terramesh": 12, "sen1floods11": 13, "bigearthnet_s1s2": 4}


@pytest.mark.parametrize(("name", "make"), CASES, ids=[make.__name__ for _, make in CASES])
def test_pairs_are_found_scaled_and_divided(name, make, tmp_path):
    pairs = load_pairs(name, make(tmp_path), ratio=4)
    assert (pairs.in_chans, pairs.guide_chans, pairs.ratio, pairs.maxima) == (BANDS[name], 2, 4, (10000, 1))
    names = [[image.name for image in part] for part in (pairs.train, pairs.val, pairs.test)]
    flat = [name for part in names for name in part]
    assert flat == sorted(flat) and len(names[2]) >= 1 and len(names[0]) >= 1
    if len(flat) == 5:
        assert [len(part) for part in names] == [2, 1, 2]
    side = pairs.test[0].gt.shape[-1]
    last = len(flat) - 1
    radar = layouts.radar(last, side)
    guide = np.stack([np.clip(radar[0] / 25 + 1, 0, 1), np.clip(radar[1] / 32.5 + 1, 0, 1)])
    np.testing.assert_allclose(pairs.test[-1].guide.numpy(), guide, atol=1e-6)
    first = layouts.optical(
        10 * last if name == "bigearthnet_s1s2" else last, 1 if "big" in name else BANDS[name], side
    )
    np.testing.assert_allclose(pairs.test[-1].gt.numpy()[0], first[0] / 10000, atol=1e-7)
    few = load_pairs(name, tmp_path, limit=2)
    assert len(few.train) + len(few.val) + len(few.test) == 2


def test_what_does_not_belong_together_is_named(tmp_path, monkeypatch):
    monkeypatch.delenv("HSMAMBA_DATA", raising=False)
    (tmp_path / "terramesh").mkdir()
    with pytest.raises(
        DataNotFoundError, match=r"no pairs in .*terramesh', expected \*_S1RTC\.tif.*: unpack TerraMesh"
    ):
        load_pairs("terramesh", tmp_path)
    layouts.terramesh(tmp_path)
    with pytest.raises(ValueError, match=r"val=0\.5 and test=0\.6 leave none of 5 images"):
        load_pairs("terramesh", tmp_path, val=0.5, test=0.6)
    layouts.tif(tmp_path / "terramesh" / "0D_1L_S2L2A.tif", layouts.optical(0, 12, 32))
    with pytest.raises(SceneError, match=r"SAR of \(2, 64, 64\) and an optical image of \(12, 32, 32\)"):
        load_pairs("terramesh", tmp_path)
    (tmp_path / "terramesh" / "0D_1L_S2L2A.tif").unlink()
    with pytest.raises(DataNotFoundError, match=r"no .*0D_1L_S2L2A\.tif"):
        load_pairs("terramesh", tmp_path)
    root = layouts.bigearthnet_s1s2(tmp_path, count=1)
    for path in root.rglob("*_labels_metadata.json"):
        path.write_text("{}")
    with pytest.raises(SceneError, match="names no corresponding_s2_patch"):
        load_pairs("bigearthnet_s1s2", root)


@pytest.mark.skipif(not DATA.is_dir(), reason="the shared data are not here")
@pytest.mark.parametrize(("name", "side"), [("terramesh", 224), ("sen1floods11", 512), ("bigearthnet_s1s2", 120)])
def test_the_real_tiles_are_pairs(name, side, tmp_path):
    pytest.importorskip("rasterio")
    root = DATA
    if name == "bigearthnet_s1s2":
        root = tmp_path
        for path in sorted((DATA / name).glob("*.tar.bz2")):
            with tarfile.open(path) as archive:
                archive.extractall(tmp_path / name, filter="data")
    pairs = load_pairs(name, root)
    assert pairs.in_chans == BANDS[name] and pairs.test[0].gt.shape[1:] == (side, side)
    for image in (*pairs.train, *pairs.test):
        assert image.guide.min() >= 0 and image.guide.max() <= 1 and 0.02 < image.gt.mean() < 1
