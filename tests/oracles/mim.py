"""MiM's released versions as plain functions of an official state dictionary: an oracle from the equations alone.

Sequences run one after the other here, masks and scans are loops: as little as possible is shared with the network.
"""

import math

import torch
import torch.nn.functional as F


def linear(p, name, x):
    bias = p(f"{name}.bias", None)
    y = x @ p(f"{name}.weight").flatten(1).T
    return y if bias is None else y + bias


def layer_norm(p, name, x):
    return F.layer_norm(x, x.shape[-1:], p(f"{name}.weight"), p(f"{name}.bias"))


def under(p, prefix):
    return lambda name, *default: p(f"{prefix}.{name}", *default)


def sequences(x):
    """s1..s4, each (B, L, C), pixel by pixel."""
    _, _, h, w = x.shape
    maps = {
        (h, w): [lambda i, j: (i, j), lambda i, j: (i, w - 1 - j)],
        (w, h, 0): [lambda i, j: (j, i), lambda i, j: (h - 1 - j, i)],
    }
    out = []
    for (rows, columns, *_), views in maps.items():
        for view in views:
            steps = []
            for i in range(rows):
                order = range(columns) if i % 2 == 0 else reversed(range(columns))
                steps += [view(i, j) for j in order]
            out.append(torch.stack([x[:, :, a, b] for a, b in steps], dim=1))
    mirrored, transposed = out[1], out[2]
    return [out[0], transposed, mirrored, out[3]]


def pool(x, tokens):
    length = x.shape[1]
    parts = [x[:, i * length // tokens : -(-(i + 1) * length // tokens)].mean(1) for i in range(tokens)]
    return torch.stack(parts, 1)


def index_mask(length):
    c = (length + 1) // 2
    i = torch.arange(length, dtype=torch.float64)
    sigma = sum(abs(k - c) for k in range(length)) / length
    g = torch.exp(-0.5 * (i - c) ** 2 / sigma**2)
    return g / g.sum()


def vector_mask(y):
    c = (y.shape[1] + 1) // 2
    d = (y - y[:, c : c + 1]).norm(dim=-1)
    v = torch.exp(-0.5 * (d / d.mean(1, keepdim=True)) ** 2)
    return v / v.sum(1, keepdim=True)


def mask(y):
    m = torch.exp(index_mask(y.shape[1]) * vector_mask(y))
    return (m / m.sum(1, keepdim=True))[..., None]


def s6(f, delta, b, c, A_log, D):
    h, y = f.new_zeros(f.shape[0], f.shape[2], A_log.shape[1]), []
    for t in range(f.shape[1]):
        dt = delta[:, t, :, None]
        h = torch.exp(-dt * A_log.exp()) * h + dt * f[:, t, :, None] * b[:, t, None]
        y.append((h * c[:, t, None]).sum(-1) + D * f[:, t])
    return torch.stack(y, 1)


def attention(p, y):
    """(B, E, L)"""
    a = torch.stack([y.max(-1).values, y.mean(-1)], 1)
    w = F.conv1d(a, p("conv1d.0.weight"), p("conv1d.0.bias"))
    stats = (p(f"conv1d.1.{key}") for key in ("running_mean", "running_var", "weight", "bias"))
    return y.transpose(1, 2) * torch.sigmoid(F.relu(F.batch_norm(w, *stats, training=False)))


def learn(m, u1, u2):
    return torch.softmax(u1 @ m.transpose(1, 2), -1) @ torch.einsum("nlj,jk->nlk", m, u2[0])


def fuse(p, u, z, influence):
    b, t, e = u.shape
    spread = linear(p, "projection", u.reshape(b, e, t)).reshape(b, t, e)
    beta = torch.sigmoid(linear(p, influence, z))
    return beta @ spread + attention(under(p, "spatial_attn"), z).contiguous().reshape(b, t, e)


def merge(p, yf, yb):
    c = torch.cat([yf * mask(yf), yb * mask(yb).flip(1)], -1)
    return linear(p, "pro_to_cat", c) * mask(c)


def residual(p, x, mixer, tokens):
    n = x / (x.pow(2).mean(-1, keepdim=True) + 1e-5).sqrt() * p("norm.weight")
    return layer_norm(p, "layernorm", torch.tanh(mixer(n) + linear(p, "pro", pool(x, tokens))))


def embed(p, name, x):
    return layer_norm(p, f"{name}.2", linear(p, f"{name}.1", layer_norm(p, f"{name}.0", x)))


def wmf(p, outputs):
    w = torch.softmax(p("k_weights"), 0)
    return sum(w[k] * o for k, o in enumerate(outputs)).mean(1)


def head(p, x):
    return linear(p, "mlp_head.3", torch.tanh(linear(p, "mlp_head.0", x)))


def mixer_v1(p, n):
    tokens = p("token_wA_f").shape[1]
    x, z = linear(p, "in_proj_x", n), linear(p, "in_proj_z", n)
    y = []
    for q, x_q in (("f", x), ("b", x.flip(1))):
        f = F.silu(x_q * p(f"conv1d_{q}.weight")[:, 0, 0] + p(f"conv1d_{q}.bias"))
        r = p(f"dt_proj_{q}.weight").shape[1]
        parts = linear(p, f"x_proj_{q}", f)
        delta = F.softplus(linear(p, f"dt_proj_{q}", parts[..., :r]))
        y.append(torch.tanh(s6(f, delta, parts[..., r : r + 16], parts[..., r + 16 :], p(f"A_log_{q}"), p(f"D_{q}"))))
    m = attention(under(p, "spatial_attn"), merge(p, *y)).transpose(1, 2)
    u = learn(m, p("token_wA_f"), p("token_wV_f"))
    return torch.tanh(linear(p, "out_proj", fuse(under(p, "tokenfuser"), u, F.silu(pool(z, tokens)), "Bi")))


def mim_v1(x, state, depth):
    p = _get(state)
    e = under(p, "mim_1.T_mamba")
    outputs = []
    for s in sequences(x):
        used = e("to_patch_embedding.0.weight").shape[0] == s.shape[-1]
        s = (embed(e, "to_patch_embedding", s) if used else s) + e("pos_embedding")
        for _ in range(depth):
            for j in range(depth):
                block = under(e, f"mamba.layers.{j}")
                s = residual(block, s, lambda n, block=block: mixer_v1(under(block, "mamba"), n), 49)
        outputs.append(torch.tanh(layer_norm(e, "layernorm", s)))
    return head(p, wmf(p, outputs))


def vim_v2(p, x):
    q = linear(p, "proj", layer_norm(p, "norm", x))
    out = x
    for name in ("forward_conv1d", "backward_conv1d"):
        f = F.softplus(linear(p, name, q))
        parts = linear(p, "ssm.deltaBC_layer", f)
        delta = F.softplus(linear(p, "ssm.dt_proj_layer", parts[..., :32]))
        out = out + F.silu(q) * s6(f, delta, parts[..., 32:48], parts[..., 48:], p("ssm.A_log"), p("ssm.D"))
    return out


def mixer_v2(p, n, folded):
    if n.shape[-1] == folded:
        n = embed(p, "to_patch_embedding", n)
    x = linear(p, "in_proj_x", n)
    z = linear(p, "in_proj_z", x)
    x = x + p("pos_embedding")
    y = merge(p, torch.tanh(vim_v2(under(p, "vim1"), x)), torch.tanh(vim_v2(under(p, "vim2"), x)))
    u = learn(attention(under(p, "spatial_attn"), y).transpose(1, 2), p("U1"), p("U2"))
    z = F.silu(pool(z, u.shape[1]))
    return torch.tanh(linear(p, "out_proj", fuse(under(p, "tokenfuser"), u, z, "Z")))


def mim_v2(x, state, patch_size):
    p = _get(state)
    folded = x.shape[1] * patch_size**2
    scans = [linear(p, "embed", s) for s in sequences(x)]
    total = 0
    for stage in range(1, 5):
        block = under(p, f"mim_{stage}")
        tokens = block("T_mamba.U1").shape[1]
        mixer = lambda n, block=block: mixer_v2(under(block, "T_mamba"), n, folded)  # noqa: E731
        scans = [residual(block, s, mixer, tokens) for s in scans]
        total = total + wmf(p, scans)
    return head(p, total)


def vim_v3(p, x):
    n = layer_norm(p, "norm", x)
    z, q = F.silu(linear(p, "proj1", n)), linear(p, "proj2", n)
    dim, g, out = x.shape[-1], index_mask(x.shape[1])[:, None], x
    for name in ("forward", "backward"):
        f = F.softplus(linear(p, f"{name}_conv1d", q if name == "forward" else q.flip(1)))
        ssm = under(p, f"{name}_ssm")
        parts = linear(ssm, "deltaBC_layer", f)
        delta = F.softplus(linear(ssm, "dt_proj_layer", parts[..., :dim]))
        y = s6(f, delta, parts[..., dim : 2 * dim], parts[..., 2 * dim :], ssm("A_log"), ssm("D"))
        out = out + z * F.silu((y if name == "forward" else y.flip(1)) * g)
    return out


def mim_v3(x, state, depth, patch_size):
    p, s_p = _get(state), patch_size
    b, c, h, w = x.shape
    grid = x.new_empty(b, c, h // s_p, w // s_p)
    for i in range(h // s_p):
        for j in range(w // s_p):
            cell = [x[:, :, i * s_p + r, j * s_p + s] for r in range(s_p) for s in range(s_p)]
            cell = layer_norm(p, "to_patch_embedding.1", torch.cat(cell, 1))
            grid[:, :, i, j] = layer_norm(p, "to_patch_embedding.3", linear(p, "to_patch_embedding.2", cell))
    e = under(p, "mim_1.T_mamba1")
    outputs = []
    for s in sequences(grid):
        s = (embed(e, "to_patch_embedding", s) if s_p == 1 else s) + e("pos_embedding")
        for _ in range(depth):
            s = vim_v3(under(e, "vim"), s)
        outputs.append(torch.tanh(layer_norm(e, "norm", s)))
    return head(p, wmf(p, outputs))


def _get(state):
    return lambda name, *default: state.get(name, *default) if default else state[name]


class _Maker:
    """Random tensors by name, float64, away from their defaults; steps and gates large enough to matter."""

    def __init__(self, seed):
        self.gen, self.state = torch.Generator().manual_seed(seed), {}

    def draw(self, *shape):
        return torch.randn(shape, generator=self.gen, dtype=torch.float64)

    def tensor(self, name, *shape, scale=1.0):
        self.state[name] = scale * self.draw(*shape)

    def linear(self, name, out, *fan_in, bias=True):
        self.state[f"{name}.weight"] = 1.5 * self.draw(out, *fan_in) / math.prod(fan_in) ** 0.5
        if bias:
            self.state[f"{name}.bias"] = 0.2 * self.draw(out)

    def norm(self, name, width):
        self.state[f"{name}.weight"], self.state[f"{name}.bias"] = 1 + 0.2 * self.draw(width), 0.2 * self.draw(width)

    def attention(self, name):
        self.linear(f"{name}.conv1d.0", 1, 2, 1)
        self.norm(f"{name}.conv1d.1", 1)
        self.state[f"{name}.conv1d.1.running_mean"] = 0.1 * self.draw(1)
        self.state[f"{name}.conv1d.1.running_var"] = (0.3 * self.draw(1)).exp()
        self.state[f"{name}.conv1d.1.num_batches_tracked"] = torch.tensor(2.0)

    def embedding(self, name, chans, dim):
        self.norm(f"{name}.0", chans)
        self.linear(f"{name}.1", dim, chans)
        self.norm(f"{name}.2", dim)

    def tokens(self, name, tokens, d, influence):
        for i in range(tokens):
            self.attention(f"{name}.tokenlearner.tokenizers.{i}")
        self.attention(f"{name}.spatial_attn")
        self.linear(f"{name}.tokenfuser.projection", tokens, tokens)
        self.linear(f"{name}.tokenfuser.{influence}", tokens, d)
        self.attention(f"{name}.tokenfuser.spatial_attn")

    def heads(self, channels, num_classes, dim):
        self.tensor("k_weights", 4)
        self.linear("mlp_head.0", dim, dim)
        self.linear("mlp_head.3", num_classes, dim)

    def regression(self, channels, dim):
        self.linear("regression.0", dim, dim)
        self.linear("regression.3", channels, dim)


def state_v1(channels, num_classes, image_size, patch_size, dim, depth, seed=0):
    """A random official state of v1, with all that it owns and never uses."""
    make = _Maker(seed)
    make.heads(channels, num_classes, dim)
    make.regression(channels, dim)
    d, rank = 2 * dim, math.ceil(dim / 16)
    lengths = (image_size**2, 49, 25, 9, 1)
    for s in range(4):
        top, tokens = f"mim_{s + 1}.T_mamba", lengths[s + 1]
        make.tensor(f"{top}.pos_embedding", 1, lengths[s], dim)
        make.tensor(f"{top}.cls_token", 1, 1, dim)
        make.embedding(f"{top}.to_patch_embedding", channels * patch_size**2, dim)
        make.norm(f"{top}.layernorm", dim)
        make.linear(f"{top}.pro", dim, d)
        for j in range(depth):
            block = f"{top}.mamba.layers.{j}"
            before = set(make.state)
            make.tensor(f"{block}.norm.weight", dim)
            make.linear(f"{block}.pro", dim, dim)
            make.norm(f"{block}.layernorm", dim)
            a = f"{block}.mamba"
            for q in "fb":
                make.tensor(f"{a}.A_log_{q}", d, 16, scale=0.5)
                make.tensor(f"{a}.D_{q}", d)
                make.tensor(f"{a}.token_wA_{q}", 1, tokens, d)
                make.tensor(f"{a}.token_wV_{q}", 1, d, d)
                make.linear(f"{a}.conv1d_{q}", d, 1, 1)
                make.linear(f"{a}.x_proj_{q}", rank + 32, d)
                make.linear(f"{a}.dt_proj_{q}", d, rank)
            make.linear(f"{a}.in_proj_x", d, dim)
            make.linear(f"{a}.in_proj_z", d, dim)
            make.linear(f"{a}.out_proj", dim, d)
            make.linear(f"{a}.pro_to_cat", d, 2 * d)
            make.state[f"{a}.pro_to_cat.weight"] *= 100  # behind two masks of about 1 / L
            make.linear(f"{a}.pro_to_merge", d, d)
            make.linear(f"{a}.pro", d, d)
            make.norm(f"{a}.layernorm", d)
            make.tokens(a, tokens, d, "Bi")
            for name in ("rnn1", "rnn2"):
                for q in range(depth):
                    for kind, shape in (("weight", (4 * d, d)), ("bias", (4 * d,))):
                        make.tensor(f"{a}.{name}.{kind}_ih_l{q}", *shape)
                        make.tensor(f"{a}.{name}.{kind}_hh_l{q}", *shape)
            for name in set(make.state) - before:  # the same tensors under other names
                for i in range(depth):
                    tied = name.replace(f"{top}.mamba.layers.", f"{top}.layers.{i}.layers.")
                    make.state[tied] = make.state[name]
    return make.state


def state_v2(channels, num_classes, image_size, patch_size, dim, seed=0):
    """A random official state of v2, with all that it owns and never uses."""
    make = _Maker(seed)
    make.heads(channels, num_classes, dim)
    make.regression(channels, dim)
    make.linear("embed", dim, channels)
    lengths = (image_size**2, image_size**2, 25, 9, 1)
    for s in range(4):
        block, tokens = f"mim_{s + 1}", lengths[s + 1]
        make.tensor(f"{block}.norm.weight", dim)
        make.linear(f"{block}.pro", dim, dim)
        make.norm(f"{block}.layernorm", dim)
        a = f"{block}.T_mamba"
        make.tensor(f"{a}.pos_embedding", 1, lengths[s], dim)
        make.tensor(f"{a}.cls_token", 1, 1, dim)
        make.tensor(f"{a}.U1", 1, tokens, dim)
        make.tensor(f"{a}.U2", 1, dim, dim)
        for name in ("in_proj_x", "in_proj_z", "out_proj", "pro"):
            make.linear(f"{a}.{name}", dim, dim)
        make.embedding(f"{a}.to_patch_embedding", channels * patch_size**2, dim)
        make.linear(f"{a}.pro_to_cat", dim, 2 * dim)
        make.state[f"{a}.pro_to_cat.weight"] *= 10
        make.linear(f"{a}.pro_to_merge", dim, 2 * dim)
        make.norm(f"{a}.layernorm", dim)
        make.tokens(a, tokens, dim, "Z")
        for v in (f"{a}.vim1", f"{a}.vim2"):
            make.linear(f"{v}.forward_conv1d", dim, dim, 1)
            make.linear(f"{v}.backward_conv1d", dim, dim, 1)
            make.norm(f"{v}.norm", dim)
            make.tensor(f"{v}.ssm.A_log", dim, 16, scale=0.5)
            make.tensor(f"{v}.ssm.D", dim)
            make.linear(f"{v}.ssm.deltaBC_layer", 64, dim, bias=False)
            make.linear(f"{v}.ssm.dt_proj_layer", dim, 32)
            make.linear(f"{v}.proj", dim, dim)
    return make.state


def state_v3(channels, num_classes, image_size, patch_size, dim, depth, seed=0):
    """A random official state of v3, with all that it owns and never uses."""
    make = _Maker(seed)
    make.heads(channels, num_classes, dim)
    folded = channels * patch_size**2
    make.norm("to_patch_embedding.1", folded)
    make.linear("to_patch_embedding.2", channels, folded)
    make.norm("to_patch_embedding.3", channels)
    top = "mim_1.T_mamba1"
    make.tensor(f"{top}.pos_embedding", 1, (image_size // patch_size) ** 2, dim)
    make.embedding(f"{top}.to_patch_embedding", folded, dim)
    make.norm(f"{top}.norm", dim)
    before = set(make.state)
    for name in ("forward", "backward"):
        make.linear(f"{top}.vim.{name}_conv1d", dim, dim, 1)
        make.tensor(f"{top}.vim.{name}_ssm.A_log", dim, dim, scale=0.5)
        make.tensor(f"{top}.vim.{name}_ssm.D", dim)
        make.linear(f"{top}.vim.{name}_ssm.deltaBC_layer", 3 * dim, dim, bias=False)
        make.linear(f"{top}.vim.{name}_ssm.dt_proj_layer", dim, dim)
    make.norm(f"{top}.vim.norm", dim)
    make.linear(f"{top}.vim.proj1", dim, dim)
    make.linear(f"{top}.vim.proj2", dim, dim)
    make.linear(f"{top}.vim.proj3", dim, 2 * dim)
    for name in set(make.state) - before:
        for i in range(depth):
            make.state[name.replace(".vim.", f".layers.{i}.")] = make.state[name]
    return make.state
