"""The public doors: what belongs to the other task is refused, never ignored."""

import numpy as np
import pytest
import torch

import hsmamba
from hsmamba.data import PatchDataset, wald_pairs


@pytest.fixture(scope="module")
def pairs():
    generator = np.random.default_rng(0)
    return wald_pairs(generator.random((128, 64, 3)), generator.random((512, 256)), sensor="generic", val=0, test=0.5)


@pytest.fixture(scope="module")
def fusion():
    torch.manual_seed(0)
    return hsmamba.create_model("ramsf", in_chans=3, dim=4, mlp_dims=(4,))


@pytest.mark.parametrize(
    ("given", "text"),
    [
        ({"tta": True}, "leave tta= out"),
        ({"tta": False, "nan": "mask"}, "leave nan= and tta= out"),  # given is given, whatever the value
        ({"part": "test"}, "leave part= out"),
        ({"regularise": "off"}, "leave regularise= out"),
        ({"batch_size": 8, "progress": False}, "leave batch_size= and progress= out"),
        ({"split": "x", "transform": "x"}, "leave split= and transform= out"),
    ],
)
def test_evaluate_of_pairs_refuses_what_is_of_classifiers(fusion, pairs, given, text):
    with pytest.raises(TypeError, match=f"^pairs bring their own test images, scale and mask; {text}$"):
        hsmamba.evaluate(fusion, pairs, **given)


def test_finetune_on_pairs_refuses_what_is_of_classifiers(fusion, pairs, split, transform):
    with pytest.raises(TypeError, match="pairs bring their own split, mask and scale; leave split= and transform= out"):
        hsmamba.finetune(fusion, pairs, split, transform=transform)
    with pytest.raises(TypeError, match=r"finetune has no setting mixup; there are: epochs.*crop"):
        hsmamba.finetune(fusion, pairs, mixup=0.2)


def test_scenes_refuse_what_is_of_fusion(make_model, scene, split):
    with pytest.raises(TypeError, match=r"finetune has no setting crop; there are: epochs.*mixup"):
        hsmamba.finetune(make_model(), scene, split, crop=16)
    for verb in (hsmamba.finetune, hsmamba.evaluate):
        with pytest.raises(TypeError, match=f"{verb.__name__} needs the split"):
            verb(make_model(), scene)


def test_model_and_data_must_be_of_one_task(make_model, fusion, pairs, scene, split):
    for call in (
        lambda: hsmamba.classify(fusion, scene),
        lambda: hsmamba.finetune(fusion, scene, split),
        lambda: hsmamba.evaluate(fusion, scene, split),
    ):
        with pytest.raises(TypeError, match="RAMSF is a fusion network, and a patch classifier is needed"):
            call()
    image = np.ones((8, 8, 3))
    for call in (
        lambda: hsmamba.fuse(make_model(), image, image),
        lambda: hsmamba.finetune(make_model(), pairs),
        lambda: hsmamba.evaluate(make_model(), pairs),
    ):
        with pytest.raises(TypeError, match=r"MD2FMamba.* is a patch classifier, and a fusion network is needed"):
            call()


def test_a_dataset_of_patches_brings_its_transform_and_its_mask(make_model, scene, split, transform):
    dataset = PatchDataset(scene, transform, 5)
    with pytest.raises(TypeError, match="transformed and masked; leave transform= out"):
        hsmamba.finetune(make_model(), dataset, split, transform=transform)
    with pytest.raises(TypeError, match="transformed and masked; leave transform= and nan= out"):
        hsmamba.evaluate(make_model(), dataset, split, transform=transform, nan="raise")


def test_a_part_or_a_mask_that_is_none_is_named(make_model, scene, split, transform):
    with pytest.raises(ValueError, match="part is 'all'; expected one of train, val, test"):
        hsmamba.evaluate(make_model(), scene, split, part="all", transform=transform)
    with pytest.raises(ValueError, match="nan is 'drop'"):
        hsmamba.evaluate(make_model(), scene, split, nan="drop", transform=transform)
