"""RAMSF as plain functions of the official state dictionary: a direct transcription of its equations."""

import torch
import torch.nn.functional as F
from rsanet_oracle import conv, random_state

__all__ = ["RELEASED", "haar", "inverse_haar", "ramsf", "ramsf_shapes", "random_state"]

RELEASED = {
    "n_bands": 8,
    "n_guide": 1,
    "scale_ratio": 4,
    "n_stages": 2,
    "feat_dim": 64,
    "align_dim": 33,
    "mlp_dim": [256, 128],
}


def haar(x):
    a, b, c, d = (x[..., i::2, j::2] / 2 for i, j in ((0, 0), (1, 0), (0, 1), (1, 1)))
    return a + b + c + d, -a - b + c + d, -a + b - c + d, a - b - c + d


def inverse_haar(x):
    quarter = x.shape[1] // 4
    ll, hl, lh, hh = (x[:, i * quarter : (i + 1) * quarter] / 2 for i in range(4))
    out = x.new_zeros(x.shape[0], quarter, 2 * x.shape[2], 2 * x.shape[3])
    out[..., 0::2, 0::2] = ll - hl - lh + hh
    out[..., 1::2, 0::2] = ll - hl + lh - hh
    out[..., 0::2, 1::2] = ll + hl - lh - hh
    out[..., 1::2, 1::2] = ll + hl + lh + hh
    return out


def stem(x, state, name):
    return F.prelu(conv(x, state, f"{name}.0", 1), state[f"{name}.1.weight"])


def res_block(x, state, name):
    return x + conv(F.leaky_relu(conv(x, state, f"{name}.conv0", 1), 0.01), state, f"{name}.conv1", 1)


def mlp(x, state, name, count):
    for i in range(count):
        x = F.linear(x, state[f"{name}.layers.{2 * i}.weight"], state[f"{name}.layers.{2 * i}.bias"])
        x = torch.relu(x) if i < count - 1 else x
    return x


def align(z, guide, state, name, count):
    """One stage: four queries of the perceptron for each fine pixel."""
    n, _, h, w = z.shape
    height, width = guide.shape[2:]
    rows = (-1 + (2 * torch.arange(height, dtype=z.dtype) + 1) / height)[:, None].expand(height, width)
    columns = (-1 + (2 * torch.arange(width, dtype=z.dtype) + 1) / width)[None].expand(height, width)
    tokens = guide.flatten(2).transpose(1, 2)
    answers = []
    for vy in (-1, 1):
        for vx in (-1, 1):
            i = torch.round(((rows + vy / h + 1) * h - 1) / 2).long()
            j = torch.round(((columns + vx / w + 1) * w - 1) / 2).long()
            inside = (i >= 0) & (i < h) & (j >= 0) & (j < w)
            index = (i.clamp(0, h - 1) * w + j.clamp(0, w - 1)).flatten()
            features = z.flatten(2)[:, :, index] * inside.flatten()
            qy = torch.where(inside, -1 + (2 * i.to(z.dtype) + 1) / h, 0.0)
            qx = torch.where(inside, -1 + (2 * j.to(z.dtype) + 1) / w, 0.0)
            relative = torch.stack([(rows - qy) * h, (columns - qx) * w], -1).reshape(1, -1, 2).to(z.dtype)
            query = torch.cat([features.transpose(1, 2), tokens, relative.expand(n, -1, -1)], -1)
            answers.append(mlp(query, state, name, count))
    answers = torch.stack(answers)
    weights = torch.softmax(answers[..., -1:], 0)
    return (weights * answers[..., :-1]).sum(0).transpose(1, 2).reshape(n, -1, height, width)


def ramsf(pan, lms, ms, state, cfg, taps=None):
    """Sharp image (N, B, H, W); `taps`, a dictionary, receives the intermediate results of the specification."""
    taps = {} if taps is None else taps
    taps["pan_stem"] = stem(pan, state, "blk_1_32")
    taps["pan_rb"] = res_block(taps["pan_stem"], state, "DE_pan")
    taps["lms_rb"] = res_block(stem(lms, state, "blk_8_32"), state, "DE_lms")
    ll, hl, lh, hh = haar(taps["pan_rb"])
    _, hl_m, lh_m, hh_m = haar(taps["lms_rb"])
    taps["f_hl"] = res_block(hl + hl_m, state, "DE_HL")
    f_lh = res_block(lh + lh_m, state, "DE_LH")
    f_hh = res_block(hh + hh_m, state, "DE_HH")
    taps["f_hp"] = res_block(res_block(taps["f_hl"] + f_lh, state, "DE_HH_HH") + f_hh, state, "DE_PAN")
    taps["detail"] = inverse_haar(taps["f_hp"] + ll)
    taps["hr_spa"] = stem(taps["detail"], state, "spatial_encoder")
    z = taps["lr_spe"] = stem(ms, state, "spectral_encoder")
    stages = cfg["n_stages"]
    for t in range(1, stages + 1):
        size = [side // 2 ** (stages - t) for side in pan.shape[2:]]
        guide = F.adaptive_max_pool2d(taps["hr_spa"], size)
        if t == stages - 1:
            taps["guide_half"] = guide
        z = align(z, guide, state, f"imnet_{64 * 2 ** (t - 1)}", len(cfg["mlp_dim"]) + 1)
        taps[f"align{t}"] = z
    return lms + z


def ramsf_shapes(n_bands, n_guide, scale_ratio, n_stages, feat_dim, align_dim, mlp_dim):
    """Shapes of the official state by name."""
    d = feat_dim
    shapes = {}
    stems = {"blk_1_32": n_guide, "blk_8_32": n_bands, "spatial_encoder": d // 4, "spectral_encoder": n_bands}
    for name, chans in stems.items():
        shapes |= {f"{name}.0.weight": (d, chans, 3, 3), f"{name}.0.bias": (d,), f"{name}.1.weight": (1,)}
    for name in ("DE_pan", "DE_lms", "DE_HL", "DE_LH", "DE_HH", "DE_HH_HH", "DE_PAN"):
        for part in ("conv0", "conv1"):
            shapes |= {f"{name}.{part}.weight": (d, d, 3, 3), f"{name}.{part}.bias": (d,)}
    for t in range(n_stages):
        chans = d if t == 0 else align_dim - 1
        out = n_bands + 1 if t == n_stages - 1 else align_dim
        widths = [chans + d + 2, *mlp_dim, out]
        for i in range(len(widths) - 1):
            name = f"imnet_{64 * 2**t}.layers.{2 * i}"
            shapes |= {f"{name}.weight": (widths[i + 1], widths[i]), f"{name}.bias": (widths[i + 1],)}
    return shapes
