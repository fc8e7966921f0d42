"""What the errors of the doors and of scene files say to do, done: each time it works."""

import re
import warnings
from dataclasses import replace
from functools import cached_property

import numpy as np
import pytest
import torch

import hsmamba
from hsmamba.data import (
    PCA,
    Compose,
    PatchDataset,
    Scene,
    SelectBands,
    Standardise,
    open_scene,
    random_split,
    wald_pairs,
)
from hsmamba.engine.lock import only_run
from tests.advice import alternatives, says, told, warned
from tests.engine.fusion.toys import images, make

QUICK = {"epochs": 1, "warmup_epochs": 0, "progress": False}


@pytest.fixture
def model(make_model, scene, split):
    network = make_model()
    hsmamba.finetune(network, scene, split, **QUICK)
    return network


@pytest.fixture
def holed(scene):
    cube = np.array(scene.hsi)
    cube[0, 0] = np.nan
    return replace(scene, hsi=cube)


@pytest.fixture
def with_holes():
    ms, guide = (np.array(image, dtype=np.float32) for image in images())
    ms[0, 0] = np.nan
    return ms, guide


def doors(model, scene, split):
    return {
        "classify": lambda **options: hsmamba.classify(model, scene, progress=False, **options),
        "evaluate": lambda **options: hsmamba.evaluate(model, scene, split, **options),
        "finetune": lambda **options: hsmamba.finetune(model, scene, split, **QUICK, **options),
        "PatchDataset": lambda **options: PatchDataset(scene, model.transform, 5, **options),
        "fit_scene": lambda **options: Compose([Standardise()]).fit_scene(scene, np.arange(30), **options),
    }


@pytest.mark.parametrize("door", ["classify", "evaluate", "finetune", "PatchDataset", "fit_scene"])
def test_invalid_pixels_of_a_scene_are_masked_where_the_error_says_so(door, model, holed, split):
    call = doors(model, holed, split)[door]
    advice = dict(re.findall(r'(nan)="(\w+)"', told(call, 'pass nan="mask" (--nan mask) to leave them out')))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        call(**advice)
    assert advice == {"nan": "mask"}


@pytest.mark.parametrize("door", ["fuse", "wald_pairs"])
def test_invalid_pixels_of_a_pair_are_masked_where_the_error_says_so(door, with_holes):
    calls = {
        "fuse": lambda **options: hsmamba.fuse(make(), *with_holes, maximum=2047, progress=False, **options),
        "wald_pairs": lambda **options: wald_pairs(*with_holes, sensor="QB", val=0.125, test=0.375, **options),
    }
    advice = dict(re.findall(r'(nan)="(\w+)"', told(calls[door], 'pass nan="mask" (--nan mask) to leave them out')))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        calls[door](**advice)
    assert advice == {"nan": "mask"}


def test_numbers_of_another_unit_are_scaled_or_taken_as_the_error_says(model, scene, split):
    bright = replace(scene, hsi=np.asarray(scene.hsi, np.float64) + 40)
    model.transform = Compose(model.transform.steps).fit_scene(bright, split.train)
    small = replace(bright, hsi=bright.hsi / 1e4)
    text = told(
        lambda: hsmamba.classify(model, small, progress=False),
        "they look {} times as large: pass scale={} (--scale {})",
        "{}. If they are right as they are, pass scale=1 (--scale 1)",
    )
    factors = [float(number) for number in re.findall(r"pass scale=([\d.e+-]+)", text)]
    assert factors == [1e4, 1.0]
    whole = hsmamba.classify(model, bright, progress=False).labels
    np.testing.assert_array_equal(hsmamba.classify(model, small, scale=factors[0], progress=False).labels, whole)
    with pytest.warns(hsmamba.errors.HsmambaWarning, match="not like those"):
        hsmamba.classify(model, small, scale=factors[1], progress=False)


def test_a_file_of_several_arrays_is_opened_by_the_argument_that_is_named(tmp_path):
    cubes = {"first": np.ones((4, 5, 3)), "second": np.full((4, 5, 3), 2.0)}
    np.savez(tmp_path / "a.npz", **cubes)
    text = told(lambda: open_scene(tmp_path / "a.npz"), "give {}=... by name")
    assert re.search(r"give (\w+)=", text)[1] == "variable"
    for name in re.findall(r"'(\w+)' \(", text):
        np.testing.assert_array_equal(open_scene(tmp_path / "a.npz", variable=name).hsi, cubes[name])


def test_dimensions_are_brought_to_the_order_that_is_named(scene):
    xarray = pytest.importorskip("xarray", reason="needs the geo extra")
    turned = xarray.DataArray(scene.hsi, dims=("y", "x", "band")).transpose("x", "y", "band")
    text = told(lambda: Scene(turned), "rename them if need be and give {}.transpose({})")
    order = re.findall(r'"(\w+)"', re.search(r"transpose\(([^)]*)\)", text)[1])
    np.testing.assert_array_equal(Scene(turned.transpose(*order)).hsi, scene.hsi)


def test_codes_of_a_legend_are_told_by_the_argument_that_is_named(scene):
    codes = np.array([0, 1000, 2000, 3000])[np.asarray(scene.labels)]
    text = told(lambda: Scene(scene.hsi, codes), "give the legend with classes=[{}]")
    legend = [int(code) for code in re.search(r"classes=\[([\d, ]+)\]", text)[1].split(",")]
    np.testing.assert_array_equal(Scene(scene.hsi, codes, classes=legend).labels, scene.labels)


def test_a_class_of_few_pixels_is_capped_as_the_error_says(scene):
    labels = np.array(scene.labels)
    few = np.flatnonzero(labels == 1)[5:]
    labels.ravel()[few] = 0
    told(lambda: random_split(labels, count=12), "with cap=True (--cap)")
    assert np.bincount(labels.ravel()[random_split(labels, count=12, cap=True).train])[1] < 5


def test_other_classes_get_the_head_that_the_error_names(model, scene):
    labels = np.where(np.asarray(scene.labels) == 1, 4, scene.labels)
    other = Scene(scene.hsi, labels, class_names=("a", "b", "c", "d"))
    split = random_split(other.labels, fraction=0.2)
    text = told(
        lambda: hsmamba.finetune(model, other, split, **QUICK), "model a new head with model.reset_classifier({})"
    )
    model.reset_classifier(int(re.search(r"reset_classifier\((\d+)\)", text)[1]))
    hsmamba.finetune(model, other, split, **QUICK)
    assert model.class_names == ("a", "b", "c", "d")


class Bench:
    """What a door needs: models, untrained and trained, a scene, its split, a folder and a checkpoint in it."""

    def __init__(self, make, scene, split, folder):
        self.make, self.scene, self.split, self.folder = make, scene, split, folder
        self.path = folder / "run.pt"

    @cached_property
    def model(self):
        return train(self)


@pytest.fixture
def at(make_model, scene, split, tmp_path):
    return Bench(make_model, scene, split, tmp_path)


def train(at, model=None, scene=None, split=None, **options):
    network = at.make() if model is None else model
    hsmamba.finetune(network, scene or at.scene, split or at.split, **QUICK | options)
    return network


def accuracy(at, model=None, scene=None):
    return hsmamba.evaluate(model or at.model, scene or at.scene, at.split).oa


def same_as_before(at, scene):
    return accuracy(at, scene=scene) == accuracy(at)


def classes(at, *names, labels=None, **options):
    """The scene with other classes."""
    return Scene(at.scene.hsi, at.scene.labels if labels is None else labels, class_names=names, **options)


def judge(at, data, split=None, **options):
    return hsmamba.evaluate(at.model, data, split or at.split, **options).oa > 0


def patches(at):
    return PatchDataset(at.scene, at.model.transform, 5)


def tuned(at):
    """What training with validation pixels returns."""
    return hsmamba.finetune(at.make(), at.scene, at.split, val_fraction=0.2, **QUICK)


CODES = {10: "corn", 20: "oats", 30: "wheat"}


def reassigned(scene, *names):
    """A scene that gets other names once it is made."""
    scene.class_names = names
    return scene


def coded(at):
    """The labels as codes."""
    return np.array([0, *CODES])[np.asarray(at.scene.labels)]


def of_codes(at):
    """A model whose classes are codes."""
    return train(at, scene=Scene(at.scene.hsi, coded(at), classes=list(CODES)))


def listed(text, pattern):
    return [int(number) for number in re.search(pattern, text)[1].split(", ")]


def new_head(at, text, scene):
    """A head of the size that is told, by the call that is told."""
    at.model.reset_classifier(listed(text, r"reset_classifier\((\d+)\)")[0])
    return train(at, at.model, scene).num_classes == 4


def four(at):
    labels = np.where(np.arange(at.scene.labels.size).reshape(at.scene.labels.shape) % 5 == 0, 4, at.scene.labels)
    return Scene(at.scene.hsi, labels)


def fewer(at, bands=6):
    return Scene(np.asarray(at.scene.hsi)[..., :bands], at.scene.labels)


def tiny_scene(at, rows=2):
    """A few pixels of many bands."""
    labels = np.tile([1, 2, 3, 1, 2], (5, 1))
    cube = np.full((5, 5, 12), np.nan, np.float32)
    cube[:rows] = np.random.default_rng(0).normal(size=(rows, 5, 12))
    return Scene(cube, labels)


def few_pixels(at, **sizes):
    scene = tiny_scene(at)
    return train(at, at.make(**{"in_chans": 11, "patch_size": 3} | sizes), scene, first_rows(scene), nan="mask")


def first_rows(scene):
    return replace(random_split(scene.labels, count=1), train=np.arange(5), test=np.arange(5, 10), id="rows")


def with_transform(at, *steps):
    return hsmamba.evaluate(at.model, wider(at), at.split, transform=Compose(steps)).oa


def fitted_on(at, scene):
    return Compose([Standardise(), PCA(4)]).fit_scene(scene, at.split.train)


def two_sources(at, aux):
    torch.manual_seed(0)
    model = hsmamba.create_model("msfmamba", in_chans=12, aux_chans=2, num_classes=3, patch_size=7)
    return train(at, model, replace(at.scene, aux=aux), epochs=1).num_classes == 3


def stopped(at, **options):
    """A run that was stopped after its first epoch."""
    return train(at, **{"epochs": 2, "checkpoint": at.path, "callback": lambda record, model: True} | options)


def resumed(at, **options):
    return train(at, **{"epochs": 2, "checkpoint": at.path, "resume": at.path} | options)


def is_whole(at, model):
    """Whether a run gave what one without an interrupt gives."""
    whole = train(at, epochs=2).state_dict()
    return all(torch.equal(tensor, whole[name]) for name, tensor in model.state_dict().items())


def damaged(at):
    stopped(at)
    (at.folder / "whole.pt").write_bytes(at.path.read_bytes())
    at.path.write_bytes(at.path.read_bytes()[:-9])
    return resumed(at)


def copied_again(at, text):
    at.path.write_bytes((at.folder / "whole.pt").read_bytes())
    return is_whole(at, resumed(at))


def its_settings(at, text):
    """Settings of the run that left the checkpoint, as the text tells them."""
    return {name: float(value) for name, value in re.findall(r"(\w+): ([\d.e-]+) there", text)}


def beside_another(at, path):
    with only_run(at.path):
        return train(at, checkpoint=path)


ADVICE = {
    "finetune needs the split of the scene; make one with hsmamba.data.random_split or block_split": (
        lambda at: hsmamba.finetune(at.make(), at.scene, **QUICK),
        lambda at, text: train(at, split=random_split(at.scene.labels, fraction=0.2)).num_classes == 3,
    ),
    "{}; leave {} out": (
        lambda at: train(at, scene=PatchDataset(at.scene, at.model.transform, 5), nan="mask"),
        lambda at, text: train(at, scene=PatchDataset(at.scene, at.model.transform, 5)).num_classes == 3,
    ),
    "the scene has no labels; open it with labels=": (
        lambda at: accuracy(at, scene=replace(at.scene, labels=None)),
        lambda at, text: same_as_before(at, replace(replace(at.scene, labels=None), labels=at.scene.labels)),
    ),
    "has no class names, and others have; give every scene its own with class_names=": (
        lambda at: train(at, scene=[at.scene, classes(at)], split=doubled(at)),
        lambda at, text: train(
            at, scene=[at.scene, classes(at, "wheat", "oats", "corn")], split=doubled(at)
        ).class_names == ("corn", "oats", "wheat"),
    ),
    "labels reach up to {}, but there are {} class names; name every class": (
        lambda at: accuracy(at, at.model, reassigned(at.scene, "oats")),
        lambda at, text: same_as_before(at, reassigned(at.scene, "corn", "oats", "wheat")),
    ),
    "have two classes named {}; give every class a name of its own": (
        lambda at: accuracy(at, scene=classes(at, "corn", "corn", "wheat")),
        lambda at, text: same_as_before(at, classes(at, "corn", "oats", "wheat")),
    ),
    "Name the classes of the data as the model does (class_names=), set the labels of further ones to 0, or give the": (
        lambda at: accuracy(at, scene=classes(at, "maize", "oats", "wheat")),
        (
            lambda at, text: same_as_before(
                at, classes(at, *re.search(r"it has (.*?)\. Name", text)[1].replace("'", "").split(", "))
            ),
            lambda at, text: accuracy(
                at, scene=classes(at, "maize", "oats", "wheat", labels=without(at, 1))
            ) > 0,
            lambda at, text: accuracy(
                at, train(at, renewed(at.model, text), classes(at, "maize", "oats", "wheat")),
                classes(at, "maize", "oats", "wheat"),
            ) > 0,
        ),
    ),
    "open the scene with classes=[{}] where the labels hold these codes, or with class_names={} where they are 1..{}": (
        lambda at: accuracy(at, of_codes(at), classes(at)),
        (
            lambda at, text: accuracy(
                at, of_codes(at), classes(at, labels=coded(at), classes=listed(text, r"classes=\[([\d, ]+)\]"))
            ) == accuracy(at),
            lambda at, text: accuracy(
                at, of_codes(at), classes(at, *re.findall(r"'(\d+)'", text.partition("class_names=")[2]))
            ) == accuracy(at),
        ),
    ),
    "and the model's have no names; say which they are: model.class_names = (...), one name a class": (
        lambda at: accuracy(at, train(at, scene=classes(at)), Scene(at.scene.hsi, coded(at), classes=list(CODES))),
        lambda at, text: accuracy(
            at, named(train(at, scene=classes(at)), map(str, listed(text, r"codes ([\d, ]+),"))),
            Scene(at.scene.hsi, coded(at), classes=list(CODES)),
        ) == accuracy(at),
    ),
    "give the model a new head with model.reset_classifier({}) or create_model(..., num_classes={}) and fine-tune it": (
        lambda at: train(at, named(at.model, ()), four(at)),
        (
            lambda at, text: new_head(at, text, four(at)),
            lambda at, text: train(
                at, at.make(num_classes=listed(text, r"num_classes=(\d+)")[0]), four(at)
            ).num_classes == 4,
        ),
    ),
    "the model takes {} {}, the scene has {} bands; create the model with in_chans={} or less": (
        lambda at: train(at, at.make(in_chans=8), fewer(at)),
        (
            lambda at, text: train(at, at.make(in_chans=listed(text, r"in_chans=(\d+)")[0]), fewer(at)).in_chans == 6,
            lambda at, text: train(at, at.make(in_chans=5), fewer(at)).in_chans == 5,
        ),
    ),
    "that the model takes; create it with in_chans={} or less": (
        few_pixels,
        (
            lambda at, text: few_pixels(at, in_chans=listed(text, r"in_chans=(\d+) or less")[0]).in_chans == 9,
            lambda at, text: few_pixels(at, in_chans=listed(text, r"or with in_chans=(\d+)")[0]).in_chans == 12,
        ),
    ),
    "here a new one is fitted on these very numbers: leave scale out": (
        lambda at: train(at, scale=2),
        lambda at, text: train(at).num_classes == 3,
    ),
    "open it with aux= (LiDAR or SAR on the same grid)": (
        lambda at: two_sources(at, None),
        lambda at, text: two_sources(at, np.asarray(at.scene.hsi)[..., :2]),
    ),
    "; select the bands it was trained on (hsmamba.data.SelectBands), or fine-tune with a transform fitted on this": (
        lambda at: accuracy(at, scene=wider(at)),
        (
            lambda at, text: same_as_before(at, replace(wider(at), hsi=SelectBands(range(12))(wider(at).hsi))),
            lambda at, text: with_transform(at, SelectBands(range(12)), *at.model.transform.steps) == accuracy(at),
            lambda at, text: accuracy(at, train(at, at.model, wider(at), transform=fitted_on(at, wider(at))), wider(at))
            > 0.3,
        ),
    ),
    "a dataset of patches is no image: give its scenes": (
        lambda at: judge(at, patches(at), regularise="on"),
        (lambda at, text: judge(at, at.scene, regularise="on"), lambda at, text: judge(at, patches(at))),
    ),
    "a dataset of patches has lost the bands: give its scenes": (
        lambda at: judge(at, patches(at), baselines=True),
        (
            lambda at, text: (pytest.importorskip("sklearn"), judge(at, at.scene, baselines=True))[1],
            lambda at, text: judge(at, patches(at)),
        ),
    ),
    "has none; give 'off' or 'on', or the split that finetune returns, which has set some aside": (
        lambda at: judge(at, at.scene, regularise="auto"),
        (
            lambda at, text: all(
                judge(at, at.scene, regularise=which) for which in re.search(r"give '(\w+)' or '(\w+)'", text).groups()
            ),
            lambda at, text: judge(at, at.scene, split=tuned(at).split, regularise="auto"),
        ),
    ),
    "the model has no classes; give it a head with model.reset_classifier(K) and train it": (
        lambda at: hsmamba.classify(at.make(num_classes=0), at.scene, progress=False),
        lambda at, text: train(at, renewed(at.make(num_classes=0), "reset_classifier(3)")).num_classes == 3,
    ),
    "to resume; leave resume out to start anew": (
        resumed, lambda at, text: is_whole(at, train(at, epochs=2, checkpoint=at.path))
    ),
    "cannot be resumed ({}); copy it again from where it is whole, or leave resume out to start anew": (
        damaged, (copied_again, lambda at, text: is_whole(at, train(at, epochs=2, checkpoint=at.path))),
    ),
    "belongs to another run ({}); resume with its settings": (
        lambda at: (stopped(at, lr=0.002), resumed(at)),
        lambda at, text: resumed(at, **its_settings(at, text)).num_classes == 3,
    ),
    "resume with the network of that run, or leave resume out to start anew (on the command line: --overwrite)": (
        lambda at: (stopped(at), resumed(at, model=at.make(dim=16))),
        (
            lambda at, text: is_whole(at, resumed(at)),
            lambda at, text: train(at, at.make(dim=16), checkpoint=at.path).num_classes == 3,
        ),
    ),
    "is that of a run that goes on (process {}); wait for its end, or train into another folder": (
        lambda at: beside_another(at, at.path),
        (
            lambda at, text: train(at, checkpoint=at.path).num_classes == 3,
            lambda at, text: beside_another(at, at.folder / "other.pt").num_classes == 3,
        ),
    ),
    "looks at the whole scene at once; load the scene before with .compute()": (
        lambda at: hsmamba.classify(at.model, chunked(at), regularise="on", progress=False),
        lambda at, text: hsmamba.classify(at.model, chunked(at).compute(), regularise="on", progress=False) is not None,
    ),
    "train anew with a smaller lr (it is {}), a longer warm-up or": (
        lambda at: train(at, lr=1e30, epochs=3),
        lambda at, text: train(at, lr=float(re.search(r"it is ([\de+]+)", text)[1]) * 1e-33, epochs=3).num_classes == 3,
    ),
}  # fmt: skip


@pytest.mark.parametrize(("words", "call", "mended"), alternatives(ADVICE))
def test_what_an_error_says_works(words, call, mended, at):
    assert mended(at, told(lambda: call(at), words))


def chunked(at):
    """The image of the scene as dask holds it."""
    xarray = pytest.importorskip("xarray", reason="needs the geo extra")
    pytest.importorskip("dask", reason="needs the dask extra")
    return xarray.DataArray(at.scene.hsi, dims=("y", "x", "band")).chunk(y=11, x=13)


def doubled(at):
    """The split of two scenes like the one."""
    labels = np.concatenate([np.asarray(at.scene.labels).ravel()] * 2)[None]
    return random_split(labels, fraction=0.2)


def without(at, number):
    return np.where(np.asarray(at.scene.labels) == number, 0, at.scene.labels)


def renewed(model, text):
    model.reset_classifier(listed(text, r"reset_classifier\((\d+)\)")[0])
    return model


def named(model, names):
    model.class_names = tuple(names)
    return model


def wider(at):
    """The scene with more bands after its own."""
    return replace(at.scene, hsi=np.concatenate([at.scene.hsi, at.scene.hsi], axis=2))


def test_the_next_epoch_of_an_older_checkpoint_has_its_checksum(at):
    stopped(at)
    torch.save(torch.load(at.path, weights_only=True), at.path)
    warned(lambda: resumed(at), "carries no checksum, an older version wrote it; go on, the next epoch's will have one")
    with warnings.catch_warnings():
        warnings.simplefilter("error", hsmamba.errors.HsmambaWarning)
        assert is_whole(at, resumed(at))


def test_labels_without_names_get_them_or_the_model_a_new_head(at):
    bare = classes(at)
    text = warned(
        lambda: train(at, at.model, bare),
        "where they are other classes, give class_names=, or a new head with model.reset_classifier({})",
    )
    with warnings.catch_warnings():
        warnings.simplefilter("error", hsmamba.errors.HsmambaWarning)
        assert train(at, at.model, replace(bare, class_names=at.model.class_names)).class_names == at.scene.class_names
        assert train(at, renewed(at.model, text), bare).class_names == ()


def test_an_interrupted_run_is_continued_as_it_says(at, caplog):
    network = at.make()

    def interrupt(*_):
        raise KeyboardInterrupt

    def after_an_epoch(record, model):
        model.register_forward_pre_hook(interrupt)

    with pytest.raises(KeyboardInterrupt):
        stopped(at, model=network, callback=after_an_epoch)
    text = says(caplog.text, "; continue with resume={}")
    assert is_whole(at, resumed(at, resume=re.search(r"resume='(.*?)'", text)[1]))


def test_a_scene_smaller_than_a_patch_is_taken_with_a_smaller_one(make_model, scene):
    small = Scene(np.asarray(scene.hsi)[:4, :4], np.asarray(scene.labels)[:4, :4])
    told(
        lambda: hsmamba.classify(make_model(in_chans=12), small, progress=False),
        "create the model with a smaller patch_size (finetune --patch-size) or take a larger scene",
    )
    torch.manual_seed(0)
    assert hsmamba.classify(make_model(in_chans=12, patch_size=3), small, progress=False).labels.shape == (4, 4)
