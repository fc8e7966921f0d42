"""PanCollection and LE-Mamba's copies: the coarse images are those of the files."""

import numpy as np
import pytest
import torch

from hsmamba.data import load_pairs
from hsmamba.data.sets.pair_table import PAIR_SETS
from hsmamba.errors import DataNotFoundError, SceneError
from tests.data.sets import layouts


@pytest.mark.parametrize(("name", "bands"), [("wv3", 8), ("wv2", 8), ("qb", 4), ("gf2", 4)])
def test_pancollection_is_read_as_it_is(name, bands, tmp_path):
    high = 1023 if name == "gf2" else 2047
    pairs = load_pairs(f"pancollection_{name}", layouts.pancollection(tmp_path, name, bands, high))
    assert [len(part) for part in (pairs.train, pairs.val, pairs.test, pairs.full)] == [6, 2, 2, 2]
    gt, ms, lms, pan = layouts.images(6, bands, 64, 4, 1, high)
    image = pairs.unturned()[3]
    for found, expected in zip((image.gt, image.ms, image.ms_up, image.guide), (gt, ms, lms, pan), strict=True):
        np.testing.assert_allclose(found.numpy(), expected[3] / high, rtol=1e-6)
    assert (pairs.maximum, pairs.ratio, pairs.cut, pairs.in_chans, pairs.guide_chans) == (high, 4, 21, bands, 1)
    assert pairs.full[0].gt is None and pairs.test[0].gt is not None
    again = load_pairs(f"pancollection_{name}", tmp_path, limit=2, maximum=2047)
    assert (len(again.train), len(again.test), again.maximum) == (2, 2, 2047)


@pytest.mark.parametrize(("name", "ratio", "end"), [("cave", 4, ""), ("cave", 8, "_rgb"), ("harvard", 8, "_rgb")])
def test_copies_of_cave_and_harvard_are_read_as_they_are(name, ratio, end, tmp_path):
    pairs = load_pairs(f"{name}_h5_x{ratio}", layouts.mhif(tmp_path, name, ratio, end))
    assert (pairs.in_chans, pairs.guide_chans, pairs.ratio, pairs.maximum) == (31, 3, ratio, 1)
    assert [len(part) for part in (pairs.train, pairs.val, pairs.test, pairs.full)] == [4, 1, 1, 0]
    assert pairs.test[0].ms.shape == (31, 16, 16)


def test_given_images_are_neither_simulated_nor_flipped(tmp_path):
    pairs = load_pairs("pancollection_qb", layouts.pancollection(tmp_path, "qb", 4))
    views = pairs.views(torch.Generator().manual_seed(0))
    for view, image in zip(views, pairs.train, strict=True):
        assert all(torch.equal(getattr(view, part), getattr(image, part)) for part in ("gt", "ms", "ms_up", "guide"))
    some = pairs.with_bands([2, 0])
    assert torch.equal(some.train[0].ms, pairs.train[0].ms[[2, 0]]) and some.in_chans == 2
    low, high = pairs.spectra()
    assert low.shape == (6 * 16 * 16, 4) and high.shape == (6 * 64 * 64, 1)
    assert pairs.sha256 != some.sha256 and pairs.means()[0].shape == (6, 4)


def test_what_a_folder_lacks_or_holds_instead_is_said(tmp_path, monkeypatch):
    monkeypatch.delenv("HSMAMBA_DATA", raising=False)
    (tmp_path / "pancollection" / "wv3").mkdir(parents=True)
    with pytest.raises(DataNotFoundError, match=r"none of train_wv3\.h5, valid_wv3\.h5, .* put the files there"):
        load_pairs("pancollection_wv3", tmp_path)
    gt, ms, lms, pan = layouts.images(2, 8, 64, 4, 1, 2047)
    path = tmp_path / "pancollection" / "wv3" / "train_wv3.h5"
    layouts.h5(path, gt=gt, ms=ms, lms=lms, pan=pan[..., :32])
    with pytest.raises(SceneError, match=r"'guide': \(2, 1, 64, 32\).*expected as many of each, ratio 4"):
        load_pairs("pancollection_wv3", tmp_path)
    layouts.h5(path, gt=gt, ms=ms, lms=lms)
    with pytest.raises(SceneError, match="has no array 'pan'"):
        load_pairs("pancollection_wv3", tmp_path)


def test_every_set_names_its_files():
    for spec in PAIR_SETS.values():
        listed = " ".join(spec.facts.files)
        assert all(names[0] in listed for names in spec.files.values())
