"""Windows of a global network: how they pass into each other, and the official tiling against its binary's output."""

import math
from functools import cache

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import load_file
from torch import nn

import hsmamba
from hsmamba.engine.fusion import tiles
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
    """Fuse by the official tiling, unless told otherwise."""
    kwargs = {"overlap": 3 * kwargs.get("tile", 16) // 4} | kwargs
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
    ramps = fuse(4, None, pan[:93, :119], lms[:93, :119], overlap=2)
    assert np.isfinite(ramps).all()
    np.testing.assert_allclose(ramps[:16, :16], whole[:16, :16])


def blended(run, size, scale, window, overlap):
    """Windows that share `overlap` coarse pixels or more, spread evenly, pixel by pixel: slow on purpose."""
    lines = []
    for length in size:
        count = 1 if length <= window else math.ceil((length - overlap) / (window - overlap))
        side = min(window, length)
        starts = [math.floor((length - side) * i / max(count - 1, 1)) * scale for i in range(count)]
        lines.append((starts, side * scale))

    def share(t, starts, side, i):
        if not starts[i] <= t < starts[i] + side:
            return 0.0
        weight = 1.0
        if i > 0 and (end := starts[i - 1] + side) > t:
            weight *= (t - starts[i] + 0.5) / (end - starts[i])
        if i + 1 < len(starts) and (start := starts[i + 1]) <= t:
            weight *= (starts[i] + side - t - 0.5) / (starts[i] + side - start)
        return weight

    (rows, high), (columns, wide) = lines
    out = np.zeros((size[0] * scale, size[1] * scale, 2))
    for y, x in np.ndindex(*out.shape[:2]):
        total = 0.0
        for i, j in np.ndindex(len(rows), len(columns)):
            weight = share(y, rows, high, i) * share(x, columns, wide, j)
            if weight:
                out[y, x] += weight * run(rows[i] // scale, columns[j] // scale)[y - rows[i], x - columns[j]]
                total += weight
        out[y, x] /= total
    return out


@settings(max_examples=12)
@given(
    height=st.integers(3, 21), width=st.integers(8, 21), scale=st.integers(1, 3), batch_size=st.sampled_from([1, 3, 8]),
    window=st.integers(5, 10), data=st.data(),
)  # fmt: skip
def test_windows_pass_into_each_other_linearly(height, width, scale, batch_size, window, data):
    overlap = data.draw(st.integers(0, window // 2))
    ms, lms, pan = images(height, width, scale)
    got = fuse(scale, ms, pan, lms, tile=window, batch_size=batch_size, overlap=overlap)
    want = blended(cache(lambda a, b: toy_window(ms, lms, pan, scale, a, b, window)), (height, width), scale, window,
                   overlap)  # fmt: skip
    np.testing.assert_allclose(got, want, atol=1e-12)


def toy_window(ms, lms, pan, scale, a, b, window):
    """The toy's answer on a window that may be less tall or wide than asked for, where the image is."""
    fine = slice(a * scale, (a + window) * scale), slice(b * scale, (b + window) * scale)
    low = ms[a : a + window, b : b + window]
    tensors = (torch.from_numpy(x.copy()).permute(2, 0, 1)[None] for x in (low, pan[fine], lms[fine]))
    return Toy(scale)(*tensors)[0].permute(1, 2, 0).detach().numpy()


@pytest.mark.parametrize(("window", "shared"), [(1, 0), (2, 1), (7, 1), (12, 1), (16, 2), (24, 3)])
def test_windows_share_an_eighth_where_nothing_else_is_asked_for(window, shared):
    ms, lms, pan = images(2 * window + 3, 3 * window + 1, 2)
    asked, usual = (fuse(2, ms, pan, lms, tile=window, overlap=overlap) for overlap in (shared, None))
    np.testing.assert_array_equal(usual, asked)


def test_a_pixel_is_computed_about_once_or_twice():
    seen = []

    class Counting(Toy):
        """Counts the pixels it is shown."""

        def forward(self, ms, guide, ms_up):
            seen.append(guide[:, 0].numel())
            return super().forward(ms, guide, ms_up)

    ms, lms, pan = images(128, 100, 1)
    for overlap, most in ((None, 1.6), (12, 16)):
        seen.clear()
        hsmamba.fuse(Counting(1), ms, pan, ms_up=lms, maximum=1.0, overlap=overlap, progress=False)
        assert most / 2 < sum(seen) / pan.size <= most


def test_a_network_says_how_large_its_windows_are():
    ms, lms, pan = images(40, 40, 1)
    small = Toy(1)
    small.window = 8
    options = {"ms_up": lms, "maximum": 1.0, "progress": False}
    got, want = hsmamba.fuse(small, ms, pan, **options), hsmamba.fuse(Toy(1), ms, pan, tile=8, **options)
    np.testing.assert_array_equal(got, want)
    assert np.abs(got - hsmamba.fuse(Toy(1), ms, pan, **options)).max() > 0.1
    inner = {"dim": 8, "depth": 1}
    residual = hsmamba.create_model("residual", network="cf2n", in_chans=4, network_args=inner)
    assert residual.margin is None and residual.window == residual.network.window


@pytest.mark.parametrize("overlap", [None, 6])
@pytest.mark.parametrize("size", [(9, 11), (16, 21)])
def test_windows_side_by_side_give_what_one_after_the_other_gives(size, overlap):
    torch.manual_seed(0)
    model = hsmamba.create_model("mmapp", in_chans=2, dim=4, depth=1, scale=2)
    rng, own, results = np.random.default_rng(0), torch.get_num_threads(), []
    ms, guide = rng.random((*size, 2)), rng.random((2 * size[0], 2 * size[1]))
    try:
        for threads in (1, 3):
            torch.set_num_threads(threads)
            options = {"tile": 8, "overlap": overlap, "batch_size": 1, "progress": False}
            results.append(hsmamba.fuse(model, ms, guide, maximum=1, **options))
            assert torch.get_num_threads() == threads
    finally:
        torch.set_num_threads(own)
    np.testing.assert_array_equal(*results)


def test_a_gpu_takes_many_windows_unless_they_are_large():
    counts = [tiles._at_a_time(side, torch.device("cuda")) for side in (16, 64, 96, 512, 4096)]
    assert counts == [64, 64, 56, 2, 1]
    assert tiles._at_a_time(4096, torch.device("cpu")) == tiles._at_a_time(16, torch.device("cpu")) == 8
