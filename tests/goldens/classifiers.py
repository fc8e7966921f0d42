"""Reading goldens, and comparing gradients by official name, whatever the checkpoint filter does to the tensors."""

import json

import torch
from safetensors import safe_open


def read_golden(path):
    """The configuration, and the tensors by kind (state, input, output, tap, grad) and name."""
    with safe_open(path, "pt") as file:
        config = json.loads(file.metadata()["config"])
        parts = {}
        for key in file.keys():  # noqa: SIM118 - not a dict
            kind, name = key.split("/", 1)
            parts.setdefault(kind, {})[name] = file.get_tensor(key)
    return config, parts


def official_gradient(model, state, name, filter_fn):
    """The gradient of one official tensor, from ours: a state of numbered entries shows where each of them went."""
    numbers = torch.arange(1, state[name].numel() + 1, dtype=torch.float64).reshape(state[name].shape)
    tied = {key for key, value in state.items() if value.shape == numbers.shape and torch.equal(value, state[name])}
    marked = {key: numbers if key in tied else torch.zeros_like(value) for key, value in state.items()}
    gradient = torch.full((numbers.numel(),), torch.nan)
    for ours, where in filter_fn(marked, model).items():
        if where.any():
            gradient[where[where > 0].long() - 1] = model.get_parameter(ours).grad[where > 0]
    return gradient.reshape(numbers.shape)
