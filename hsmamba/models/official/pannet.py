"""Checkpoints of PanNet in DLPan-Toolbox: their configuration and their names in ours."""

from __future__ import annotations

import re
from typing import Any

from torch import Tensor, nn

from hsmamba.models.official.shared import merge_config, rename

# Tensors that every state of the toolbox has, and none of another network.
MARKS = {"pannet": ("deconv.weight", "conv1.weight", "res1.conv20.weight", "conv3.weight")}

_OFFICIAL_NAMES = {
    r"^deconv\.": "up.",
    r"^conv1\.": "head.",
    r"^conv3\.": "tail.",
    r"\.conv20\.": ".conv1.",
    r"\.conv21\.": ".conv2.",
}


def official_args(state_dict: dict[str, Tensor], config: dict[str, Any]) -> dict[str, Any]:
    """Translate the toolbox's configuration.

    `config`: spectral_num, pan_num, channel, num_res, ratio, box. The tensors do not tell box (default 5).
    """
    dim, chans, *_ = state_dict["conv1.weight"].shape
    bands, _, kernel, _ = state_dict["deconv.weight"].shape
    read_off = {
        "spectral_num": bands,
        "pan_num": chans - bands,
        "channel": dim,
        "num_res": len(_blocks(state_dict)),
        "ratio": kernel // 2,
        "box": 5,
    }
    cfg = merge_config("pannet", read_off, config)
    return {
        "in_chans": cfg["spectral_num"],
        "guide_chans": cfg["pan_num"],
        "scale": cfg["ratio"],
        "dim": cfg["channel"],
        "depth": cfg["num_res"],
        "box_size": cfg["box"],
    }


def checkpoint_filter_fn(state_dict: dict[str, Tensor], model: nn.Module) -> dict[str, Tensor]:
    """Translate the toolbox's state to ours; its blocks are there twice, by their names and in `backbone`."""
    if "deconv.weight" not in state_dict:
        return state_dict
    blocks = {rf"^{block}\.": f"blocks.{int(block[3:]) - 1}." for block in _blocks(state_dict)}
    once = {key: value for key, value in state_dict.items() if not key.startswith("backbone.")}
    return rename(once, _OFFICIAL_NAMES | blocks)


def _blocks(state_dict: dict[str, Tensor]) -> set[str]:
    """Return the names of the residual blocks: res1, res2, ..."""
    first = {key.partition(".")[0] for key in state_dict}
    return {name for name in first if re.fullmatch(r"res[1-9]\d*", name)}
