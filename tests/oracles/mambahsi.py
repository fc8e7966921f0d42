"""MambaHSI as plain functions of an official state dictionary: an oracle written from the equations alone.

The specification, for a hyperspectral image X (B, C, H, W); names of tensors are those that the released program saves.

- `patch_embedding`: 1x1 convolution C -> D, group norm (G groups, eps 1e-5), SiLU.
- `mamba.0`, `mamba.2`, `mamba.4`: encoders; between them means of 2 x 2 pixels, an odd last row or column left out.
- Encoder, with (a, b) = softmax(weights): X + a spa(X) + b spe(X).
- spa(X) = X + SiLU(GN(Mamba(pixels of X row by row))), one sequence of H W steps of width D.
- spe(X) = X + SiLU(GN(Mamba(groups of X))): a sequence for each pixel, whose T steps are groups of the D channels.
  (The program would fill up the last group with zeros, and then cannot add X: so T divides D.)
- Mamba of width w: [u | z] = W_in x, d = 2 w each; u = SiLU(causal depthwise convolution of 4 taps, with bias);
  [r | B | C] = W_x u, r of ceil(w / 16) numbers, B and C of 16; delta = softplus(W_dt r + b_dt); A = -exp(A_log);
  h_t = exp(delta_t A) h_(t-1) + delta_t B_t u_t; y_t = C_t h_t + D u_t; output W_out (y SiLU(z)).
- `cls_head`: 1x1 convolution D -> 128, group norm, SiLU, 1x1 convolution 128 -> K.
- Logits are interpolated to (H, W), bilinear with corners aligned.

Settings of the program: D = 128, three encoders, T = 4, G = 4; each band of the scene brought from its percentiles 2
and 98 to 0 and 1 and clipped; Adam, learning rate 3e-4, no decay, 200 epochs of one step on the whole image (of Houston
and HanChuan two, on halves that overlap by ten rows), cross-entropy of the training pixels; 30 pixels of each class
train, 10 choose the epoch, the others test; seeds 0 to 9.
"""

import math

import torch
import torch.nn.functional as F

from tests.oracles.le_mamba import scan


def norm_act(x, state, name, groups):
    return F.silu(F.group_norm(x, groups, state[f"{name}.weight"], state[f"{name}.bias"], 1e-5))


def mamba(x, state, name):
    """(B, L, w) -> the same."""
    projected = x @ state[f"{name}.in_proj.weight"].T
    d = projected.shape[-1] // 2
    u, z = projected[..., :d].transpose(1, 2), projected[..., d:]
    weight = state[f"{name}.conv1d.weight"]
    u = F.silu(F.conv1d(F.pad(u, (weight.shape[-1] - 1, 0)), weight, state[f"{name}.conv1d.bias"], groups=d))
    A_log = state[f"{name}.A_log"]
    n, rank = A_log.shape[1], state[f"{name}.dt_proj.weight"].shape[1]
    q = torch.einsum("ce,bel->bcl", state[f"{name}.x_proj.weight"], u)
    delta = torch.einsum("dr,brl->bdl", state[f"{name}.dt_proj.weight"], q[:, :rank])
    into, out_of = q[:, rank : rank + n], q[:, rank + n :]
    y = scan(u, delta, -A_log.exp(), into, out_of, state[f"{name}.D"], state[f"{name}.dt_proj.bias"])[0]
    return (y.transpose(1, 2) * F.silu(z)) @ state[f"{name}.out_proj.weight"].T


def spatial(x, state, name, groups):
    h, w = x.shape[2:]
    sequence = torch.stack([x[:, :, t // w, t % w] for t in range(h * w)], dim=1)  # (B, H W, D)
    y = mamba(sequence, state, f"{name}.mamba")
    image = torch.stack([torch.stack([y[:, i * w + j] for j in range(w)], -1) for i in range(h)], -2)
    return x + norm_act(image, state, f"{name}.proj.0", groups)


def spectral(x, state, name, groups, tokens):
    b, d, h, w = x.shape
    wide = d // tokens
    steps = torch.stack([x[:, t * wide : (t + 1) * wide] for t in range(tokens)], dim=1)  # (B, T, g, H, W)
    steps = steps.permute(0, 3, 4, 1, 2).reshape(b * h * w, tokens, wide)
    y = mamba(steps, state, f"{name}.mamba").reshape(b, h, w, d).permute(0, 3, 1, 2)
    return x + norm_act(y, state, f"{name}.proj.0", groups)


def mambahsi(x, state, groups, tokens, taps=None):
    """Logits (B, K, H, W) of images (B, C, H, W); what leaves each encoder goes into `taps`."""
    size = x.shape[2:]
    x = F.conv2d(x, state["patch_embedding.0.weight"], state["patch_embedding.0.bias"])
    x = norm_act(x, state, "patch_embedding.1", groups)
    for i in range(0, 1 + max(int(key.split(".")[1]) for key in state if key.startswith("mamba.")), 2):
        if i:
            h, w = x.shape[2] // 2 * 2, x.shape[3] // 2 * 2
            x = (x[..., :h:2, :w:2] + x[..., 1:h:2, :w:2] + x[..., :h:2, 1:w:2] + x[..., 1:h:2, 1:w:2]) / 4
        share = state[f"mamba.{i}.weights"].exp() / state[f"mamba.{i}.weights"].exp().sum()
        a = spatial(x, state, f"mamba.{i}.spa_mamba", groups)
        b = spectral(x, state, f"mamba.{i}.spe_mamba", groups, tokens)
        x = x + share[0] * a + share[1] * b
        if taps is not None:
            taps[f"encoder{i // 2}"] = x
    x = F.conv2d(x, state["cls_head.0.weight"], state["cls_head.0.bias"])
    x = norm_act(x, state, "cls_head.1", groups)
    x = F.conv2d(x, state["cls_head.3.weight"], state["cls_head.3.bias"])
    return F.interpolate(x, size, mode="bilinear", align_corners=True)


def random_state(bands, classes, dim, tokens=4, depth=3, neck=8, d_state=3, d_conv=4, expand=2, seed=0):
    """An official state of any sizes, float64."""
    generator = torch.Generator().manual_seed(seed)
    state = {}

    def draw(*shape):
        return torch.randn(shape, generator=generator, dtype=torch.float64)

    def weight(name, out, *into, bias=True):
        state[f"{name}.weight"] = draw(out, *into) / math.prod(into) ** 0.5
        if bias:
            state[f"{name}.bias"] = 0.3 * draw(out)

    def affine(name, width):
        state[f"{name}.weight"], state[f"{name}.bias"] = 1 + 0.3 * draw(width), 0.3 * draw(width)

    def block(name, width):
        d, rank = expand * width, math.ceil(width / 16)
        weight(f"{name}.mamba.in_proj", 2 * d, width, bias=False)
        weight(f"{name}.mamba.conv1d", d, 1, d_conv)
        weight(f"{name}.mamba.x_proj", rank + 2 * d_state, d, bias=False)
        weight(f"{name}.mamba.dt_proj", d, rank)
        weight(f"{name}.mamba.out_proj", width, d, bias=False)
        state[f"{name}.mamba.A_log"], state[f"{name}.mamba.D"] = 0.5 * draw(d, d_state), 1 + 0.3 * draw(d)
        affine(f"{name}.proj.0", dim)

    weight("patch_embedding.0", dim, bands, 1, 1)
    affine("patch_embedding.1", dim)
    for i in range(0, 2 * depth, 2):
        state[f"mamba.{i}.weights"] = draw(2)
        block(f"mamba.{i}.spa_mamba", dim)
        block(f"mamba.{i}.spe_mamba", dim // tokens)
    weight("cls_head.0", neck, dim, 1, 1)
    affine("cls_head.1", neck)
    weight("cls_head.3", classes, neck, 1, 1)
    return state
