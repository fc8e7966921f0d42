"""MD2F-Mamba's article network as plain functions of a state dictionary: an oracle written from the equations alone."""

import torch
import torch.nn.functional as F


def _bn(x, state, name):
    stats = [state[f"{name}.{key}"] for key in ("running_mean", "running_var", "weight", "bias")]
    return F.batch_norm(x, *stats, training=False)


def _cbr(x, state, name):
    weight = state[f"{name}.0.weight"]
    padding = [k // 2 for k in weight.shape[2:]]
    return F.relu(_bn(F.conv2d(x, weight, padding=padding), state, f"{name}.1"))


def article_logits(x, state, product="repaired"):
    """Logits (B, K) of patches (B, D, P, P); `state` has the listing's names."""
    b, _, p, _ = x.shape
    # initial extractor
    h = F.conv3d(x[:, None], state["init_extractor.conv3d.0.weight"], padding=1)
    h = F.relu(_bn(h, state, "init_extractor.conv3d.1"))
    f0 = _cbr(h.reshape(b, -1, p, p), state, "init_extractor.conv2d")
    c = f0.shape[1]
    # multidirectional depthwise convolution
    views = [f0]
    for name in ("sq", "hor", "ver"):
        weight = state[f"mdconv.dw_{name}.weight"]
        views.append(F.conv2d(f0, weight, padding=[k // 2 for k in weight.shape[2:]], groups=c))
    f = F.relu(_bn(F.conv2d(torch.cat(views, 1), state["mdconv.pw.weight"]), state, "mdconv.bn"))
    # local branch
    v = f + state["ms_lfem.pos_enc.enc"]
    s = _cbr(v, state, "ms_lfem.conv1x1_init.op")
    b0 = _bn(F.conv2d(s, state["ms_lfem.b0.0.weight"], padding=1), state, "ms_lfem.b0.1")
    b1 = _cbr(_cbr(s, state, "ms_lfem.b1_h.op"), state, "ms_lfem.b1_v.op")
    b2 = _cbr(_cbr(s, state, "ms_lfem.b2_v.op"), state, "ms_lfem.b2_h.op")
    q = _cbr(v, state, "ms_lfem.b3_conv_init.op")
    b3 = q + state["ms_lfem.delta"] * (q - F.gelu(F.conv2d(q, state["ms_lfem.b3_gelu_conv.weight"])))
    local = F.relu(F.conv2d(torch.cat([b0, b1, b2, b3], 1), state["ms_lfem.out_proj.0.weight"]))
    # global branch
    g = (f + state["hsm_gfe.pos_enc.enc"]).reshape(b, c, p * p).transpose(1, 2)
    n = F.layer_norm(g, (c,), state["hsm_gfe.layer_norm.weight"], state["hsm_gfe.layer_norm.bias"])
    e = F.conv1d(n.transpose(1, 2), state["hsm_gfe.expand_conv.weight"], state["hsm_gfe.expand_conv.bias"])
    wide = e.shape[1]
    e = F.conv2d(e.reshape(b, wide, p, p), state["hsm_gfe.dw_refine.weight"], padding=1, groups=wide)
    e = F.conv1d(e.reshape(b, wide, -1), state["hsm_gfe.split_proj.weight"], state["hsm_gfe.split_proj.bias"])
    theta, lam, psi = (e[:, i * wide : i * wide + c] for i in range(3))
    value = torch.softmax(lam + state["hsm_gfe.omega"][None, :, None], dim=1) * theta
    if product == "repaired":
        gram = torch.einsum("bjc,bdj->bcd", n, value)
        m = torch.einsum("blc,bcd->bld", n, gram)
    else:
        m = torch.einsum("blc,bcm->blm", n, value.transpose(1, 2))
    hz = F.linear(m, state["hsm_gfe.gate_proj.weight"], state["hsm_gfe.gate_proj.bias"])
    hidden, gate = hz[..., :c], hz[..., c:]
    t = (hidden * F.silu(gate) + hidden * state["hsm_gfe.phi"]) * psi.transpose(1, 2)
    glob = F.linear(t, state["hsm_gfe.out_proj.weight"], state["hsm_gfe.out_proj.bias"])
    glob = glob.transpose(1, 2).reshape(b, c, p, p)
    # fusion and head
    norm_local, norm_global = local.pow(2).sum(1).sqrt(), glob.pow(2).sum(1).sqrt()
    similarity = (local * glob).sum(1) / (norm_local * norm_global + 1e-8)
    fused = F.relu(glob + local * similarity[:, None])
    return F.linear(fused.mean((2, 3)), state["classifier.2.weight"], state["classifier.2.bias"])


def article_state(bands, patch, n_classes, hidden, expand, k_square, k_hor, k_ver, seed=0):
    """A random state dictionary of the listing, float64, every value away from its default."""
    c, e = hidden, expand * hidden
    gen = torch.Generator().manual_seed(seed)
    shapes = {
        "init_extractor.conv3d.0.weight": (8, 1, 3, 3, 3),
        "init_extractor.conv2d.0.weight": (c, 8 * bands, 1, 1),
        "mdconv.dw_sq.weight": (c, 1, k_square, k_square),
        "mdconv.dw_hor.weight": (c, 1, 1, k_hor),
        "mdconv.dw_ver.weight": (c, 1, k_ver, 1),
        "mdconv.pw.weight": (c, 4 * c, 1, 1),
        "ms_lfem.delta": (1,),
        "ms_lfem.pos_enc.enc": (1, c, patch, 1),
        "ms_lfem.conv1x1_init.op.0.weight": (c, c, 1, 1),
        "ms_lfem.b0.0.weight": (c, c, 3, 3),
        "ms_lfem.b1_h.op.0.weight": (c, c, 1, 3),
        "ms_lfem.b1_v.op.0.weight": (c, c, 3, 1),
        "ms_lfem.b2_v.op.0.weight": (c, c, 3, 1),
        "ms_lfem.b2_h.op.0.weight": (c, c, 1, 3),
        "ms_lfem.b3_conv_init.op.0.weight": (c, c, 1, 1),
        "ms_lfem.b3_gelu_conv.weight": (c, c, 1, 1),
        "ms_lfem.out_proj.0.weight": (c, 4 * c, 1, 1),
        "hsm_gfe.omega": (c,),
        "hsm_gfe.phi": (c,),
        "hsm_gfe.pos_enc.enc": (1, c, 1, patch),
        "hsm_gfe.layer_norm.weight": (c,),
        "hsm_gfe.layer_norm.bias": (c,),
        "hsm_gfe.expand_conv.weight": (e, c, 1),
        "hsm_gfe.expand_conv.bias": (e,),
        "hsm_gfe.dw_refine.weight": (e, 1, 3, 3),
        "hsm_gfe.split_proj.weight": (3 * e, e, 1),
        "hsm_gfe.split_proj.bias": (3 * e,),
        "hsm_gfe.gate_proj.weight": (2 * c, c),
        "hsm_gfe.gate_proj.bias": (2 * c,),
        "hsm_gfe.out_proj.weight": (c, c),
        "hsm_gfe.out_proj.bias": (c,),
        "classifier.2.weight": (n_classes, c),
        "classifier.2.bias": (n_classes,),
    }
    state = {}
    for name, shape in shapes.items():
        fan_in = max(1, torch.Size(shape[1:]).numel())
        state[name] = torch.randn(shape, generator=gen, dtype=torch.float64) / fan_in**0.5
    norms = {"init_extractor.conv3d.1": 8}
    norms |= dict.fromkeys(("init_extractor.conv2d.1", "mdconv.bn", "ms_lfem.b0.1"), c)
    branches = ("conv1x1_init", "b1_h", "b1_v", "b2_v", "b2_h", "b3_conv_init")
    norms |= {f"ms_lfem.{name}.op.1": c for name in branches}
    for name, width in norms.items():
        draw = torch.randn(4, width, generator=gen, dtype=torch.float64)
        state[f"{name}.weight"], state[f"{name}.bias"] = 1 + 0.2 * draw[0], 0.2 * draw[1]
        state[f"{name}.running_mean"], state[f"{name}.running_var"] = 0.2 * draw[2], (0.3 * draw[3]).exp()
        state[f"{name}.num_batches_tracked"] = torch.tensor(7)
    return state
