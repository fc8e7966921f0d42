"""The wrapper: an untrained network is the regression-based GLP, in any unit, and tiles are the whole image."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import hsmamba
from hsmamba.baselines import mtf_glp_fs
from hsmamba.data import interp23, wald_pairs
from hsmamba.data.degrade import mtf_kernels
from hsmamba.data.sensors import Sensor
from hsmamba.errors import UnknownModelError
from tests.engine.fusion.toys import images
from tests.models.samples import tiny

RIM = 48  # pixels of the guide where the classical low-pass guide wraps around


def pair(bands=3, channels=1, side=32, ratio=4):
    rng = np.random.default_rng(0)
    ms, guide = rng.random((1, bands, side, side)), rng.random((1, channels, ratio * side, ratio * side))
    return torch.from_numpy(ms) + 1, torch.from_numpy(guide) + 1


def make(trained=True, **options):
    torch.manual_seed(0)
    model = tiny("residual", in_chans=3, **options).double().eval()
    if trained:
        torch.nn.init.normal_(model.rate)
    return model


def by_hand(ms, guide, ratio=4, gain=0.3):
    """The regression-based GLP in numpy, the low-pass guide with a repeated border."""
    kernel = mtf_kernels(Sensor("one", (gain,), 0.15), 1, ratio=ratio)[0].numpy()
    padded = np.pad(guide[0].numpy(), ((0, 0), (20, 20), (20, 20)), mode="edge")
    windows = np.lib.stride_tricks.sliding_window_view(padded, (41, 41), axis=(1, 2))
    sampled = windows[:, ratio // 2 :: ratio, ratio // 2 :: ratio]
    coarse = np.einsum("ghwij,ij->ghw", sampled, kernel / kernel.sum())
    wide = torch.from_numpy(np.pad(coarse, ((0, 0), (16, 16), (16, 16)), mode="edge"))[None]
    low = (
        interp23(wide, ratio)[0, :, 16 * ratio : -16 * ratio, 16 * ratio : -16 * ratio].numpy().reshape(len(coarse), -1)
    )
    lms, sharp = interp23(ms, ratio)[0].numpy(), guide[0].numpy().reshape(len(coarse), -1)
    own = sharp - sharp.mean(axis=1, keepdims=True)
    gains = np.linalg.solve(own @ (low - low.mean(axis=1, keepdims=True)).T, own @ lms.reshape(len(lms), -1).T)
    return torch.from_numpy(lms + (gains.T @ (sharp - low)).reshape(lms.shape))[None]


@pytest.mark.parametrize("channels", [1, 3])
def test_an_untrained_one_against_numpy(channels):
    ms, guide = pair(channels=channels)
    torch.testing.assert_close(
        make(trained=False, guide_chans=channels)(ms, guide), by_hand(ms, guide), rtol=1e-9, atol=0
    )


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("sensor", ["generic", "QB"])
def test_away_from_the_border_an_untrained_one_is_the_regression_based_glp(channels, sensor):
    bands = 4 if sensor == "QB" else 3
    ms, guide = pair(bands, channels)
    torch.manual_seed(0)
    model = tiny("residual", in_chans=bands, guide_chans=channels, sensor=sensor).double()
    classical = mtf_glp_fs(ms, guide, sensor=sensor)
    inner = (..., slice(RIM, -RIM), slice(RIM, -RIM))
    scale = float((classical - ms.mean()).abs().max())
    torch.testing.assert_close(model(ms, guide)[inner], classical[inner], atol=2e-2 * scale, rtol=0)


@settings(max_examples=8, deadline=None)
@given(low=st.lists(st.floats(1e-3, 1e4), min_size=3, max_size=3), high=st.floats(1e-3, 1e4), dark=st.floats(-1, 1))
def test_units_gains_and_offsets_of_bands_come_out_again(low, high, dark):
    ms, guide = pair()
    model, gains = make(), torch.tensor(low).double()[:, None, None]
    with torch.no_grad():
        expected = model(ms, guide) * gains
        torch.testing.assert_close(
            model(ms * gains, (guide + dark) * high) / gains, expected / gains, rtol=1e-6, atol=1e-6
        )


@pytest.mark.parametrize("network", ["ramsf", "rsanet"])
def test_tiles_are_the_whole_image(network):
    options = {"network": network}
    if network == "rsanet":
        options["network_args"] = {"dim": 4, "depth": 1, "recursions": 1}
    model = make(**options)
    rng = np.random.default_rng(1)
    ms, guide = rng.random((70, 66, 3)) + 1, rng.random((280, 264, 1)) + 1
    whole = hsmamba.fuse(model, ms, guide, tile=70, progress=False, maximum=2)
    np.testing.assert_allclose(hsmamba.fuse(model, ms, guide, tile=11, progress=False, maximum=2), whole, atol=1e-9)
    with torch.no_grad():
        tensors = [torch.from_numpy(x).permute(2, 0, 1)[None] for x in (ms, guide)]
        np.testing.assert_allclose(model(*tensors)[0].permute(1, 2, 0).numpy(), whole, atol=1e-9)


def test_a_global_network_corrects_windows_of_the_whole_images_result():
    ms, guide = (x[0].permute(1, 2, 0).numpy() for x in pair(side=40))
    model = make(trained=False, network="cf2n", network_args={"dim": 4})
    assert model.margin is None
    fused = hsmamba.fuse(model, ms, guide, progress=False, maximum=2)
    classical = mtf_glp_fs(*pair(side=40))[0].permute(1, 2, 0).numpy()
    inner = (slice(RIM, -RIM), slice(RIM, -RIM))
    assert np.abs(fused - classical)[inner].max() < 0.02 * np.abs(classical - classical.mean()).max()


def test_it_trains_and_comes_back_from_a_folder(tmp_path):
    pairs = wald_pairs(*images(), sensor="QB", val=0, test=0.375)
    model = tiny("residual", in_chans=4, sensor="QB")
    before = [p.clone() for p in model.network.parameters()]
    hsmamba.finetune(model, pairs, epochs=2, steps=3, batch_size=2, crop=32, warmup_epochs=0, progress=False)
    assert model.rate.abs().min() > 0
    assert any(not torch.equal(a, b) for a, b in zip(before, model.network.parameters(), strict=True))
    hsmamba.save_pretrained(model, tmp_path, license="MIT", data={"name": "toy", "source": "made"}, metrics={})
    again = hsmamba.create_model(f"local-dir:{tmp_path}").eval()
    ms, guide = images(32, 32)
    options = {"progress": False, "maximum": 2047}
    assert np.array_equal(hsmamba.fuse(again, ms, guide, **options), hsmamba.fuse(model, ms, guide, **options))


def test_a_constant_band_and_a_constant_guide_stay():
    ms, guide = pair()
    ms[:, 1] = 7
    with torch.no_grad():
        assert torch.allclose(make()(ms, guide)[:, 1], torch.tensor(7.0).double())
        assert torch.isfinite(make()(ms, torch.full_like(guide, 3.0))).all()


def test_other_networks_are_refused():
    with pytest.raises(UnknownModelError, match="no architecture named 'net'"):
        hsmamba.create_model("residual", network="net")
    for name in ("md2f_mamba", "residual"):
        with pytest.raises(TypeError, match=f"network is '{name}'; expected a fusion architecture"):
            hsmamba.create_model("residual", network=name)
