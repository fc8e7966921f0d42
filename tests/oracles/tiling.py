"""LE-Mamba's official overlap tiling, pixel by pixel as section 10 of its specification words it. Slow on purpose."""

import math

import numpy as np


def axis_windows(length, window):
    """Number of windows on the grid, and what is left over."""
    stride = window // 4
    return (length - window) // stride + 1, (length - window) % stride


def line(t, count, side, stride):
    """Windows of a row of `count` that pixel `t` is the mean of."""
    if t < stride:
        return [0]
    if t >= (count - 1) * stride + side - stride:
        return [count - 1]
    return [m for m in range(count) if stride <= t - m * stride < side - stride]


def tiled(run, height, width, scale, window=16):
    """Blend `run(a, b) -> (P, P, C)`, the network's answer in the window at coarse offset (a, b)."""
    p, q = window, window // 4
    side, stride = p * scale, q * scale
    (n_h, rest_h), (n_w, rest_w) = axis_windows(height, p), axis_windows(width, p)
    long_h, long_w = (n_h - 1) * stride + side, (n_w - 1) * stride + side
    answers = {}

    def answer(a, b, y, x):
        if (a, b) not in answers:
            answers[a, b] = run(a, b)
        return answers[a, b][y - a * scale, x - b * scale]

    def mean(windows, y, x):
        return np.mean([answer(a, b, y, x) for a, b in windows], axis=0)

    def canvas(y, x):
        if stride <= y < long_h - stride and stride <= x < long_w - stride:
            rows, columns = line(y, n_h, side, stride), line(x, n_w, side, stride)
            return mean([(i * q, j * q) for i in rows for j in columns], y, x)
        if x < side:
            return mean([(i * q, 0) for i in line(y, n_h, side, stride)], y, x)
        if y < side:
            return mean([(0, j * q) for j in line(x, n_w, side, stride)], y, x)
        raise AssertionError("a pixel that the strips should have covered")

    def bottom(y, x):
        return mean([(height - p, j * q) for j in line(x, n_w, side, stride)], y, x)

    def right(y, x):
        return mean([(i * q, width - p) for i in line(y, n_h, side, stride)], y, x)

    seam_h = long_h - math.floor((p - rest_h) / 2 * scale)
    seam_w = long_w - math.floor((p - rest_w) / 2 * scale)
    out = None
    for y in range(height * scale):
        for x in range(width * scale):
            if x < seam_w:
                value = canvas(y, x) if y < seam_h else bottom(y, x)
            else:
                value = right(y, x) if y < seam_h else answer(height - p, width - p, y, x)
            out = np.zeros((height * scale, width * scale, len(value))) if out is None else out
            out[y, x] = value
    return out


def toy_answer(ms, lms, pan, scale, a, b, window=16):
    """The toy network of the specification on one window; images (H, W, C)."""
    fine = slice(a * scale, (a + window) * scale), slice(b * scale, (b + window) * scale)
    y, x = np.mgrid[: window * scale, : window * scale]
    theta = (0.37 * y + 0.91 * x)[..., None]
    nearest = ms[a : a + window, b : b + window].repeat(scale, 0).repeat(scale, 1)
    return 2 * lms[fine] + pan[fine] * np.cos(theta) + np.sin(1.7 * theta) + 0.1 * nearest
