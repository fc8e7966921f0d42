"""The contract: what every network of the zoo declares, so that nothing has to be guessed about it.

A network is a `Classifier` of patches or a `FusionNetwork`. Both carry what the factory hangs on them (how they were
built, the fitted transform, the weight's record) as declared attributes, and answer to timm's names where those make
sense here. A model file adds the paper: its blocks, `forward_features` or `forward`, `layer_groups`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Literal, Protocol, TypeAlias, TypeVar, cast

import torch
from torch import Tensor, nn

from hsmamba.errors import SceneError
from hsmamba.layers.fusion import Place
from hsmamba.models._face import Face
from hsmamba.ops.resampling import upsample

# Patterns of parameter names, from the input to the output, as timm's `group_parameters` takes them.
LayerGroups: TypeAlias = "Mapping[str, str | list[tuple[str, tuple[int, ...] | None]]]"


class Transform(Protocol):
    """The fitted preprocessing that a network carries, as `hsmamba.data.Compose` is one.

    `on` says which input of the network it prepares.
    """

    @property
    def steps(self) -> Sequence[Any]:
        """What is done, one after the other."""

    def __call__(self, array: Any, on: Literal["hsi", "aux"] = "hsi") -> Any:
        """Transform an image (H, W, B), or pixels (N, B): float32 with the network's channels last."""

    def in_channels(self, on: Literal["hsi", "aux"] = "hsi") -> int | None:
        """Bands that it takes; None where no step says it."""

    def input_bands(self, on: Literal["hsi", "aux"] = "hsi") -> Any:
        """Indices of the bands that it reads."""

    def range(self, on: Literal["hsi", "aux"] = "hsi") -> Any:
        """How the pixels of its training are distributed; None where that is not known."""

    def save(self, path: Any) -> None:
        """Write it to a safetensors file."""


class TrainingLogits(Protocol):
    """What a classifier may return in training instead of logits: predictions that bring their own loss."""

    @property
    def logits(self) -> Tensor:
        """What evaluation gives, (B, K)."""

    def loss(self, target: Tensor, **kwargs: Any) -> Tensor:
        """Loss against classes (B,) or probabilities (B, K); further arguments are those of `cross_entropy`."""


class TrainingImages(Protocol):
    """What a fusion network may return in training instead of the sharp image: images that bring their own loss."""

    def loss(self, target: Tensor, ms_up: Tensor) -> Tensor:
        """Loss against the true sharp image (B, C, H, W), beside the coarse image on its grid."""


class Network(Face, nn.Module):
    """What both kinds of networks carry.

    Attributes:
        architecture: Registered name; empty for a network that was made by its class.
        model_args: Keyword arguments of its entry point, sizes included.
        transform: Fitted preprocessing that its weights were trained with; None where there is none.
        record: The weight's record, as the manifest and `config.json` have it; None for a network without weights.
        class_names: Names in the order of the logits; empty for image fusion, and where they are not known.
        layer_groups: Parameters by depth, for layer-wise learning rates.
        SIZES: Names of the attributes that say which inputs the network takes.
    """

    SIZES: ClassVar[tuple[str, ...]] = ()
    layer_groups: ClassVar[LayerGroups] = {}
    architecture: str = ""
    model_args: Mapping[str, Any] = {}
    transform: Transform | None = None
    record: Mapping[str, Any] | None = None
    class_names: tuple[str, ...] = ()
    in_chans: int

    @property
    def sizes(self) -> dict[str, int]:
        """Names and values of the sizes that say which inputs the network takes."""
        return {name: getattr(self, name) for name in self.SIZES}

    @property
    def pretrained_cfg(self) -> dict[str, Any]:
        """What timm's tools read of a network, by timm's keys, beside everything that is in `record`.

        `mean` is 0 and `std` 1: what stands before the network is its fitted `transform`.
        """
        record = self.record or {}
        source = str(record.get("source", ""))
        named = source.startswith(f"{self.architecture}.")
        return {
            **record,
            "architecture": self.architecture,
            "tag": source.partition(".")[2] if named else "",
            "hf_hub_id": source.removeprefix("hf-hub:") if source.startswith("hf-hub:") else None,
            "mean": (0.0,) * self.in_chans,
            "std": (1.0,) * self.in_chans,
            "license": record.get("license"),
        }

    @property
    def default_cfg(self) -> dict[str, Any]:
        """The older name of `pretrained_cfg` in timm."""
        return self.pretrained_cfg

    def no_weight_decay(self) -> set[str]:
        """Names of the parameters that weight decay leaves alone, beside biases and norms."""
        return set()

    def group_matcher(self, coarse: bool = False) -> dict[str, Any]:
        """Group the parameters by depth, as `timm.optim.create_optimizer_v2(..., layer_decay=)` takes it.

        Args:
            coarse: timm's switch between layers and stages; both are the same here.

        Returns:
            Patterns by group, from the input to the output; the head matches none and comes last.
        """
        return dict(self.layer_groups)

    def set_grad_checkpointing(self, enable: bool = True) -> None:
        """Compute blocks again in the backward pass instead of keeping what is inside them.

        Raises:
            ValueError: It is asked for, and the network has no such blocks.
        """
        if enable:
            raise ValueError(
                f"{type(self).__name__} has no blocks to compute again: gradient checkpointing is not implemented for "
                f"it; train with a smaller batch_size"
            )


def patterns_within(prefix: str, patterns: str | list[tuple[str, Any]]) -> list[tuple[str, Any]]:
    """Turn a network's patterns of `layer_groups` into those of the same parameters where it is a part, "prefix."."""
    listed = [(patterns, None)] if isinstance(patterns, str) else patterns
    return [(rf"^{re.escape(prefix)}\.(?:{pattern.removeprefix('^')})", rank) for pattern, rank in listed]


class Classifier(Network):
    """A classifier of patches: `forward(hsi, aux=None) -> logits`; a version implements `forward_features`.

    One with a `shared_rim` implements its two parts instead, `shared_maps` and `from_maps`. One that takes whole images
    and tells of each pixel is a `hsmamba.models.DenseClassifier`.

    Args:
        in_chans: Bands of the (transformed) patch.
        num_classes: Classes K; 0 for no head.
        patch_size: Side P of the patch; None for a network of whole images.
        aux_chans: Channels of the second source; 0 for a network of one source.

    Attributes:
        window: Of a network of whole images: side of the largest image that it is given at once, as pixels count. A
            larger scene goes through it in windows that overlap, and trains it in random ones.
        num_features: Width of the features in front of the head.
        head_drop: Dropout before the head.
        head: The last linear layer; an identity where there is no class.
        shared_rim: Pixels by which the maps of `shared_maps` are smaller than a patch at each side; None for a network
            whose patches have nothing in common.
        shared_places: Kinds of pixels that `scene_maps` tells apart by their place in a patch: 1, or 9, its corners,
            edges and inside, which a convolution with zeros around the patch sees differently.
        reduction: Kind of the components that `hsmamba.finetune` brings the bands of a scene to where no transform is
            given, as for `hsmamba.engine.default_transform`.
        learns_unlabelled: Whether its `fit` takes `unlabelled`, too: patches of its one scene, without labels.
        learns_from_scenes: Whether it is given those of several scenes, too, of which some pixels are labelled.

    Shape:
        hsi: (B, in_chans, P, P), aux: (B, aux_chans, P, P), float. Output: logits (B, num_classes), or features
        (B, num_features) without a head.
    """

    SIZES: ClassVar[tuple[str, ...]] = ("in_chans", "num_classes", "patch_size", "aux_chans")
    aux_chans: int = 0
    reduction: str = "network"
    shared_rim: int | None = None
    shared_places: int = 1
    learns_unlabelled: bool = False
    learns_from_scenes: bool = False
    patch_size: int | None
    window: int = 1024
    num_features: int
    head: nn.Module

    def __init__(self, in_chans: int, num_classes: int, patch_size: int | None, aux_chans: int = 0) -> None:
        super().__init__()
        self.in_chans, self.num_classes, self.patch_size, self.aux_chans = in_chans, num_classes, patch_size, aux_chans

    def add_head(self, num_features: int, drop_rate: float) -> None:
        """Make dropout and head, where the model's order of initialisation has them."""
        self.num_features = num_features
        self.head_drop = nn.Dropout(drop_rate)
        self.head = self._new_head()

    def _new_head(self) -> nn.Module:
        return nn.Linear(self.num_features, self.num_classes) if self.num_classes > 0 else nn.Identity()

    @property
    def head_hidden_size(self) -> int:
        """Width in front of the head, by timm's name."""
        return self.num_features

    @property
    def pretrained_cfg(self) -> dict[str, Any]:
        """See `Network.pretrained_cfg`; with the input, the number of classes and the name of the head."""
        side = self.window if self.patch_size is None else self.patch_size
        sizes = {
            "num_classes": self.num_classes,
            "input_size": (self.in_chans, side, side),
            "classifier": "head",
        }
        return super().pretrained_cfg | sizes

    def get_classifier(self) -> nn.Module:
        """Return the head."""
        return self.head

    def reset_classifier(self, num_classes: int) -> None:
        """Give the network a new head, of classes without names as yet; `num_classes=0` takes it away."""
        self.num_classes, self.class_names = num_classes, ()
        like = numbers_of(self)
        self.head = self._new_head().to(device=like.device, dtype=like.dtype)

    def fits(self, shape: torch.Size) -> bool:
        """Whether patches of this shape (B, C, H, W), or images, are what the network takes."""
        sides = shape[2:] if self.patch_size is None else (self.patch_size, self.patch_size)
        return len(shape) == 4 and tuple(shape[1:]) == (self.in_chans, *sides)

    def check_inputs(self, hsi: Tensor, aux: Tensor | None = None) -> None:
        """Refuse inputs that do not fit.

        Raises:
            ValueError: An input is missing, is one too many or has another shape; the text says what would fit.
        """
        side, whole = self.patch_size, self.patch_size is None
        sides = "H, W" if whole else f"{side}, {side}"
        if not self.fits(hsi.shape):
            sizes = "in_chans= of your image" if whole else "in_chans= and patch_size= of your patches"
            raise ValueError(
                f"hsi is {tuple(hsi.shape)}; this model takes (B, {self.in_chans}, {sides}). Apply the transform of "
                f"the weight, or create the model with {sizes}"
            )
        if not self.aux_chans:
            if aux is not None:
                raise ValueError(
                    f"{type(self).__name__} has one input, hsi; leave aux out (a two-source network is msfmamba)"
                )
            return
        if aux is None:
            raise ValueError(
                f"this model has two inputs and aux is missing: model(hsi, aux) with aux (B, {self.aux_chans}, "
                f"{sides}), the LiDAR or SAR {'image' if whole else 'patches'} on the pixels of hsi"
            )
        expected = (hsi.shape[0], self.aux_chans, *hsi.shape[2:])
        if tuple(aux.shape) != expected:
            raise ValueError(
                f"aux is {tuple(aux.shape)}; beside hsi {tuple(hsi.shape)} it must be {expected}, on the same pixels. "
                f"Resample it to the grid of hsi, or create the model with aux_chans= of your source"
            )

    def forward_features(self, hsi: Tensor, aux: Tensor | None = None) -> Tensor:
        """Check the inputs and compute what `forward_head` takes."""
        self.check_inputs(hsi, aux)
        return self.from_maps(*self.shared_maps(hsi, aux))

    def shared_maps(self, hsi: Tensor, aux: Tensor | None = None) -> tuple[Tensor, ...]:
        """Compute what patches that overlap have in common: convolutions without padding, maps of single pixels.

        Args:
            hsi: Patches, or a whole image as one sample (B, in_chans, H, W).
            aux: The second source on the same pixels.

        Returns:
            Maps (B, C, H - 2 `shared_rim`, W - 2 `shared_rim`). Those of a patch are what the maps of an image show
            there, so that `classify` computes them once a scene.
        """
        raise TypeError(f"{type(self).__name__} has no forward_features; a Classifier implements it, or both its parts")

    def scene_maps(self, hsi: Tensor, aux: Tensor | None = None) -> tuple[Tensor, ...]:
        """Compute the `shared_maps` of all patches in an image at once.

        Args:
            hsi: (B, in_chans, H, W).
            aux: The second source on the same pixels.

        Returns:
            Maps (B, `shared_places` C, H - 2 `shared_rim`, W - 2 `shared_rim`): for each place in a patch, row by row,
            what `shared_maps` of a patch show there. One place: the `shared_maps` of the image.
        """
        return self.shared_maps(hsi, aux)

    def from_maps(self, *maps: Tensor) -> Tensor:
        """Compute the features of patches from the maps of `shared_maps`."""
        raise TypeError(
            f"{type(self).__name__} has no from_maps, the other part of shared_maps; a Classifier implements it"
        )

    def forward_head(self, x: Tensor, pre_logits: bool = False) -> Tensor:
        """Classify features: (B, num_classes), or (B, num_features) with `pre_logits`."""
        x = self.head_drop(x)
        return x if pre_logits else self.head(x)

    def forward(self, hsi: Tensor, aux: Tensor | None = None) -> Tensor | TrainingLogits:
        """Classify patches.

        Args:
            hsi: Patches (B, in_chans, P, P), transformed as in training.
            aux: Patches of the second source (B, aux_chans, P, P) on the same pixels; None for a network of one source.

        Returns:
            Logits (B, num_classes), or features (B, num_features) without a head.

        Raises:
            ValueError: An input is missing, is one too many or has another shape.
        """
        return self.forward_head(self.forward_features(hsi, aux))


class FusionNetwork(Network):
    """A network that sharpens a coarse image with a guide: `forward(ms, guide, ms_up=None)`.

    Args:
        in_chans: Bands of the coarse image.
        guide_chans: Channels of the guide: 1 for PAN, 3 for RGB, 2 for VV and VH.
        scale: Ratio r between the grids.

    Attributes:
        margin: Coarse pixels around a tile that have a say in its result; None where every pixel depends on the whole
            image.
        window: Side in coarse pixels of the overlapping windows that a larger image is fused in where `margin` is None:
            about the size of the crops that the network was trained on.
        any_sizes: Whether its weights serve images of any number of bands and channels, any ratio and any unit; then
            `resized` gives the network for those at hand.

    Shape:
        ms: (B, in_chans, h, w); guide: (B, guide_chans, r h, r w). Output: (B, in_chans, r h, r w).
    """

    SIZES = ("in_chans", "guide_chans", "scale")
    margin: int | None = None
    window: int = 16
    any_sizes: bool = False

    def __init__(self, in_chans: int, guide_chans: int, scale: int) -> None:
        super().__init__()
        self.in_chans, self.guide_chans, self.scale = in_chans, guide_chans, scale

    def resized(self, in_chans: int, guide_chans: int, scale: int) -> FusionNetwork:
        """Return the network for images of other sizes, which shares its parameters with this one.

        Raises:
            ValueError: Its weights are for its own sizes alone; those with `any_sizes` serve all.
        """
        if (in_chans, guide_chans, scale) == (self.in_chans, self.guide_chans, self.scale):
            return self
        raise ValueError(
            f"the weights of {type(self).__name__} are for {self.in_chans} bands, {self.guide_chans} of the guide and "
            f"ratio {self.scale}, not {in_chans}, {guide_chans} and {scale}; create the model with in_chans=, "
            f"guide_chans= and scale= of your images"
        )

    def sharpen(self, ms: Tensor | None, guide: Tensor, ms_up: Tensor) -> Tensor:
        """Compute what `forward` returns; inputs are checked and `ms_up` is there."""
        raise TypeError(f"{type(self).__name__} has no sharpen; a FusionNetwork implements it, or forward")

    def forward(self, ms: Tensor | None, guide: Tensor, ms_up: Tensor | None = None) -> Tensor | TrainingImages:
        """Sharpen.

        Args:
            ms: Coarse image (B, in_chans, h, w), about 0 to 1; None where `ms_up` is given.
            guide: (B, guide_chans, r h, r w).
            ms_up: `ms` on the guide's grid; default interp23 (bicubic where the ratio is no power of two).

        Returns:
            (B, in_chans, r h, r w), not clipped.

        Raises:
            SceneError: Shapes that do not fit.
        """
        return self.sharpen(ms, guide, self.up_sampled(ms, guide, ms_up))

    def set_place(self, place: Place | None) -> None:
        """Take the images that follow as tiles of a larger one; None ends it.

        A network that knows positions in the image has its own; here the place has no influence.
        """

    def check_inputs(self, ms: Tensor | None, guide: Tensor, ms_up: Tensor | None) -> None:
        """Refuse images that have other channels than the network's or lie on grids that do not fit.

        Raises:
            SceneError: Shapes that do not fit; the text names them and the scale ratio.
        """
        if guide.ndim != 4 or guide.shape[1] != self.guide_chans:
            raise SceneError(
                f"guide is {tuple(guide.shape)}; this model takes (B, {self.guide_chans}, H, W). "
                f"Create the model with guide_chans= of your guide, or pass the channels it was trained with"
            )
        batch, _, height, width = guide.shape
        for name, image, ratio in (("ms", ms, self.scale), ("ms_up", ms_up, 1)):
            if image is None:
                continue
            if image.ndim != 4 or image.shape[1] != self.in_chans:
                raise SceneError(
                    f"{name} is {tuple(image.shape)}; this model takes (B, {self.in_chans}, h, w). "
                    f"Create the model with in_chans= of your bands, or pass the bands it was trained with"
                )
            if (image.shape[0], image.shape[2] * ratio, image.shape[3] * ratio) != (batch, height, width):
                raise SceneError(
                    f"{name} is {tuple(image.shape)} and the guide {tuple(guide.shape)}: at scale ratio {self.scale} "
                    f"the guide of this {name} must be ({image.shape[0]}, {self.guide_chans}, "
                    f"{image.shape[2] * ratio}, {image.shape[3] * ratio}); crop both to the same ground, or create the "
                    f"model with another scale="
                )

    def up_sampled(self, ms: Tensor | None, guide: Tensor, ms_up: Tensor | None) -> Tensor:
        """Check the inputs as `check_inputs` does and return `ms_up`, made from `ms` where it is not given.

        Returns:
            (B, in_chans, H, W) on the guide's grid.

        Raises:
            SceneError: Neither `ms` nor `ms_up` is given, or shapes do not fit.
        """
        self.check_inputs(ms, guide, ms_up)
        if ms_up is not None:
            return ms_up
        if ms is None:
            raise SceneError("neither ms nor ms_up is given; pass the coarse image as ms, or up-sampled as ms_up")
        return upsample(ms, self.scale)


N = TypeVar("N", bound=Network)


def numbers_of(model: nn.Module) -> Tensor:
    """Return a tensor on a network's device and of its type: a parameter, or an empty one where there is none."""
    return next(model.parameters(), torch.empty(0))


def as_network(model: nn.Module) -> Network:
    """Take any module as a network: what a network carries is put on it, empty, where it has it not.

    Args:
        model: A `Network`, or a module of one's own.

    Returns:
        The same module.
    """
    return _as(Network, model, "network", "")


def as_classifier(model: nn.Module) -> Classifier:
    """Take a module as a classifier: one of the zoo, compiled or not, or a module of one's own with its attributes.

    Args:
        model: A `Classifier`, or a module with `in_chans`, `aux_chans` (0 for none), `num_classes`, `patch_size` (None
            where it takes whole images and gives logits for each pixel) and `forward(hsi, aux=None)`.

    Returns:
        The same module, with what a classifier carries.

    Raises:
        TypeError: It is none; the text says what it lacks, or which function takes it.
    """
    if isinstance(model, FusionNetwork):
        raise TypeError(
            f"{type(model).__name__} is a fusion network, and a patch classifier is needed here; hsmamba.fuse and "
            f"pairs (hsmamba.data.wald_pairs) are for fusion networks"
        )
    wanted = "in_chans, aux_chans (0 for none), num_classes and patch_size, and forward(hsi, aux=None)"
    if hasattr(model, "guide_chans"):
        wanted += "; a fusion network is registered with cfg=ModelCfg(task='fusion')"
    return _as(Classifier, model, "patch classifier", wanted)


def as_fusion_network(model: nn.Module) -> FusionNetwork:
    """Take a module as a fusion network; see `as_classifier`.

    Args:
        model: A `FusionNetwork`, or a module with `in_chans`, `guide_chans`, `scale` and `forward(ms, guide, ms_up)`.

    Returns:
        The same module, with what a fusion network carries.

    Raises:
        TypeError: It is none; the text says what it lacks, or which function takes it.
    """
    if isinstance(model, Classifier):
        raise TypeError(
            f"{type(model).__name__} is a patch classifier, and a fusion network is needed here; hsmamba.classify and "
            f"scenes with a split are for classifiers"
        )
    if not hasattr(model, "set_place"):
        setattr(model, "set_place", _no_place)  # noqa: B010 - torch types what is set by name as a module
    wanted = "in_chans, guide_chans and scale, and forward(ms, guide, ms_up)"
    return _as(FusionNetwork, model, "fusion network", wanted)


def _no_place(place: Place | None) -> None:
    """Stand in for `FusionNetwork.set_place` on a module of one's own, which knows no positions."""


def _as(kind: type[N], model: nn.Module, noun: str, wanted: str) -> N:
    """Return a module that has the sizes of a kind, with the kind's other attributes at their defaults."""
    if isinstance(model, kind):
        return model
    if missing := [name for name in kind.SIZES if not hasattr(model, name)]:
        raise TypeError(
            f"{type(model).__name__} is no {noun} of the zoo's kind, it lacks {', '.join(missing)}; it needs the "
            f"attributes {wanted}"
        )
    for name in (name for base in (Network, kind) for name in base.__annotations__):
        if hasattr(kind, name) and not hasattr(model, name):
            value = getattr(kind, name)  # a copy, so that the class keeps its own
            setattr(model, name, dict(value) if isinstance(value, Mapping) else value)
    return cast(N, model)
