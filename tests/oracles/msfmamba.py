"""MSFMamba as plain functions of an official state dictionary: an oracle written from the equations alone."""

import math
from functools import partial

import torch
import torch.nn.functional as F

from tests.oracles.le_mamba import scan


def s6(p, k, u, driver=None):
    """Scan k of a set whose parameters are p(name)."""
    driver = u if driver is None else driver
    d = u.shape[1]
    A_log, D = p("A_logs").reshape(-1, d, p("A_logs").shape[-1])[k], p("Ds").reshape(-1, d)[k]
    n, rank = A_log.shape[1], p("dt_projs_weight").shape[2]
    q = torch.einsum("ce,bel->bcl", p("x_proj_weight")[k], driver)
    delta = torch.einsum("dr,brl->bdl", p("dt_projs_weight")[k], q[:, :rank])
    return scan(u, delta, -A_log.exp(), q[:, rank : rank + n], q[:, rank + n :], D, p("dt_projs_bias")[k])[0]


def column_index(h, w):
    return torch.tensor([(t % h) * w + t // h for t in range(h * w)])


def norm(p, name, x, eps):
    return F.layer_norm(x, x.shape[-1:], p(f"{name}.weight"), p(f"{name}.bias"), eps)


def depthwise(p, name, x, **kwargs):
    return F.conv2d(x, p(f"{name}.weight"), p(f"{name}.bias"), groups=x.shape[1], **kwargs)


def ms2d(p, x, taps):
    b = x.shape[0]
    d = p("in_proj.weight").shape[0] // 2
    projected = x @ p("in_proj.weight").T
    u, z = projected[..., :d], projected[..., d:]
    u = F.silu(depthwise(p, "conv2d", u.permute(0, 3, 1, 2), padding=1))
    total = 0
    for k in range(4):
        view = depthwise(p, "DWconv1", u, padding=1) if k < 2 else depthwise(p, "DWconv2", u, stride=2, padding=2)
        hk, wk = view.shape[2:]
        order = column_index(hk, wk) if k % 2 else torch.arange(hk * wk)
        order = order.flip(0) if k >= 2 else order
        y = torch.empty_like(view).flatten(2)
        y[..., order] = s6(p, k, view.flatten(2)[..., order])
        y = y.reshape(b, d, hk, wk)
        if k >= 2:
            y = F.conv_transpose2d(y, p("conv_transpose.weight"), p("conv_transpose.bias"), stride=2, padding=2)
            taps.setdefault("convT_k0", y)
        total = total + y
    out = norm(p, "out_norm", total.permute(0, 2, 3, 1), 1e-5) * F.silu(z)
    taps["ms2d"] = out @ p("out_proj.weight").T
    return taps["ms2d"]


def spatial(p, x, taps):
    b, c, h, w = x.shape
    x = x.contiguous().view(b, h, w, c)
    x = x + ms2d(lambda name: p(f"self_attention.{name}"), norm(p, "ln_1", x, 1e-6), taps)
    return x.permute(0, 3, 1, 2)


def spectral(p, x):
    b, tokens, _ = x.shape
    q = lambda name: p(f"self_attention.{name}")  # noqa: E731
    d = q("proj.weight").shape[0]
    projected = norm(p, "ln_1", x, 1e-6) @ q("in_proj.weight").T
    u = F.silu(projected[..., :d] @ q("proj.weight").T).contiguous().view(b, d, tokens)
    y = s6(q, 0, u) + s6(q, 1, u.flip(2)).flip(2)
    y = norm(q, "out_norm", y.transpose(1, 2), 1e-5) * F.silu(projected[..., d:])
    return x + y @ q("out_proj.weight").T


def cross(p, driver, scanned):
    b, d, h, w = scanned.shape
    total = torch.zeros_like(scanned).flatten(2)
    for k in range(4):
        order = column_index(h, w) if k % 2 else torch.arange(h * w)
        order = order.flip(0) if k >= 2 else order
        y = s6(p, k, scanned.flatten(2)[..., order], driver.flatten(2)[..., order])
        total[..., order] += y
    return norm(p, "out_norm", total.reshape(b, d, h, w).permute(0, 2, 3, 1), 1e-5)


def fuse(p, h, x, taps):
    shapes = h.shape, x.shape
    streams, gates = [], []
    wide = []
    for i, s in ((1, h), (2, x)):
        s = s.contiguous().view(s.shape[0], s.shape[2], s.shape[3], s.shape[1])
        wide.append(s)
        projected = norm(p, f"ln_{i}", s, 1e-6) @ p(f"in_proj{i}.weight").T
        d = projected.shape[-1] // 2
        s1 = projected[..., :d].contiguous().view(s.shape[0], d, *s.shape[1:3])
        streams.append(F.silu(depthwise(p, f"conv2d{i}", s1, padding=1)))
        gates.append(F.silu(projected[..., d:]))
    yx = cross(lambda name: p(f"attention1.{name}"), streams[0], streams[1])
    yh = cross(lambda name: p(f"attention2.{name}"), streams[1], streams[0])
    taps["attention1"] = yx
    h = wide[0] + (yh * gates[0]) @ p("out_proj1.weight").T
    x = wide[1] + (yx * gates[1]) @ p("out_proj2.weight").T
    return h.contiguous().view(shapes[0]), x.contiguous().view(shapes[1])


def bn(p, name, x):
    stats = (p(f"{name}.{key}") for key in ("running_mean", "running_var", "weight", "bias"))
    return F.relu(F.batch_norm(x, *stats, training=False))


def _under(p, block, name):
    return p(f"{block}.{name}")


def msfmamba(hsi, x, state):
    """Features (B, C, S, S), logits (B, K) and taps of hsi (B, 1, P, S, S) and x (B, Cx, S, S)."""
    taps = {}
    for i in range(len({key.split(".")[1] for key in state if key.startswith("layers.")})):
        p = lambda name, i=i: state[f"layers.{i}.{name}"]  # noqa: E731
        sub = lambda block, p=p: partial(_under, p, block)  # noqa: E731
        hsi = bn(p, "hsi_conv.1", F.conv3d(hsi, p("hsi_conv.0.weight"), p("hsi_conv.0.bias")))
        x = bn(p, "sar_conv.1", F.conv2d(x, p("sar_conv.0.weight"), p("sar_conv.0.bias")))
        shape = hsi.shape
        inner = {}
        h = spatial(sub("MBh"), hsi.reshape(shape[0], -1, *shape[3:]), inner)
        taps |= {f"l{i}_hsi_conv": hsi, f"l{i}_x_conv": x, f"l{i}_MBh": h.reshape(shape)}
        taps |= {f"l{i}_MBh_{name}": value for name, value in inner.items()}
        h = spectral(sub("SpBh"), h.reshape(shape[0], shape[1] * shape[2], -1))
        x = spatial(sub("MBx"), x, {})
        taps |= {f"l{i}_SpBh": h.reshape(shape), f"l{i}_MBx": x}
        inner = {}
        h, x = fuse(sub("FSSBlock"), h.reshape(shape[0], -1, *shape[3:]), x, inner)
        hsi = h.reshape(shape)
        taps |= {f"l{i}_FSS_attention1": inner["attention1"], f"l{i}_FSS.hsi": hsi, f"l{i}_FSS.x": x}
    feat = torch.cat([hsi.reshape(shape[0], -1, *shape[3:]), x], 1)
    logits = feat.flatten(1) @ state["fusionlinear_fusion.weight"].T + state["fusionlinear_fusion.bias"]
    return feat, logits, taps


def random_state(num_classes, pca_num, window_size, x_channels, num_layers, d_state, expand, seed=0):
    """A random official state dictionary, float64, every value away from its default."""
    gen = torch.Generator().manual_seed(seed)
    draw = lambda *shape: torch.randn(shape, generator=gen, dtype=torch.float64)  # noqa: E731
    state = {}

    def weight(name, *shape, bias=False):
        state[f"{name}.weight"] = draw(*shape) / max(1, math.prod(shape[1:])) ** 0.5
        if bias:
            state[f"{name}.bias"] = 0.1 * draw(shape[0])

    def affine(name, width):
        state[f"{name}.weight"], state[f"{name}.bias"] = 1 + 0.2 * draw(width), 0.2 * draw(width)

    def scans(name, count, d, rank, driver=None, flat=True):
        state[f"{name}.x_proj_weight"] = draw(count, rank + 2 * d_state, driver or d) / (driver or d) ** 0.5
        state[f"{name}.dt_projs_weight"] = draw(count, d, rank) / rank**0.5
        state[f"{name}.dt_projs_bias"] = draw(count, d) - 1
        lead = (count * d,) if flat else (count, d)
        state[f"{name}.A_logs"] = 0.5 * draw(*lead, d_state)
        state[f"{name}.Ds"] = 1 + 0.3 * draw(*lead)

    rank_of = lambda width: math.ceil(width / 16)  # noqa: E731
    c_in, x_in, bands, side = 1, x_channels, pca_num, window_size
    for i in range(num_layers):
        ch, cx, kernel, layer = 8 * (i + 1), 64 * (i + 1), 9 - 2 * i, f"layers.{i}"
        bands, side = bands - kernel + 1, side - 2
        dims = {"MBh": ch * bands, "MBx": cx}
        weight(f"{layer}.hsi_conv.0", ch, c_in, kernel, 3, 3, bias=True)
        weight(f"{layer}.sar_conv.0", cx, x_in, 3, 3, bias=True)
        for name, width in (("hsi_conv", ch), ("sar_conv", cx)):
            affine(f"{layer}.{name}.1", width)
            state[f"{layer}.{name}.1.running_mean"] = 0.2 * draw(width)
            state[f"{layer}.{name}.1.running_var"] = (0.3 * draw(width)).exp()
            state[f"{layer}.{name}.1.num_batches_tracked"] = torch.tensor(3.0)
        for name, width in dims.items():
            d, a = int(expand * width), f"{layer}.{name}.self_attention"
            affine(f"{layer}.{name}.ln_1", width)
            scans(a, 4, d, rank_of(width), flat=False)
            weight(f"{a}.in_proj", 2 * d, width)
            weight(f"{a}.conv2d", d, 1, 3, 3, bias=True)
            weight(f"{a}.DWconv1", d, 1, 3, 3, bias=True)
            weight(f"{a}.DWconv2", d, 1, 5, 5, bias=True)
            weight(f"{a}.conv_transpose", d, d, 5, 5, bias=True)
            affine(f"{a}.out_norm", d)
            weight(f"{a}.out_proj", width, d)
        pixels, a = side * side, f"{layer}.SpBh.self_attention"
        d = int(expand * pixels)
        affine(f"{layer}.SpBh.ln_1", pixels)
        scans(a, 2, d, rank_of(pixels))
        weight(f"{a}.in_proj", 2 * d, pixels)
        weight(f"{a}.proj", d, d)
        weight(f"{a}.out_proj", pixels, d)
        affine(f"{a}.out_norm", d)
        block, (dh, dx) = f"{layer}.FSSBlock", dims.values()
        for k, width in ((1, dh), (2, dx)):
            d = int(expand * width)
            affine(f"{block}.ln_{k}", width)
            weight(f"{block}.in_proj{k}", 2 * d, width)
            weight(f"{block}.conv2d{k}", d, 1, 3, 3, bias=True)
            weight(f"{block}.out_proj{k}", width, d)
        for k, driver, scanned in ((1, dh, dx), (2, dx, dh)):
            d = int(expand * scanned)
            scans(f"{block}.attention{k}", 4, d, rank_of(driver), int(expand * driver))
            affine(f"{block}.attention{k}.out_norm", d)
        c_in, x_in = ch, cx
    weight("fusionlinear_fusion", num_classes, (ch * bands + cx) * side * side, bias=True)
    return state
