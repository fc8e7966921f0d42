"""Back-projection: what it brings near the coarse image, what it leaves alone, and that parts agree with the whole."""

import pytest
import torch

from hsmamba.baselines import BackProjection, gsa
from hsmamba.baselines.regression import LowPass
from hsmamba.data.degrade import degrade_ms, mtf_filter
from hsmamba.data.sensors import Sensor, get_sensor
from hsmamba.errors import SceneError


@pytest.fixture(scope="module")
def scene():
    generator = torch.Generator().manual_seed(0)
    noise = torch.rand(1, 4, 96, 96, generator=generator, dtype=torch.float64)
    truth = 300 + 900 * mtf_filter(noise, sensor=Sensor("blur", (0.9,), 0.5), ratio=4)
    return truth, degrade_ms(truth, sensor="QB"), truth.mean(1, keepdim=True)


def test_rounds_bring_any_result_nearer_to_the_coarse_image_and_to_the_truth(scene):
    truth, ms, pan = scene
    fused = gsa(ms, pan, sensor="QB")
    results = [BackProjection("QB", 4, rounds)(fused, ms) for rounds in (0, 1, 3, 10)]
    torch.testing.assert_close(results[0], fused)
    inner = slice(12, -12)  # GSA's up-sampling wraps around at the border
    left = [float((degrade_ms(x, sensor="QB") - ms)[..., 3:-3, 3:-3].std()) for x in results]
    wrong = [float((x - truth)[..., inner, inner].square().mean()) for x in results]
    assert left == sorted(left, reverse=True) and left[-1] < 0.2 * left[0]
    assert wrong[1] < wrong[0] and wrong[2] < wrong[0]


def test_in_proportion_what_is_dark_within_a_pixel_stays_dark():
    """Two stripes of one spectrum, bright and dark, that a fused image has in another colour."""
    stripes = torch.tensor([1.0, 1.0, 0.1, 0.1], dtype=torch.float64).repeat(32)[None, None, :, None]
    truth = torch.tensor([0.9, 0.3, 0.6], dtype=torch.float64)[None, :, None, None] * stripes.expand(1, 3, 128, 128)
    ms, fused = degrade_ms(truth, sensor="generic"), truth * torch.tensor([0.8, 1.2, 1.0]).double()[:, None, None]
    plain, wise = (
        BackProjection("generic", 4, 3, dark=dark)(fused, ms)
        for dark in (None, 1e-3 * torch.ones(3, dtype=torch.float64))
    )
    inner = slice(16, -16)
    wrong = [float((x / truth - 1)[..., inner, inner].abs().max()) for x in (fused, plain, wise)]
    assert wrong[1] > wrong[0] and wrong[2] < 0.05
    lacking = [float((degrade_ms(x, sensor="generic") - ms)[..., 4:-4, 4:-4].abs().max()) for x in (fused, wise)]
    assert lacking[1] < 0.05 * lacking[0]


def test_a_consistent_or_flat_image_stays(scene):
    flat = torch.full((1, 4, 32, 32), 7.0)
    for dark in (None, torch.ones(4)):
        torch.testing.assert_close(BackProjection("QB", 4, 3, dark=dark)(flat, flat[..., ::4, ::4]), flat)
    assert BackProjection("QB", 4, 1)(flat, flat[..., ::4, ::4].double()).dtype == torch.float32


def test_rounds_are_those_of_the_fine_grid(scene):
    _, ms, pan = scene
    low_pass, step_by_step = LowPass("QB", 4, 4), gsa(ms, pan, sensor="QB")
    at_once = BackProjection("QB", 4, 4)(step_by_step, ms)
    for _ in range(4):
        step_by_step = step_by_step + low_pass.up(ms - low_pass.down(step_by_step))
    inner = slice(24, -24)
    apart = (at_once - step_by_step)[..., inner, inner].abs().max()
    assert apart < 0.02 * (step_by_step - gsa(ms, pan, sensor="QB"))[..., inner, inner].abs().max()


@pytest.mark.parametrize("dark", [None, torch.tensor([0.3, 0.2])])
@pytest.mark.parametrize("rounds", [1, 3])
@pytest.mark.parametrize("ratio", [2, 3, 4])
def test_a_part_with_its_reach_is_that_of_the_whole(ratio, rounds, dark):
    generator = torch.Generator().manual_seed(1)
    ms = torch.rand(1, 2, 120, 8, generator=generator, dtype=torch.float64)
    fused = torch.rand(1, 2, 120 * ratio, 8 * ratio, generator=generator, dtype=torch.float64)
    project = BackProjection("generic", ratio, rounds, dark=dark)
    near = project.reach(2)
    part = project(fused[..., : (20 + near) * ratio, :], ms[..., : 20 + near, :])
    torch.testing.assert_close(part[..., : 20 * ratio, :], project(fused, ms)[..., : 20 * ratio, :])


def test_images_that_do_not_fit_are_refused(scene):
    _, ms, _ = scene
    with pytest.raises(SceneError, match="ratio 4 the guide must be"):
        BackProjection("QB", 4, 1)(ms, ms)
    with pytest.raises(SceneError, match="has 4"):
        BackProjection("QB", 4, 1)(torch.rand(1, 3, 32, 32), torch.rand(1, 3, 8, 8))


def test_each_band_has_its_own_mtf_as_it_has_alone():
    torch.manual_seed(0)
    fused, ms = torch.rand(1, 8, 48, 40, dtype=torch.float64), torch.rand(1, 8, 12, 10, dtype=torch.float64)
    sensor = get_sensor("WV2")
    together = BackProjection(sensor, 4, 3)(fused, ms)
    for band in (0, 5, 7):
        alone = BackProjection(sensor.with_bands([band]), 4, 3)(fused[:, [band]], ms[:, [band]])
        torch.testing.assert_close(together[:, [band]], alone)
    generic = BackProjection("generic", 4, 3)(fused, ms)
    assert float((together - generic).abs().max()) > 1e-3
