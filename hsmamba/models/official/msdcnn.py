"""Checkpoints of MSDCNN in DLPan-Toolbox: their configuration and their names in ours."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from hsmamba.models.official.shared import merge_config, rename

# Tensors that every state of the toolbox has, and none of another network.
MARKS = {"msdcnn": ("conv1.weight", "conv2_1.weight", "conv4_3.weight", "shallow1.weight")}

_OFFICIAL_NAMES = {
    r"^shallow1\.": "shallow.0.",
    r"^shallow2\.": "shallow.2.",
    r"^shallow3\.": "shallow.4.",
    r"^conv1\.": "head.",
    r"^conv3\.": "reduce.",
    r"^conv5\.": "tail.",
    **{rf"^conv2_{i + 1}\.": f"block1.scales.{i}." for i in range(3)},
    **{rf"^conv4_{i + 1}\.": f"block2.scales.{i}." for i in range(3)},
}


def official_args(state_dict: dict[str, Tensor], config: dict[str, Any]) -> dict[str, Any]:
    """Translate the toolbox's configuration.

    `config`: spectral_num, pan_num, ratio, variant. The tensors do not tell ratio (default 4) and variant ("dlpan").
    """
    bands = state_dict["conv5.weight"].shape[0]
    read_off = {
        "spectral_num": bands,
        "pan_num": state_dict["conv1.weight"].shape[1] - bands,
        "ratio": 4,
        "variant": "dlpan",
    }
    cfg = merge_config("msdcnn", read_off, config)
    return {
        "in_chans": cfg["spectral_num"],
        "guide_chans": cfg["pan_num"],
        "scale": cfg["ratio"],
        "dims": (state_dict["conv1.weight"].shape[0], state_dict["conv3.weight"].shape[0]),
        "shallow_dims": (state_dict["shallow1.weight"].shape[0], state_dict["shallow2.weight"].shape[0]),
        "variant": cfg["variant"],
    }


def checkpoint_filter_fn(state_dict: dict[str, Tensor], model: nn.Module) -> dict[str, Tensor]:
    """Translate the toolbox's state to ours."""
    return rename(state_dict, _OFFICIAL_NAMES) if "shallow1.weight" in state_dict else state_dict
