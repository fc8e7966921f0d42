"""The two satellite images: pairs out of their files."""

import numpy as np
import pytest
from scipy.io import savemat

from hsmamba.data import load_ikonos, load_pairs, load_worldview2
from hsmamba.errors import DataNotFoundError, SceneError


def test_satellite_images_are_read_from_their_files(tmp_path):
    folder = tmp_path / "worldview2_ikonos"
    folder.mkdir()
    rng = np.random.default_rng(0)
    ms, pan = rng.uniform(100, 900, (64, 32, 8)), rng.uniform(100, 900, (256, 128))
    savemat(folder / "imgWV2.mat", {"I_MS": ms.astype(np.uint16), "I_PAN": pan.astype(np.uint16)})
    pairs = load_worldview2(tmp_path, val=0.25, test=0.25, guard=4)
    assert load_pairs("worldview2", tmp_path, val=0.25, test=0.25, guard=4).sha256 == pairs.sha256
    assert (pairs.in_chans, pairs.maximum, pairs.sensor.name) == (8, 2047, "WV2")
    np.testing.assert_allclose(pairs.train[0].gt[3].numpy() * 2047, ms[:24, :, 3].astype(np.uint16), rtol=1e-5)
    with pytest.raises(DataNotFoundError, match=r"no worldview2_ikonos/imgIK\.mat in"):
        load_ikonos(tmp_path)
    savemat(folder / "imgIK.mat", {"I_MS": ms})
    with pytest.raises(SceneError, match="no variable I_PAN"):
        load_ikonos(tmp_path)
