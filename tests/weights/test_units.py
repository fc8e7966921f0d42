"""What the zoo's own weights say to numbers and bands that are not those of their training."""

from dataclasses import replace

import numpy as np
import pytest

import hsmamba
from hsmamba.engine.classification.job import prepare_classification
from hsmamba.engine.fusion.job import prepare_fusion
from hsmamba.errors import SceneError

NAMES = hsmamba.list_pretrained()


@pytest.mark.parametrize("name", NAMES)
def test_every_weight_records_what_it_was_trained_on(name):
    model = hsmamba.create_model(name, pretrained=True)
    if getattr(model, "any_sizes", False):  # to which units and bands mean nothing
        assert model.transform is None and model.record["wavelengths"] is None
        return
    on = ["hsi", "aux"] if getattr(model, "aux_chans", 1) else ["hsi"]
    assert all(np.isfinite(model.transform.range(source).after).all() for source in on)
    assert model.record["data"]["quantity"]
    if "idtrees" not in name:  # whose files tell no wavelengths
        assert len(model.record["wavelengths"]) == model.record["bands"]


@pytest.fixture(scope="module")
def indian_pines():
    pytest.importorskip("tensorly")
    scene = hsmamba.load_scene("indian_pines")
    return replace(scene, hsi=np.asarray(scene.hsi)[20:60, 20:100], labels=np.asarray(scene.labels)[20:60, 20:100])


@pytest.fixture(scope="module")
def classifier():
    return hsmamba.create_model("md2f_mamba.indian_pines", pretrained=True)


def accuracy(model, scene, truth, **options):
    known = np.zeros(truth.shape, bool)
    known[::4, ::4] = truth[::4, ::4] > 0
    job = prepare_classification(model, scene, wanted=known, progress=False, **options)
    return (job.arrays()[0][known] == truth[known]).mean()


@pytest.mark.parametrize(
    ("unit", "mend"),
    [
        (lambda f: f / 10_000, "scale=10000"),
        (lambda f: f / 10, "scale=10"),
        (lambda f: (f - f.min()) / np.ptp(f), "other units or other bands"),
        (lambda f: ((f - f.min()) / np.ptp(f) * 255).astype("uint8"), "other units or other bands"),
        (lambda f: f * 0, "other units or other bands"),
        (lambda f: f[..., ::-1], "other units or other bands"),
    ],
    ids=["reflectance", "tenth", "range", "bytes", "zeros", "reversed"],
)
def test_indian_pines_in_other_units_is_refused(classifier, indian_pines, unit, mend):
    with pytest.raises(SceneError, match=f"not like those that the model was trained on.*{mend}"):
        prepare_classification(classifier, unit(indian_pines.hsi.astype(float)))


def test_the_factor_that_is_advised_gives_the_map(classifier, indian_pines):
    right = accuracy(classifier, indian_pines, indian_pines.labels)
    small = replace(indian_pines, hsi=indian_pines.hsi / np.float32(10_000))
    assert right > 0.9 and accuracy(classifier, small, indian_pines.labels, scale=10_000) == pytest.approx(right)


def test_one_glint_pixel_is_no_other_unit(classifier, indian_pines):
    glint = indian_pines.hsi.copy()
    glint[3, 3] = 65535
    prepare_classification(classifier, glint)


def test_bands_are_found_by_their_wavelengths(classifier, indian_pines):
    right = accuracy(classifier, indian_pines, indian_pines.labels)
    turned = replace(indian_pines, hsi=indian_pines.hsi[..., ::-1], wavelengths=indian_pines.wavelengths[::-1])
    assert accuracy(classifier, turned, indian_pines.labels) == right
    gap = np.full((*indian_pines.shape, 20), 7, np.uint16)
    all_bands = replace(
        indian_pines,
        hsi=np.concatenate([gap, indian_pines.hsi], axis=2),
        wavelengths=np.concatenate([np.linspace(1362, 1402, 20), indian_pines.wavelengths]),
        bad_bands=np.repeat([True, False], [20, 200]),
    )
    assert accuracy(classifier, all_bands, indian_pines.labels) == right
    visible = replace(indian_pines, wavelengths=np.linspace(400, 900, 200))
    with pytest.raises(SceneError, match=r"do not cover .* of the 200 that are wanted"):
        prepare_classification(classifier, visible)


def counts(level, shape, seed=0):
    """Images as bright as 11-bit ones of cities and fields are."""
    rng = np.random.default_rng(seed)
    coarse = rng.gamma(3.0, level / 3, shape)
    return np.clip(coarse, 0, 2047)


@pytest.fixture(scope="module")
def pair():
    return counts(350, (24, 24, 8)), counts(300, (96, 96, 1), 1)


@pytest.fixture(scope="module")
def sharpener():
    return hsmamba.create_model("rsanet.worldview2", pretrained=True)


def test_eleven_bits_are_taken_as_they_are(sharpener, pair):
    prepare_fusion(sharpener, *pair)


@pytest.mark.parametrize(("factor", "maximum"), [(10_000 / 2047, 10_000), (255 / 2047, 255), (1 / 2047, 1)])
def test_other_units_are_refused_and_the_maximum_that_is_advised_is_taken(sharpener, pair, factor, maximum):
    ms, guide = (image * factor for image in pair)
    with pytest.raises(SceneError, match=r"not like those that the network was trained on.*maximum=") as told:
        prepare_fusion(sharpener, ms, guide)
    advised = str(told.value).partition("of guide): ")[2].partition("?")[0]
    assert [float(part) for part in advised.split(",")] == [maximum, maximum]
    job = prepare_fusion(sharpener, ms, guide, maximum=maximum, gains=None)
    assert job.coarse.factor == pytest.approx(1 / maximum)


def test_a_guide_of_another_unit_is_named(sharpener, pair):
    with pytest.raises(SceneError, match=r"trained on: guide reaches"):
        prepare_fusion(sharpener, pair[0], pair[1] * 255 / 2047)
    prepare_fusion(sharpener, pair[0], pair[1] * 255 / 2047, maximum=(2047, 255))
