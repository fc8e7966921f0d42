"""Reading goldens: what our network makes of a file's inputs, and its gradients, under the official names."""

import importlib
import json

import pytest
import torch
from safetensors import safe_open

import hsmamba
from hsmamba.models import entry
from tests.conftest import golden_files

FUSION_INPUTS = {"pan": "guide", "lms": "ms_up", "ms": "ms"}


def each_golden(pattern):
    """Run a test on every golden file of a name."""
    return pytest.mark.parametrize("path", golden_files(f"{pattern}__*.safetensors"), ids=lambda path: path.stem)


class Golden:
    """One golden file: its parts by kind and name, the model built from it, and the model's inputs."""

    def __init__(self, path):
        self.arch = path.name.split("__")[0].replace("_verbatim", "_ref")
        self.parts = {"tap": {}, "grad": {}}
        with safe_open(path, "pt") as file:
            self.config = json.loads(file.metadata()["config"])
            for key in file.keys():  # noqa: SIM118 - not a dict
                kind, name = key.split("/", 1)
                self.parts.setdefault(kind, {})[name] = file.get_tensor(key)
        self.model = hsmamba.load_official(self.arch, self.parts["state"], **self.config).eval()
        given = self.parts["input"]
        if entry(self.arch).cfg.task == "fusion":
            self.inputs = {"ms": None} | {FUSION_INPUTS[key]: x for key, x in given.items()}
        else:
            hsi = given.get("hsi", given["x"])
            self.inputs = {"hsi": hsi.squeeze(1) if hsi.ndim == 5 else hsi}
            self.inputs |= {"aux": given["x"]} if "hsi" in given else {}

    def run(self, places):
        """Run the model; its output by every name that files have for one, and what left the module of each tap.

        A place that ends in ":input" stands for what came into the module.
        """
        seen, hooks = {}, []
        for tap, place in places.items():
            name, _, end = place.partition(":")

            def hook(_module, args, output, tap=tap, end=end):
                seen[tap] = args[0] if end else output[0] if isinstance(output, tuple) else output

            hooks.append(self.model.get_submodule(name).register_forward_hook(hook))
        output = self.model(**self.inputs)
        for handle in hooks:
            handle.remove()
        return seen | dict.fromkeys(("logits", "sr", "out"), output)

    def check(self, seen):
        """Outputs and taps agree to 1e-5 of the largest value, gradients of the mean squared output to 1e-4 of it."""
        taps = {name.split("_", 1)[1]: tap for name, tap in self.parts["tap"].items()}  # "07_l0_SpBh"
        for name, want in (self.parts["output"] | taps).items():
            assert_close(seen[name], want, 1e-5, name)
        self.model.eval().zero_grad()
        self.model(**self.inputs).square().mean().backward()
        for name, want in self.parts["grad"].items():
            assert_close(self.gradient(name), want, 1e-4, name)

    def gradient(self, name):
        """The gradient of one official tensor, from ours: a state of numbered entries shows where each went."""
        module = importlib.import_module(f"hsmamba.models.official.{entry(self.arch).module.rpartition('.')[2]}")
        state = self.parts["state"]
        shape = state[name].shape
        numbers = torch.arange(1, state[name].numel() + 1, dtype=torch.float64).reshape(shape)
        tied = {key for key, value in state.items() if value.shape == shape and torch.equal(value, state[name])}
        marked = {key: numbers if key in tied else torch.zeros_like(value) for key, value in state.items()}
        gradient = torch.full((numbers.numel(),), torch.nan)
        for ours, where in module.checkpoint_filter_fn(marked, self.model).items():
            if where.any():
                gradient[where[where > 0].long() - 1] = self.model.get_parameter(ours).grad[where > 0]
        return gradient.reshape(shape)


def assert_close(got, want, tolerance, name):
    assert got.shape == want.shape, name
    assert (got.detach() - want).abs().max() <= tolerance * want.abs().max(), name
