"""Harvard: one MATLAB file an image, halved into training and test images."""

import numpy as np
import pytest

from hsmamba.data import load_pairs
from hsmamba.data.sets.harvard import _response
from hsmamba.errors import DataNotFoundError, SceneError
from tests.data.sets import layouts


def test_images_are_halved_scaled_and_guided(tmp_path):
    pairs = load_pairs("harvard", layouts.harvard(tmp_path), ratio=4)
    assert [[one.name for one in part] for part in (pairs.train, pairs.val, pairs.test)] == [
        ["img0"], ["img1"], ["img2", "img3"],
    ]  # fmt: skip
    gt = pairs.test[0].gt.numpy()
    ref = np.random.default_rng(2).uniform(0, 0.3, (40, 36, 31))
    np.testing.assert_allclose(gt, (ref / ref.max()).transpose(2, 0, 1), atol=1e-6)
    np.testing.assert_allclose(pairs.test[0].guide.numpy(), np.einsum("kc,cyx->kyx", _response(), gt), atol=1e-5)
    assert load_pairs("harvard", tmp_path, ratio=8, side=16).test[0].gt.shape == (31, 16, 16)


def test_the_response_is_moved_to_the_first_band_of_420_nm():
    response = _response()
    assert response.shape == (3, 31) and np.allclose(response.sum(1), 1)
    assert not response[:, -2:].any() and response[:, :-2].any(0).all()


def test_what_is_no_such_image_is_named(tmp_path, monkeypatch):
    monkeypatch.delenv("HSMAMBA_DATA", raising=False)
    (tmp_path / "harvard").mkdir()
    with pytest.raises(DataNotFoundError, match=r"no file \*\.mat in .*unpack them there"):
        load_pairs("harvard", tmp_path)
    layouts.put(tmp_path / "harvard" / "a.mat", ref=np.ones((8, 8, 3)))
    with pytest.raises(SceneError, match=r"'ref' of \(8, 8, 3\); expected \(rows, columns, 31\)"):
        load_pairs("harvard", tmp_path, val=0)
