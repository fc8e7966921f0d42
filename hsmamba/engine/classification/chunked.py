"""Classify scenes that dask holds, block by block, when the map is asked for, on whatever cluster dask runs on."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import nn

from hsmamba.data import Compose, Scene, like, valid_mask
from hsmamba.data.validity import Validity, check_policy
from hsmamba.engine.chunked import Blocks, Tags, block_sizes, is_chunked, tagged, with_mask
from hsmamba.errors import SceneError
from hsmamba.models import as_classifier

_CHUNKS, _SIDE = 3, 24  # along rows and columns: the blocks, and the pixels of each, that the numbers are looked at in


def holds_chunks(scene: Any) -> bool:
    """Tell whether dask holds the image of a scene, or one of its images."""
    return is_chunked(scene.hsi, scene.aux) if isinstance(scene, Scene) else is_chunked(scene)


def classify_chunks(
    prepare: Callable[..., Any],
    model: nn.Module,
    scene: Any,
    transform: Compose | None,
    *,
    nan: str,
    regularise: str,
    **options: Any,
) -> tuple[Any, Any]:
    """Classify a scene that dask holds; `hsmamba.classify` calls this and has the words.

    Bands, sizes and units are looked at now, on pixels of a few blocks; invalid pixels with `nan="raise"` are refused
    when their block is computed.

    Args:
        prepare: `prepare_classification`.
        model: See `classify`.
        scene: See `classify`.
        transform: See `classify`.
        nan: See `classify`.
        regularise: See `classify`; not "on".
        **options: See `classify`.

    Returns:
        Labels and confidence, DataArrays that dask holds; they come of one computation, so ask for both at once.

    Raises:
        SceneError: As for `classify`; or the network, the transform or `regularise` looks at the whole scene.
    """
    check_policy(nan)
    if regularise == "on":
        raise SceneError('regularise="on" looks at the whole scene at once; load the scene before with .compute()')
    scene = scene if isinstance(scene, Scene) else Scene(scene)
    size = as_classifier(model).patch_size
    if size is None:
        raise SceneError("the network looks at the whole scene at once; load the scene before with .compute()")
    job = prepare(model, _sample(scene, size), transform, nan="mask", **options)
    transform = job.windows.transform
    if transform is not None and any(transform.looks_around(on) for on in job.sources):
        raise SceneError("the transform looks at the whole scene at once; load the scene before with .compute()")
    images = [scene.hsi if on == "hsi" else scene.aux for on in job.sources]
    chunks = next(image.chunks for image in images if is_chunked(image))
    blocks = Blocks(block_sizes(chunks, size))
    plan = _Plan(blocks, size // 2, nan, tuple(map(Tags.of, images)))
    blank: dict[str, Any] = {on: np.empty((0, 0, 0), np.float32) for on in job.sources}
    job = replace(job, windows=replace(job.windows, sources=blank), wanted=None, progress=False)
    dtype = np.dtype([("label", job.dtype), ("confidence", np.float32)])
    arrays = [
        part
        for image, letter in zip(images, "bc", strict=False)
        for part in with_mask(image, letter, blocks.sizes, plan.margin)
    ]
    found = blocks.each(_classified, arrays, dtype, job=job, plan=plan)
    template: Any = scene.hsi
    labels, confidence = (like(template, found[name], name=name) for name in ("label", "confidence"))
    return labels, confidence


@dataclass(frozen=True)
class _Plan:
    """How the blocks are read.

    Attributes:
        blocks: Where they lie.
        margin: Pixels around them.
        nan: See `classify`.
        tags: Of the images.
    """

    blocks: Blocks
    margin: int
    nan: str
    tags: tuple[Tags, ...]


def _sample(scene: Scene, least: int) -> Scene:
    """Take pixels of a few blocks of a scene into memory, enough of them to hold a patch where the scene does."""
    image: Any = scene.hsi if is_chunked(scene.hsi) else scene.aux
    places = [_places(sizes, least) for sizes in image.chunks[:2]]
    picked = {}
    for name in ("hsi", "aux"):
        if (array := getattr(scene, name)) is not None:
            on_axes = dict(zip(("y", "x"), places, strict=True))
            picked[name] = array.isel(on_axes) if hasattr(array, "isel") else array[np.ix_(*places)]
    loaded = {name: array.compute() if hasattr(array, "compute") else array for name, array in picked.items()}
    return replace(scene, labels=None, aux=loaded.get("aux"), hsi=loaded["hsi"])


def _places(sizes: tuple[int, ...], least: int) -> NDArray[np.int64]:
    """Choose indices along an axis: spread over a few blocks, and never fewer than `least` where there are as many."""
    ends = np.cumsum(sizes)
    chosen = np.unique(np.linspace(0, len(sizes) - 1, _CHUNKS).round().astype(int))
    parts = [np.linspace(ends[i] - sizes[i], ends[i] - 1, max(_SIDE, least)).astype(int) for i in chosen]
    places = np.unique(np.concatenate(parts))
    return places if places.size >= least else np.arange(min(least, ends[-1]))


def _classified(index: tuple[int, int], *arrays: NDArray[Any], job: Any, plan: _Plan) -> NDArray[Any]:
    """Classify a block that comes with its margin."""
    sources = dict(zip(job.sources, tagged(arrays, plan.tags), strict=True))
    core, near = plan.blocks.core(index), plan.blocks.near(index, plan.margin)
    inner = tuple(slice(c.start - n.start, c.stop - n.start) for c, n in zip(core, near, strict=True))
    valid = np.ones(arrays[0].shape[:2], bool)
    for on, source in sources.items():
        valid &= valid_mask(source, "mask", bands=job.windows.bands[on])
    if plan.nan == "raise" and not (good := valid[inner]).all():
        row, column = np.argwhere(~good)[0] + (core[0].start, core[1].start)
        words = Validity.of(sources["hsi"]).in_words()
        raise SceneError(
            f"{int((~good).sum())} pixels of a block hold {words}, the first at row {row}, column {column}; pass "
            'nan="mask" (--nan mask) to leave them out'
        )
    wanted = np.zeros_like(valid)
    wanted[inner] = valid[inner]
    windows = replace(job.windows, sources=sources)
    labels, confidence = replace(job, windows=windows, wanted=lambda *place: wanted[place]).arrays()
    result = np.empty(labels[inner].shape, [("label", labels.dtype), ("confidence", np.float32)])
    result["label"], result["confidence"] = labels[inner], confidence[inner]
    return result
