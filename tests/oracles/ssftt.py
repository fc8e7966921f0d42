"""SSFTT as plain sums in float64: an oracle written from the equations, by the names of the official program.

The specification, as public copies of the released network agree on it, and the settings of its training script.

- Patches of 13 x 13 of 30 whitened principal components of the scene, zeros beyond its border.
- 3-D convolution 1 -> 8, 3 x 3 x 3 over (band, row, column), no padding; batch norm; ReLU: (8, 28, 11, 11).
- Filters and bands as one axis, filters outermost (224); 2-D convolution to 64, 3 x 3, no padding; batch norm; ReLU.
- Tokens of the 81 positions X (81, 64): A = softmax over positions of (X Wa^T)^T, Wa (4, 64); T = A (X Wv), Wv
  (64, 64), both first normal with deviations sqrt(2 / (64 * 5)) and sqrt(2 / (64 * 65)).
- A class token (zeros) before them, positions (normal, 0.02) added, dropout 0.1.
- One block: x += attention(LN x); x += W2 GELU(W1 LN x), 8 wide inside; dropout 0.1 after each linear layer.
- Attention: q, k, v by one linear layer with bias, heads inside each; the program has 8 heads and divides by the root
  of the whole width; the default here is 4 heads and the root of a head's width.
- Logits: a linear layer on the class token, without a norm. 153 224 parameters with 16 classes.
- Training: Adam 1e-3, 100 epochs, batches of 64, cross-entropy, no augmentation, 10 % of Indian Pines by class.
"""

import math

import torch

BLOCK = "transformer.layers.{}."


def _convolve(x, state, name):
    """ReLU of the normalised sum over the taps, without padding; x (B, C, *sides), kernel (O, C, *taps)."""
    weight = state[f"{name}.0.weight"]
    shape = [side - taps + 1 for side, taps in zip(x.shape[2:], weight.shape[2:], strict=True)]
    out = state[f"{name}.0.bias"].view(-1, *[1] * len(shape)).expand(len(x), -1, *shape).clone()
    for place in torch.cartesian_prod(*map(torch.arange, weight.shape[2:])).tolist():
        window = x[(..., *(slice(i, i + n) for i, n in zip(place, shape, strict=True)))]
        out += torch.einsum("bc...,oc->bo...", window, weight[(..., *place)])
    gain = state[f"{name}.1.weight"] / (state[f"{name}.1.running_var"] + 1e-5).sqrt()
    shift = state[f"{name}.1.bias"] - gain * state[f"{name}.1.running_mean"]
    along = (-1, *[1] * len(shape))
    return (out * gain.view(along) + shift.view(along)).clamp(min=0)


def _linear(x, state, name):
    return torch.einsum("...c,oc->...o", x, state[f"{name}.weight"]) + state[f"{name}.bias"]


def _norm(x, state, name):
    centred = x - x.mean(-1, keepdim=True)
    return (
        centred / (centred.square().mean(-1, keepdim=True) + 1e-5).sqrt() * state[f"{name}.weight"]
        + state[f"{name}.bias"]
    )


def _softmax(x):
    powers = (x - x.amax(-1, keepdim=True)).exp()
    return powers / powers.sum(-1, keepdim=True)


def _attend(x, state, name, heads, scale_by):
    width = x.shape[-1]
    part = width // heads
    root = math.sqrt(width if scale_by == "width" else part)
    qkv = _linear(x, state, f"{name}.to_qkv")
    found = []
    for h in range(heads):
        q, k, v = (qkv[..., i * width + h * part : i * width + (h + 1) * part] for i in range(3))
        found.append(_softmax(torch.einsum("bnd,bmd->bnm", q, k) / root) @ v)
    return _linear(torch.cat(found, -1), state, f"{name}.nn1")


def ssftt(x, state, heads, scale_by="width"):
    """Logits (B, K), tokens (B, T, C) and the feature map (B, C, P - 4, P - 4) of patches x (B, D, P, P)."""
    cube = _convolve(x[:, None], state, "conv3d_features")
    merged = torch.cat([cube[:, f] for f in range(cube.shape[1])], dim=1)
    features = _convolve(merged, state, "conv2d_features")
    positions = features.reshape(*features.shape[:2], -1).transpose(1, 2)
    weights = _softmax(torch.einsum("tc,blc->btl", state["token_wA"][0], positions))
    tokens = torch.einsum("btl,blc,cd->btd", weights, positions, state["token_wV"][0])
    h = torch.cat([state["cls_token"].repeat(len(x), 1, 1), tokens], 1) + state["pos_embedding"]
    depth = 0
    while f"{BLOCK.format(depth)}0.fn.norm.weight" in state:
        block = BLOCK.format(depth)
        h = h + _attend(_norm(h, state, f"{block}0.fn.norm"), state, f"{block}0.fn.fn", heads, scale_by)
        inner = _linear(_norm(h, state, f"{block}1.fn.norm"), state, f"{block}1.fn.fn.net.0")
        inner = inner * 0.5 * (1 + torch.erf(inner / math.sqrt(2)))
        h = h + _linear(inner, state, f"{block}1.fn.fn.net.3")
        depth += 1
    return _linear(h[:, 0], state, "nn1"), tokens, features


def random_state(bands, classes, tokens, dim, mlp_dim, depth, filters=8, seed=0):
    """A random official state, float64, every value away from its default."""
    gen = torch.Generator().manual_seed(seed)
    state = {}

    def draw(name, *shape, around=0.0, size=None):
        size = size or (torch.Size(shape[1:]).numel() or 1) ** -0.5
        state[name] = around + size * torch.randn(shape, generator=gen, dtype=torch.float64)

    def affine(name, *shape):
        draw(f"{name}.weight", *shape)
        draw(f"{name}.bias", shape[0], size=0.2)

    def normed(name, width):
        draw(f"{name}.weight", width, around=1.0, size=0.2)
        draw(f"{name}.bias", width, size=0.2)

    for name, shape in (("conv3d", (filters, 1, 3, 3, 3)), ("conv2d", (dim, filters * (bands - 2), 3, 3))):
        affine(f"{name}_features.0", *shape)
        normed(f"{name}_features.1", shape[0])
        draw(f"{name}_features.1.running_mean", shape[0], size=0.2)
        state[f"{name}_features.1.running_var"] = (
            0.3 * torch.randn(shape[0], generator=gen, dtype=torch.float64)
        ).exp()
        state[f"{name}_features.1.num_batches_tracked"] = torch.tensor(7)
    draw("token_wA", 1, tokens, dim, size=0.5)
    draw("token_wV", 1, dim, dim, size=dim**-0.5)
    draw("pos_embedding", 1, tokens + 1, dim, size=0.5)
    draw("cls_token", 1, 1, dim, size=0.5)
    for block in map(BLOCK.format, range(depth)):
        normed(f"{block}0.fn.norm", dim)
        affine(f"{block}0.fn.fn.to_qkv", 3 * dim, dim)
        affine(f"{block}0.fn.fn.nn1", dim, dim)
        normed(f"{block}1.fn.norm", dim)
        affine(f"{block}1.fn.fn.net.0", mlp_dim, dim)
        affine(f"{block}1.fn.fn.net.3", dim, mlp_dim)
    affine("nn1", classes, dim)
    return state
