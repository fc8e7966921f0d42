"""The spectra of scenes that a transform is fitted on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from hsmamba.data.image import Array, NanPolicy, check_pixels, gather_pixels, neighbour_pairs
from hsmamba.data.scene import Scene
from hsmamba.data.transforms.step import Source, Spectra
from hsmamba.data.validity import Validity, check_policy
from hsmamba.errors import SceneError

Bands = Mapping[Source, npt.NDArray[np.int64]]


def gather(
    scenes: Sequence[Scene], items: npt.ArrayLike, bands: Bands, windows: Mapping[Source, int], nan: NanPolicy
) -> tuple[dict[Source, Spectra], dict[Source, Spectra]]:
    """Take the valid spectra of some items of scenes, and pairs of neighbours around them.

    Args:
        scenes: Scenes of one kind.
        items: int (N,) flat indices over all scenes, one after the other.
        bands: The bands of each source that count for the validity of a pixel.
        windows: Side of the windows around the items in which neighbours are paired, by source; others have none.
        nan: "raise" refuses invalid pixels among the items, "mask" leaves such pixels out.

    Returns:
        Spectra (N', B) and pairs (M, 2, B), by source.

    Raises:
        SceneError: No pixel is valid, or one is not with `nan="raise"`; an index outside the scenes.
    """
    check_policy(nan)
    spectra: dict[Source, list[Spectra]] = {on: [] for on in bands}
    pairs: dict[Source, list[Spectra]] = {on: [] for on in windows}
    asked = 0
    for scene, here in zip(scenes, by_scene(scenes, items), strict=True):
        sources: dict[Source, Any] = {"hsi": scene.hsi, "aux": scene.aux}
        found = {on: gather_pixels(sources[on], here) for on in bands} if here.size else {}
        good = np.ones(here.size, bool)
        for on, values in found.items():
            good &= _valid(sources[on], values, here, bands[on])
        asked += here.size
        for on, values in found.items():
            spectra[on].append(values[good])
        for on in windows if good.any() else ():
            pairs[on].append(_valid_pairs(sources[on], here[good], windows[on], bands[on]))
    joined = {on: np.concatenate(parts) for on, parts in spectra.items()}
    lost = asked - len(joined["hsi"])
    if lost == asked or (lost and nan == "raise"):
        raise SceneError(
            f"{lost} of the {asked} pixels to fit on are invalid (NaN, infinity, no data or masked)"
            + (': pass nan="mask" (--nan mask) to leave them out' if lost < asked else "; fit on pixels with data")
        )
    return joined, {on: np.concatenate(parts) for on, parts in pairs.items()}


def by_scene(scenes: Sequence[Scene], items: npt.ArrayLike) -> list[npt.NDArray[np.int64]]:
    """Part the items of several scenes into flat indices of each."""
    starts = np.cumsum([0, *(scene.shape[0] * scene.shape[1] for scene in scenes)])
    flat = check_pixels(items, (1, int(starts[-1])))
    owner = np.searchsorted(starts, flat, side="right") - 1
    return [flat[owner == i] - starts[i] for i in range(len(scenes))]


def _valid(
    source: Array, values: Spectra, pixels: npt.NDArray[np.int64], bands: npt.NDArray[np.int64]
) -> npt.NDArray[np.bool_]:
    validity = Validity.of(source)
    good = np.asarray(validity.has_data(values[:, bands]).all(axis=1))
    return good if validity.mask is None else good & validity.mask.ravel()[pixels]


def _valid_pairs(source: Array, pixels: npt.NDArray[np.int64], window: int, bands: npt.NDArray[np.int64]) -> Spectra:
    pairs = neighbour_pairs(source, pixels, window)
    return np.asarray(pairs[Validity.of(source).has_data(pairs[..., bands]).all(axis=(1, 2))])
