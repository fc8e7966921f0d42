"""PanNet as plain sums in float64: an oracle written from the equations, by the names of DLPan-Toolbox.

The specification. [A] is the first author's training program (TensorFlow), [T] DLPan-Toolbox; they agree.

- high(I) = I less its mean over 5 x 5, the border mirrored without its own sample, of MS and PAN each on its own
  grid.
- Up-sampling of high(MS): transposed convolution C -> C with bias, 8 wide, stride 4, padding 2. Here for a ratio r: 2 r
  wide, stride r, padding ceil(r / 2), output padding r mod 2.
- Both together -> convolution 3 x 3 to 32, ReLU -> 4 blocks x + conv(ReLU(conv(x))), 3 x 3, 32 -> convolution 3 x 3 to
  C, zeros beyond the border. Result: that and the up-sampled MS.
- Initial weights: normal, cut at two deviations of sqrt(1.3 * 2 / fan_in); biases 0. 83 024 parameters for 8 bands.
- Training: squared error, Adam 1e-3, batches of 32, crops of 64, counts / 2047; [T] 450 epochs at a constant rate.
"""

import torch

from tests.oracles.plain import convolve, with_biases


def high_pass(image, side):
    """An image less its mean over a square; what lies beyond the border is the mirrored image."""
    height, width = image.shape[2:]

    def mirrored(i, length):
        while length > 1 and not 0 <= i < length:
            i = -i if i < 0 else 2 * (length - 1) - i
        return i if length > 1 else 0

    total, half = torch.zeros_like(image), side // 2
    for i in range(-half, half + 1):
        for j in range(-half, half + 1):
            rows = [mirrored(y + i, height) for y in range(height)]
            total = total + image[:, :, rows][..., [mirrored(x + j, width) for x in range(width)]]
    return image - total / side**2


def enlarge(image, state, ratio):
    """The transposed convolution: each sample lays its kernel of 2 r samples down around its place."""
    weight, (height, width) = state["deconv.weight"], image.shape[2:]
    first = (ratio + 1) // 2
    out = image.new_zeros(len(image), weight.shape[1], (height + 2) * ratio, (width + 2) * ratio)
    for y in range(height):
        for x in range(width):
            laid = torch.einsum("bc,coij->boij", image[:, :, y, x], weight)
            out[:, :, y * ratio : (y + 2) * ratio, x * ratio : (x + 2) * ratio] += laid
    out = out[..., first : first + height * ratio, first : first + width * ratio]
    return out + state["deconv.bias"].view(1, -1, 1, 1)


def pannet(ms, pan, lms, state, ratio=4, box=5):
    """The sharp image, what enters the residual blocks and the enlarged high-pass image."""
    up = enlarge(high_pass(ms, box), state, ratio)
    start = x = convolve(torch.cat([up, high_pass(pan, box)], 1), state, "conv1").clamp(min=0)
    block = 1
    while f"res{block}.conv20.weight" in state:
        x = x + convolve(convolve(x, state, f"res{block}.conv20").clamp(min=0), state, f"res{block}.conv21")
        block += 1
    return lms + convolve(x, state, "conv3"), start, up


def pannet_shapes(spectral_num=8, pan_num=1, channel=32, num_res=4, ratio=4):
    """Shapes of the toolbox's tensors."""
    kernels = {"deconv": (spectral_num, spectral_num, 2 * ratio, 2 * ratio)}
    kernels["conv1"] = (channel, spectral_num + pan_num, 3, 3)
    for i in range(num_res):
        kernels |= {f"res{i + 1}.conv2{j}": (channel, channel, 3, 3) for j in (0, 1)}
    return with_biases(kernels | {"conv3": (spectral_num, channel, 3, 3)})
