"""CF2N as plain functions of a state dictionary: a direct transcription of the reconstruction's equations.

No official network was published, so the names are those of the package.
"""

import torch
import torch.nn.functional as F
from ramsf_oracle import haar, inverse_haar
from rsanet_oracle import adaptive_product, conv, random_state

__all__ = ["cf2n", "random_state"]


def residual_block(x, state, name):
    y = conv(x, state, f"{name}.stem", 1)
    return y + conv(F.leaky_relu(conv(y, state, f"{name}.conv1", 1), 0.01), state, f"{name}.conv2", 1)


def awf(a, b, state, name):
    padding = state[f"{name}.unique.weight"].shape[-1] // 2
    alpha = torch.sigmoid(conv(a - b, state, f"{name}.unique", padding))
    gamma = torch.sigmoid(conv(a + b, state, f"{name}.common", padding))
    return alpha * a + (1 - alpha) * b + (gamma - 0.5) * (a + b)


def low_and_high(x):
    return torch.cat([x.mean(1, keepdim=True), x.max(1, keepdim=True).values], 1)


def depthwise(x, state, name, dilation):
    weight, bias = state[f"{name}.weight"], state[f"{name}.bias"]
    return F.conv2d(x, weight, bias, padding=dilation, dilation=dilation, groups=x.shape[1])


def cross_fusion(x, spectral, state, name):
    # frequency-domain attention
    z = residual_block(x, state, f"{name}.frequency.block")
    taps = torch.sigmoid(conv(low_and_high(z), state, f"{name}.frequency.conv", 1))
    # spectral-domain attention
    z = conv(spectral, state, f"{name}.spectral.conv", 1).flatten(2)
    vectors = []
    for v in (z.max(2).values, z.mean(2)):
        hidden = torch.relu(conv(v[..., None, None], state, f"{name}.spectral.bottleneck.0"))
        vectors.append(conv(hidden, state, f"{name}.spectral.bottleneck.2"))
    gain = 2 * torch.sigmoid(awf(*vectors, state, f"{name}.spectral.fuse"))
    middle = adaptive_product(gain * x, taps, state[f"{name}.weight1"])
    # frequency selection
    u1 = depthwise(middle, state, f"{name}.selection.near", 1)
    u2 = depthwise(u1, state, f"{name}.selection.far", 3)
    a1 = conv(u1, state, f"{name}.selection.half_near")
    a2 = conv(u2, state, f"{name}.selection.half_far")
    w = torch.sigmoid(conv(low_and_high(torch.cat([a1, a2], 1)), state, f"{name}.selection.select", 3))
    q = awf(a1 * w[:, 0:1], a2 * w[:, 1:2], state, f"{name}.selection.fuse")
    taps = torch.sigmoid(conv(q, state, f"{name}.selection.to_taps"))
    gain_here = 2 * torch.sigmoid(conv(q, state, f"{name}.selection.to_gain"))
    return adaptive_product(gain * gain_here * middle, taps, state[f"{name}.weight2"])


def high_pass(x):
    rows = F.pad(x, [2, 2, 2, 2], mode="reflect")
    near = [rows[..., i : i + x.shape[2], j : j + x.shape[3]] for i in range(5) for j in range(5)]
    return x - sum(near) / 25


def cf2n(pan, lms, state, depth, residual=True):
    """Sharp image (N, B, H, W)."""
    spectral = residual_block(lms, state, "head_ms")
    pairs = zip(haar(residual_block(pan, state, "head_guide")), haar(spectral), strict=True)
    ll, hl, lh, hh = (awf(p, m, state, f"bands.{i}") for i, (p, m) in enumerate(pairs))
    r2 = awf(hl + lh, hh, state, "add_hh")
    r3 = awf(r2, ll, state, "add_ll")
    x = residual_block(inverse_haar(r3), state, "encode")
    for i in range(depth - 1):
        g = cross_fusion(x, spectral, state, f"middle.{i}")
        detail_pan = residual_block(high_pass(pan), state, f"injections.{i}.guide")
        detail_ms = residual_block(high_pass(lms), state, f"injections.{i}.ms")
        x = g + awf(detail_pan, detail_ms, state, f"injections.{i}.fuse")
    g = cross_fusion(x, spectral, state, "last")
    return lms + g if residual else g
