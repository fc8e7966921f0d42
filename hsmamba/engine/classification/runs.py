"""Training runs of classifiers: what a batch is, its loss and its validation, of patches and of whole images."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from hsmamba.data import PatchDataset, Split, augment_d4, erase_rim
from hsmamba.engine.classification.classes import class_names
from hsmamba.engine.classification.images import cut_image, filled, fits_whole
from hsmamba.engine.classification.predict import predict_items
from hsmamba.engine.parallel import Group, group
from hsmamba.engine.settings import TrainingSettings
from hsmamba.engine.training import Record, Run, Sums
from hsmamba.errors import TrainingError
from hsmamba.metrics import ClassificationReport
from hsmamba.models import Classifier, TrainingLogits


@dataclass(frozen=True)
class ClassificationSettings(TrainingSettings):
    """What decides the course of a classifier's training run; further fields are those of `TrainingSettings`.

    With few labels `finetune` begins with other values of some (`hsmamba.engine.classification.defaults`).

    A step of a network of whole images is an image, or a window of one: it has no use for `batch_size`, and takes no
    `mixup` and no `erase`, which are for patches. `augment` flips and turns its images, `jitter` shifts their bands.

    Attributes:
        label_smoothing: Of the cross-entropy.
        class_weights: "balanced" (inverse frequency among the training pixels), K numbers, or None.
        mixup: Alpha of mixup; 0 for none.
        jitter: Standard deviation of an offset added to the transformed bands, one draw for each channel of each patch;
            0 for none.
        erase: Probability that the outer rings of a patch are set to 0 (`hsmamba.data.erase_rim`); 0 for none.
        val_fraction: Share of each class's training pixels set aside for validation where the split has none.
    """

    label_smoothing: float = 0.1
    class_weights: Literal["balanced"] | Sequence[float] | None = None
    mixup: float = 0.0
    jitter: float = 0.0
    erase: float = 0.0
    val_fraction: float = 0.1

    def __post_init__(self) -> None:
        super().__post_init__()
        self.check_at_least(mixup=0, jitter=0, erase=0)
        self.check_below_one("label_smoothing", "val_fraction")
        weights = self.class_weights
        if not (weights is None or weights == "balanced" or _usable(weights)):
            raise ValueError(
                f"class_weights is {weights!r}; it is 'balanced', None or a finite number for each class, none below 0 "
                "and one above"
            )


def _usable(weights: Any) -> bool:
    """Whether weights are numbers that a loss can be made of."""
    numbers = isinstance(weights, tuple) and all(type(w) in (int, float) and 0 <= w < float("inf") for w in weights)
    return numbers and sum(weights) > 0


class PatchRun(Run[Classifier]):
    """The training run of a classifier of patches."""

    settings: ClassificationSettings
    steady = True
    least = 2  # norms of networks that end in one value a sample have no variance of one
    shown = ("loss", "val_oa")

    def __init__(
        self,
        model: Classifier,
        dataset: PatchDataset,
        split: Split,
        settings: ClassificationSettings,
        device: torch.device | str | None,
    ) -> None:
        self.dataset, self.split, self.validates = dataset, split, split.val.size > 0
        self.num_classes = model.num_classes
        super().__init__(model, settings, split.sha256, self._steps(model, settings), device)
        self.weight = self._class_weights()

    def _steps(self, model: Classifier, settings: ClassificationSettings) -> int:
        """Count the steps of an epoch."""
        return -(-self.split.train.size // settings.batch_size)

    def _class_weights(self) -> Tensor | None:
        weights, num_classes = self.settings.class_weights, self.num_classes
        if weights is None:
            return None
        if weights == "balanced":
            counts = np.bincount(self.dataset.labels[self.split.train], minlength=num_classes + 1)[1:]
            present = counts > 0  # a class without pixels has no say, not the greatest one
            weights = list(np.where(present, counts.sum() / (present.sum() * np.maximum(counts, 1)), 0.0))
        if len(weights) != num_classes:
            raise ValueError(f"class_weights is {weights!r}; it is 'balanced', None or {num_classes} numbers")
        return torch.tensor(weights, dtype=torch.float32, device=self.device)

    def batches(self, generator: torch.Generator) -> Iterator[tuple[list[Tensor], Tensor]]:
        """Give all training patches once, in random order."""
        size = self.settings.batch_size
        order = self.split.train[torch.randperm(self.split.train.size, generator=generator).numpy()]
        for start in range(0, order.size, size):
            yield self._batch(order[start : start + size], generator)

    def loss(self, batch: tuple[list[Tensor], Tensor]) -> tuple[Tensor, int, Sums]:
        """Cross-entropy, or the network's own loss."""
        inputs, target = batch
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.settings.amp):
            output: Tensor | TrainingLogits = self.model(*inputs)
        options: dict[str, Any] = {"weight": self.weight, "label_smoothing": self.settings.label_smoothing}
        if isinstance(output, Tensor):
            logits, loss = output, F.cross_entropy(output.float(), target, **options)
        else:  # a network with outputs for training alone, which bring their loss
            logits, loss = output.logits, output.loss(target, **options)
        return loss, len(target), {"train_oa": (logits.argmax(1) == target.argmax(1)).sum()}

    def judge(self, model: Classifier) -> tuple[Record, tuple[float, float]]:
        """Overall accuracy, then loss."""
        report, loss = validate(model, self.dataset, self.split, self.device, self.group)
        return figures_of(report, loss), (report.oa, -loss)

    def _batch(self, items: NDArray[np.int64], generator: torch.Generator) -> tuple[list[Tensor], Tensor]:
        """Cut and augment patches; the target is (N, K) probabilities, mixed where the patches are."""
        hsi, aux, labels = self.dataset.batch(items)
        sources = [hsi] if aux is None else [hsi, aux]
        target = F.one_hot(labels, self.num_classes).float()
        if self.settings.augment:
            sources = list(augment_d4(*sources, generator=generator))
        if self.settings.jitter:
            sources = [x + self.settings.jitter * torch.randn(*x.shape[:2], 1, 1, generator=generator) for x in sources]
        if self.settings.erase:
            sources = list(erase_rim(*sources, probability=self.settings.erase, generator=generator))
        if self.settings.mixup:
            # A Beta draw as a ratio of Gamma draws would use the global state: numpy's generator is seeded from ours.
            draw = np.random.default_rng(int(torch.randint(2**31, (1,), generator=generator)))
            share = float(draw.beta(self.settings.mixup, self.settings.mixup))
            other = torch.randperm(len(items), generator=generator)
            sources = [share * x + (1 - share) * x[other] for x in sources]
            target = share * target + (1 - share) * target[other]
        return [x.to(self.device) for x in sources], target.to(self.device)


class ImageRun(PatchRun):
    """The training run of a network of whole images: a step is an image, whose training pixels alone have a loss.

    Of a scene that is larger than the network's window, an epoch has as many random windows as it takes to cover it,
    each around a training pixel.

    Raises:
        TrainingError: There are several processes.
        ValueError: Settings that are for patches.
    """

    steady = False  # images have sizes of their own, and the number of their training pixels is asked for

    def _steps(self, model: Classifier, settings: ClassificationSettings) -> int:
        """See `PatchRun`."""
        name = model.architecture or type(model).__name__
        if group().size > 1:
            raise TrainingError(
                f"{name} takes whole images, and a step is one image, which processes cannot share; start it in one "
                "process, and other seeds or scenes in others"
            )
        if settings.mixup or settings.erase:
            raise ValueError(f"mixup and erase are for patches, and {name} takes whole images; leave them out, or 0")
        self._window = model.window
        groups = self.dataset.groups[self.split.train]
        self._scenes = [int(k) for k in np.unique(groups) for _ in range(self._windows_of(int(k)))]
        return len(self._scenes)

    def _windows_of(self, scene: int) -> int:
        """Count the windows that cover a scene."""
        return sum(map(len, cut_image(self.dataset.image(scene)[2].shape, self._window)))

    def batches(self, generator: torch.Generator) -> Iterator[tuple[list[Tensor], Tensor]]:
        """Give images (1, C, h, w) of each source and the classes (h, w) of their pixels, -1 where none trains."""
        for number in torch.randperm(len(self._scenes), generator=generator).tolist():
            yield self._image(self._scenes[number], generator)

    def loss(self, batch: tuple[list[Tensor], Tensor]) -> tuple[Tensor, int, Sums]:
        """Cross-entropy of the training pixels."""
        inputs, classes = batch
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.settings.amp):
            output = torch.as_tensor(self.model(*inputs))
        chosen = classes >= 0
        logits, labels = output[0, :, chosen].mT.float(), classes[chosen]
        target = F.one_hot(labels, self.num_classes).float()
        loss = F.cross_entropy(logits, target, weight=self.weight, label_smoothing=self.settings.label_smoothing)
        return loss, len(labels), {"train_oa": (logits.argmax(1) == labels).sum()}

    def _image(self, scene: int, generator: torch.Generator) -> tuple[list[Tensor], Tensor]:
        """Cut, fill and augment an image of a scene."""
        hsi, aux, valid, first = self.dataset.image(scene)
        pixels = self.split.train[self.dataset.groups[self.split.train] == scene]
        classes = torch.full((valid.size,), -1)
        classes[torch.from_numpy(pixels - first)] = torch.from_numpy(self.dataset.labels[pixels]) - 1
        images, known = [hsi] if aux is None else [hsi, aux], classes.reshape(valid.shape)
        place = self._place(valid.shape, pixels - first, generator)
        good = torch.from_numpy(valid)[place]
        sources = [filled(x[:, place[0], place[1]], good)[None] for x in images]
        if self.settings.jitter:
            sources = [x + self.settings.jitter * torch.randn(*x.shape[:2], 1, 1, generator=generator) for x in sources]
        maps = [*sources, known[place][None, None]]
        *sources, target = _turned(maps, generator) if self.settings.augment else maps
        return [x.to(self.device) for x in sources], target[0, 0].to(self.device)

    def _place(
        self, shape: tuple[int, ...], pixels: NDArray[np.int64], generator: torch.Generator
    ) -> tuple[slice, slice]:
        """Choose what of a scene a step sees: all of it, or a window around one of its training pixels."""
        height, width = shape
        if fits_whole((height, width), self._window):
            return slice(0, height), slice(0, width)
        pixel = int(pixels[int(torch.randint(len(pixels), (1,), generator=generator))])
        found = []
        for at, length in zip(divmod(pixel, width), (height, width), strict=True):
            side = min(self._window, length)
            low, high = max(0, at - side + 1), min(at, length - side)
            start = low + int(torch.randint(high - low + 1, (1,), generator=generator))
            found.append(slice(start, start + side))
        return found[0], found[1]


def _turned(maps: list[Tensor], generator: torch.Generator) -> list[Tensor]:
    """Flip and turn maps (1, C, h, w) alike: one of the eight symmetries of the square, each equally likely."""
    across, down, transposed = torch.randint(2, (3,), generator=generator).bool().tolist()
    maps = [x.flip(-1) for x in maps] if across else maps
    maps = [x.flip(-2) for x in maps] if down else maps
    return [x.mT for x in maps] if transposed else maps


def validate(
    model: Classifier,
    dataset: PatchDataset,
    split: Split,
    device: torch.device | None = None,
    group: Group | None = None,
) -> tuple[ClassificationReport, float]:
    """Compute the metrics and the mean loss of a model on the validation pixels, of which each process takes a part."""
    group = group or Group()
    items = np.array_split(split.val, group.size)[group.rank]
    scores = torch.cat(group.gathered(predict_items(model, dataset, items, device=device)))
    truth = dataset.labels[split.val]
    loss = F.nll_loss(scores.clamp_min(1e-12).log(), torch.as_tensor(truth).long() - 1)
    names = class_names(model, dataset.class_names)
    return ClassificationReport.from_labels(truth, scores.argmax(1).numpy() + 1, names), float(loss)


def figures_of(report: ClassificationReport, loss: float) -> Record:
    """Name what the history holds of a validation."""
    return {"val_loss": loss, "val_oa": report.oa, "val_aa": report.aa, "val_kappa": report.kappa}
