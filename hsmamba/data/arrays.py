"""Small safetensors files (transforms, splits): written whole or not at all, read with checks."""

from __future__ import annotations

import json
import os
from typing import Any

import numpy as np
import numpy.typing as npt
from safetensors import safe_open
from safetensors.numpy import save

from hsmamba._files import atomic_path, not_a_file
from hsmamba.errors import ManifestError, WeightsError

SCHEMA = 1
_KEY = "hsmamba"  # one metadata key only: safetensors promises no order among several, so the bytes would vary


def write_arrays(path: str | os.PathLike[str], arrays: dict[str, npt.NDArray[Any]], *, kind: str, config: Any) -> None:
    """Write numeric arrays and a JSON-able configuration into one safetensors file, whole or not at all.

    The same content gives the same bytes, hence the same SHA-256. `read_arrays` compares the `kind`.
    """
    header = json.dumps({"kind": kind, "schema": SCHEMA, "config": config}, sort_keys=True)
    data = save({name: np.ascontiguousarray(array) for name, array in arrays.items()}, {_KEY: header})
    with atomic_path(path) as temporary:
        temporary.write_bytes(data)


def read_arrays(path: str | os.PathLike[str], *, kind: str) -> tuple[dict[str, npt.NDArray[Any]], Any]:
    """Read the arrays and the configuration that `write_arrays` wrote.

    Raises:
        WeightsError: The file is missing, truncated or no safetensors file.
        ManifestError: It holds something else, or has a schema that this version does not know.
    """
    if (instead := not_a_file(path)) is not None:
        raise WeightsError(f"there is no {kind} file {str(path)!r} ({instead}); check the path")
    try:
        with safe_open(path, framework="numpy") as file:
            metadata = file.metadata() or {}
            arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a dict
    except Exception as error:  # safetensors' own, and numpy's for types and shapes that it cannot hold
        raise WeightsError(
            f"{str(path)!r} is no readable safetensors file ({error}): it is truncated or of another format; "
            f"fetch or write the {kind} again"
        ) from error
    try:
        header = json.loads(metadata[_KEY])
        found, schema, config = header["kind"], header["schema"], header["config"]
    except (KeyError, TypeError, ValueError, RecursionError) as error:
        raise ManifestError(
            f"{str(path)!r} has no hsmamba header, so it is no {kind} file; give a file that hsmamba saved as {kind}"
        ) from error
    if found != kind:
        raise ManifestError(f"{str(path)!r} holds a {found}, expected a {kind}; give the {kind} file")
    if type(schema) is not int or schema != SCHEMA:
        raise ManifestError(
            f"{str(path)!r} has schema {schema!r}, this version of hsmamba reads {SCHEMA}; upgrade hsmamba"
        )
    return arrays, config
