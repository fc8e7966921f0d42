"""MSDCNN as plain sums in float64: an oracle written from the equations, by the names of DLPan-Toolbox.

The specification. [A] is the authors' own program (Caffe, MatConvNet), [T] DLPan-Toolbox, [P] PanCollection's options.

- x = [up-sampled MS, PAN]; zeros beyond the border.
- Shallow: convolution 9 wide to 64, ReLU; 1 wide to 32, ReLU; 5 wide to C.
- Deep: 7 wide to 60, ReLU; block of 60; 3 wide to 30, ReLU; block of 30; 5 wide to C. A block of width d joins
  convolutions 3, 5 and 7 wide to d / 3 each: [A] x + ReLU(joined), [T] ReLU(x + joined).
- Result: shallow + deep [A], its ReLU [T].
- Initial weights: normal 0.001, biases 0 [A]; torch's own [T]. 228 556 parameters for 8 bands.
- Training: [A] SGD 0.1 with momentum 0.9, decay 1e-4, gradients clipped at 0.1, rate halved five times, batches of 64,
  squared error; [P] Adam 1e-4, 200 epochs, batches of 64, squared error, counts / 2047.
"""

import torch

from tests.oracles.plain import convolve, with_biases


def _relu(x):
    return x.clamp(min=0)


def _multi_scale(x, state, name, variant):
    found = [convolve(x, state, f"{name}_{i}") for i in (1, 2, 3)]
    if variant == "dlpan":
        return _relu(torch.cat(found, 1) + x)
    return torch.cat([_relu(scale) for scale in found], 1) + x


def msdcnn(pan, lms, state, variant):
    """The sharp image, both branches and what leaves the first multi-scale block."""
    x = torch.cat([lms, pan], 1)
    first = _multi_scale(_relu(convolve(x, state, "conv1")), state, "conv2", variant)
    second = _multi_scale(_relu(convolve(first, state, "conv3")), state, "conv4", variant)
    deep = convolve(second, state, "conv5")
    shallow = _relu(convolve(_relu(convolve(x, state, "shallow1")), state, "shallow2"))
    shallow = convolve(shallow, state, "shallow3")
    sharp = deep + shallow
    return _relu(sharp) if variant == "dlpan" else sharp, deep, shallow, first


def msdcnn_shapes(spectral_num=8, pan_num=1, dims=(60, 30), shallow_dims=(64, 32)):
    """Shapes of the toolbox's tensors."""
    chans = spectral_num + pan_num
    kernels = {"conv1": (dims[0], chans, 7, 7), "conv3": (dims[1], dims[0], 3, 3)}
    for block, dim in zip((2, 4), dims, strict=True):
        kernels |= {f"conv{block}_{i}": (dim // 3, dim, side, side) for i, side in ((1, 3), (2, 5), (3, 7))}
    kernels["conv5"] = (spectral_num, dims[1], 5, 5)
    kernels["shallow1"] = (shallow_dims[0], chans, 9, 9)
    kernels["shallow2"] = (shallow_dims[1], shallow_dims[0], 1, 1)
    return with_biases(kernels | {"shallow3": (spectral_num, shallow_dims[1], 5, 5)})
