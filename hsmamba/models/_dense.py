"""Classifiers of whole images: every pixel of an image gets its logits at once."""

from __future__ import annotations

from torch import Tensor

from hsmamba.models._base import Classifier


class DenseClassifier(Classifier):
    """A classifier without patches: it takes an image and gives logits for each of its pixels.

    A version implements `forward_features`, which begins with `check_inputs` and gives the features of every pixel; the
    head is a linear layer on each. `patch_size` is None, by which the engine knows such a network.

    Args:
        in_chans: Bands of the (transformed) image.
        num_classes: Classes K; 0 for no head.
        aux_chans: Channels of the second source; 0 for a network of one source.
        window: See `Classifier`.

    Shape:
        hsi: (B, in_chans, H, W), aux: (B, aux_chans, H, W), float, of any size. Output: logits (B, num_classes, H, W),
        or features (B, num_features, H, W) without a head.

    Raises:
        ValueError: A window below 8 pixels.
    """

    SIZES = ("in_chans", "num_classes", "aux_chans")

    def __init__(self, in_chans: int, num_classes: int, aux_chans: int = 0, *, window: int = 1024) -> None:
        super().__init__(in_chans, num_classes, None, aux_chans)
        if window < 8:
            raise ValueError(f"window is {window}; windows overlap by a quarter of their side, and have at least 8")
        self.window = window

    def forward_head(self, x: Tensor, pre_logits: bool = False) -> Tensor:
        """Classify features (B, num_features, H, W): (B, num_classes, H, W), or themselves with `pre_logits`."""
        x = self.head_drop(x)
        return x if pre_logits else self.head(x.movedim(1, -1)).movedim(-1, 1)
