"""Pairs out of one's own scene by Wald's protocol.

The scene is cut apart before anything is filtered, so that neither a filter nor an up-sampling of one part reads pixels
of another, nor any that are invalid.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from hsmamba.data.bands import wavelengths_of
from hsmamba.data.degrade import check_grids, check_ratio, degrade_pan, upsample
from hsmamba.data.files.lazy import as_image
from hsmamba.data.georeference import check_same_ground
from hsmamba.data.image import Array, NanPolicy, is_dataarray
from hsmamba.data.pairs import FusionPair, FusionPairs, simulated_pair, training_image
from hsmamba.data.rectangles import Box, whole_rectangles
from hsmamba.data.sensors import Sensor, get_sensor
from hsmamba.data.strips import cut_strips
from hsmamba.data.units import Maximum, likely, maxima, top
from hsmamba.data.validity import check_policy, valid_mask
from hsmamba.errors import HsmambaWarning, SceneError

_CUT = 21  # border that the toolbox's metrics leave out
_WINDOW, _BLOCK = 7, 32  # sides that the metrics need at reduced, and at full resolution
_RECTANGLES = 16  # without invalid pixels, of a training part
_FAR = 0.5  # coarse pixels between the edges of ms and guide
_OF_A_SENSOR = (0.01, 1.0)  # of a sensor's largest number, what 99 % of an image's numbers stay below
_GLINT = 3.0  # times what 99 % of the numbers stay below: what is brighter does not decide what is 1
_OTHER_UNIT = 16.0  # times as bright: the guide is of another unit than the coarse image


def wald_pairs(
    ms: npt.ArrayLike,
    guide: npt.ArrayLike,
    *,
    sensor: str | Sensor,
    ratio: int | None = None,
    maximum: Maximum | None = None,
    nan: NanPolicy = "raise",
    val: float | None = None,
    test: float = 0.3,
    guard: int | None = None,
    axis: Literal["rows", "columns"] = "rows",
    name: str = "scene",
) -> FusionPairs:
    """Make pairs out of one's own scene by Wald's protocol at reduced resolution, the truth being the scene's MS.

    The scene is cut along one axis into a training part, a validation strip and a test strip, with a guard between
    them that belongs to none. Only then are the parts degraded, each by itself.

    Args:
        ms: Coarse image (h, w, C) of the scene, or (h, w) of one band, numpy or DataArray (y, x[, band]), or
            (band, y, x) as rioxarray opens it.
        guide: Sharp image (r h, r w, P) or (r h, r w) on the same ground.
        sensor: Name of the sensor whose MTF blurs ("generic" for others), or one made by hand.
        ratio: Scale ratio r; default that of the rows and columns of the two images.
        maximum: Number that is 1 in the pairs: one for both images, a pair (of `ms`, of the guide), or a sensor
            ("WV3"). Default the sensor's; where that is not known, the largest of the training part of `ms`, but no
            more than three times what 99 % of its pixels stay below.
        nan: "raise" refuses invalid pixels: NaN, infinite, masked or, in a DataArray with that attribute, `_FillValue`.
            "mask" takes rectangles without such pixels, up to 16 for training and one for each other part, before
            anything is filtered.
        val: Share of the axis for validation; 0 for none. Default 0.125, but none where the scene is too small.
        test: Share of the axis for the test; 0 for none.
        guard: Pixels of `ms` between the parts, at least. Default 8, or a twelfth of the axis where that is less.
        axis: "rows" cuts from top (training) to bottom (test), "columns" from left to right.
        name: Of the scene.

    Returns:
        The pairs; `full` holds the test strip at its original resolution, if its guide has the 32 pixels that the
        metrics need. `cut` is the toolbox's 21, or a quarter of the test strip's shorter side where that is less.

    Raises:
        SceneError: Images that do not fit each other or the sensor, lie on other ground, are not in the sensor's
            numbers, or hold invalid pixels with `nan="raise"`; a part that has no valid pixels.
        SplitError: Parts too small to train on or to judge; the text names the change that mends it.
        ValueError: Shares outside [0, 1), an unknown sensor or axis, a ratio below 2, a maximum that is none.

    Warns:
        HsmambaWarning: Invalid pixels were left out, the scene is too small for a validation strip, `maximum` may be
            wrong, or one image alone has a place.
    """
    if ratio is not None:
        check_ratio(ratio)
    check_policy(nan)
    found = get_sensor(sensor)
    if axis not in ("rows", "columns"):
        raise ValueError(f"axis is {axis!r}; it is 'rows' or 'columns'")
    low, high = (_given(what, image) for what, image in (("ms", ms), ("guide", guide)))
    ratio = ratio_of(low, high) if ratio is None else ratio
    _check_fit(low, high, ratio)
    check_same_ground(low, high, ("ms", "the guide"), tolerance=_FAR)
    scene = _read(low, high, ratio, nan, turned=axis == "columns")
    boxes = _boxes(scene, cut_strips(scene.good.shape[0], val, test, guard, ratio))
    bounds = _maxima(maximum, found, *scene.pixels(boxes["train"]))

    def part(box: Box) -> tuple[Tensor, Tensor]:
        """Original MS and guide of a part, scaled, as (1, C, ., .)."""
        one, two = scene.cut(box)
        return one / bounds[0], two / bounds[1]

    def reduced(which: str) -> list[tuple[str, Tensor, Tensor]]:
        parts = [part(box) for box in boxes.get(which, [])]
        names = [f"{name}, {which}" + f" {number + 1}" * (len(parts) > 1) for number in range(len(parts))]
        return [(title, a[0], degrade_pan(b, ratio=ratio)[0]) for title, (a, b) in zip(names, parts, strict=True)]

    def judged(which: str) -> tuple[FusionPair, ...]:
        return tuple(simulated_pair(*images, ratio=ratio, sensor=found) for images in reduced(which))

    tests = [part(box) for box in boxes.get("test", [])]
    full = [(one, two[0], upsample(one, ratio)[0]) for one, two in tests if min(two.shape[2:]) >= _BLOCK]
    wavelengths = wavelengths_of(low)[0]
    return FusionPairs(
        name=name,
        ratio=ratio,
        sensor=found,
        maximum=bounds[0],
        train=tuple(training_image(*images, ratio=ratio, sensor=found) for images in reduced("train")),
        val=judged("val"),
        test=judged("test"),
        full=tuple(FusionPair(f"{name}, full resolution", one[0], two, up, None) for one, two, up in full),
        cut=min([_CUT, *(_cut(min(one.shape[2:])) for one, _ in tests)]),
        guide_maximum=None if bounds[0] == bounds[1] else bounds[1],
        wavelengths=None if wavelengths is None else tuple(map(float, wavelengths)),
    )


def ratio_of(ms: Array, guide: Array) -> int:
    """Return how many rows of a guide (H, W[, P]) lie beside one of the coarse image (h, w[, C]).

    Raises:
        SceneError: It is no whole number of two or more, the same of rows and columns.
    """
    (rows, columns), (fine_rows, fine_columns) = ms.shape[:2], guide.shape[:2]
    ratio = round(fine_rows / rows)
    if ratio < 2 or (fine_rows, fine_columns) != (rows * ratio, columns * ratio):
        raise SceneError(
            f"ms is {rows} x {columns} and the guide {fine_rows} x {fine_columns} pixels; the guide must have two or "
            "more times as many rows and columns, a whole number: crop both to the same ground, or swap them"
        )
    return ratio


@dataclass(frozen=True)
class _Scene:
    """Both images of a scene, the axis first along which it is cut.

    Attributes:
        ms: (C, h, w) float32.
        guide: (P, r h, r w) float32.
        good: Blocks (h / r, w / r) of r x r coarse pixels that are valid in both images.
        ratio: Scale ratio r.
        turned: Whether rows and columns have changed places.
    """

    ms: Tensor
    guide: Tensor
    good: npt.NDArray[np.bool_]
    ratio: int
    turned: bool

    def cut(self, box: Box) -> tuple[Tensor, Tensor]:
        """Return both images (1, C, ., .) in some blocks, the rows first."""
        parts = []
        for image, step in ((self.ms, self.ratio), (self.guide, self.ratio**2)):
            rows, columns = (slice(part.start * step, part.stop * step) for part in box)
            part = image[None, :, rows, columns]
            parts.append((part.transpose(2, 3) if self.turned else part).contiguous())
        return parts[0], parts[1]

    def pixels(self, boxes: list[Box]) -> tuple[npt.NDArray[Any], npt.NDArray[Any]]:
        """Return the pixels (N, C) and (M, P) of both images in some boxes."""
        images = zip(*(self.cut(box) for box in boxes), strict=True)
        low, high = (np.concatenate([part[0].flatten(1).T.numpy() for part in parts]) for parts in images)
        return low, high


def _given(what: str, image: npt.ArrayLike) -> Array:
    return as_image(what, image if is_dataarray(image) else np.asanyarray(image))


def _check_fit(low: Array, high: Array, ratio: int) -> None:
    """Compare the grids, before anything is read."""
    coarse, sharp = (torch.empty(1, 1, 1, 1).expand(1, image.shape[2], *image.shape[:2]) for image in (low, high))
    check_grids(coarse, sharp, ratio)


def _read(low: Array, high: Array, ratio: int, nan: NanPolicy, *, turned: bool) -> _Scene:
    masks = []
    for what, image in (("ms", low), ("the guide", high)):
        masks.append(valid_mask(image, nan, name=what))
        if not masks[-1].any():
            raise SceneError(
                f"no pixel of {what} is valid in all of its bands; leave out bands that hold no data, or correct its "
                f'value for "no data" or its mask'
            )
    good = _blocks(masks[0] & _blocks(masks[1], ratio), ratio)
    images = [_tensor(image) for image in (low, high)]
    if turned:
        good, images = good.T, [image.transpose(1, 2) for image in images]
    return _Scene(images[0], images[1], good, ratio, turned)


def _tensor(image: Array) -> Tensor:
    """Bring an image (y, x, band) to float32 (band, y, x)."""
    with np.errstate(over="ignore", invalid="ignore"):  # what overflows is invalid and left out
        array = np.asarray(image, dtype=np.float32)
    return torch.from_numpy(np.ascontiguousarray(array.transpose(2, 0, 1)))


def _blocks(mask: npt.NDArray[np.bool_], side: int) -> npt.NDArray[np.bool_]:
    """Tell the blocks of side x side pixels that are True throughout; what is no whole block is left out."""
    height, width = (length // side for length in mask.shape)
    return np.asarray(mask[: height * side, : width * side].reshape(height, side, width, side).all(axis=(1, 3)))


def _boxes(scene: _Scene, spans: dict[str, tuple[int, int]]) -> dict[str, list[Box]]:
    """Find what can be taken of every part, in blocks, and tell the caller of `wald_pairs` what is left out."""
    boxes: dict[str, list[Box]] = {}
    told = {}
    for which, (start, stop) in spans.items():
        strip = scene.good[start // scene.ratio : stop // scene.ratio]
        found = whole_rectangles(strip, _RECTANGLES if which == "train" else 1)
        if not found:
            raise SceneError(
                f"the {which} part has no block of {scene.ratio} x {scene.ratio} pixels of ms that are all valid in "
                "both images; choose other shares (val=, test=) or the other axis, or fill single invalid pixels"
            )
        first = start // scene.ratio
        boxes[which] = [(slice(rows.start + first, rows.stop + first), columns) for rows, columns in found]
        share = sum(int(strip[box].size) for box in found) / strip.size
        told[which] = share, f"{100 * share:.0f} % of {which}" + f" in {len(found)} rectangles" * (len(found) > 1)
    if any(share < 1 for share, _ in told.values()):
        listed = ", ".join(text for _, text in told.values())
        warnings.warn(f"left out rectangles with invalid pixels; there remain {listed}", HsmambaWarning, stacklevel=3)
    return boxes


def _maxima(
    maximum: Maximum | None, sensor: Sensor, ms: npt.NDArray[Any], guide: npt.NDArray[Any]
) -> tuple[float, float]:
    """Find what is 1 in both images: the caller's word, the sensor's largest number, or what the numbers say."""
    if maximum is not None:
        bounds = maxima(maximum)
    elif sensor.maximum is not None:
        bounds = (sensor.maximum, sensor.maximum)
    else:
        return _found(ms, guide)
    peaks = top(ms), top(guide)
    odd = [
        f"99 % of {what} stay below {peak:.4g}, where 1 is {bound:g}"
        for what, peak, bound in zip(("ms", "the guide"), peaks, bounds, strict=True)
        if peak and not _OF_A_SENSOR[0] <= abs(peak) / bound <= _OF_A_SENSOR[1]
    ]
    if odd and maximum is None:
        raise SceneError(
            f"the numbers are not those of {sensor.name}: {'; '.join(odd)}. Other units, it seems; give maximum=, what "
            f"is 1 in yours, one number or a pair (of ms, of guide): {', '.join(f'{likely(x):g}' for x in peaks)}?"
        )
    if odd:
        warnings.warn(f"maximum may be wrong: {'; '.join(odd)}", HsmambaWarning, stacklevel=4)
    return bounds


def _found(ms: npt.NDArray[Any], guide: npt.NDArray[Any]) -> tuple[float, float]:
    """Take the largest numbers of the training part, unless these are a few glints."""
    largest = float(ms.max())
    if not largest > 0:
        raise ValueError(f"the largest number of the training part of ms is {largest:g}; give maximum=, what is 1")
    usual = _GLINT * top(ms)
    low = min(largest, usual) if usual > 0 else largest
    high = min(float(np.abs(guide).max()), _GLINT * top(np.abs(guide)))
    if low < largest:
        warnings.warn(
            f"1 % of the training pixels of ms reach {largest:g}, the others {usual / _GLINT:.4g}; {low:.4g} is taken "
            "for 1, and figures are of images clipped there. Give maximum= to be sure",
            HsmambaWarning,
            stacklevel=4,
        )
    if high == 0 or 1 / _OTHER_UNIT <= high / low <= _OTHER_UNIT:
        return low, low
    warnings.warn(
        f"ms and guide look like images of two units; {low:.4g} is taken for 1 in ms, {high:.4g} in the guide. Give "
        "maximum=, a pair (of ms, of guide), to be sure",
        HsmambaWarning,
        stacklevel=4,
    )
    return low, high


def _cut(side: int) -> int:
    """Return the border that the metrics leave out of a test image: it keeps half of the image, and a window."""
    return max(0, min(side // 4, (side + 1 - _WINDOW) // 2))
