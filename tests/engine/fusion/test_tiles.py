"""The official overlap tiling: against its binary's output, a pixel-by-pixel oracle, and on images of any size."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import load_file
from torch import nn

import hsmamba
from tests.conftest import ROOT, SHARED
from tests.oracles.tiling import tiled, toy_answer

OFFICIAL = SHARED / "goldens" / "extra" / "le_mamba_tiling.safetensors"
OWN = ROOT / "tests" / "goldens" / "le_mamba_tiling__tiny.safetensors"


class Toy(nn.Module):
    """The specification's toy network: its answer depends on the place within the window."""

    in_chans, guide_chans, margin = 2, 1, None

    def __init__(self, scale):
        super().__init__()
        self.scale = scale
        self.zero = nn.Parameter(torch.zeros(1, dtype=torch.float64))

    def forward(self, ms, guide, ms_up):
        height, width = guide.shape[2:]
        y, x = torch.arange(height, dtype=torch.float64), torch.arange(width, dtype=torch.float64)
        theta = 0.37 * y[:, None] + 0.91 * x
        nearest = 0 if ms is None else 0.1 * nn.functional.interpolate(ms, scale_factor=self.scale)
        return 2 * ms_up + guide * theta.cos() + (1.7 * theta).sin() + nearest


def fuse(scale, ms, guide, ms_up, **kwargs):
    return hsmamba.fuse(Toy(scale), ms, guide, ms_up=ms_up, **{"maximum": 1.0, "progress": False} | kwargs)


def images(height, width, scale, seed=0):
    rng = np.random.default_rng(seed)
    sizes = ((1, 2), (scale, 2), (scale, 1))
    return tuple(rng.normal(size=(zoom * height, zoom * width, chans)) for zoom, chans in sizes)


def read(path, case=""):
    return {key.removeprefix(case): x[0].transpose(1, 2, 0) for key, x in load_file(path).items() if case in key}


@pytest.mark.parametrize("batch_size", [1, 8])
def test_own_golden(batch_size):
    golden = read(OWN)
    got = fuse(2, golden["ms"], golden["pan"], golden["lms"], batch_size=batch_size)
    np.testing.assert_allclose(got, golden["out"], atol=1e-5)


@pytest.mark.skipif(not OFFICIAL.exists(), reason="the official tiler's output is not at hand (shared/goldens/extra)")
@pytest.mark.parametrize(("case", "scale"), [("a/", 4), ("b/", 2)])
def test_output_of_the_official_tiler(case, scale):
    golden = read(OFFICIAL, case)
    got = fuse(scale, golden["ms"], golden["pan"], golden["lms"])
    # The file was made in float32, whose sine of some 100 radians is good to 1e-5.
    np.testing.assert_allclose(got, golden["out"], atol=5e-5)
    if scale == 2:
        ms, lms, pan = golden["ms"], golden["lms"], golden["pan"]
        oracle = tiled(lambda a, b: toy_answer(ms, lms, pan, scale, a, b), *ms.shape[:2], scale)
        np.testing.assert_allclose(oracle, golden["out"], atol=5e-5)


@settings(max_examples=12)
@given(
    height=st.integers(8, 21), width=st.integers(8, 21), scale=st.integers(1, 3), batch_size=st.sampled_from([1, 3, 8])
)
def test_any_size_agrees_with_the_oracle(height, width, scale, batch_size):
    ms, lms, pan = images(height, width, scale)
    got = fuse(scale, ms, pan, lms, tile=8, batch_size=batch_size)
    want = tiled(lambda a, b: toy_answer(ms, lms, pan, scale, a, b, 8), height, width, scale, 8)
    if max(height, width) == 8:  # one window is the whole image
        want = toy_answer(ms, lms, pan, scale, 0, 0, 8)
    np.testing.assert_allclose(got, want, atol=1e-12)


@pytest.mark.parametrize(("height", "width"), [(5, 30), (30, 3), (1, 17)])
def test_a_side_shorter_than_the_window_is_covered_whole(height, width):
    ms, lms, pan = images(height, width, 2)
    got = fuse(2, ms, pan, lms)
    assert np.isfinite(got).all()
    plain = 2 * lms + 0.1 * ms.repeat(2, 0).repeat(2, 1)
    assert np.abs(got - plain).max() <= np.abs(pan).max() + 1 + 1e-9


def test_a_coarse_image_on_the_guides_grid_need_not_have_whole_coarse_pixels():
    _, lms, pan = images(24, 30, 4)
    got = fuse(4, None, pan[:93, :119], lms[:93, :119])
    assert got.shape == (93, 119, 2)
    assert np.isfinite(got).all()
    whole = fuse(4, None, pan[:93, :119], lms[:93, :119], tile=32)
    np.testing.assert_allclose(got[:16, :16], whole[:16, :16])  # the corner is that of the first window alone


@pytest.mark.parametrize("size", [(9, 11), (16, 21)])
def test_windows_side_by_side_give_what_one_after_the_other_gives(size):
    torch.manual_seed(0)
    model = hsmamba.create_model("mmapp", in_chans=2, dim=4, depth=1, scale=2)
    rng, own, results = np.random.default_rng(0), torch.get_num_threads(), []
    ms, guide = rng.random((*size, 2)), rng.random((2 * size[0], 2 * size[1]))
    try:
        for threads in (1, 3):
            torch.set_num_threads(threads)
            results.append(hsmamba.fuse(model, ms, guide, maximum=1, tile=8, batch_size=1, progress=False))
            assert torch.get_num_threads() == threads
    finally:
        torch.set_num_threads(own)
    np.testing.assert_array_equal(*results)
