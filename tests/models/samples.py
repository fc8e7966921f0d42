"""Small networks of every kind, as their configurations say."""

import torch

import hsmamba
from hsmamba.models import entry, registry

NAMES = sorted(registry())
CLASSIFIERS, FUSION = (
    [name for name in NAMES if entry(name).cfg.task == task] for task in ("classification", "fusion")
)


def tiny(name, **kwargs):
    torch.manual_seed(0)
    return hsmamba.create_model(name, **{**entry(name).cfg.tiny, **kwargs})
