"""Official checkpoints of RAMSF: their configuration and their names in ours."""

from __future__ import annotations

import itertools
from typing import Any

from torch import Tensor, nn

from hsmamba.models.official.shared import merge_config, rename

# Tensors that every official state has, and none of another network.
MARKS = {"ramsf": ("blk_1_32.0.weight", "blk_8_32.0.weight", "DE_HH_HH.conv0.weight")}

_OFFICIAL_NAMES = {
    r"^blk_1_32\.": "detail.guide_stem.",
    r"^blk_8_32\.": "detail.ms_stem.",
    r"^DE_pan\.": "detail.guide_block.",
    r"^DE_lms\.": "detail.ms_block.",
    r"^DE_HL\.": "detail.hl_block.",
    r"^DE_LH\.": "detail.lh_block.",
    r"^DE_HH\.": "detail.hh_block.",
    r"^DE_HH_HH\.": "detail.mix_block.",
    r"^DE_PAN\.": "detail.high_block.",
    r"_block\.conv1\.": "_block.conv2.",
    r"_block\.conv0\.": "_block.conv1.",
}

_ALIASES = {"n_select_bands": "n_guide", "NIR_dim": "align_dim"}  # of the official constructor


def _mlp_widths(state_dict: dict[str, Tensor]) -> list[list[int]]:
    """Output widths of the linear layers of each stage; the release names stages imnet_64, imnet_128, we go on."""
    stages: list[list[int]] = []
    while (name := f"imnet_{64 << len(stages)}.layers.{{}}.weight").format(0) in state_dict:
        layers = itertools.takewhile(state_dict.__contains__, (name.format(2 * i) for i in itertools.count()))
        stages.append([state_dict[layer].shape[0] for layer in layers])
    return stages


def official_args(state_dict: dict[str, Tensor], config: dict[str, Any]) -> dict[str, Any]:
    """Translate the official configuration.

    `config`: n_bands, n_guide, scale_ratio, n_stages, feat_dim, align_dim, mlp_dim, or the official constructor's
    n_select_bands and NIR_dim.

    Raises:
        ValueError: A ratio that is not 2 to the number of stages.
    """
    dim, chans = state_dict["blk_1_32.0.weight"].shape[:2]
    widths = _mlp_widths(state_dict)
    stages = len(widths)
    read_off = {
        "n_bands": state_dict["blk_8_32.0.weight"].shape[1],
        "n_guide": chans,
        "scale_ratio": 1 << stages,
        "n_stages": stages,
        "feat_dim": dim,
        "align_dim": widths[0][-1] if stages > 1 else 33,
        "mlp_dim": widths[0][:-1],
    }
    cfg = merge_config("ramsf", read_off, config, aliases=_ALIASES, unused=("image_size", "H", "W", "guide_dim"))
    if cfg["scale_ratio"] != 1 << cfg["n_stages"]:
        raise ValueError(
            f"every stage of RAMSF doubles the size: scale_ratio must be 2 ** n_stages, got "
            f"scale_ratio={cfg['scale_ratio']} and n_stages={cfg['n_stages']}"
        )
    return {
        "in_chans": cfg["n_bands"],
        "guide_chans": cfg["n_guide"],
        "scale": cfg["scale_ratio"],
        "dim": cfg["feat_dim"],
        "align_dim": cfg["align_dim"],
        "mlp_dims": tuple(cfg["mlp_dim"]),
    }


def checkpoint_filter_fn(state_dict: dict[str, Tensor], model: nn.Module) -> dict[str, Tensor]:
    """Translate the official state to ours."""
    if "blk_1_32.0.weight" not in state_dict:
        return state_dict
    layers = {}
    for stage, widths in enumerate(_mlp_widths(state_dict)):
        layers[rf"^imnet_{64 << stage}\.layers\.0\."] = f"align.{stage}.first."
        for i in range(1, len(widths)):
            layers[rf"^imnet_{64 << stage}\.layers\.{2 * i}\."] = f"align.{stage}.rest.{2 * i - 1}."
    state = rename(state_dict, _OFFICIAL_NAMES | layers)
    # Linear layers are 1x1 convolutions here.
    return {key: x[..., None, None] if x.ndim == 2 else x for key, x in state.items()}
