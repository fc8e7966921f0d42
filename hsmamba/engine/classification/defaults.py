"""What `finetune` does with few labels a class where its caller says nothing, as the suite `defaults` chose it.

With a dozen labels a class a pass over them is a handful of steps, so that steps are counted and not passes; each pixel
is worth more in the training than in the choice of an epoch; and what surrounds a training pixel tells little of what
surrounds the others, so that it is often erased.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hsmamba.data import PatchDataset, Scene, Split
from hsmamba.engine.classification.runs import ClassificationSettings

_FEW = 30  # training pixels of the class in the middle: the suite has 5, 12 and 25
_STEPS = 300
_BATCH = 32
_WARM_UP = 20  # epochs for each of warm-up
_ONE_SCENE: dict[str, Any] = {"mixup": 0.4, "erase": 0.5, "ema_decay": 0.99}
_OTHER_SCENES = {**_ONE_SCENE, "jitter": 0.3}  # light and air differ, for which offsets of the bands stand


def few_labels(data: Scene | Sequence[Scene] | PatchDataset, split: Split) -> bool:
    """Whether a split has few training pixels: at most 30 of the class in the middle; not where labels are missing."""
    parts = [data.labels] if isinstance(data, (Scene, PatchDataset)) else [scene.labels for scene in data]
    if any(part is None for part in parts):
        return False
    labels: NDArray[Any] = np.concatenate([np.asarray(part).ravel() for part in parts])
    if not split.train.size or split.train.max() >= labels.size:
        return False
    return bool(np.median(np.unique(labels[split.train], return_counts=True)[1]) <= _FEW)


def settings_of_few(
    settings: ClassificationSettings, given: Collection[str], *, pixels: int, scenes: int, whole_images: bool
) -> ClassificationSettings:
    """Change the settings that a caller has not given to those for few labels.

    Args:
        settings: The caller's, and the usual ones.
        given: Names of the caller's.
        pixels: Training pixels.
        scenes: How many scenes there are: where it is more than one, others are to be classified than those of the
            labels.
        whole_images: Whether a step is an image: all labels have a say in each then, and patches are not erased.

    Returns:
        Settings without validation pixels, unless `patience` asks for some. Those for patches have batches alike in
        size, of 32 at most, and as many epochs as make 300 steps.
    """
    found: dict[str, Any] = {} if "patience" in given else {"val_fraction": 0.0}
    if not whole_images:
        found |= _ONE_SCENE if scenes == 1 else _OTHER_SCENES
        size = settings.batch_size if "batch_size" in given else -(-pixels // -(-pixels // _BATCH))
        epochs = settings.epochs if "epochs" in given else -(-_STEPS // -(-pixels // size))
        found |= {"batch_size": size, "epochs": epochs, "warmup_epochs": epochs // _WARM_UP}
    return replace(settings, **{name: value for name, value in found.items() if name not in given})
