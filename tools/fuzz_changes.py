"""Ways to damage and to forge files, each drawn from a random generator; `tools/fuzz.py` runs them."""

from __future__ import annotations

import copy
import io
import json
import os
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np

Rng: TypeAlias = np.random.Generator

NUMBERS = [
    0,
    -1,
    1,
    2,
    3,
    1.5,
    1e300,
    -1e300,
    255,
    65535,
    65536,
    10**6,
    10**9,
    10**12,
    2**31,
    2**32 - 1,
    2**63,
    10**400,
]
OTHERS: list[Any] = [
    *(None, True, False, float("nan"), float("inf"), "", "x", "8", "../../etc/passwd", "/dev/zero", "\ud800", "é\0"),
    *("x" * 100_000, "---\n", [], {}, [[]], [1, 2, 3], [10**9] * 3, list(range(1000)), {"a": {"b": 1}}, [None], ["a"]),
]


def pick(rng: Rng, values: Any) -> Any:
    """Choose one of several values."""
    values = list(values)
    return values[int(rng.integers(len(values)))]


def nasty(rng: Rng) -> Any:
    """Give a value that no file should have in this place."""
    value = pick(rng, NUMBERS) if rng.random() < 0.5 else copy.deepcopy(pick(rng, OTHERS))
    if rng.random() < 0.05:
        for _ in range(int(rng.integers(1, 300))):
            value = [value]
    return value


# Bytes


def _flip(data: bytearray, rng: Rng, at: int) -> None:
    for _ in range(int(rng.integers(1, 4))):
        data[min(at, len(data) - 1)] ^= 1 << int(rng.integers(8))
        at = int(rng.integers(len(data)))


def _truncate(data: bytearray, rng: Rng, at: int) -> None:
    del data[at:]


def _cut(data: bytearray, rng: Rng, at: int) -> None:
    del data[at : at + int(rng.integers(1, 64))]


def _insert(data: bytearray, rng: Rng, at: int) -> None:
    data[at:at] = rng.bytes(int(rng.integers(1, 64)))


def _repeat(data: bytearray, rng: Rng, at: int) -> None:
    data[at:at] = data[at : at + int(rng.integers(1, 256))]


def _blank(data: bytearray, rng: Rng, at: int) -> None:
    end = min(len(data), at + int(rng.integers(1, 64)))
    data[at:end] = bytes([pick(rng, [0, 255, 32])]) * (end - at)


def _splice(data: bytearray, rng: Rng, at: int) -> None:
    other, length = int(rng.integers(len(data))), int(rng.integers(1, 256))
    data[at : at + length] = data[other : other + length]


def _number(data: bytearray, rng: Rng, at: int) -> None:
    code = pick(rng, ["<H", "<I", "<Q", ">H", ">I", ">Q", "<f", "<d"])
    most = 2 ** (8 * struct.calcsize(code)) - 1
    value = pick(rng, [0, 1, most, most >> 1, most - 1, most // 3])
    piece = struct.pack(code, float("inf") if code[1] in "fd" else value)
    data[at : at + len(piece)] = piece


def _digits(data: bytearray, rng: Rng, at: int) -> None:
    """Change a number that is written out."""
    places = [i for i in range(min(len(data), 4000)) if 48 <= data[i] < 58]
    if places:
        place = pick(rng, places)
        data[place : place + 1] = pick(rng, [b"9", b"0", b"-1", b"99999999999", b"1e400", b"nan", b"'", b"4294967296"])


def _append(data: bytearray, rng: Rng, at: int) -> None:
    data += rng.bytes(int(rng.integers(1, 4096)))


_BYTES: list[Callable[[bytearray, Rng, int], None]] = [
    *(_flip, _flip, _flip, _truncate, _truncate, _cut, _insert, _repeat, _blank, _splice, _number, _number, _digits),
    _append,
]


def damaged(content: bytes, rng: Rng) -> bytes:
    """Damage bytes in one to three ways, as often in what may be a header as anywhere."""
    data = bytearray(content)
    for _ in range(pick(rng, [1, 1, 1, 2, 3])):
        if data:
            most = pick(rng, [64, 512, len(data), len(data), len(data)])
            at = int(rng.integers(min(most, len(data))))
            at = len(data) - 1 - at if rng.random() < 0.2 else at  # archives have their tables at the end
            pick(rng, _BYTES)(data, rng, at)
    return bytes(data)


def damage(path: Path, rng: Rng) -> None:
    """Damage a file."""
    path.write_bytes(damaged(path.read_bytes(), rng))


# What stands in a file's place


def _pipe(path: Path) -> None:
    os.mkfifo(path)


def _linked(target: str) -> Callable[[Path], None]:
    return lambda path: path.symlink_to(target)


def replace(path: Path, rng: Rng) -> None:
    """Put something that is no file of its kind in a file's place."""
    content = path.read_bytes()
    path.unlink()
    makers: list[Callable[[Path], Any]] = [
        *(_pipe, _pipe, Path.mkdir, lambda path: None),
        *map(_linked, ("/dev/zero", "/dev/full", "/etc/passwd", "nowhere", path.name, ".")),
        *(lambda path, data=data: path.write_bytes(data) for data in (b"", b"{", b"PK", b"\x80\x02.", b"\0" * 5000)),
        lambda path: path.write_text("[" * 100_000),
        lambda path: path.write_bytes(content[::-1]),
    ]
    pick(rng, makers)(path)


# JSON


def _places(value: Any, place: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [place, *(found for key, part in inner for found in _places(part, (*place, key)))]


def edited(value: Any, rng: Rng) -> Any:
    """Change one to two places of a JSON value."""
    value = copy.deepcopy(value)
    for _ in range(pick(rng, [1, 1, 1, 2])):
        place = pick(rng, _places(value))
        if not place:
            if rng.random() < 0.1:
                return nasty(rng)
            continue
        holder = value
        for key in place[:-1]:
            holder = holder[key]
        change = pick(rng, ["set", "set", "set", "drop", "add", "near"])
        if change == "drop":
            del holder[place[-1]]
        elif change == "add" and isinstance(holder, dict):
            holder[pick(rng, ["x", "", "dim", "depth", "self", "args"])] = nasty(rng)
        elif change == "near" and type(holder[place[-1]]) in (int, float):
            holder[place[-1]] += pick(rng, [1, -1, 2, 0.5, 1e-9, 1000])
        else:
            holder[place[-1]] = nasty(rng)
    return value


def edit_json(path: Path, rng: Rng) -> None:
    """Change a JSON file's values."""
    path.write_text(json.dumps(edited(json.loads(path.read_text(encoding="utf-8")), rng)), encoding="utf-8")


# Safetensors


def edit_header(path: Path, rng: Rng) -> None:
    """Change a safetensors header; what stands in a text of its metadata as well."""
    content = path.read_bytes()
    end = 8 + struct.unpack("<Q", content[:8])[0]
    header = json.loads(content[8:end])
    own = header.get("__metadata__", {}).get("hsmamba")
    if own is not None and rng.random() < 0.6:
        header["__metadata__"]["hsmamba"] = json.dumps(edited(json.loads(own), rng))
    else:
        header = edited(header, rng)
    text = json.dumps(header).encode()
    length = pick(rng, [len(text)] * 12 + [0, len(text) + 1, 2**40, 2**64 - 1])
    path.write_bytes(struct.pack("<Q", length) + text + content[end:])


def edit_arrays(arrays: dict[str, np.ndarray], rng: Rng) -> dict[str, np.ndarray]:
    """Change one array of several: its numbers, its type, its shape, its name."""
    arrays = {name: array.copy() for name, array in arrays.items()}
    name = pick(rng, arrays)
    array = arrays.pop(name)
    change = pick(rng, ["number", "number", "number", "type", "shape", "name", "drop", "add", "size"])
    if change == "number" and array.size:
        value = pick(rng, [np.nan, np.inf, -np.inf, 0, -1, 1e38, 1e300, 1])
        if array.dtype.kind == "f" or np.isfinite(value):
            with np.errstate(all="ignore"):
                limits = np.iinfo(array.dtype) if array.dtype.kind in "iu" else None
                value = value if limits is None else min(max(int(value), limits.min), limits.max)
                array.reshape(-1)[int(rng.integers(array.size))] = value
    elif change == "type":
        with np.errstate(all="ignore"):
            array = array.astype(pick(rng, ["f2", "f4", "f8", "i1", "i4", "i8", "u1", "u8", "?"]))
    elif change == "shape":
        array = pick(rng, [array.reshape(-1), array[None], array.T, array[..., None], array.reshape(-1)[:0]])
    elif change == "size":
        array = np.concatenate([array.reshape(-1), array.reshape(-1)])[: int(rng.integers(2 * array.size + 1))]
    if change == "add":
        arrays["other"] = array
    if change != "drop":
        arrays["x" if change == "name" else name] = np.ascontiguousarray(array)
    return arrays


# Archives


def repack(path: Path, change: Callable[[str, bytes], bytes], *, compress: bool = False) -> None:
    """Write a zip archive anew with changed parts and right checksums."""
    with zipfile.ZipFile(path) as archive:
        parts = [(part.filename, archive.read(part)) for part in archive.infolist()]
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED if compress else zipfile.ZIP_STORED) as archive:
        for name, content in parts:
            archive.writestr(name, change(name, content))
    path.write_bytes(out.getvalue())
