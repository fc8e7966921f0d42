"""Shrinkage LDA on components that are diffused over the image at several ranges: the mean of nested ones.

Windows around a pixel mix what lies beyond an edge into it; diffusion on the image's own graph (`hsmamba.data.Diffuse`)
smooths within the ground that the pixel belongs to, near and far. A linear discriminant analysis of the pixel alone,
one of it and its nearest range, and so on, are fitted in closed form, for the components of each estimate of the noise
apart; the mean of their log posteriors is one linear layer. What is near carries over to other scenes, what is far
knows the field that a pixel lies in; their mean needs no choice between them, for which few labels are too few.

Source: linear discriminant analysis with the covariance of Ledoit and Wolf (Journal of Multivariate Analysis 88, 2004);
a mean of log posteriors is the logarithmic opinion pool (Genest, Zidek, Statistical Science 1, 1986, section 3).
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from hsmamba.baselines.classification import Batches, discriminants, gather_features
from hsmamba.layers.multiscale import MultiScaleMeans, windows_within
from hsmamba.models._base import Classifier
from hsmamba.models._registry import ModelCfg, register_model

# LDA on neighbouring training pixels is far too sure of itself. On held-out clusters of the training pixels of five
# scenes the best temperature was 5 to 50; it changes no label, but lets an ensemble hear its other members. Fitted on
# many pixels it is righter, and is to be heard beside trees, which are sure of all that they have seen: on plots of
# IDTReeS and tiles of EnMAP that are for training, 3 was better than 10.
_TEMPERATURE, _OF_MANY = 10.0, 3.0
_MANY = 10  # training pixels a feature
_WINDOWS = (1, 5)  # of the second source

default_cfgs = {
    "graph_lda": ModelCfg(
        summary="mean of shrinkage LDAs on components diffused over the image, fitted in closed form",
        citation="Ledoit, Wolf: A well-conditioned estimator for large-dimensional covariance matrices. Journal of "
        "Multivariate Analysis 88, 365-411 (2004). doi:10.1016/S0047-259X(03)00096-4",
        tiny={"in_chans": 24, "aux_chans": 1},
    )
}


class GraphLDA(Classifier):
    """Mean of linear discriminant analyses of diffused components.

    Args:
        in_chans: Channels: for each level as many components, of which the last third are `MNF`'s spectral ones.
        num_classes: Classes K; 0 leaves the head out.
        patch_size: Side P of the patch, of which the centre counts, and 5 x 5 of the second source; default 1, or 5
            with a second source.
        aux_chans: Channels of the second source, as they are and averaged over 5 x 5; 0 for none.
        levels: How often the components come in `in_chans`: as they are, and diffused with the first shares of
            `Diffuse()`. 4 to complete a scene; 2, and half the `in_chans`, to classify other scenes than those of the
            training.

    Shape:
        As for `Classifier`; the logits are a tenth of the mean log posteriors, up to a constant of the sample; a third
        of them where the training pixels are ten a feature or more.

    Raises:
        ValueError: `in_chans` that are no multiple of `levels`, or a patch larger than 5.
    """

    reduction = "diffused"

    def __init__(
        self,
        in_chans: int = 240,
        num_classes: int = 16,
        patch_size: int | None = None,
        aux_chans: int = 0,
        *,
        levels: int = 4,
    ) -> None:
        if levels < 1 or in_chans < levels or in_chans % levels:
            raise ValueError(
                f"in_chans is {in_chans}; it is {levels} times the number of components, for each comes diffused, too"
            )
        side = (_WINDOWS[-1] if aux_chans else 1) if patch_size is None else patch_size
        if side > _WINDOWS[-1]:
            raise ValueError(
                f"patch_size is {side}; it is at most {_WINDOWS[-1]}, for the centre alone counts, and as much of a "
                "second source: leave it out"
            )
        super().__init__(in_chans, num_classes, side, aux_chans)
        self.levels = levels
        self.means = MultiScaleMeans(windows_within(_WINDOWS, side))
        self.add_head(in_chans + len(self.means.windows) * aux_chans, 0.0)

    def forward_features(self, hsi: Tensor, aux: Tensor | None = None) -> Tensor:
        """Take the centre, and the means of the second source: (B, num_features)."""
        self.check_inputs(hsi, aux)
        centre = hsi[..., hsi.shape[2] // 2, hsi.shape[3] // 2]
        return centre if aux is None else torch.cat([centre, self.means(aux)], dim=1)

    @torch.no_grad()
    def fit(self, batches: Batches) -> None:
        """Fit the head in closed form; arguments and errors are those of `ShrinkageLDA.fit`."""
        if not isinstance(self.head, nn.Linear):
            raise ValueError("the model has no head to fit; give it one with model.reset_classifier(num_classes)")
        features, target = gather_features(self.forward_features, batches)
        weight, bias = np.zeros(self.head.weight.shape), np.zeros(self.num_classes)
        temperature = _OF_MANY if len(target) >= _MANY * self.num_features else _TEMPERATURE
        groups = self._groups()
        for columns in groups:
            part_weight, part_bias = discriminants(features[:, columns], target, self.num_classes)
            weight[:, columns] += part_weight / len(groups)
            bias += part_bias / len(groups)
        self.head.weight.copy_(torch.from_numpy(weight / temperature))
        self.head.bias.copy_(torch.from_numpy(bias / temperature))

    def _groups(self) -> list[list[int]]:
        """Columns of the features of each LDA: the first levels of a part of the components, and the second source."""
        count = self.in_chans // self.levels
        parts = [part for part in (range(count - count // 3), range(count - count // 3, count)) if part]
        beside = list(range(self.in_chans, self.num_features))
        return [
            [level * count + k for level in range(last + 1) for k in part] + beside
            for part in parts
            for last in range(self.levels)
        ]


@register_model
def graph_lda(**kwargs: Any) -> GraphLDA:
    """Mean of shrinkage LDAs on 60 components, as they are and diffused at three ranges."""
    return GraphLDA(**kwargs)
