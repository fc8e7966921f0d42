"""Patches: the right pixels, views of one padded cube, joint augmentation."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from hsmamba.data import Patches, augment_d4, erase_rim
from hsmamba.errors import SceneError
from tests.refusals import refused

MODES = {"reflect": "reflect", "edge": "edge", "zero": "constant"}


def cube(height=9, width=11, channels=3):
    return np.random.default_rng(0).normal(size=(height, width, channels)).astype(np.float32)


@given(
    patch_size=st.integers(1, 7),
    height=st.integers(7, 12),
    width=st.integers(7, 12),
    padding=st.sampled_from(sorted(MODES)),
)
def test_every_patch_is_the_neighbourhood_of_its_pixel(patch_size, height, width, padding):
    scene = cube(height, width)
    before = patch_size // 2
    widths = ((before, patch_size - 1 - before),) * 2
    padded = np.pad(scene, (*widths, (0, 0)), mode=MODES[padding])
    batch = Patches(scene, patch_size, padding=padding)(np.arange(height * width))
    for pixel, patch in enumerate(batch.numpy()):
        row, column = divmod(pixel, width)
        expected = padded[row : row + patch_size, column : column + patch_size].transpose(2, 0, 1)
        assert np.array_equal(patch, expected)
    assert np.array_equal(batch[:, :, before, before].numpy(), scene.reshape(-1, 3))


def test_batches_are_contiguous_float32_in_the_order_asked_for():
    patches = Patches(cube().astype(np.float64), 5)
    batch = patches([50, 3, 50])
    assert batch.shape == (3, 3, 5, 5) and batch.dtype == torch.float32 and batch.is_contiguous()
    assert torch.equal(batch[0], batch[2]) and not torch.equal(batch[0], batch[1])
    assert torch.equal(batch, patches(torch.tensor([50, 3, 50])))
    assert patches(np.empty(0, np.int64)).shape == (0, 3, 5, 5)
    assert (patches.shape, patches.channels, patches.patch_size) == ((9, 11), 3, 5)


@given(first=st.integers(0, 98), count=st.integers(0, 99), patch_size=st.integers(1, 6))
def test_pixels_that_follow_each_other_are_gathered_as_others(first, count, patch_size):
    patches = Patches(cube(), patch_size)
    run = np.arange(first, min(99, first + count))
    together = patches(run)
    assert together.is_contiguous() and len(together) == run.size
    assert torch.equal(together, patches(run[::-1].copy()).flip(0))


def test_patches_within_an_image_that_has_its_padding():
    patches = Patches(cube(), 5)
    last = patches.padded.permute(1, 2, 0).contiguous().permute(2, 0, 1)
    for pixels in (np.arange(7, 40), np.array([50, 3, 98])):
        for padded in (patches.padded, last):
            batch = Patches.within(padded, 5)(pixels)
            assert torch.equal(batch, patches(pixels))
            assert batch.is_contiguous(memory_format=torch.channels_last if padded is last else torch.contiguous_format)


def test_the_patches_share_the_memory_of_one_padded_cube():
    patches = Patches(cube(), 5)
    assert patches._like.shape == (9, 11, 3, 5, 5)
    assert patches._like.untyped_storage().nbytes() == 13 * 15 * 3 * 4


def test_the_cube_may_be_torch_read_only_or_of_another_byte_order(tmp_path):
    scene = (1000 * cube()).astype(np.int16)
    np.save(tmp_path / "cube.npy", scene)
    expected = Patches(scene, 5)([17])
    for other in (np.load(tmp_path / "cube.npy", mmap_mode="r"), scene.astype(">i2"), torch.from_numpy(scene)):
        assert torch.equal(Patches(other, 5)([17]), expected)


def test_a_later_change_of_the_input_does_not_reach_the_patches():
    scene = cube()
    patches = Patches(scene, 1)
    before = patches([0]).clone()
    scene[:] = 0
    assert torch.equal(patches([0]), before)


def test_a_patch_larger_than_the_scene_names_both_sizes():
    with pytest.raises(SceneError, match=r"13 x 13 pixels is larger than the scene of 9 x 20"):
        Patches(cube(9, 20), 13)
    assert Patches(cube(9, 9), 9)([0]).shape == (1, 3, 9, 9)


test_other_misuse_is_refused = refused(
    (lambda: Patches(cube()[..., 0], 3), SceneError, r"\(9, 11\)"),
    (lambda: Patches(cube(), 3, padding="wrap"), ValueError, "'wrap'"),
    (lambda: Patches(cube(), 0), ValueError, "patch_size is 0"),
    (lambda: Patches(cube(), 3)([-1]), SceneError, r"0\.\.98"),
    (lambda: Patches(cube(), 3)([99]), SceneError, r"0\.\.98"),
)


def symmetries(patch):
    turns = [torch.rot90(patch, k, (-2, -1)) for k in range(4)]
    return turns + [turn.flip(-1) for turn in turns]


def test_augmentation_draws_the_eight_symmetries_alike_and_jointly():
    patch = torch.arange(9.0).reshape(1, 1, 3, 3)
    other = torch.arange(50.0).reshape(1, 2, 5, 5)
    hsi, aux = augment_d4(
        patch.repeat(800, 1, 1, 1), other.repeat(800, 1, 1, 1), generator=torch.Generator().manual_seed(0)
    )
    kinds = [[torch.equal(sample, kind[0]) for kind in symmetries(patch)].index(True) for sample in hsi]
    counts = np.bincount(kinds, minlength=8)
    assert counts.min() > 60 and counts.sum() == 800
    for kind, sample in zip(kinds, aux, strict=True):
        assert torch.equal(sample, symmetries(other)[kind][0])


def test_augmentation_follows_its_generator():
    batch = torch.randn(20, 2, 5, 5)
    one, two = (augment_d4(batch, generator=torch.Generator().manual_seed(4))[0] for _ in range(2))
    assert torch.equal(one, two)
    assert not torch.equal(one, augment_d4(batch, generator=torch.Generator().manual_seed(5))[0])


@pytest.mark.parametrize("shapes", [[(2, 3, 4, 5)], [(2, 4, 4)], [(2, 1, 4, 4), (3, 1, 4, 4)]])
def test_batches_that_cannot_be_turned_are_refused(shapes):
    with pytest.raises(ValueError, match="expected"):
        augment_d4(*(torch.zeros(shape) for shape in shapes))


def test_erased_rims_leave_the_centre_and_reach_all_sources_alike():
    generator = torch.Generator().manual_seed(0)
    hsi, aux = torch.ones(400, 3, 7, 7), torch.ones(400, 1, 7, 7)
    erased, other = erase_rim(hsi, aux, probability=0.5, generator=generator)
    assert torch.equal(erased[:, :1], other)
    assert (erased[:, :, 2:5, 2:5] == 1).all()  # r is 1 at least
    kept = erased[:, 0].sum((1, 2))
    assert set(kept.int().tolist()) == {9, 25, 49}
    # Half are chosen, and a third of those keep everything (r = P // 2).
    assert 0.6 < (kept == 49).float().mean() < 0.74
    assert torch.equal(erase_rim(hsi, probability=0.0, generator=generator)[0], hsi)
    assert torch.equal(hsi, torch.ones_like(hsi))
