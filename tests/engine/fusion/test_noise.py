import numpy as np
import pytest
import torch

from hsmamba import create_model
from hsmamba.data.degrade import degrade_ms, degrade_pan, mtf_kernels
from hsmamba.data.pairs import FusionPair
from hsmamba.data.sensors import get_sensor
from hsmamba.engine import Adapt
from hsmamba.engine.fusion.adapt import adapt_to
from hsmamba.engine.fusion.classical import methods_for
from hsmamba.engine.fusion.images import Image, Images
from hsmamba.engine.fusion.noise import CleanImage, Noise, noise_of
from hsmamba.metrics import fusion as metrics
from hsmamba.models import as_fusion_network

RATIO = 4


def textured(bands, side, seed=0):
    """Make a scene (bands, side, side) of four materials whose shares vary at all scales."""
    rng = np.random.default_rng(seed)
    grid = np.hypot(*np.meshgrid(np.fft.fftfreq(side), np.fft.fftfreq(side)))
    waves = rng.standard_normal((4, side, side)) + 1j * rng.standard_normal((4, side, side))
    shares = np.fft.ifft2(waves / np.where(grid > 0, grid, np.inf) ** 1.5).real
    shares = np.exp(shares / shares.std(axis=(1, 2), keepdims=True))
    shares /= shares.sum(axis=0)
    x = np.linspace(0, 1, bands)
    spectra = np.stack([0.2 + 0.5 * np.exp(-(((x - centre) / 0.3) ** 2)) for centre in (0.1, 0.4, 0.6, 0.9)])
    return torch.from_numpy(np.einsum("mb,mhw->bhw", spectra, shares)).float()


def pair_of(scene, noise, seed=0):
    """Simulate MS with noise, (C,) or one number, and PAN."""
    guide = scene[: 2 * len(scene) // 3].mean(0, keepdim=True)
    ms = degrade_ms(scene[None], ratio=RATIO, sensor="generic")[0]
    drawn = torch.randn(ms.shape, generator=torch.Generator().manual_seed(seed))
    return ms + torch.as_tensor(noise, dtype=torch.float32).reshape(-1, 1, 1) * drawn, guide


def on_grid(ms, guide):
    return [(ms, degrade_pan(guide[None], ratio=RATIO)[0])]


@pytest.mark.parametrize("bands", [4, 40])
def test_noise_is_measured_band_by_band(bands):
    given = torch.linspace(0.004, 0.02, bands)
    found, _ = noise_of(on_grid(*pair_of(textured(bands, 256), given)), RATIO)
    torch.testing.assert_close(found.float(), given, rtol=0.25, atol=0)
    assert float((found / given).mean()) == pytest.approx(1, abs=0.1)


@pytest.mark.parametrize("bands", [4, 40])
def test_texture_is_no_noise(bands):
    assert Noise.of(on_grid(*pair_of(textured(bands, 256), 0.0)), RATIO) is None


def test_too_few_pixels_and_flat_bands_tell_nothing():
    ms, guide = pair_of(textured(4, 32), 0.01)
    assert Noise.of(on_grid(ms[:, :4, :4], guide[:, :16, :16]), RATIO) is None
    ms, guide = pair_of(textured(12, 256), 0.02)
    ms[3] = 0.25
    noise = Noise.of(on_grid(ms, guide), RATIO)
    spectra = ms.permute(1, 2, 0).double().numpy()
    assert noise.deviation[3] == 0 and (noise.cleaned(spectra)[..., 3] == 0.25).all()


def test_what_stands_above_the_noise_is_nearer_to_the_truth():
    scene = textured(40, 256)
    truth, (ms, guide) = pair_of(scene, 0.0)[0], pair_of(scene, 0.02)
    noise = Noise.of(on_grid(ms, guide), RATIO)
    clean = noise.cleaned(ms.permute(1, 2, 0).double().numpy())
    before, after = (
        float(np.square(x - truth.permute(1, 2, 0).numpy()).mean()) for x in (ms.permute(1, 2, 0).numpy(), clean)
    )
    assert 3 <= noise.components <= 5 and after < 0.2 * before
    assert f"{noise.components} of 40 spectral components" in noise.words


def test_a_rare_spectrum_stays_as_it_is():
    ms, guide = pair_of(textured(40, 256), 0.01)
    ms[20, 30, 30] += 0.3
    noise = Noise.of(on_grid(ms, guide), RATIO)
    spectra = ms.permute(1, 2, 0).double().numpy()
    clean = noise.cleaned(spectra)
    np.testing.assert_array_equal(clean[30, 30], spectra[30, 30])
    changed = (clean != spectra).any(axis=-1)
    assert changed.mean() > 0.99


def test_a_blur_and_what_is_put_back_leave_as_much_noise_as_there_was():
    noise = Noise(torch.full((3,), 0.1).double(), torch.zeros(3).double(), torch.eye(3).double(), 3, 0.0)
    drawn = 0.1 * torch.randn(1, 3, 256, 256, generator=torch.Generator().manual_seed(0))
    kernels = mtf_kernels("generic", 3, ratio=2)
    ms = degrade_ms(drawn, ratio=2, sensor="generic")[0]
    back = noise.put_back(ms, kernels, torch.Generator().manual_seed(1))
    assert float(ms.std()) < 0.05
    assert float(back.std()) == pytest.approx(0.1, rel=0.05)


def test_a_clean_image_is_read_in_the_units_of_the_network():
    ms, guide = pair_of(textured(12, 256), 0.02)
    noise = Noise.of(on_grid(ms, guide), RATIO)
    counts = (ms.permute(1, 2, 0).numpy() * 4000).astype(np.float64)
    rows, columns = np.arange(3, 9), np.arange(20)
    read = CleanImage.of(Image(counts, 1 / 4000), noise).read(rows, columns, fill=False)
    np.testing.assert_allclose(read, noise.cleaned(counts[3:9, :20] / 4000), rtol=1e-9)


@pytest.mark.slow
def test_adapt_is_not_led_astray_by_noise():
    scene = textured(24, 256)
    ms, guide = pair_of(scene, 0.02)
    torch.manual_seed(0)
    network = as_fusion_network(create_model("rsanet", in_chans=24, guide_chans=1, scale=RATIO))
    images = Images(*(Image(x.permute(1, 2, 0).numpy()) for x in (ms, guide)), None, RATIO, fill=False)
    adaptation = adapt_to(network, images, Adapt(steps=0))
    mine = adaptation.predict(FusionPair("noisy", ms, guide, ms, None))
    theirs = methods_for(1, RATIO, get_sensor("generic"))["GSA"](ms[None], guide[None])[0]
    sam = [float(metrics.sam(scene[None], x[None])) for x in (mine, theirs)]
    assert adaptation.noise is not None and adaptation.noise.words in adaptation.report.parts
    assert sam[0] < 0.7 * sam[1]
