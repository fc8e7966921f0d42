"""hsmamba: a zoo of remote-sensing models with pretrained weights.

Every name below is resolved on first use (PEP 562), so that `import hsmamba` costs nothing.
"""

from __future__ import annotations

import importlib
from typing import Any

__version__ = "0.1.0"

_ATTRIBUTES = {
    "HsmambaError": "hsmamba.errors",
    "create_model": "hsmamba.zoo.factory",
    "list_models": "hsmamba.zoo.factory",
    "list_pretrained": "hsmamba.zoo.factory",
    "is_model": "hsmamba.zoo.factory",
    "model_info": "hsmamba.zoo.info",
    "register_model": "hsmamba.models",
    "load_official": "hsmamba.zoo.official",
    "save_pretrained": "hsmamba.zoo.save",
    "push_to_hub": "hsmamba.zoo.save",
    "Scene": "hsmamba.data",
    "open_scene": "hsmamba.data",
    "load_scene": "hsmamba.data",
    "Split": "hsmamba.data",
    "classify": "hsmamba.engine",
    "fuse": "hsmamba.engine",
    "finetune": "hsmamba.engine",
    "evaluate": "hsmamba.engine",
}

__all__ = ["__version__", *_ATTRIBUTES]


def __getattr__(name: str) -> Any:
    """Import the module that holds a public name, once."""
    if name not in _ATTRIBUTES:
        raise AttributeError(f"module 'hsmamba' has no attribute {name!r}")
    value = getattr(importlib.import_module(_ATTRIBUTES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    """List the public names without importing what is behind them."""
    return sorted({*globals(), *_ATTRIBUTES})
