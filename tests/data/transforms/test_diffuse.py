"""Diffused copies of channels: the solution of their equation, whole images, edges, and what is not valid."""

import numpy as np
import pytest

from hsmamba.data import MNF, Compose, Diffuse, PatchDataset, Scene, Standardise
from hsmamba.data.diffusion import settle, steps_to, transitions
from tests.data.transforms.samples import pixels


def halves(height=12, width=16, bands=6, noise=0.3, seed=0):
    """Two grounds side by side, and noise."""
    generator = np.random.default_rng(seed)
    cube = generator.normal(scale=noise, size=(height, width, bands))
    cube[:, width // 2 :, 0] += 10
    return cube.astype(np.float32)


def fitted(cube, *steps):
    return Compose(list(steps)).fit_scene(Scene(cube), np.arange(cube.shape[0] * cube.shape[1]))


@pytest.mark.parametrize("share", [0.5, 0.9, 0.99])
def test_the_steps_reach_the_solution_that_was_asked_for(share):
    generator = np.random.default_rng(0)
    features, start = generator.normal(size=(7, 6, 2)), generator.normal(size=(42, 3)).astype(np.float32)
    walk = transitions(features.astype(np.float32), np.ones((7, 6), bool))
    solution = np.linalg.solve(np.eye(42) - share * walk.toarray().astype(float), (1 - share) * start)
    for left in (1e-1, 1e-4):
        got = settle(walk, start, share, steps_to(share, left))
        assert np.abs(got - solution).max() < 2 * left * np.abs(start - solution).max()


def test_copies_are_smooth_within_their_ground_and_do_not_cross_its_edge():
    cube = halves()
    transform = fitted(cube, Diffuse((0.5, 0.99)))
    result = transform(cube)
    assert result.shape == (12, 16, 18) and transform.out_channels() == 18
    np.testing.assert_array_equal(result[..., :6], cube)
    for side, mean in ((slice(0, 8), 0), (slice(8, 16), 10)):
        spread = [result[:, side, first : first + 6].std(axis=(0, 1)).mean() for first in (0, 6, 12)]
        assert spread[2] < 0.5 * spread[1] < 0.5 * spread[0]
        np.testing.assert_allclose(result[:, side, 12].mean(), mean, atol=0.2)


def test_it_stands_among_other_steps_and_in_a_file(tmp_path):
    cube = halves()
    components = fitted(cube, Standardise(), MNF(3))(cube)
    diffused = fitted(components, Diffuse())(components)
    transform = fitted(cube, Standardise(), MNF(3), Diffuse(), Standardise())
    after = transform.steps[-1]
    np.testing.assert_allclose(transform(cube), after(diffused), rtol=1e-4, atol=1e-4)
    transform.save(tmp_path / "transform")
    np.testing.assert_array_equal(Compose.load(tmp_path / "transform")(cube), transform(cube))


def test_spectra_without_a_place_lie_among_their_like():
    cube = halves()
    transform = fitted(cube, Diffuse((0.9,)))
    np.testing.assert_array_equal(transform(cube[0, :3]), np.tile(cube[0, :3], 2))
    np.testing.assert_array_equal(transform(cube[0, 0]), np.tile(cube[0, 0], 2))
    assert transform.looks_around() and not transform.looks_around("aux")


def test_invalid_pixels_take_no_part():
    cube = halves()
    transform = fitted(cube, Diffuse((0.99,)))
    holes = cube.copy()
    holes[3, 3] = np.nan
    holes[8, 12] = -32768
    valid = np.ones((12, 16), bool)
    valid[3, 3] = valid[8, 12] = False
    result = transform(holes, valid=valid)
    assert np.isnan(result[~valid]).all() and np.abs(result[valid]).max() < 12
    other = np.where(valid[..., None], cube, 5).astype(np.float32)
    np.testing.assert_array_equal(transform(other, valid=valid)[valid], result[valid])
    scene = Scene(np.where(valid[..., None], cube, np.nan), labels=valid.astype(np.uint8))
    patches = PatchDataset(scene, transform, 1, nan="mask")
    items = np.flatnonzero(valid)
    np.testing.assert_array_equal(patches.batch(items)[0][:, :, 0, 0], result[valid])


def test_what_cannot_be_is_refused():
    with pytest.raises(ValueError, match=r"shares are \(1.0,\); expected one or more, each between 0 and 1"):
        Diffuse((1.0,))
    with pytest.raises(ValueError, match="shares are"):
        Diffuse(())
    with pytest.raises(ValueError, match=r"fit it with Compose.fit_scene"):
        Diffuse().fit(pixels())
