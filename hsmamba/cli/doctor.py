"""`hsmamba doctor`: what is installed here, what runs, and what is missing."""

from __future__ import annotations

import os
import platform
from importlib import metadata
from typing import Any

from hsmamba.cli._common import JsonFlag, app, say, tell

_PACKAGES = ("torch", "timm", "huggingface-hub", "safetensors", "numpy", "scipy", "pillow", "typer")


@app.command("doctor")
def doctor(as_json: JsonFlag = False) -> None:
    """Tell versions, devices, backends of the scan, extras, cache and data, and what is missing."""
    found = {
        "versions": _versions(),
        "devices": _devices(),
        "scan": _backends(),
        "extras": _extras(),
        "weights": _weights(),
        "cache": _cache(),
        "data": _data(),
    }
    if as_json:
        tell(found)
        return
    for title, facts in found.items():
        say(title)
        width = max(len(name) for name in facts)
        for name, value in facts.items():
            say(f"  {name:<{width}}  {value}")


def _versions() -> dict[str, str]:
    from hsmamba import __version__

    return {
        "hsmamba": __version__,
        "Python": f"{platform.python_version()} on {platform.system()} {platform.machine()}",
        **{name: _version(name) for name in _PACKAGES},
    }


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "missing: pip install hsmamba"


def _devices() -> dict[str, str]:
    import torch

    found = {"cpu": f"{os.cpu_count()} cores, torch takes {torch.get_num_threads()} threads"}
    for number in range(torch.cuda.device_count()):
        found[f"cuda:{number}"] = torch.cuda.get_device_name(number)
    if torch.backends.mps.is_available():
        found["mps"] = "Apple's GPU"
    return found


def _backends() -> dict[str, str]:
    from hsmamba.ops import available_backends

    return {name: str(state) for name, state in available_backends().items()}


def _extras() -> dict[str, str]:
    from hsmamba._optional import EXTRAS, is_there

    extras: dict[str, list[str]] = {}
    for module, extra in EXTRAS.items():
        extras.setdefault(extra, []).append(module)
    found = {}
    for extra, modules in extras.items():
        missing = [module for module in modules if not is_there(module)]
        found[extra] = f'without {", ".join(missing)}: pip install "hsmamba[{extra}]"' if missing else "there"
    return found


def _weights() -> dict[str, str]:
    """Count the weights of the package by whether their files are there and as long as on record."""
    from hsmamba.zoo.manifest import load_manifest, weights_folder

    good, bad = 0, []
    for name, record in load_manifest().items():
        path = weights_folder() / name / record.file
        if path.is_file() and path.stat().st_size == record.bytes:
            good += 1
        else:
            bad.append(name)
    hint = f"; not here, and fetched when they are asked for: {', '.join(bad)}" if bad else ""
    return {"embedded": f"{good}{hint} (hsmamba verify compares every byte)"}


def _cache() -> dict[str, str]:
    from huggingface_hub import constants

    offline = "no network is asked (HF_HUB_OFFLINE)" if constants.HF_HUB_OFFLINE else "network is asked where needed"
    return {"folder": str(constants.HF_HUB_CACHE), "mode": offline}


def _data() -> dict[str, Any]:
    from hsmamba._optional import is_there
    from hsmamba.data.sets.catalog import CATALOG, DATA_VARIABLE, find_data
    from hsmamba.errors import DataNotFoundError

    there: list[str] = []
    missing: list[str] = []
    for name, entry in CATALOG.items():
        try:
            if entry.path:
                find_data(name)
            at_hand = bool(entry.path) or not name.startswith("indian_pines") or is_there("tensorly")
            (there if at_hand else missing).append(name)
        except DataNotFoundError:
            missing.append(name)
    folder = os.environ.get(DATA_VARIABLE) or f"not named; the variable {DATA_VARIABLE} does"
    return {"folder": folder, "there": ", ".join(there), "missing": ", ".join(missing) or "none"}
