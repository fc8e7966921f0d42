"""A network made by hand, with the attributes that the factory sets, and a record made by hand."""

import hashlib
import json
from pathlib import Path

import torch
from torch import nn

from hsmamba.zoo import manifest

SCHEMA = json.loads((Path(manifest.__file__).parent / "manifest.schema.json").read_text(encoding="utf-8"))
SMALL = {"in_chans": 6, "patch_size": 7, "num_classes": 4, "dim": 16, "d_state": 4}
METRICS = {"random": {"oa": {"mean": 98.7123, "std": 0.1}, "aa": None}, "disjoint": {"oa": 80.25}, "kappa": 0.5}
CONTENT = {"model": b"weights", "transform": b"transform", "split": b"split"}


class Tiny(nn.Module):
    def __init__(self, seed=0, num_classes=4):
        super().__init__()
        torch.manual_seed(seed)
        self.body = nn.Linear(3, 3)
        self.twin = nn.Linear(3, 3)
        self.twin.weight = self.body.weight  # tied: safetensors refuses shared memory
        self.head = nn.Linear(3, num_classes)
        self.register_buffer("window", torch.arange(12.0).reshape(3, 4)[:, 1])  # a view that is not contiguous
        self.num_classes, self.in_chans = num_classes, 3
        self.architecture = "tiny"
        self.model_args = {"num_classes": num_classes, "kernel_sizes": (3, 5)}
        self.transform = None
        self.class_names = ("corn", "oats", "wheat", "woods")[:num_classes]

    def forward(self, x):
        return self.head(self.twin(self.body(x)) * self.window)


def contents(path):
    return {entry.name: entry.read_bytes() for entry in path.iterdir()}


def same(state, other):
    return state.keys() == other.keys() and all(
        state[key].dtype == other[key].dtype and torch.equal(state[key], other[key]) for key in state
    )


def entry(which):
    content = CONTENT[which]
    return {"file": f"{which}.safetensors", "sha256": hashlib.sha256(content).hexdigest(), "bytes": len(content)}


RECORD = {
    **entry("model"),
    "hub": {"repo_id": "maker/tiny", "revision": "a" * 40, "filename": "weights/model.safetensors"},
    "license": "Apache-2.0",
    "model_args": {"num_classes": 2},
    "transform": entry("transform"),
    **dict(split=None, classes=["corn", "oats"], bands=200, wavelengths=None, params=12, recipe="tiny.toml"),
    "data": {"name": "Made Up", "source": "made up"},
    "metrics": {"random": {"oa": {"mean": 98.7, "std": 0.1}, "aa": None}},
    "date": "2025-01-01",
}
