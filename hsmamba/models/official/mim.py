"""Official checkpoints of MiM: their names, what of them is used, and the configuration that they tell."""

from __future__ import annotations

import math
import re
from typing import Any

import torch
from torch import Tensor, nn

from hsmamba.errors import WeightsError
from hsmamba.models.official.shared import merge_config, rename

# Tensors that every official state of a version has, and none of another one or of another network.
MARKS = {
    "mim_v1": ("mim_1.T_mamba.to_patch_embedding.0.weight", "mim_1.T_mamba.layers.0.layers.0.layernorm.weight"),
    "mim_v2": ("embed.weight", "mim_1.T_mamba.U1", "mlp_head.3.weight"),
    "mim_v3": ("mim_1.T_mamba1.pos_embedding", "mim_1.T_mamba1.layers.0.proj3.weight", "mlp_head.3.weight"),
}
# What the official networks own and never use, by version.
_NEVER_USED = {
    "1": r"(mim_[234]|regression|mim_1\.T_mamba\.(cls_token|pro))\b|"
    r".*\.mamba\.(token_w[AV]_b|pro_to_merge|pro|layernorm|tokenlearner|rnn[12])\b",
    "2": r"regression\.|mim_\d\.T_mamba\.(cls_token|pro_to_merge|pro|layernorm|tokenlearner)\b",
    "3": r"mim_1\.T_mamba1\.(vim|layers\.\d+)\.proj3\.",
}
# Patterns of the official names -> ours by version, applied in this order; "@k" makes slice k of a stack.
_OFFICIAL_NAMES = {
    "1": {
        r"^mim_1\.T_mamba\.(?:mamba\.layers|layers\.\d+\.layers)\.(\d+)\.": r"blocks.\1.",
        r"^mim_1\.T_mamba\.(layer)?": "",
        r"^(blocks\.\d+)\.layernorm\.": r"\1.out_norm.",
        r"^(blocks\.\d+)\.pro\.": r"\1.skip.",
        r"\.mamba\.": ".mixer.",
        r"\.conv1d_([fb])\.(weight|bias)$": r".conv_\2_\1",
        r"\.(x|dt)_proj_([fb])\.(weight|bias)$": r".ssm.\1_proj_\3_\2",
        r"\.(A_log|D)_([fb])$": r".ssm.\1_\2",
        r"token_wA_f$": "stage.learner.U1",
        r"token_wV_f$": "stage.learner.U2",
        r"_f$": "@0",
        r"_b$": "@1",
    },
    "2": {
        **{rf"^mim_{stage}\.": f"stages.{stage - 1}." for stage in range(1, 5)},
        r"^(stages\.\d)\.layernorm\.": r"\1.out_norm.",
        r"^(stages\.\d)\.pro\.": r"\1.skip.",
        r"\.T_mamba\.": ".mixer.",
        r"\.mixer\.(U[12])$": r".mixer.stage.learner.\1",
    },
    "3": {
        r"^to_patch_embedding\.1\.": "stem.0.",
        r"^to_patch_embedding\.2\.": "stem.1.",
        r"^to_patch_embedding\.3\.": "stem.2.",
        r"^mim_1\.T_mamba1\.layers\.\d+\.": "vim.",
        r"^mim_1\.T_mamba1\.": "",
        r"\.proj1\.": ".proj_z.",
        r"\.proj2\.": ".proj_x.",
        r"\.forward_ssm\.(.*)": r".ssm.\1@0",
        r"\.backward_ssm\.(.*)": r".ssm.\1@1",
    },
}
_COMMON_NAMES = {
    r"^mlp_head\.0\.": "fc.",
    r"^mlp_head\.3\.": "head.",
    r"\.forward_conv1d\.": ".convs.0.",
    r"\.backward_conv1d\.": ".convs.1.",
    r"\.deltaBC_layer\.": ".x_proj_",
    r"\.dt_proj_layer\.": ".dt_proj_",
    r"pos_embedding$": "pos_embed",
    r"\bto_patch_embedding\.": "embed.",
    r"\.pro_to_cat\.": ".merge.proj.",
    r"\.tokenfuser\.(Bi|Z)\.": ".tokenfuser.influence.",
    r"\.tokenfuser\.": ".stage.fuser.",
    r"\.mixer\.spatial_attn\.": ".mixer.stage.spatial_attn.",
    r"\.spatial_attn\.conv1d\.0\.": ".attention.conv.",
    r"\.spatial_attn\.conv1d\.1\.": ".attention.norm.",
    r"\.mixer\.out_proj\.": ".mixer.stage.out_proj.",
}


def _variant_of(state_dict: dict[str, Tensor]) -> str:
    """Version of an official state, told by names that one version alone has."""
    if "mim_1.T_mamba1.pos_embedding" in state_dict:
        return "3"
    return "2" if "embed.weight" in state_dict else "1"


def official_args(state_dict: dict[str, Tensor], config: dict[str, Any]) -> dict[str, Any]:
    """Translate the official configuration.

    `config`: channels, num_classes, image_size, patch_size, dim, depth, emb_dropout, variant.

    Raises:
        ValueError: `variant` is not the version that the tensors are of.
    """
    variant = _variant_of(state_dict)
    encoder = "mim_1.T_mamba1." if variant == "3" else "mim_1.T_mamba."
    chans = {"1": "regression.3.weight", "2": "embed.weight", "3": "to_patch_embedding.2.weight"}[variant]
    channels = state_dict[chans].shape[1 if variant == "2" else 0]
    stem = state_dict["to_patch_embedding.1.weight" if variant == "3" else encoder + "to_patch_embedding.0.weight"]
    patch_size = math.isqrt(stem.shape[0] // channels)
    side = math.isqrt(state_dict[encoder + "pos_embedding"].shape[1])
    family = {
        "1": r"mim_1\.T_mamba\.layers\.(\d+)\.",
        "2": r"mim_1\.(norm)\.",
        "3": r"mim_1\.T_mamba1\.layers\.(\d+)\.",
    }
    read_off = {
        "channels": channels,
        "num_classes": state_dict["mlp_head.3.weight"].shape[0],
        "image_size": side * patch_size if variant == "3" else side,
        "patch_size": patch_size,
        "dim": state_dict["mlp_head.0.weight"].shape[0],
        "depth": len({match[1] for key in state_dict if (match := re.match(family[variant], key))}),
        "emb_dropout": 0.1 if variant == "1" else 0.0,
        "variant": variant,
    }
    cfg = merge_config("mim", read_off, config)
    if str(cfg["variant"]) != variant:
        raise ValueError(f"variant is {cfg['variant']!r}, but the checkpoint is one of version {variant}")
    args = {
        "in_chans": cfg["channels"],
        "num_classes": cfg["num_classes"],
        "patch_size": cfg["image_size"],
        "dim": cfg["dim"],
        "drop_rate": cfg["emb_dropout"],
    }
    folded = cfg["channels"] * cfg["patch_size"] ** 2
    special: dict[str, dict[str, tuple[Any, Any]]] = {  # with the defaults of ours
        "1": {"depth": (cfg["depth"], 1), "embed": (folded == cfg["channels"], True)},
        "2": {"re_embed": (folded == cfg["dim"], False)},
        "3": {"depth": (cfg["depth"], 2), "cell_size": (cfg["patch_size"], 1)},
    }
    # Defaults are left out, so that a checkpoint of another version is built, and refused by its name.
    return args | {key: value for key, (value, default) in special[variant].items() if value != default}


def checkpoint_filter_fn(state_dict: dict[str, Tensor], model: nn.Module) -> dict[str, Tensor]:
    """Rename an official state to ours and leave out what is never used.

    Raises:
        WeightsError: The state is of another version, or tied tensors differ.
    """
    if "mlp_head.0.weight" not in state_dict:
        return state_dict
    variant = _variant_of(state_dict)
    if getattr(model, "variant", None) != variant:
        raise WeightsError(f"this is a checkpoint of mim_v{variant}, not of {type(model).__name__}")
    own = {key: value.shape for key, value in model.state_dict().items()}
    rules = _OFFICIAL_NAMES[variant] | _COMMON_NAMES
    state: dict[str, Tensor] = {}
    for key, value in state_dict.items():
        if re.match(_NEVER_USED[variant], key):
            continue
        (name,) = rename({key: value}, rules)
        if name not in own and re.search(r"\bembed\.[012]\.", name):
            continue  # owned by every official network, used by some
        if name in state and not torch.equal(state[name], value):
            raise WeightsError(f"{key} differs from its other copies in the checkpoint, with which it is tied")
        state[name] = value
    for name in [name[:-2] for name in state if name.endswith("@0")]:
        if f"{name}@1" in state:
            state[name] = torch.stack([state.pop(f"{name}@{k}") for k in range(2)])
    same_size = {key for key, shape in own.items() if key in state and state[key].numel() == shape.numel()}
    return state | {key: state[key].reshape(own[key]) for key in same_size}
