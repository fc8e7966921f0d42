"""LE-Mamba as plain functions of the official state dictionary: a direct transcription of its equations."""

import torch
import torch.nn.functional as F

from hsmamba.bench.transcriptions.rsanet import conv, random_state

__all__ = ["TINY", "le_mamba", "le_mamba_shapes", "random_state"]

TINY = {
    **dict(ms_channels=8, guide_channels=1, out_channels=8, width=32, enc_depths=[2, 1, 1], mid_depth=1),
    **dict(dec_depths=[2, 1, 1], widen=[1, 1, 1], expand=[2, 2, 1], windows=[8, 8, None], drop_path=0.1, scale=4),
    **dict(enc_d_state=[[16, 32], [16, 32], [None, 32]], dec_d_state=[[None, 32], [16, 32], [16, 32]]),
    **dict(enc_kernel=[[7, 11], [7, 11], [None, 11]], dec_kernel=[[None, 11], [7, 11], [7, 11]]),
}


def norm(x, state, name, eps):
    return F.layer_norm(x, x.shape[-1:], state[f"{name}.weight"], state[f"{name}.bias"], eps)


def scan(u, delta, a, b, c, d, bias):
    """The recurrence of one direction, step by step: y (B, d, L) and the last state (B, d, N)."""
    step = F.softplus(delta + bias[:, None])
    h = u.new_zeros(u.shape[0], u.shape[1], a.shape[1])
    out = []
    for t in range(u.shape[2]):
        x = step[:, :, t, None] * u[:, :, t, None] * b[:, None, :, t]
        h = torch.exp(step[:, :, t, None] * a) * h + x
        out.append((h * c[:, None, :, t]).sum(-1) + d * u[:, :, t])
    return torch.stack(out, 2), h


def scan_operator(x, state, name, rank, previous, skip):
    """SS of the specification: (B, H, W, c) -> (B, H, W, c) and the states of four directions, (B, d, N) each."""
    b, height, width, _ = x.shape
    xz = F.linear(x, state[f"{name}.in_proj.weight"])
    d = xz.shape[-1] // 2
    x, z = norm(xz[..., :d], state, f"{name}.norm.body", 1e-5), F.silu(xz[..., d:])
    weight, bias = state[f"{name}.conv2d.weight"], state[f"{name}.conv2d.bias"]
    x = F.silu(F.conv2d(x.permute(0, 3, 1, 2), weight, bias, padding=weight.shape[-1] // 2, groups=d))
    by_row, by_column = x.reshape(b, d, -1), x.transpose(2, 3).reshape(b, d, -1)
    sequences = [by_row, by_column, by_row.flip(2), by_column.flip(2)]
    n = state[f"{name}.A_logs"].shape[1]
    y, last = [], []
    for k, seq in enumerate(sequences):
        part = slice(k * d, k * d + d)
        projected = torch.einsum("rd,bdl->brl", state[f"{name}.x_proj_weight"][k], seq)
        step, into, out_of = projected[:, :rank], projected[:, rank : rank + n], projected[:, rank + n :]
        step = torch.einsum("dr,brl->bdl", state[f"{name}.dt_projs_weight"][k], step)
        if f"{name}.ssm_state_weight1" in state and previous is not None:
            memory = torch.einsum("dp,bpn->bdn", state[f"{name}.ssm_state_weight1"][part, :, 0], previous[k])
            if skip is not None and f"{name}.ssm_state_weight2" in state:
                memory = memory + torch.einsum("de,ben->bdn", state[f"{name}.ssm_state_weight2"][part, :, 0], skip[k])
            elif skip is not None:
                memory = memory + skip[k]
            gate = torch.einsum("nd,bdl->bnl", state[f"{name}.xs_gate_weight"][k * n : k * n + n, :, 0], seq)
            seq = seq + state[f"{name}.ssm_gate_ratio"][0, k] * torch.einsum("bdn,bnl->bdl", memory, gate)
        a = -torch.exp(state[f"{name}.A_logs"][part])
        out, h = scan(seq, step, a, into, out_of, state[f"{name}.Ds"][part], state[f"{name}.dt_projs_bias"][k])
        y.append(out)
        last.append(h.detach())
    along_rows = (y[0] + y[2].flip(2)).reshape(b, d, height, width)
    along_columns = (y[1] + y[3].flip(2)).reshape(b, d, width, height).transpose(2, 3)
    merged = norm((along_rows + along_columns).permute(0, 2, 3, 1), state, f"{name}.out_norm", 1e-5)
    return F.linear(merged * z, state[f"{name}.out_proj.weight"]), last


def vss(x, state, name, previous=None, skip=None):
    rank = -(-x.shape[-1] // 16)
    y, last = scan_operator(norm(x, state, f"{name}.norm", 1e-6), state, f"{name}.op", rank, previous, skip)
    x = x + y
    weights = [state[f"{name}.mlp.{part}"] for part in ("fc1.weight", "fc1.bias", "fc2.weight", "fc2.bias")]
    a, z = F.linear(norm(x, state, f"{name}.norm2", 1e-6), *weights[:2]).chunk(2, -1)
    return x + F.linear(a * F.gelu(z), *weights[2:]), last


def block(x, guide, state, name, window, previous=None, skip=None):
    _, height, width, c = x.shape
    p = F.interpolate(guide, (height, width), mode="bilinear", align_corners=True)
    weight, bias = state[f"{name}.intro_conv.1.weight"], state[f"{name}.intro_conv.1.bias"]
    p = F.conv2d(conv(p, state, f"{name}.intro_conv.0"), weight, bias, padding=1, groups=c)
    x = x + p.permute(0, 2, 3, 1)
    if f"{name}.enhanced_factor" in state:
        local = torch.empty_like(x)
        for i in range(0, height, window):
            for j in range(0, width, window):
                here = (slice(None), slice(i, i + window), slice(j, j + window))
                local[here] = vss(x[here], state, f"{name}.mamba_inner_shared")[0]
        x = local * state[f"{name}.enhanced_factor"] + x
    return vss(x, state, f"{name}.mamba", previous, skip)


def le_mamba(pan, lms, state, cfg):
    """Sharp image (B, C, H, W)."""
    levels = len(cfg["enc_depths"])
    x = conv(lms, state, "intro", 1).permute(0, 2, 3, 1)
    features, states = [], []
    for level in range(levels):
        last = None
        for i in range(cfg["enc_depths"][level]):
            x, last = block(x, pan, state, f"lemm_encoders.{level}.mods.{i}", cfg["windows"][level], last)
        features.append(x)
        states.append(last)
        name = f"lemm_downs.{level}.1"
        x = F.conv2d(x.permute(0, 3, 1, 2), state[f"{name}.weight"], state[f"{name}.bias"], stride=2)
        x = x.permute(0, 2, 3, 1)
    bottom = None
    for i in range(cfg["mid_depth"]):
        x, bottom = block(x, pan, state, f"middle_blks.mods.{i}", cfg["windows"][-1], bottom)
    previous = states[-1] if bottom is None else bottom
    for j in range(levels):
        level = levels - 1 - j
        x = F.conv2d(x.permute(0, 3, 1, 2), state[f"lemm_ups.{j}.1.weight"])
        x = F.interpolate(x, scale_factor=2, mode="bilinear", align_corners=False).permute(0, 2, 3, 1)
        x = torch.cat([x, features[level] * state[f"skip_scales.{j}"]], -1)
        x = F.linear(x, state[f"lemm_decoders.{j}.mods.0.weight"], state[f"lemm_decoders.{j}.mods.0.bias"])
        for i in range(cfg["dec_depths"][level]):
            name = f"lemm_decoders.{j}.mods.{i + 1}"
            x, last = block(x, pan, state, name, cfg["windows"][level], previous, states[level])
        previous = last
    return lms + conv(x.permute(0, 3, 1, 2), state, "ending", 1)


def vss_shapes(name, c, d, n, kernel, hidden, d_previous=None, project_skip=False):
    rank = -(-c // 16)
    op = f"{name}.op"
    shapes = {f"{name}.norm.weight": (c,), f"{name}.norm.bias": (c,), f"{op}.x_proj_weight": (4, rank + 2 * n, d)}
    if d_previous is not None:
        shapes[f"{op}.ssm_state_weight1"] = (4 * d, d_previous, 1)
        if project_skip:
            shapes[f"{op}.ssm_state_weight2"] = (4 * d, d, 1)
        shapes |= {f"{op}.xs_gate_weight": (4 * n, d, 1), f"{op}.ssm_gate_ratio": (1, 4, d, 1)}
    shapes |= {f"{op}.dt_projs_weight": (4, d, rank), f"{op}.dt_projs_bias": (4, d)}
    shapes |= {f"{op}.A_logs": (4 * d, n), f"{op}.Ds": (4 * d,)}
    shapes |= {f"{op}.out_norm.weight": (d,), f"{op}.out_norm.bias": (d,), f"{op}.in_proj.weight": (2 * d, c)}
    shapes |= {f"{op}.conv2d.weight": (d, 1, kernel, kernel), f"{op}.conv2d.bias": (d,)}
    shapes |= {f"{op}.norm.body.weight": (d,), f"{op}.norm.body.bias": (d,), f"{op}.out_proj.weight": (c, d)}
    shapes |= {f"{name}.norm2.weight": (c,), f"{name}.norm2.bias": (c,)}
    shapes |= {f"{name}.mlp.fc1.weight": (2 * hidden, c), f"{name}.mlp.fc1.bias": (2 * hidden,)}
    return shapes | {f"{name}.mlp.fc2.weight": (c, hidden), f"{name}.mlp.fc2.bias": (c,)}


def le_mamba_shapes(cfg):
    """Shapes of the official state by name."""
    levels, guide = len(cfg["enc_depths"]), cfg["guide_channels"]
    dims = [cfg["width"]]
    for factor in cfg["widen"]:
        dims.append(factor * dims[-1])
    shapes = {"intro.weight": (dims[0], cfg["ms_channels"], 3, 3), "intro.bias": (dims[0],)}
    shapes |= {"ending.weight": (cfg["out_channels"], dims[0], 3, 3), "ending.bias": (cfg["out_channels"],)}

    def add(name, c, expand, n, kernel, d_previous=None, project_skip=False):
        if n[0] is not None and kernel[0] is not None:
            shapes[f"{name}.enhanced_factor"] = (1, 1, 1, c)
        shapes.update({f"{name}.intro_conv.0.weight": (c, guide, 1, 1), f"{name}.intro_conv.0.bias": (c,)})
        shapes.update({f"{name}.intro_conv.1.weight": (c, 1, 3, 3), f"{name}.intro_conv.1.bias": (c,)})
        if n[0] is not None and kernel[0] is not None:
            shapes.update(vss_shapes(f"{name}.mamba_inner_shared", c, 2 * c, n[0], kernel[0], c))
        d = expand * c
        shapes.update(vss_shapes(f"{name}.mamba", c, d, n[1], kernel[1], 4 * c, d_previous, project_skip))

    def add_chain(prefix, number, c, expand, n, kernel):
        for i in range(number):
            add(f"{prefix}.mods.{i}", c, expand, n, kernel, expand * c if i else None)

    for level in range(levels):
        number, expand = cfg["enc_depths"][level], cfg["expand"][level]
        n, kernel = cfg["enc_d_state"][level], cfg["enc_kernel"][level]
        add_chain(f"lemm_encoders.{level}", number, dims[level], expand, n, kernel)
        shapes |= {f"lemm_downs.{level}.1.weight": (dims[level + 1], dims[level], 2, 2)}
        shapes |= {f"lemm_downs.{level}.1.bias": (dims[level + 1],)}
    add_chain(
        "middle_blks", cfg["mid_depth"], dims[-1], cfg["expand"][-1], cfg["enc_d_state"][-1], cfg["enc_kernel"][-1]
    )
    d_previous = cfg["expand"][-1] * (dims[-1] if cfg["mid_depth"] else dims[-2])
    for j in range(levels):
        level = levels - 1 - j
        c, prefix = dims[level], f"lemm_decoders.{j}.mods"
        shapes |= {f"{prefix}.0.weight": (c, 2 * c), f"{prefix}.0.bias": (c,), f"skip_scales.{j}": (1, 1, 1, c)}
        shapes |= {f"lemm_ups.{j}.1.weight": (c, dims[level + 1], 1, 1)}
        for i in range(cfg["dec_depths"][level]):
            n, kernel = cfg["dec_d_state"][j], cfg["dec_kernel"][j]
            add(f"{prefix}.{i + 1}", c, cfg["expand"][level], n, kernel, d_previous, i == 0)
        d_previous = cfg["expand"][level] * c
    return shapes
