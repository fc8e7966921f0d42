"""Golden files of the fusion networks: reading them, and our gradients under the official names."""

import json

import torch
from safetensors import safe_open

import hsmamba

OURS = {"pan": "guide", "lms": "ms_up", "ms": "ms"}


class Golden:
    """One golden file, the model built from it, and what the model makes of its inputs."""

    def __init__(self, path):
        self.arch = path.name.split("__")[0]
        with safe_open(path, "pt") as file:
            self.config = json.loads(file.metadata()["config"])
            tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 - not a dict

        def part(kind):
            return {key.split("/", 1)[1]: x for key, x in tensors.items() if key.startswith(f"{kind}/")}

        self.state, self.output, self.grad = part("state"), part("output"), part("grad")
        self.tap = {key.split("_", 1)[1]: x for key, x in part("tap").items()}  # without the number
        self.inputs = {"ms": None} | {OURS[key]: x for key, x in part("input").items()}
        self.model = hsmamba.load_official(self.arch, self.state, **self.config).eval()

    def run(self, places):
        """Run the model; return its output and, by tap, what left the module of each place."""
        seen = {}

        def watch(tap):
            def hook(_module, _args, output):
                seen[tap] = output[0] if isinstance(output, tuple) else output

            return hook

        hooks = [self.model.get_submodule(name).register_forward_hook(watch(tap)) for tap, name in places.items()]
        output = self.model(**self.inputs)
        for hook in hooks:
            hook.remove()
        return output, seen

    def assert_taps(self, seen):
        """Every tap of the file agrees to 1e-5 of its largest value, or of 1."""
        for tap, want in self.tap.items():
            assert seen[tap].shape == want.shape, tap
            assert (seen[tap] - want).abs().max() < 1e-5 * max(1.0, float(want.abs().max())), tap

    def assert_gradients(self, checkpoint_filter_fn):
        """The gradients of the mean squared output agree to 1e-4 of the largest of each tensor."""
        self.model.zero_grad()
        self.model(**self.inputs).square().mean().backward()
        got = official_gradients(self.model, self.state, checkpoint_filter_fn)
        for name, want in self.grad.items():
            assert (got[name] - want).abs().max() <= 1e-4 * want.abs().max(), name


def official_gradients(model, state, checkpoint_filter_fn):
    """Our gradients under the official names: every official value is numbered and found again in our tensors."""
    numbered, first = {}, 0
    for key, value in state.items():
        numbered[key] = torch.arange(first, first + value.numel(), dtype=torch.float64).view(value.shape)
        first += value.numel()
    by_number = torch.full((first,), torch.nan)
    for key, numbers in checkpoint_filter_fn(numbered, model).items():
        if (grad := model.get_parameter(key).grad) is not None:
            by_number[numbers.flatten().long()] = grad.flatten()
    return {key: by_number[numbers.long()] for key, numbers in numbered.items()}


def relative_error(got, want):
    got, want = got.detach(), want.detach()
    return float((got - want).abs().max() / want.abs().max())
