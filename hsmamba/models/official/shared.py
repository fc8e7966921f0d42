"""Reading official checkpoints: what the models' `official_args` and `checkpoint_filter_fn` share."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor


def count(state_dict: dict[str, Tensor], pattern: str) -> int:
    """Count the modules of a numbered family, for example `count(state, "RB{}.conv1.weight")`, from 0 or from 1."""
    first = 0 if pattern.format(0) in state_dict else 1
    number = first
    while pattern.format(number) in state_dict:
        number += 1
    return number - first


def merge_config(
    arch: str,
    read_off: dict[str, Any],
    config: dict[str, Any],
    *,
    aliases: dict[str, str] | None = None,
    unused: Iterable[str] = (),
) -> dict[str, Any]:
    """Complete a caller's configuration by what the tensors tell.

    Args:
        arch: Name of the architecture, for the error.
        read_off: Every name of the configuration, with the value that the tensors tell or the release has.
        config: What the caller gives, by these names or by those of the official code.
        aliases: Names of the official code -> ours of `read_off`.
        unused: Names of the official configuration that say nothing of the network; they are left out.

    Returns:
        `read_off`, overridden by `config`.

    Raises:
        TypeError: A name that the configuration does not have, or one thing under two names.
    """
    aliases = aliases or {}
    given = {aliases.get(name, name): value for name, value in config.items() if name not in set(unused)}
    if twice := sorted(name for name in aliases if name in config and aliases[name] in config):
        raise TypeError(f"{arch} is given {twice[0]} and {aliases[twice[0]]}, which are the same; leave one out")
    if unknown := sorted(given.keys() - read_off.keys()):
        raise TypeError(
            f"{arch} has no configuration {', '.join(unknown)}; there are: {', '.join((*read_off, *aliases))}"
        )
    return read_off | given


def rename(state_dict: dict[str, Tensor], rules: dict[str, str]) -> dict[str, Tensor]:
    """Rename tensors by regular expressions, each applied in turn.

    Args:
        state_dict: Tensors by official name.
        rules: Pattern -> replacement, as `re.sub` takes them.

    Returns:
        The same tensors by the new names.
    """
    state = {}
    for key, value in state_dict.items():
        for pattern, replacement in rules.items():
            key = re.sub(pattern, replacement, key)
        state[key] = value
    return state


def merge_attention(state_dict: dict[str, Tensor]) -> dict[str, Tensor]:
    """Join the projections of each windowed self-attention, as RSANet and MMAPP have it.

    `conv1`, `conv2`, `conv3` become `qkv`; `conv_p.weight` becomes `position`; `conv_p.bias`, which adds the same to
    every logit of a softmax, is left out. What is not complete stays as it is.
    """
    state = dict(state_dict)
    for key in state_dict:
        prefix, found, _ = key.rpartition("conv_p.weight")
        for kind in ("weight", "bias") if found else ():
            parts = [f"{prefix}conv{i}.{kind}" for i in (1, 2, 3)]
            if all(part in state for part in parts):
                state[f"{prefix}qkv.{kind}"] = torch.cat([state.pop(part) for part in parts])
        if found:
            state[f"{prefix}position"] = state.pop(key).flatten(1)
            state.pop(f"{prefix}conv_p.bias", None)
    return state
