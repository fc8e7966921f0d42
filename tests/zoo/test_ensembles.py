"""One model of several: what it predicts, that it is saved as one, and members that do not go together."""

import json

import numpy as np
import pytest
import torch

import hsmamba
from hsmamba.data import PCA, Compose, Scene, Standardise
from hsmamba.errors import ManifestError, UnknownModelError

NAMES = ("corn", "oats", "wheat")
CUBE = np.random.default_rng(0).normal(size=(12, 10, 9)).astype(np.float32)
TRANSFORM = Compose([Standardise(), PCA(6)]).fit(CUBE.reshape(-1, 9))


def member(seed=0, **sizes):
    torch.manual_seed(seed)
    sizes = {"in_chans": 6, "num_classes": 3, "patch_size": 5, "dim": 8, "d_state": 2, **sizes}
    model = hsmamba.create_model("md2f_mamba", **sizes).eval()
    model.transform, model.class_names = TRANSFORM, NAMES
    return model


def test_probabilities_are_averaged_and_members_copied():
    one, two = member(0), member(1, patch_size=3)
    both = hsmamba.ensemble([one, two], weights=[2, 1])
    assert both.transform is TRANSFORM and both.class_names == NAMES and not both.training
    scene = Scene(CUBE)
    got = hsmamba.classify(both, scene, progress=False)
    parts = [hsmamba.classify(model, scene, progress=False) for model in (one, two)]
    agree = parts[0].labels == parts[1].labels
    want = (2 * parts[0].confidence + parts[1].confidence) / 3
    np.testing.assert_array_equal(got.labels[agree], parts[0].labels[agree])
    np.testing.assert_allclose(got.confidence[agree], want[agree], rtol=1e-5)
    before = got.confidence.copy()
    torch.nn.init.zeros_(one.head.weight)
    np.testing.assert_array_equal(hsmamba.classify(both, scene, progress=False).confidence, before)


def test_it_is_saved_as_one_file_and_read_again(tmp_path):
    both = hsmamba.ensemble([member(0), member(1, patch_size=3)], weights=[2, 1])
    folder = hsmamba.save_pretrained(both, tmp_path / "model")
    assert sorted(path.name for path in folder.glob("*.safetensors")) == ["model.safetensors", "transform.safetensors"]
    again = hsmamba.create_model(f"local-dir:{folder}")
    want, got = (hsmamba.classify(model, CUBE, progress=False).confidence for model in (both, again))
    np.testing.assert_array_equal(got, want)
    assert again.class_names == NAMES and again.sizes == both.sizes
    wider = hsmamba.create_model(f"local-dir:{folder}", num_classes=5)
    assert all(head.out_features == 5 for head in wider.get_classifier())
    both.reset_classifier(4)
    folder = hsmamba.save_pretrained(both, tmp_path / "four")
    assert hsmamba.create_model(f"local-dir:{folder}")(torch.zeros(1, 6, 5, 5)).shape == (1, 4)


def test_it_is_fine_tuned_like_a_network(tmp_path):
    labels = np.arange(120).reshape(12, 10) % 3 + 1
    scene = Scene(CUBE, labels, class_names=NAMES)
    split = hsmamba.data.random_split(labels, fraction=0.5, seed=0)
    both = hsmamba.ensemble([member(0), member(1)])
    before = [head.weight.clone() for head in both.get_classifier()]
    hsmamba.finetune(both, scene, split, epochs=1, warmup_epochs=0, progress=False)
    assert not any(torch.equal(a, head.weight) for a, head in zip(before, both.get_classifier(), strict=True))


def test_licences_of_the_members_are_kept(tmp_path):
    one, two = member(0), member(1)
    one.record = {"license": "CC0-1.0", "bands": 9, "metrics": {"oa": 1}}
    two.record = {"license": "CC-BY-4.0", "bands": 9, "metrics": {"oa": 2}}
    both = hsmamba.ensemble([one, two])
    assert both.record == {"license": "CC-BY-4.0 AND CC0-1.0", "bands": 9}
    folder = hsmamba.save_pretrained(both, tmp_path / "model")
    assert json.loads((folder / "config.json").read_text())["license"] == "CC-BY-4.0 AND CC0-1.0"
    assert hsmamba.ensemble([member(0), member(1)]).record is None


def test_members_that_do_not_go_together_are_named():
    with pytest.raises(ValueError, match="got no models"):
        hsmamba.ensemble([])
    with pytest.raises(TypeError, match="RSANet is a fusion network"):
        hsmamba.ensemble([hsmamba.create_model("rsanet", dim=4, depth=1)])
    with pytest.raises(ValueError, match="num_classes of model 1 is 4, that of model 0 3"):
        hsmamba.ensemble([member(), member(num_classes=4)])
    other = member()
    other.class_names = NAMES[::-1]
    with pytest.raises(ValueError, match=r"class_names of model 1 is \('wheat'.*same classes in the same order"):
        hsmamba.ensemble([member(), other])
    for transform in (None, Compose([Standardise(), PCA(6)]).fit(CUBE[:9].reshape(-1, 9))):
        other = member()
        other.transform = transform
        with pytest.raises(ValueError, match="transform of model 1 is not that of model 0"):
            hsmamba.ensemble([member(), other])
    with pytest.raises(ValueError, match="model 0 is an ensemble: give its members"):
        hsmamba.ensemble([hsmamba.ensemble([member()]), member()])
    other = member()
    other.architecture = ""
    with pytest.raises(ValueError, match="model 0 is not made by create_model"):
        hsmamba.ensemble([other])
    with pytest.raises(ValueError, match=r"weights are \[1.0\] for 2 members"):
        hsmamba.ensemble([member(), member()], weights=[1])


def test_a_network_and_a_linear_classifier_make_one_model(tmp_path):
    network = member()
    torch.manual_seed(0)
    linear = hsmamba.create_model("lda", in_chans=6, num_classes=3, patch_size=7, windows=(1, 3, 7)).eval()
    linear.transform, linear.class_names = TRANSFORM, NAMES
    both = hsmamba.ensemble([network, linear])
    patch = torch.randn(4, 6, 7, 7)
    want = (network(patch[..., 1:6, 1:6]).softmax(1) + linear(patch).softmax(1)) / 2
    torch.testing.assert_close(both(patch).exp(), want)
    again = hsmamba.create_model(f"local-dir:{hsmamba.save_pretrained(both, tmp_path / 'model')}")
    assert torch.equal(again(patch), both(patch))


def test_the_same_transform_is_one_of_the_same_bytes():
    other = member(1)
    other.transform = Compose([Standardise(), PCA(6)]).fit(CUBE.reshape(-1, 9))
    assert hsmamba.ensemble([member(), other]).in_chans == 6


@pytest.mark.parametrize(
    ("change", "error", "text"),
    [
        ({"architecture": "ensemble"}, ManifestError, "model_args has a member"),
        ({"architecture": "nonesuch"}, UnknownModelError, "import the code that registers it"),
        ({"architecture": ["md2f_mamba"]}, ManifestError, "model_args has a member"),
        ({"model_args": {"dim": 10**9}}, ManifestError, "model_args has members"),
        ({"model_args": {"dim": "8"}}, ManifestError, "a member: model_args has dim = '8', expected int"),
        ({"model_args": {"widht": 1}}, ManifestError, "'widht', which md2f_mamba does not take"),
        ({"model_args": {"in_chans": 5}}, ManifestError, "no ensemble can be built"),
    ],
)
def test_a_file_is_not_trusted_about_its_members(tmp_path, change, error, text):
    folder = hsmamba.save_pretrained(hsmamba.ensemble([member()]), tmp_path / "model")
    config = json.loads((folder / "config.json").read_text())
    config["model_args"]["members"][0] |= change
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(error, match=text):
        hsmamba.create_model(f"local-dir:{folder}")
