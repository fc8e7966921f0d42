"""MSDCNN: a shallow and a deep branch of convolutions side by side, the deep one with kernels of three sizes at once.

Paper: Yuan, Wei, Meng, Shen, Zhang, "A Multiscale and Multidepth Convolutional Neural Network for Remote Sensing
Imagery Pan-Sharpening", IEEE JSTARS 11(3) (2018), 978-989, doi 10.1109/JSTARS.2018.2794888.

Two variants with the same tensors:

- "paper": the network that the authors published (Caffe and MatConvNet, github
  Decri/Multi-Scale-and-Depth-CNN-for-Pan-sharpening).
- "dlpan": that of DLPan-Toolbox, where the ReLU of a multi-scale block stands behind the sum with its input instead of
  behind each kernel, and another one at the very end.

The authors begin with normal numbers of deviation 0.001 and train by SGD with clipped gradients; here and in the
toolbox convolutions begin as torch has them.

Written from the equations; the code is ours.
"""

from __future__ import annotations

from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hsmamba.models._base import FusionNetwork
from hsmamba.models._registry import ModelCfg, register_model

default_cfgs = {
    "msdcnn": ModelCfg(
        task="fusion",
        summary="MSDCNN, a shallow and a multi-scale deep branch",
        citation=(
            "Yuan, Wei, Meng, Shen, Zhang: A Multiscale and Multidepth Convolutional Neural Network for Remote Sensing "
            "Imagery Pan-Sharpening. IEEE JSTARS 11(3), 978-989 (2018). doi:10.1109/JSTARS.2018.2794888"
        ),
        train_args={"residual": True},
        tiny={"dims": [6, 3], "shallow_dims": [4, 3]},
    )
}
_SIDES = (3, 5, 7)  # of the kernels of a multi-scale block


def conv(in_chans: int, out_chans: int, side: int) -> nn.Conv2d:
    """Convolution with zeros around the image."""
    return nn.Conv2d(in_chans, out_chans, side, padding=side // 2)


class MultiScaleBlock(nn.Module):
    """Kernels of three sizes, a third of the channels each, added to the input.

    Shape: (B, dim, H, W) -> the same.
    """

    def __init__(self, dim: int, *, relu_last: bool) -> None:
        super().__init__()
        self.relu_last = relu_last
        self.scales = nn.ModuleList(conv(dim, dim // len(_SIDES), side) for side in _SIDES)

    def forward(self, x: Tensor) -> Tensor:
        """Look at three scales."""
        found = torch.cat([scale(x) for scale in self.scales], dim=1)
        return F.relu(x + found) if self.relu_last else x + F.relu(found)


class MSDCNN(FusionNetwork):
    """MSDCNN: shallow(x) + deep(x) of the up-sampled image and the guide, x = [ms_up, guide].

    The shallow branch has kernels of 9, 1 and 5 pixels; the deep one 7, a multi-scale block, 3, another one, 5.

    Args:
        in_chans: Bands of the coarse image.
        guide_chans: Channels of the guide: 1 for PAN, 3 for RGB.
        scale: Ratio between the grids; used only where `ms` is to be up-sampled.
        dims: Channels of the two multi-scale blocks, multiples of 3.
        shallow_dims: Channels of the shallow branch.
        variant: "paper", or "dlpan" for the network of DLPan-Toolbox.
        residual: Add the up-sampled image to the result. The authors' network has to learn that image, which takes it
            many thousands of steps; with this its last kernels begin at a tenth.

    Raises:
        ValueError: Sizes that do not go together.
    """

    layer_groups = {
        "first": r"^(?:shallow\.0|head)",
        "second": r"^(?:shallow\.2|block1)",
        "third": r"^reduce",
        "fourth": r"^block2",
    }

    def __init__(
        self,
        in_chans: int = 8,
        guide_chans: int = 1,
        scale: int = 4,
        *,
        dims: tuple[int, int] = (60, 30),
        shallow_dims: tuple[int, int] = (64, 32),
        variant: Literal["paper", "dlpan"] = "paper",
        residual: bool = False,
    ) -> None:
        super().__init__(in_chans, guide_chans, scale)
        if len(dims) != 2 or len(shallow_dims) != 2 or min(*dims, *shallow_dims) < 1 or any(d % 3 for d in dims):
            raise ValueError(
                f"dims must be two multiples of 3 and shallow_dims two numbers, all positive; got dims={tuple(dims)}, "
                f"shallow_dims={tuple(shallow_dims)}"
            )
        if variant not in ("paper", "dlpan"):
            raise ValueError(f"variant is {variant!r}; it is 'paper' or 'dlpan'")
        self.variant, self.residual = variant, residual
        chans, relu_last = in_chans + guide_chans, variant == "dlpan"
        first, second = shallow_dims
        last = conv(second, in_chans, 5)
        self.shallow = nn.Sequential(conv(chans, first, 9), nn.ReLU(), conv(first, second, 1), nn.ReLU(), last)
        self.head = conv(chans, dims[0], 7)
        self.block1 = MultiScaleBlock(dims[0], relu_last=relu_last)
        self.reduce = conv(dims[0], dims[1], 3)
        self.block2 = MultiScaleBlock(dims[1], relu_last=relu_last)
        self.tail = conv(dims[1], in_chans, 5)
        reach = sum(side // 2 for side in (7, _SIDES[-1], 3, _SIDES[-1], 5))  # of the deep branch, which is the longer
        self.margin = -(-reach // scale)
        if residual:
            for kernel in (last.weight, self.tail.weight):
                kernel.data.mul_(0.1)

    def sharpen(self, ms: Tensor | None, guide: Tensor, ms_up: Tensor) -> Tensor:
        """See `FusionNetwork.forward`."""
        x = torch.cat([ms_up, guide], dim=1)
        deep = self.block1(F.relu(self.head(x)))
        deep = self.tail(self.block2(F.relu(self.reduce(deep))))
        sharp: Tensor = self.shallow(x) + deep
        if self.residual:
            sharp = ms_up + sharp
        return F.relu(sharp) if self.variant == "dlpan" else sharp


@register_model
def msdcnn(**kwargs: Any) -> MSDCNN:
    """MSDCNN as its authors published it: 228 556 parameters with 8 bands and PAN."""
    return MSDCNN(**kwargs)
