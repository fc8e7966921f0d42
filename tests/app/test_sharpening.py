"""A pair, sharpened."""

import io
import json

import numpy as np
import pytest
from PIL import Image

from hsmamba.app.sharpening import Sharpening
from hsmamba.errors import SceneError


@pytest.fixture
def pair():
    sharpening = Sharpening()
    sharpening.open_sample()
    return sharpening


def done(sharpening, method, **options):
    sharpening.sharpen(method, **options)
    status = sharpening.work.wait()
    assert status["state"] == "done", status
    return sharpening.state()["result"]


def test_the_sample_is_sharpened_judged_and_written(pair, tmp_path):
    found = done(pair, "gsa".upper())
    assert found["used"] == "GSA"
    assert found["reduced"]["GSA"]["SAM"] < found["reduced"]["bicubic"]["SAM"]
    assert 0 < found["full"]["GSA"]["QNR"] <= 1
    sizes = {Image.open(io.BytesIO(pair.picture(which))).size for which in ("before", "after", "guide")}
    assert sizes == {(256, 192)}
    json.dumps(pair.state())
    rasterio = pytest.importorskip("rasterio")
    with rasterio.open(pair.export(tmp_path)) as file:
        assert file.shape == (192, 256) and file.count == 7 and file.crs is not None
        assert (file.read().transpose(1, 2, 0) == pair.result.image).all()


def test_a_network_is_tuned_on_the_pair(pair):
    with pytest.raises(ValueError, match="switch tuning on"):
        pair.sharpen("rsanet")
    with pytest.raises(ValueError, match="is not tuned"):
        pair.sharpen("GSA", adapt=5)
    found = done(pair, "rsanet", adapt=1)
    assert found["used"] in found["reduced"] and set(found["full"]) == {"up-sampled", found["used"]}
    assert found["notes"][0].startswith("adapt:")


def test_only_what_fits_can_be_chosen(tmp_path):
    rng = np.random.default_rng(0)
    ms, pan = rng.uniform(0, 2047, (16, 16, 4)), rng.uniform(0, 2047, (64, 64))
    for name, image in (("ms", ms), ("pan", pan), ("odd", pan[:50])):
        np.save(tmp_path / f"{name}.npy", image.astype(np.uint16))
    paths = {name: str(tmp_path / f"{name}.npy") for name in ("ms", "pan", "odd")}
    pair = Sharpening()
    pair.open(paths["ms"], paths["pan"])
    kinds = {method["name"]: method["kind"] for method in pair.methods()}
    assert kinds["rsanet.ikonos"] == "weight" and "rsanet.worldview2" not in kinds and kinds["GSA"] == "classical"
    found = done(pair, "rsanet.ikonos")
    assert found["notes"][-1].startswith("no figures:")  # the pair is too small to be cut
    with pytest.raises(ValueError, match="swapped"):
        pair.open(paths["pan"], paths["ms"])
    with pytest.raises(SceneError, match=r"whole number: crop both"):
        pair.open(paths["ms"], paths["odd"])
    with pytest.raises(ValueError, match="two images"):
        pair.open(paths["ms"], "")
    with pytest.raises(ValueError, match="cannot sharpen this pair"):
        pair.sharpen("le_mamba.cave_x4")


def test_nothing_is_done_without_a_pair(tmp_path):
    pair = Sharpening()
    for call in (pair.methods, lambda: pair.sharpen("GSA"), lambda: pair.picture("before")):
        with pytest.raises(ValueError, match="no pair is open"):
            call()
