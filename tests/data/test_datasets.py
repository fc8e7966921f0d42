"""Datasets of patches: items are pixels, batches agree with single items, several scenes, masked pixels."""

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader, Subset

from hsmamba.data import Compose, PatchDataset, Patches, Scene, SelectBands, Standardise, random_split
from hsmamba.errors import SceneError
from tests.refusals import refused


def scene(seed=0, height=8, width=9, aux=True, nan_at=()):
    generator = np.random.default_rng(seed)
    hsi = generator.normal(size=(height, width, 4)).astype(np.float32)
    for row, column, band in nan_at:
        hsi[row, column, band] = np.nan
    extra = generator.normal(size=(height, width, 2)) if aux else None
    return Scene(hsi, generator.integers(0, 4, (height, width)), extra, class_names=("a", "b", "c"), name=f"s{seed}")


def fitted():
    steps = [SelectBands([0, 1, 3]), Standardise(), Standardise(on="aux")]
    return Compose(steps).fit(scene().hsi.reshape(-1, 4), scene().aux.reshape(-1, 2))


def test_an_item_is_a_pixel_and_its_target_counts_from_0():
    one = scene()
    data = PatchDataset(one, fitted(), 5)
    pixels = random_split(one.labels, count=3).train
    hsi, aux, targets = data.batch(pixels)
    assert torch.equal(hsi, Patches(fitted()(one.hsi), 5)(pixels))
    assert torch.equal(aux, Patches(fitted()(one.aux, on="aux"), 5)(pixels))
    assert targets.dtype == torch.int64 and targets.tolist() == (one.labels.ravel()[pixels] - 1).tolist()
    assert np.array_equal(data.labels, one.labels.ravel()) and data.labels.dtype == np.int64
    assert (len(data), data.class_names, data.patch_size) == (72, ("a", "b", "c"), 5)


def test_single_items_and_the_loader_agree_with_batches():
    data = PatchDataset(scene(), fitted(), 3)
    items = [5, 71, 0, 33]
    batch = data.batch(items)
    for index, item in enumerate(items):
        for part, whole in zip(data[item], batch, strict=True):
            assert torch.equal(part, whole[index])
    (loaded,) = DataLoader(Subset(data, items), batch_size=4)
    for part, whole in zip(loaded, batch, strict=True):
        assert torch.equal(part, whole)


def test_without_auxiliary_input_a_sample_is_a_pair():
    data = PatchDataset(scene(aux=False), fitted(), 3)
    assert data.batch([1])[1] is None
    hsi, target = next(iter(DataLoader(data, batch_size=6)))
    assert hsi.shape == (6, 3, 3, 3) and target.shape == (6,)


def test_scenes_follow_one_another():
    scenes = [scene(0), scene(1, 6, 7), scene(2)]
    data = PatchDataset(scenes, fitted(), 3)
    starts = [0, 72, 114]
    assert len(data) == 186 and np.array_equal(np.unique(data.groups, return_index=True)[1], starts)
    items = np.random.default_rng(0).permutation(186)
    hsi, aux, targets = data.batch(items)
    for number, (one, start) in enumerate(zip(scenes, starts, strict=True)):
        here = np.flatnonzero(data.groups[items] == number)
        alone = PatchDataset(one, fitted(), 3).batch(items[here] - start)
        for part, whole in zip(alone, (hsi, aux, targets), strict=True):
            assert torch.equal(part, whole[here])


def test_pixels_that_are_not_finite_are_refused_or_masked():
    bad = scene(nan_at=[(3, 4, 0)])
    with pytest.raises(SceneError, match="row 3, column 4"):
        PatchDataset(bad, fitted(), 3)
    data = PatchDataset(bad, fitted(), 3, nan="mask")
    centre = 3 * 9 + 4
    assert data.labels[centre] == 0
    assert np.array_equal(np.delete(data.labels, centre), np.delete(bad.labels.ravel(), centre))
    hsi, _, targets = data.batch([centre, centre + 1])
    assert hsi.isfinite().all() and (hsi[0, :, 1, 1] == 0).all() and (hsi[1, :, 1, 0] == 0).all()
    assert targets[0] == -1
    PatchDataset(scene(nan_at=[(3, 4, 2)]), fitted(), 3)  # band 2 is not selected


test_scenes_that_do_not_fit_are_refused = refused(
    (lambda: PatchDataset([], fitted(), 3), SceneError, ["one scene"]),
    (lambda: PatchDataset(Scene(scene().hsi, name="x"), fitted(), 3), SceneError, ["'x'", "no labels"]),
    (lambda: PatchDataset([scene(), scene(1, aux=False)], fitted(), 3), SceneError, ["scene 1", "auxiliary"]),
    (lambda: PatchDataset(scene(), fitted(), 9), SceneError, ["9 x 9", "8 x 9"]),
    (
        lambda: PatchDataset(Scene(scene().hsi[..., :3], scene().labels), fitted(), 3),
        SceneError,
        ["expects 4", "got 3"],
    ),
)


@pytest.mark.parametrize("item", [-1, 72])
def test_items_that_are_not_there_are_refused(item):
    with pytest.raises(IndexError, match=r"0\.\.71"):
        PatchDataset(scene(), fitted(), 3).batch([item])
