"""MMAPP as plain functions of the official state dictionary: a direct transcription of its equations."""

import torch
import torch.nn.functional as F
from rsanet_oracle import adaptive_product, attention_shapes, conv, random_state, windowed_attention

__all__ = ["RELEASED", "mmapp", "mmapp_shapes", "random_state"]

RELEASED = {
    "n_bands": 8,
    "n_pan": 1,
    "width": 32,
    "scale_ratio": 4,
    "n_fusion_blocks": 5,
    "kernel_att": 7,
    "kernel_conv": 3,
    "heads": 3,
}


def per_pixel(x, state, name):
    x = torch.relu(conv(x, state, f"{name}.0", 1))
    return torch.sigmoid(conv(torch.relu(conv(x, state, f"{name}.2")), state, f"{name}.4"))


def per_image(x, state, name):
    x = torch.relu(conv(x.mean((2, 3), keepdim=True), state, f"{name}.1"))
    return conv(x, state, f"{name}.3")


def tsam(x, state, name, cfg):
    y = adaptive_product(x, per_pixel(x, state, f"{name}.attention1"), state[f"{name}.weight"])
    return y + per_image(x, state, f"{name}.attention3")


def sicm(x, state, name, cfg):
    taps = per_image(x, state, f"{name}.attention1")
    taps = taps.expand(-1, -1, *x.shape[2:])
    return adaptive_product(x, taps, state[f"{name}.weight"]) + per_pixel(x, state, f"{name}.attention3")


def acmix(x, state, name, cfg):
    heads = cfg["heads"]
    q, k, v = (conv(x, state, f"{name}.conv{i}") for i in (1, 2, 3))
    attended = windowed_attention(q, k, v, state, name, heads, cfg["kernel_att"])
    n, channels, height, width = q.shape
    d = channels // heads
    z = torch.cat([t.reshape(n, heads, d, height * width) for t in (q, k, v)], 1)
    y = F.conv2d(z, state[f"{name}.fc.weight"])  # (N, K, d, H W)
    y = y.permute(0, 2, 1, 3).reshape(n, d * y.shape[1], height, width)
    dep = state[f"{name}.dep_conv.weight"]
    convolved = F.conv2d(y, dep, padding=dep.shape[-1] // 2, groups=d)
    return state[f"{name}.rate1"] * attended + state[f"{name}.rate2"] * convolved


def afm(x, state, name, cfg, taps=None):
    first = acmix(x, state, f"{name}.attention1.0", cfg)
    if taps is not None:
        taps["head_acmix0"] = first
    t = acmix(torch.relu(first), state, f"{name}.attention1.2", cfg)
    t = torch.sigmoid(acmix(torch.relu(t), state, f"{name}.attention1.4", cfg))
    return adaptive_product(x, t * per_image(x, state, f"{name}.attention2"), state[f"{name}.weight"])


def residual(x, module, state, name, cfg):
    return x + module(torch.relu(module(x, state, f"{name}.conv1", cfg)), state, f"{name}.conv2", cfg)


def shuffle_up(x, state, name):
    return F.pixel_shuffle(conv(x, state, f"{name}.conv_up1", 1), 2)


def mmapp(ms, pan, state, cfg, taps=None):
    """(out_d4, out_d2, out, ms_u4); `taps`, a dictionary, receives the intermediate results of the specification."""
    taps = {} if taps is None else taps
    # PAN branch
    taps["pan_head"] = tsam(pan, state, "pb.head_conv", cfg)
    a = torch.relu(taps["pan_head"])
    e1 = torch.relu(residual(a, tsam, state, "pb.E1.0.SpaRB1", cfg) + a)
    d2 = F.max_pool2d(e1, 2)
    pan_d2 = taps["pan_d2"] = tsam(d2, state, "pb.conv_d2_out", cfg)
    c = torch.relu(tsam(d2, state, "pb.mid_conv", cfg))
    e2 = torch.relu(residual(c, tsam, state, "pb.E2.0.SpaRB1", cfg) + d2)
    d4 = F.max_pool2d(e2, 2)
    pan_d4 = taps["pan_d4"] = tsam(d4, state, "pb.conv_d4_out", cfg)
    # MS branch
    taps["ms_head"] = sicm(ms, state, "mb.head_conv", cfg)
    a = torch.relu(taps["ms_head"])
    e1 = torch.relu(residual(a, sicm, state, "mb.E1.0.SpeRB1", cfg) + a)
    u2 = torch.relu(shuffle_up(e1, state, "mb.up1"))
    ms_u2 = taps["ms_u2"] = sicm(u2, state, "mb.conv_u2_out", cfg)
    c = torch.relu(sicm(u2, state, "mb.mid_conv", cfg))
    e2 = torch.relu(residual(c, sicm, state, "mb.E2.0.SpeRB1", cfg) + u2)
    u4 = torch.relu(shuffle_up(e2, state, "mb.up2"))
    ms_u4 = sicm(u4, state, "mb.conv_u4_out", cfg)
    # fusion
    f = taps["head_afm"] = afm(torch.cat([ms, pan_d4], 1), state, "head_conv", cfg, taps)
    f = F.prelu(f, state["head_relu.weight"])
    for i in range(1, cfg["n_fusion_blocks"] + 1):
        f = residual(f, afm, state, f"F1.0.RB{i}", cfg)
    taps["f1"] = f
    out_d4 = conv(f, state, "conv_f1", 1)
    f = torch.cat([F.leaky_relu(shuffle_up(f, state, "up1"), 0.2), ms_u2, pan_d2], 1)
    for i in range(1, cfg["n_fusion_blocks"] + 1):
        f = residual(f, afm, state, f"F2.0.RB{i}", cfg)
    taps["f2"] = f
    out_d2 = conv(f, state, "conv_f2", 1)
    g = taps["conv_f3"] = conv(F.leaky_relu(shuffle_up(f, state, "up2"), 0.2), state, "conv_f3", 1)
    t = torch.relu(afm(torch.cat([g, pan, ms_u4], 1), state, "tail_conv.0", cfg))
    return out_d4, out_d2, afm(t, state, "tail_conv.2", cfg), ms_u4


def conv_shapes(name, chans, out, kernel=1):
    return {f"{name}.weight": (out, chans, kernel, kernel), f"{name}.bias": (out,)}


def per_pixel_shapes(name, chans, out):
    first = conv_shapes(f"{name}.0", chans, out, 3)
    return first | conv_shapes(f"{name}.2", out, out) | conv_shapes(f"{name}.4", out, out)


def per_image_shapes(name, chans, out):
    return conv_shapes(f"{name}.1", chans, out) | conv_shapes(f"{name}.3", out, out)


def mmapp_shapes(n_bands, n_pan, width, scale_ratio, n_fusion_blocks, kernel_att, kernel_conv, heads):
    """Shapes of the official state by name."""
    taps = kernel_conv**2
    wide = width + 2 * n_bands
    shapes = {}

    def module(kind, name, chans, out):
        shapes[f"{name}.weight"] = (out, chans, kernel_conv, kernel_conv)
        if kind == "tsam":
            shapes.update(per_pixel_shapes(f"{name}.attention1", chans, taps))
            shapes.update(per_image_shapes(f"{name}.attention3", chans, out))
        elif kind == "sicm":
            shapes.update(per_image_shapes(f"{name}.attention1", chans, taps))
            shapes.update(per_pixel_shapes(f"{name}.attention3", chans, out))
        else:
            for s in (0, 2, 4):
                acmix_name = f"{name}.attention1.{s}"
                shapes.update(attention_shapes(acmix_name, taps if s else chans, kernel_conv, heads))
                shapes.update({f"{acmix_name}.rate2": (1,), f"{acmix_name}.fc.weight": (taps, 3 * heads, 1, 1)})
            shapes.update(per_image_shapes(f"{name}.attention2", chans, taps))

    def branch(kind, prefix, chans, block, first, second):
        module(kind, f"{prefix}.head_conv", chans, width)
        for name in (f"{prefix}.E1.0.{block}.conv", f"{prefix}.E2.0.{block}.conv"):
            module(kind, f"{name}1", width, width)
            module(kind, f"{name}2", width, width)
        module(kind, f"{prefix}.{first}", width, n_bands)
        module(kind, f"{prefix}.mid_conv", width, width)
        module(kind, f"{prefix}.{second}", width, n_bands)

    module("afm", "head_conv", 2 * n_bands, width)
    shapes["head_relu.weight"] = (1,)
    branch("tsam", "pb", n_pan, "SpaRB1", "conv_d2_out", "conv_d4_out")
    branch("sicm", "mb", n_bands, "SpeRB1", "conv_u2_out", "conv_u4_out")
    for name, chans in (("mb.up1", width), ("mb.up2", width), ("up1", width), ("up2", wide)):
        shapes |= conv_shapes(f"{name}.conv_up1", chans, 4 * chans, 3)
    for level, chans in (("F1", width), ("F2", wide), ("F3", width)):
        for i in range(1, n_fusion_blocks + 1):
            module("afm", f"{level}.0.RB{i}.conv1", chans, chans)
            module("afm", f"{level}.0.RB{i}.conv2", chans, chans)
    for name, chans in (("conv_f1", width), ("conv_f2", wide), ("conv_f3", wide)):
        shapes |= conv_shapes(name, chans, n_bands, 3)
    module("afm", "tail_conv.0", 2 * n_bands + n_pan, n_bands)
    module("afm", "tail_conv.2", n_bands, n_bands)
    return shapes
