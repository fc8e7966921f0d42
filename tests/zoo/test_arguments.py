"""Arguments out of a config.json: refused before anything is built, whatever they are."""

import json
import resource
import time

import pytest
import torch

import hsmamba
from hsmamba.errors import HsmambaError, ManifestError
from hsmamba.models import entry
from hsmamba.zoo.arguments import check_arguments, rehearse
from hsmamba.zoo.build import check_origin
from tests.models.samples import NAMES, tiny

HUGE = [10**9, 10**12, 2**63, -1, 1.5, True, "8", None, [8], {"a": 8}, float("nan"), 1e300, [[[]]], "x" * 10_000]


def changed(folder, **change):
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    (folder / "config.json").write_text(json.dumps(config | change), encoding="utf-8")
    return folder


@pytest.mark.parametrize("value", HUGE, ids=repr)
@pytest.mark.parametrize("name", ["in_chans", "num_classes", "patch_size", "dim", "d_state"])
def test_other_values_on_record_are_refused_at_once(model_folder, name, value):
    args = {"in_chans": 6, "patch_size": 7, "num_classes": 4, "dim": 16, "d_state": 4}
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    start = time.monotonic()
    with pytest.raises(HsmambaError, match=r"model_args|config\.json"):
        hsmamba.create_model(f"local-dir:{changed(model_folder, model_args={**args, name: value})}")
    assert time.monotonic() - start < 5
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 500_000  # in kB


@pytest.mark.slow
@pytest.mark.parametrize("value", [65536, 4096, 0, 1])
@pytest.mark.parametrize("name", NAMES)
def test_sizes_of_another_network_are_refused_for_every_argument(name, value):
    model = tiny(name)
    state, args = model.state_dict(), {**entry(name).cfg.tiny}
    free = {"scale", "rounds", *(("in_chans", "guide_chans") if getattr(model, "any_sizes", False) else ())}
    for key in [key for key, x in model.model_args.items() if type(x) is int and x != value and key not in free]:
        with pytest.raises(HsmambaError):
            check_origin(name, {**args, key: value}, state, what="the weight")


def test_unknown_names_and_other_kinds_are_told():
    for args, told in (
        ({"widht": 3}, "'widht', which md2f_mamba does not take; it takes .*dim"),
        ({"variant": "other"}, "variant = 'other', expected Literal"),
        ({"kernel_sizes": [3, 3]}, r"kernel_sizes = \[3, 3\], expected tuple"),
        ({"expand": float("inf")}, "expand = inf, expected float"),
        ({"product": 3}, "product = 3, expected str"),
    ):
        with pytest.raises(ManifestError, match=told):
            check_arguments(entry("md2f_mamba"), args, "the weight")
    check_arguments(entry("md2f_mamba"), {"kernel_sizes": [3, 5, 3], "expand": 2, "variant": "paper"}, "the weight")
    check_arguments(entry("le_mamba"), {"enc_d_state": [[None, 8], [8, 8]], "windows": [8, None]}, "the weight")
    with pytest.raises(ManifestError, match="enc_d_state"):
        check_arguments(entry("le_mamba"), {"enc_d_state": [[None, "8"]]}, "the weight")


def test_a_rehearsal_takes_no_memory_and_no_random_number_and_ends():
    torch.manual_seed(3)
    want = torch.rand(3)
    torch.manual_seed(3)
    network = rehearse(entry("cf2n"), {"dim": 60_000}, 200, "the weight")
    assert {p.device.type for p in network.parameters()} == {"meta"}
    assert sum(p.numel() for p in network.parameters()) > 10**12
    assert torch.equal(torch.rand(3), want)
    with pytest.raises(ManifestError, match=r"more than .* parameters"):
        rehearse(entry("rsanet"), {"depth": 60_000}, 50, "the weight")


def test_the_number_of_parameters_on_record_is_compared(model_folder):
    with pytest.raises(ManifestError, match="parameters, on record are 7"):
        hsmamba.create_model(f"local-dir:{changed(model_folder, params=7)}")


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ('{"library": "hsmamba", "x": NaN}', "no finite number"),
        ('{"library": "hsmamba", "x": 1e999}', "no finite number"),
        ('{"library": "hsmamba", "x": 1' + 400 * "0" + "}", "no finite number"),
        ('{"library": "hsmamba", "x": ' + "[" * 40 + "]" * 40 + "}", "nested deeper"),
        ('{"library": "hsmamba", "x": "\\ud800"}', "surrogate"),
        ("9" * 5000, "cannot be read as JSON"),
    ],
)
def test_configurations_that_json_or_a_person_cannot_hold_are_refused(model_folder, text, told):
    (model_folder / "config.json").write_text(text, encoding="utf-8")
    with pytest.raises(ManifestError, match=told):
        hsmamba.create_model(f"local-dir:{model_folder}")
