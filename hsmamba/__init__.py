"""hsmamba: a zoo of remote-sensing models with pretrained weights.

Every name and every room below is resolved on first use (PEP 562), so that `import hsmamba` costs nothing.
"""

from __future__ import annotations

import importlib
from typing import Any

from hsmamba._version import __version__

_ROOMS = ("baselines", "data", "engine", "errors", "layers", "metrics", "models", "ops", "sklearn", "viz", "zoo")
_HOMES = {  # of the public names
    "data": ("Scene", "Split", "load_scene", "open_scene"),
    "engine": ("classify", "evaluate", "finetune", "fuse"),
    "errors": ("HsmambaError",),
    "models": ("register_model",),
    "zoo.ensembles": ("ensemble",),
    "zoo.factory": ("create_model", "is_model", "list_models", "list_pretrained"),
    "zoo.info": ("model_info",),
    "zoo.official": ("load_official",),
    "zoo.save": ("push_to_hub", "save_pretrained"),
}
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names}

__all__ = ["__version__", *_HOME_OF]


def __getattr__(name: str) -> Any:
    """Import a room, or the module that holds a public name, once."""
    if name in _ROOMS:
        return importlib.import_module(f"hsmamba.{name}")
    if name not in _HOME_OF:
        raise AttributeError(f"module 'hsmamba' has no attribute {name!r}")
    value = getattr(importlib.import_module(f"hsmamba.{_HOME_OF[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    """List the public names without importing what is behind them."""
    return sorted({*globals(), *_ROOMS, *_HOME_OF})
