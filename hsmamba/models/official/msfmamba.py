"""Official checkpoints of MSFMamba: their configuration and their names in ours."""

from __future__ import annotations

import math
import re
from fractions import Fraction
from itertools import count
from typing import Any

from torch import Tensor, nn

from hsmamba.models.official.shared import merge_config, rename

# Patterns of the official names -> ours, applied in this order.
# Tensors that every official state has, and none of another network.
MARKS = {"msfmamba": ("fusionlinear_fusion.weight", "layers.0.sar_conv.0.weight", "layers.0.MBh.ln_1.weight")}

_OFFICIAL_NAMES = {
    r"^fusionlinear_fusion\.": "head.",
    r"\.sar_conv\.": ".aux_conv.",
    r"\.MBh\.ln_1\.": ".hsi_spatial.norm.",
    r"\.MBx\.ln_1\.": ".aux_spatial.norm.",
    r"\.MBh\.self_attention\.": ".hsi_spatial.mixer.",
    r"\.MBx\.self_attention\.": ".aux_spatial.mixer.",
    r"\.DWconv1\.": ".fine_conv.",
    r"\.DWconv2\.": ".coarse_conv.",
    r"\.conv_transpose\.": ".upsample.",
    r"\.SpBh\.ln_1\.": ".hsi_spectral.norm.",
    r"\.SpBh\.self_attention\.": ".hsi_spectral.",
    r"\.FSSBlock\.(ln_|in_proj|conv2d|out_proj)1\.": r".fusion.hsi.\1.",
    r"\.FSSBlock\.(ln_|in_proj|conv2d|out_proj)2\.": r".fusion.aux.\1.",
    r"\.FSSBlock\.attention1\.": ".fusion.aux.cross_scan.",
    r"\.FSSBlock\.attention2\.": ".fusion.hsi.cross_scan.",
    r"\.ln_\.": ".norm.",
    r"\.conv2d\.": ".conv.",
    r"\.(x|dt)_(?:proj|projs)_(weight|bias)$": r".ssm.\1_proj_\2",
    r"\.A_logs$": ".ssm.A_log",
    r"\.Ds$": ".ssm.D",
}

# Names in the release's dataset_info.yaml, and what it says beside of the data sets.
_ALIASES = {"slar_channel_num": "x_channels", "num_layer": "num_layers"}
_OF_THE_DATA = ("hsi_channel_num", "info", "keys", "image_h", "image_w", "embed_dim", "num_heads")


def official_args(state_dict: dict[str, Tensor], config: dict[str, Any]) -> dict[str, Any]:
    """Translate the official configuration.

    `config`: num_classes, pca_num, window_size, x_channels, num_layers, d_state, expand, or an entry of the release's
    `dataset_info.yaml` as it is.
    """
    first = "layers.0."
    read_off = {
        "num_classes": state_dict["fusionlinear_fusion.weight"].shape[0],
        "pca_num": state_dict[first + "MBh.ln_1.weight"].shape[0] // 8 + 8,
        "window_size": math.isqrt(state_dict[first + "SpBh.ln_1.weight"].shape[0]) + 2,
        "x_channels": state_dict[first + "sar_conv.0.weight"].shape[1],
        "num_layers": len({key.split(".")[1] for key in state_dict if key.startswith("layers.")}),
        "d_state": state_dict[first + "SpBh.self_attention.A_logs"].shape[1],
        "expand": _expand_of(state_dict),
    }
    cfg = merge_config("msfmamba", read_off, config, aliases=_ALIASES, unused=_OF_THE_DATA)
    return {
        "in_chans": cfg["pca_num"],
        "num_classes": cfg["num_classes"],
        "patch_size": cfg["window_size"],
        "aux_chans": cfg["x_channels"],
        "depth": cfg["num_layers"],
        "d_state": cfg["d_state"],
        "expand": cfg["expand"],
    }


def _expand_of(state_dict: dict[str, Tensor]) -> float:
    """The simplest ratio p/q that turns every width D of the network into its inner width int(D p/q)."""
    shapes = [value.shape for key, value in state_dict.items() if re.search(r"\.in_proj[12]?\.weight$", key)]
    pairs = [(shape[0] // 2, shape[1]) for shape in shapes]  # (inner, D)
    low = max(Fraction(inner, width) for inner, width in pairs)
    high = min(Fraction(inner + 1, width) for inner, width in pairs)
    for q in count(1) if low < high else ():
        p = math.ceil(low * q)
        if Fraction(p, q) < high and all(int(p / q * width) == inner for inner, width in pairs):
            return p / q
    return float(low)  # no single ratio fits: loading will list the tensors that differ


def checkpoint_filter_fn(state_dict: dict[str, Tensor], model: nn.Module) -> dict[str, Tensor]:
    """Rename the official state to ours."""
    if "fusionlinear_fusion.weight" not in state_dict:
        return state_dict
    shapes = {key: value.shape for key, value in model.state_dict().items()}
    state: dict[str, Tensor] = {}
    for key, value in rename(state_dict, _OFFICIAL_NAMES).items():
        if ".mixer.ssm." in key:  # scans 0 and 1 are the fine ones, 2 and 3 the coarse
            state[key.replace(".ssm.", ".fine_ssm.")] = value[:2]
            state[key.replace(".ssm.", ".coarse_ssm.")] = value[2:]
        else:
            same_size = key in shapes and shapes[key].numel() == value.numel()
            state[key] = value.reshape(shapes[key]) if same_size else value
    return state
