"""What is learnt of the errors of spectra on the coarse grid."""

import pytest
import torch

from hsmamba.engine.fusion.spectra import fit_correction

BANDS = 12


def mixtures(count, seed=0):
    """Spectra of four materials (n, C), between 0 and 1."""
    materials = torch.rand(4, BANDS, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    g = torch.Generator().manual_seed(seed)
    shares = torch.rand(count, 4, generator=g, dtype=torch.float64) ** 3
    light = 0.2 + 0.8 * torch.rand(count, 1, generator=g, dtype=torch.float64)
    return light * (shares / shares.sum(1, keepdim=True)) @ materials


def error(spectra):
    """What a network might get wrong: more of one material, much of it in the last bands."""
    return 0.02 * torch.sin(6 * spectra[:, :1]) * torch.linspace(0, 1, BANDS, dtype=torch.float64)


def as_image(pixels, width=20):
    return pixels.T.reshape(1, BANDS, -1, width)


def test_errors_that_are_functions_of_the_spectrum_are_found():
    seen, other = mixtures(900), mixtures(400, seed=2)
    found = fit_correction(seen, seen + error(seen))(as_image(other))
    left = found - as_image(other + error(other))
    assert left.square().mean() < 0.01 * error(other).square().mean()


def test_noise_of_the_coarse_image_gives_next_to_nothing():
    seen, other = mixtures(900), mixtures(400, seed=2)
    noise = 0.02 * torch.randn(seen.shape, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    correction = fit_correction(seen, seen + noise)
    added = 0.0 if correction is None else float((correction(as_image(other)) - as_image(other)).square().mean())
    assert added < 0.01 * 0.02**2


@pytest.mark.parametrize("factor", [1e-4, 3000.0])
def test_the_unit_makes_no_difference(factor):
    seen, other = mixtures(900), mixtures(400, seed=2)
    plain = fit_correction(seen, seen + error(seen))(as_image(other))
    scaled = fit_correction(factor * seen, factor * (seen + error(seen)))(factor * as_image(other))
    assert torch.allclose(scaled, factor * plain, rtol=1e-5, atol=1e-5 * factor)


def test_a_part_is_corrected_as_in_the_whole_image():
    seen, other = mixtures(900), as_image(mixtures(40000, seed=2), 200)
    correction = fit_correction(seen, seen + error(seen))
    assert torch.allclose(correction(other)[..., 30:50, 7:90], correction(other[..., 30:50, 7:90]), atol=1e-9)
    assert correction(other.float()).dtype == torch.float32
    assert torch.allclose(correction(other.float()).double(), correction(other), atol=1e-4)


def test_nothing_is_fitted_to_nothing():
    seen = mixtures(900)
    assert fit_correction(seen[:31], (seen + error(seen))[:31]) is None
    assert fit_correction(seen, seen) is None
    assert fit_correction(seen[:1].expand(900, -1), seen[:1].expand(900, -1)) is None
    assert fit_correction(torch.zeros_like(seen), torch.zeros_like(seen)) is None


@pytest.mark.parametrize("rounding", [0, 1e-9, 1e-15])
def test_pixels_that_are_all_the_same_tell_of_no_function(rounding):
    seen = mixtures(1) * (1 + rounding * torch.rand(900, 1, dtype=torch.float64))
    assert fit_correction(seen, seen + error(seen)) is None


def test_one_band():
    seen = mixtures(900)[:, :1]
    lacking = 0.1 * seen.square()
    found = fit_correction(seen, seen + lacking)(seen.T.reshape(1, 1, 30, 30)).reshape(seen.shape)
    assert (found - seen - lacking).square().mean() < 0.01 * lacking.square().mean()
