"""Shrinkage LDA on means around the pixel: one linear layer, fitted in closed form instead of trained.

Source: linear discriminant analysis (Fisher, Annals of Eugenics 7, 1936) with the covariance of Ledoit and Wolf
(Journal of Multivariate Analysis 88, 2004), on the pixel and its means over windows. On the components of a minimum
noise fraction (`reduction`) it is the classifier to beat where labels are few. `hsmamba.finetune` fits it with
scikit-learn (the `classical` extra); a fitted one is tensors alone and needs none.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from hsmamba.baselines.classification import Batches, discriminants, gather_features
from hsmamba.layers.multiscale import MultiScaleMeans, windows_within
from hsmamba.models._base import Classifier
from hsmamba.models._registry import ModelCfg, register_model

default_cfgs = {
    "lda": ModelCfg(
        summary="shrinkage LDA on means over windows, fitted in closed form",
        citation="Ledoit, Wolf: A well-conditioned estimator for large-dimensional covariance matrices. Journal of "
        "Multivariate Analysis 88, 365-411 (2004). doi:10.1016/S0047-259X(03)00096-4",
        tiny={"in_chans": 6, "aux_chans": 1, "windows": (1, 3)},
    )
}


class ShrinkageLDA(Classifier):
    """Linear discriminant analysis of the means of a patch over windows.

    Args:
        in_chans: Bands (MNF components) of the patch.
        num_classes: Classes K; 0 leaves the head out.
        patch_size: Side P of the patch, at most that of the largest window, which is the default (None). Windows beyond
            it become the patch.
        aux_chans: Channels of the second source, averaged likewise; 0 for none.
        windows: Sides of the windows in pixels; 1 is the pixel itself.

    Shape:
        As for `Classifier`; the logits are log posteriors up to a constant of the sample.

    Raises:
        ValueError: No window, one without a pixel, or a patch that is larger than all of them.
    """

    reduction = "mnf"

    def __init__(
        self,
        in_chans: int = 40,
        num_classes: int = 16,
        patch_size: int | None = None,
        aux_chans: int = 0,
        *,
        windows: tuple[int, ...] = (1, 5, 11),
    ) -> None:
        largest = max(windows, default=0)
        side = largest if patch_size is None else patch_size
        if side > largest:
            raise ValueError(
                f"patch_size is {side}, and no window of {tuple(windows)} reaches so far; leave patch_size out (it is "
                f"{largest} then), or give a larger window"
            )
        super().__init__(in_chans, num_classes, side, aux_chans)
        self.means = MultiScaleMeans(windows_within(windows, side))
        self.add_head(len(self.means.windows) * (in_chans + aux_chans), 0.0)

    def forward_features(self, hsi: Tensor, aux: Tensor | None = None) -> Tensor:
        """Average the sources over the windows, (B, windows * (in_chans + aux_chans))."""
        self.check_inputs(hsi, aux)
        features: Tensor = self.means(hsi) if aux is None else self.means(hsi, aux)
        return features

    @torch.no_grad()
    def fit(self, batches: Batches) -> None:
        """Fit the head on patches, in closed form.

        Args:
            batches: Patches (n, in_chans, P, P), those of the second source or None, and classes (n,) from 0 to K - 1,
                as `hsmamba.data.PatchDataset.batch` gives them.

        Raises:
            MissingExtraError: scikit-learn is not installed.
            SplitError: The patches are of one class alone, or no class has two.
            ValueError: The model has no head.
        """
        if not isinstance(self.head, nn.Linear):
            raise ValueError("the model has no head to fit; give it one with model.reset_classifier(num_classes)")
        weight, bias = discriminants(*gather_features(self.forward_features, batches), self.num_classes)
        self.head.weight.copy_(torch.from_numpy(weight))
        self.head.bias.copy_(torch.from_numpy(bias))


@register_model
def lda(**kwargs: Any) -> ShrinkageLDA:
    """Shrinkage LDA on the pixel and its means over 5 x 5 and 11 x 11."""
    return ShrinkageLDA(**kwargs)
