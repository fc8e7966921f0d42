"""Fusion metrics against the closed-form anchors of the protocol, against other packages, and their properties."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from hsmamba.data import degrade
from hsmamba.data.degrade import degrade_ms, interp23
from hsmamba.errors import SceneError
from hsmamba.metrics import _q, fusion, rsmif
from tests.oracles import waves
from tests.refusals import refused


def noise(*shape, seed=0, high=2000):
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64) * high


@pytest.fixture(scope="module")
def scene():
    """The closed-form scene: reference X, fused Y, native MS, up-sampled MS, PAN."""
    ms = degrade_ms(waves.MS, sensor="QB")
    return {"x": waves.MS, "y": waves.FUSED, "ms": ms, "lms": interp23(ms), "pan": waves.PAN}


def test_the_scene_is_the_one_of_the_anchors(scene):
    expected = torch.tensor([798.3354, 825.9107, 871.0723, 945.6130], dtype=torch.float64)
    torch.testing.assert_close(scene["y"][0, :, 5, 7], expected, rtol=0, atol=6e-5)


@pytest.mark.parametrize(
    ("metric", "value"),
    [
        (lambda s: fusion.sam(s["x"], s["y"]), 0.8212115),
        (lambda s: fusion.ergas(s["x"], s["y"]), 0.5135976),
        (lambda s: fusion.scc(s["x"], s["y"]), 0.9972588),
        (lambda s: fusion.q2n(s["x"], s["y"]), 0.9961975),
        (lambda s: fusion.d_lambda(s["y"], s["lms"]), 0.0513448),
        (lambda s: fusion.d_s(s["y"], s["lms"], s["pan"]), 0.0258049),
        (lambda s: fusion.qnr(s["y"], s["lms"], s["pan"]), 0.9241752),
        (lambda s: fusion.d_lambda_k(s["y"], s["lms"], sensor="QB"), 0.0083522),
        (lambda s: fusion.hqnr(s["y"], s["lms"], s["pan"], sensor="QB"), 0.9660585),
        (lambda s: rsmif.q2n(s["x"], s["y"]), 0.9961966),
    ],
    ids=["SAM", "ERGAS", "SCC", "Q2n", "D_lambda", "D_s", "QNR", "D_lambda_K", "HQNR", "rsmif-Q2n"],
)
def test_anchors_on_digital_numbers(scene, metric, value):
    assert float(metric(scene)) == pytest.approx(value, abs=6e-8)


@pytest.mark.parametrize(
    ("metric", "value", "tolerance"),
    [
        (lambda s: fusion.ssim(s["x"], s["y"], data_range=1), 0.989849, 1e-6),
        (lambda s: fusion.psnr(s["x"], s["y"], data_range=1), 43.60985, 1e-5),
        (lambda s: fusion.cc(s["x"], s["y"]), 0.998273, 1e-6),
        (lambda s: rsmif.sam(s["x"], s["y"]), 0.821210, 2e-6),  # the released figure comes from a float32 arccos
        (lambda s: rsmif.scc(s["x"], s["y"]), 0.998429, 1e-6),
        (lambda s: rsmif.rmse(s["x"], s["y"]), 0.013817, 1e-6),
        (lambda s: rsmif.ergas(s["x"], s["y"]), 0.507102, 1e-6),
        (lambda s: rsmif.uiqc(s["x"], s["y"]), 0.998187, 1e-6),
        (lambda s: rsmif.q4(s["x"], s["y"]), 0.998206, 1e-6),
        (lambda s: rsmif.d_lambda(s["y"], s["lms"]), 0.0365780, 1e-7),
        (lambda s: rsmif.d_s(s["y"], s["ms"], s["pan"]), 0.0251259, 1e-7),
        (lambda s: rsmif.qnr(s["y"], s["ms"], s["pan"]), 0.9392151, 1e-7),
    ],
    ids=["SSIM", "PSNR", "CC", "SAM", "SCC", "RMSE", "ERGAS", "UIQC", "Q4", "D_lambda", "D_s", "QNR"],
)
def test_anchors_on_data_scaled_to_one(scene, metric, value, tolerance):
    scaled = {name: (image / 2047).float() for name, image in scene.items()}
    assert float(metric(scaled)) == pytest.approx(value, abs=tolerance)


@pytest.mark.parametrize("bands", [1, 3, 4, 6, 8, 11])
@pytest.mark.parametrize("shape", [(64, 96), (70, 45)], ids=["whole-blocks", "mirrored"])
def test_q2n_agrees_with_sewar(bands, shape):
    sewar = pytest.importorskip("sewar.full_ref", reason="sewar is the oracle of Q2n: pip install sewar")
    rng = np.random.default_rng(bands)
    smooth = rng.integers(0, 1500, (9, 12, bands)).repeat(8, 0).repeat(8, 1)[: shape[0], : shape[1]]
    x = smooth + rng.integers(0, 200, smooth.shape)
    y = np.clip(x + rng.integers(-90, 90, x.shape), 0, None)
    ours = fusion.q2n(*(torch.from_numpy(a).permute(2, 0, 1)[None] for a in (x, y)))
    assert float(ours) == pytest.approx(float(sewar.q2n(x.astype(np.uint16), y.astype(np.uint16))), abs=1e-6)


def test_sam_ergas_and_psnr_agree_with_torchmetrics():
    functional = pytest.importorskip(
        "torchmetrics.functional.image", reason="torchmetrics is an oracle of three metrics"
    )
    x, y = noise(3, 5, 32, 40, seed=1) + 50, noise(3, 5, 32, 40, seed=2) + 50
    radians = functional.spectral_angle_mapper(y, x, reduction="none")
    torch.testing.assert_close(fusion.sam(x, y), torch.rad2deg(radians).mean(dim=(1, 2)))
    theirs = functional.error_relative_global_dimensionless_synthesis(y, x, ratio=4, reduction="none")
    torch.testing.assert_close(fusion.ergas(x, y), theirs)
    for k in range(3):
        bands = functional.peak_signal_noise_ratio(
            y[k, :, None], x[k, :, None], data_range=2047.0, dim=(1, 2, 3), reduction="none"
        )
        torch.testing.assert_close(fusion.psnr(x, y, data_range=2047)[k], bands.mean())


def test_ssim_agrees_with_a_direct_computation():
    x, y = noise(2, 2, 12, 9, seed=1, high=1), noise(2, 2, 12, 9, seed=2, high=1)
    values = np.zeros((2, 2, 6, 3))
    for index in np.ndindex(values.shape):
        n, c, i, j = index
        a, b = (t[n, c, i : i + 7, j : j + 7].numpy().ravel() for t in (x, y))
        luminance = (2 * a.mean() * b.mean() + 1e-4) / (a.mean() ** 2 + b.mean() ** 2 + 1e-4)
        structure = (2 * np.cov(a, b)[0, 1] + 9e-4) / (a.var(ddof=1) + b.var(ddof=1) + 9e-4)
        values[index] = luminance * structure
    np.testing.assert_allclose(fusion.ssim(x, y, data_range=1).numpy(), values.mean(axis=(1, 2, 3)))


def _multiply(p, q):
    """The toolbox's hypercomplex product of (..., n), straight from its recursive definition."""
    n = p.shape[-1]
    if n == 1:
        return p * q

    def conj(z):
        return np.concatenate([z[..., :1], -z[..., 1:]], axis=-1)

    a, b, c, d = p[..., : n // 2], p[..., n // 2 :], q[..., : n // 2], q[..., n // 2 :]
    bb, dd = conj(b), conj(d)
    if n == 2:
        return np.concatenate([a * c - dd * bb, a * dd + c * bb], axis=-1)
    lower = _multiply(a, c) - _multiply(dd, conj(bb))
    return np.concatenate([lower, _multiply(conj(a), dd) + _multiply(c, bb)], axis=-1)


@pytest.mark.parametrize("size", [1, 2, 4, 8, 16])
def test_hypercomplex_table_is_the_recursive_product(size):
    rng = np.random.default_rng(size)
    p, q = rng.normal(size=(2, 5, size))
    table = torch.from_numpy(p[:, :, None] * q[:, None, :])
    np.testing.assert_allclose(_q._hypercomplex_sum(table).numpy(), _multiply(p, q), atol=1e-12)


PAIRWISE = {
    "psnr": lambda x, y: fusion.psnr(x, y, data_range=2047),
    "ssim": lambda x, y: fusion.ssim(x, y, data_range=2047),
    "sam": fusion.sam,
    "ergas": fusion.ergas,
    "scc": fusion.scc,
    "cc": fusion.cc,
    "uqi": fusion.uqi,
    "q2n": fusion.q2n,
    "d_lambda": fusion.d_lambda,
    "d_s": lambda x, y: fusion.d_s(y, x, x.mean(dim=1, keepdim=True)),
    "d_lambda_k": lambda x, y: fusion.d_lambda_k(y, x, sensor="generic"),
    **{
        f"rsmif.{name}": getattr(rsmif, name)
        for name in ("sam", "ergas", "rmse", "scc", "uiqc", "q4", "q2n", "d_lambda")
    },
}
DIFFERENTIABLE = [name for name in PAIRWISE if "q2n" not in name and name != "d_lambda_k"]


@pytest.mark.parametrize("name", PAIRWISE)
def test_one_value_an_image_whatever_the_batch(name):
    x, y = noise(3, 4, 64, 36, seed=3), noise(3, 4, 64, 36, seed=4)
    together = PAIRWISE[name](x, y)
    assert together.shape == (3,) and together.dtype == torch.float64
    single = torch.cat([PAIRWISE[name](x[k : k + 1], y[k : k + 1]) for k in range(3)])
    torch.testing.assert_close(together, single)
    torch.testing.assert_close(PAIRWISE[name](x.float(), y.float()), together, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", DIFFERENTIABLE)
def test_gradients(name):
    x, y = noise(1, 4, 32, 32, seed=5) + 100, (noise(1, 4, 32, 32, seed=6) + 100).requires_grad_()
    PAIRWISE[name](x, y).sum().backward()
    step = 1e-3 * noise(1, 4, 32, 32, seed=7, high=1)
    with torch.no_grad():
        slope = (PAIRWISE[name](x, y + step) - PAIRWISE[name](x, y - step)) / 2
    torch.testing.assert_close((y.grad * step).sum(), slope[0], rtol=1e-4, atol=1e-12)


@pytest.mark.parametrize("name", ["sam", "scc", "ssim"])
def test_gradients_are_finite_where_images_agree_or_are_flat(name):
    x = noise(1, 3, 32, 32)
    x[..., :8, :8] = 0
    x[..., :8, 8:16] = 7
    y = x.clone().requires_grad_()
    PAIRWISE[name](x, y).sum().backward()
    assert torch.isfinite(y.grad).all()


@settings(max_examples=20)
@given(
    bands=st.integers(1, 9),
    height=st.integers(7, 70),
    width=st.integers(7, 70),
    seed=st.integers(0, 99),
    level=st.integers(1, 3000),
)
def test_equal_images_are_perfect(bands, height, width, seed, level):
    x = torch.round(noise(1, bands, height, width, seed=seed, high=level))
    x[..., : height // 2] = level  # flat parts
    assert float(fusion.q2n(x, x)) == pytest.approx(1)
    assert float(fusion.sam(x, x)) == 0
    assert float(fusion.ssim(x, x, data_range=level)) == pytest.approx(1)
    assert torch.isinf(fusion.psnr(x, x, data_range=level)).all()
    assert float(fusion.ergas(x, x)) == 0
    assert float(fusion.uqi(x, x, block=7)) == pytest.approx(1)
    assert float(fusion.scc(x, x)) == pytest.approx(1)


@settings(max_examples=20)
@given(bands=st.integers(2, 6), factor=st.floats(0.1, 20), seed=st.integers(0, 99))
def test_sam_ignores_brightness_and_ergas_the_unit(bands, factor, seed):
    x, y = noise(1, bands, 9, 9, seed=seed) + 1, noise(1, bands, 9, 9, seed=seed + 100) + 1
    torch.testing.assert_close(fusion.sam(x, y * factor), fusion.sam(x, y))
    torch.testing.assert_close(fusion.ergas(x * factor, y * factor), fusion.ergas(x, y))
    assert 0 <= float(fusion.q2n(x, y, block=4)) <= 1 + 1e-12


def test_quarter_and_full_scale_of_known_images():
    x = torch.full((1, 2, 8, 8), 3.0, dtype=torch.float64)
    x[:, 1] = 0.0
    y = torch.full_like(x, 3.0)
    assert float(fusion.sam(x, y)) == pytest.approx(45)
    x[:, 1] = 6.0
    assert float(fusion.ergas(x, x + 3, ratio=2)) == pytest.approx(50 * np.sqrt((1 + 0.25) / 2))
    assert float(fusion.psnr(x, x + 3, data_range=30)) == pytest.approx(20)


def test_sam_is_exact_for_small_angles_in_float32():
    x = torch.rand(1, 8, 16, 16) + 0.1
    assert float(fusion.sam(x, x)) == 0
    assert float(fusion.sam(x, 3 * x)) < 1e-5


def test_sam_leaves_zero_pixels_out_and_the_variant_counts_them():
    x, y = noise(1, 4, 8, 8, seed=1) + 1, noise(1, 4, 8, 8, seed=2) + 1
    whole = fusion.spectral_angles(x, y)[0][0]
    x[0, :, 2, 3] = 0
    y[0, :, 5, 6] = 0
    kept = whole.sum() - whole[2, 3] - whole[5, 6]
    torch.testing.assert_close(fusion.sam(x, y)[0], kept / 62)
    torch.testing.assert_close(rsmif.sam(x, y)[0], kept / 64)
    assert torch.isnan(fusion.sam(torch.zeros(1, 2, 3, 3), torch.ones(1, 2, 3, 3)))


def test_constant_blocks_follow_the_rules_of_q():
    def q(a, b):
        a, b = torch.as_tensor(a).double().expand(1, 1, 4, 4), torch.as_tensor(b).double().expand(1, 1, 4, 4)
        return float(_q.block_q(a, b, 4))

    centred = torch.tensor([[-1.0, 1, -2, 2]]).expand(4, 4)
    assert q(0.0, 0.0) == 1  # no variance, no mean
    assert q(0.1, 0.3) == pytest.approx(2 * 0.03 / 0.1)  # no variance: luminance alone
    assert q(centred, 2 * centred) == pytest.approx(0.8)  # no mean: structure alone
    assert q(0.1, centred) == 0


def test_the_rules_reach_d_lambda_and_d_s():
    flat = torch.full((1, 3, 64, 64), 0.1, dtype=torch.float64)
    flat[:, 1] = 0
    pan = flat[:, :1]
    assert float(fusion.d_lambda(flat, flat)) == 0
    assert float(fusion.d_s(flat, flat, pan)) == pytest.approx(0, abs=1e-6)


def test_q2n_of_constant_blocks():
    x = torch.full((1, 4, 32, 64), 40.0)
    y = x.clone()
    y[..., 32:] = 41  # the reference's spread is 0 there: the normalised error is enormous
    assert float(fusion.q2n(x, x)) == 1
    assert float(fusion.q2n(x, y)) == pytest.approx(0.5, abs=1e-6)
    zero = torch.zeros(1, 3, 32, 32)
    assert float(fusion.q2n(zero, zero)) == 1


def test_q2n_rounds_as_matlab():
    x = torch.round(noise(1, 4, 32, 32))
    y = torch.round(noise(1, 4, 32, 32, seed=1))
    torch.testing.assert_close(fusion.q2n(x, y - 0.5), fusion.q2n(x, y))  # halves go up
    torch.testing.assert_close(fusion.q2n(x, torch.where(y < 50, -y, y)), fusion.q2n(x, torch.where(y < 50, 0.0, y)))


def textured(seed, bands=4, side=64):
    """An image in 0..1.26 with areas and fine structure, and methods of differing quality."""
    coarse = noise(1, bands, side // 8, side // 8, seed=seed, high=1)
    image = F.interpolate(coarse, size=(side, side), mode="bicubic").clamp(min=0) + noise(
        1, bands, side, side, high=0.1
    )
    image *= 1.26 / image.max()
    error = noise(1, bands, side, side, seed=seed + 1, high=1) - 0.5
    return image, {"fine": image + 0.02 * error, "noisy": image + 0.2 * error, "dark": 0.7 * image + 0.01}


WITHOUT_UNIT = {
    "Q2n": fusion.q2n,
    "rsmif-Q2n": rsmif.q2n,
    "Q": fusion.uqi,
    "D_lambda_K": lambda x, y: fusion.d_lambda_k(y, x, sensor="QB"),
    "HQNR": lambda x, y: fusion.hqnr(y, x, x.mean(dim=1, keepdim=True), sensor="QB"),
    "SAM": fusion.sam,
    "ERGAS": fusion.ergas,
    "SCC": fusion.scc,
}


@pytest.mark.parametrize("name", WITHOUT_UNIT)
@given(seed=st.integers(0, 1000), exponent=st.floats(-9, 9))
@settings(max_examples=15, deadline=None)
def test_figures_do_not_depend_on_the_unit(name, seed, exponent):
    image, methods = textured(seed)
    unit = 10**exponent
    # In units whose largest is between 1023 and 65535, Q2n rounds to integers as the toolbox does.
    tolerance = 1e-4 if 1023 < 1.26 * unit < 65536 else 1e-7
    for fused in methods.values():
        value, scaled = (float(WITHOUT_UNIT[name](image * k, fused * k)) for k in (1, unit))
        assert scaled == pytest.approx(value, abs=tolerance)


@pytest.mark.parametrize("name", ["Q2n", "rsmif-Q2n", "D_lambda_K", "HQNR"])
def test_reflectance_ranks_methods_as_digital_numbers_do(name):
    image, methods = textured(0)
    numbers = {key: torch.round(fused * 10_000) for key, fused in methods.items()}
    figures = [
        {key: float(WITHOUT_UNIT[name](truth, fused)) for key, fused in results.items()}
        for truth, results in ((image, methods), (torch.round(image * 10_000), numbers))
    ]
    assert figures[0] == pytest.approx(figures[1], abs=1e-4)
    assert len(set(figures[0].values())) == 3
    assert sorted(methods, key=figures[0].__getitem__) == sorted(methods, key=figures[1].__getitem__)


@pytest.mark.parametrize("high", [5, 255, 2047, 65535])
def test_digital_numbers_are_rounded_as_in_the_toolbox(high):
    x = torch.round(noise(2, 3, 64, 64, high=high))
    y = x + noise(2, 3, 64, 64, seed=1, high=high / 4) - high / 8
    cut = [_q.blocks(image, 32) for image in (x, torch.floor(y + 0.5).clamp(0, 65535))]
    expected = _q.q2n_of_blocks(*cut).mean(dim=1)
    assert torch.equal(fusion.q2n(x, y), expected)
    once_scaled = (x.float() / high) * high  # as pairs for training hold them
    assert torch.equal(fusion.q2n(once_scaled, y), expected)


def test_each_image_of_a_batch_has_its_own_step():
    image, methods = textured(0)
    mixed = [torch.cat([x, torch.round(x * 200)]) for x in (image, methods["noisy"])]
    singles = [fusion.q2n(*(x[k : k + 1] for x in mixed)) for k in range(2)]
    assert torch.equal(fusion.q2n(*mixed), torch.cat(singles))


def test_full_resolution_takes_the_native_image_for_digital_numbers_or_not():
    ms = torch.round(noise(1, 4, 16, 16, high=200))
    lms = interp23(ms)
    fused = lms + noise(1, 4, 64, 64, seed=1, high=20)
    khan = fusion.full_resolution(fused, ms, lms[:, :1], sensor="QB")["D_lambda_K"]
    rounded = 1 - _q.q2n_index(torch.floor(lms + 0.5), degrade.mtf_filter(fused, sensor="QB", ratio=4), 32)
    assert torch.equal(khan, rounded)


def test_q2n_extends_by_mirroring():
    x, y = noise(1, 3, 40, 20, seed=1), noise(1, 3, 40, 20, seed=2)

    def extend(image):
        rows = torch.cat([image, image[..., 16:, :].flip(2)], dim=2)
        return torch.cat([rows, rows[..., 8:].flip(3)], dim=3)

    assert extend(x).shape[-2:] == (64, 32)
    torch.testing.assert_close(fusion.q2n(x, y), fusion.q2n(extend(x), extend(y)))


def test_blocks_drop_what_is_beyond_the_last_whole_one(scene):
    wider = [F.pad(scene[name], (0, 8, 0, 4), mode="reflect") for name in ("y", "lms")]
    torch.testing.assert_close(fusion.d_lambda(*wider), fusion.d_lambda(scene["y"], scene["lms"]))


def test_border_cut():
    ramp = torch.arange(256.0).expand(1, 1, 256, 256)
    cut = fusion.cut_border(ramp)
    assert cut.shape == (1, 1, 215, 215)
    assert (float(cut[0, 0, 0, 0]), float(cut[0, 0, 0, -1])) == (20, 234)  # n - 22
    assert fusion.cut_border(ramp, 0) is ramp
    with pytest.raises(SceneError, match=r"leaves nothing.*cut=0"):
        fusion.cut_border(ramp[..., :40])
    with pytest.raises(ValueError, match="cut is -1"):
        fusion.cut_border(ramp, -1)


def test_reduced_resolution_table(scene):
    x, y = (image[..., 20:107, 20:107] for image in (scene["x"], scene["y"]))
    expected = {
        "PSNR": fusion.psnr(x, y, data_range=2047),
        "SSIM": fusion.ssim(x, y, data_range=2047),
        "SAM": fusion.sam(x, y),
        "ERGAS": fusion.ergas(x, y, ratio=4),
        "SCC": fusion.scc(x, y),
        "Q2n": fusion.q2n(x, y),
        "UQI": fusion.uqi(x, y),
    }
    assert fusion.reduced_resolution(scene["x"], scene["y"], data_range=2047) == expected
    uncut = fusion.reduced_resolution(scene["x"], scene["y"], data_range=2047, cut=0)
    assert float(uncut["SAM"]) == pytest.approx(0.8212115, abs=6e-8)
    assert "UQI" not in fusion.reduced_resolution(x[..., :9, :9], y[..., :9, :9], data_range=2047, cut=0)


def test_full_resolution_table(scene):
    table = fusion.full_resolution(scene["y"], scene["ms"], scene["pan"], sensor="QB")
    expected = {"D_lambda": 0.0513448, "D_s": 0.0258049, "QNR": 0.9241752, "D_lambda_K": 0.0083522, "HQNR": 0.9660585}
    assert {name: float(value) for name, value in table.items()} == pytest.approx(expected, abs=6e-8)


def test_integer_images_are_taken_as_they_are():
    x, y = noise(1, 4, 32, 32).to(torch.int32), noise(1, 4, 32, 32, seed=1).to(torch.int32)
    torch.testing.assert_close(fusion.q2n(x, y), fusion.q2n(x.double(), y.double()))


X = torch.rand(1, 4, 64, 64) * 1000
NAN = X.clone().index_fill_(3, torch.tensor([5]), torch.nan)


test_bad_input = refused(
    (lambda: fusion.sam(X, X[:, :3]), SceneError, r"\(1, 4, 64, 64\).*\(1, 3, 64, 64\)"),
    (lambda: fusion.ergas(X, X, ratio=0.25), ValueError, "4, not 1/4"),
    (lambda: fusion.ergas(X, NAN), SceneError, "fused has 256 values that are not finite"),
    (lambda: fusion.psnr(X, X, data_range=0), ValueError, "data_range is 0"),
    (lambda: fusion.ssim(X[..., :6], X[..., :6], data_range=1), SceneError, "window of 7 x 7"),
    (lambda: fusion.scc(X[..., :2], X[..., :2]), SceneError, "3 or more"),
    (lambda: fusion.uqi(X[..., :20], X[..., :20]), SceneError, "smaller than a block of 32"),
    (lambda: fusion.uqi(X, X, block=1), ValueError, "block size is 1"),
    (lambda: fusion.d_lambda_k(X, X, sensor="WV3"), SceneError, "4 bands, WV3 has 8"),
    (lambda: fusion.d_lambda(X, X[..., ::4, ::4]), SceneError, "lms is the MS up-sampled"),
    (lambda: fusion.d_lambda(X[:, :1], X[:, :1]), SceneError, "no pair"),
    (lambda: fusion.d_s(X, X, X), SceneError, r"expected \(1, 1, 64, 64\)"),
    (lambda: fusion.d_s(X, X, X[:, :1], ratio=3), SceneError, "multiples of the ratio 3"),
    (
        lambda: fusion.full_resolution(X, X[..., ::2, ::2], X[:, :1], sensor="QB"),
        SceneError,
        r"\(1, 4, 32, 32\).*\(1, 1, 64, 64\).*ratio 4",
    ),
    (lambda: fusion.sam(X[0], X[0]), SceneError, r"\(4, 64, 64\), expected four"),
    (lambda: fusion.sam(X.numpy(), X.numpy()), TypeError, "ndarray"),
    (lambda: rsmif.q4(X[:, :3], X[:, :3]), SceneError, "four bands"),
    (lambda: rsmif.d_s(X, X[..., ::2, ::2], X[:, :1]), SceneError, "ratio 4"),
    (lambda: rsmif.d_lambda(X[:, :1], X[:, :1]), SceneError, "no pair"),
)
