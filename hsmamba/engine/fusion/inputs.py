"""Whether the images of a fusion fit each other and the network, and what brings them to the network's range."""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

from hsmamba.data import SensorScale
from hsmamba.data.bands import BandMatch, match_bands, wavelengths_of
from hsmamba.data.georeference import check_same_ground
from hsmamba.data.image import Array, take_bands
from hsmamba.data.pairs import FusionPairs
from hsmamba.data.sensors import get_sensor
from hsmamba.data.units import Maximum, likely, maxima, top
from hsmamba.data.validity import Validity
from hsmamba.data.wald import ratio_of
from hsmamba.engine.fusion.registration import measure_shift
from hsmamba.errors import HsmambaWarning, SceneError
from hsmamba.models import FusionNetwork

Units: TypeAlias = "tuple[float, float]"  # the network sees value * first + second

_SAMPLE = 256  # coarse pixels, side of the middle part on which units and registration are looked at
_PLAUSIBLE = (1e-3, 2.0)  # brightest values that a network may be shown whose training is not on record
_BEYOND = 1.5  # what is brighter to a network that was trained on numbers up to 1 is of another unit
_UNLIKE = (1 / 3, 3.0)  # times the brightest values of the training: others are of another unit
_WHEN_GIVEN = (1 / 8, 8.0)  # the same where the caller has named the unit
_FAR = 0.5  # coarse pixels, a shift that is worth a warning


def sized(model: FusionNetwork, arrays: dict[str, Array]) -> FusionNetwork:
    """Give a network that takes any images the sizes of those at hand; another one stays as it is.

    Raises:
        SceneError: The guide has no whole number, two or more, of times as many rows and columns as MS.
    """
    if not model.any_sizes:
        return model
    guide, coarse = arrays["guide"], arrays["ms" if "ms" in arrays else "ms_up"]
    ratio = ratio_of(coarse, guide) if "ms" in arrays else model.scale
    return model.resized(coarse.shape[2], guide.shape[2], ratio)


def check_bands(model: FusionNetwork, arrays: dict[str, Array]) -> None:
    """Raise SceneError, with the bands that the weight was trained on, unless all images have the model's channels."""
    for name, array in arrays.items():
        expected = model.guide_chans if name == "guide" else model.in_chans
        if array.shape[2] != expected:
            known = "" if name == "guide" else _bands_on_record(model)
            noun = "band" if array.shape[2] == 1 else "bands"
            argument = "guide_chans" if name == "guide" else "in_chans"
            raise SceneError(
                f"{name} has {array.shape[2]} {noun}, {type(model).__name__} takes {expected}{known}; select these "
                f"bands in this order, or create and train a model with {argument}={array.shape[2]}"
            )


def _bands_on_record(model: FusionNetwork) -> str:
    data, wavelengths = (model.record or {}).get("data") or {}, trained_bands(model)
    parts = [str(data["sensor"])] if data.get("sensor") else []
    if data.get("sensor") and (sensor := _sensor_or_none(data["sensor"])) is not None and sensor.bands:
        parts.append(", ".join(sensor.bands))
    if wavelengths is not None:
        parts.append(f"{', '.join(f'{nm:.0f}' for nm in wavelengths)} nm")
    return f" ({': '.join(parts)})" if parts else ""


def trained_bands(model: FusionNetwork) -> Sequence[float] | None:
    """Centres in nm of the bands that a network was trained on: of its transform, else of the record of its weights."""
    fitted = getattr(model.transform, "wavelengths", None)
    return (model.record or {}).get("wavelengths") if fitted is None else fitted.tolist()


def _sensor_or_none(name: Any) -> Any:
    try:
        return get_sensor(str(name))
    except ValueError:  # a sensor that the protocol's table does not have
        return None


def check_grids(ratio: int, arrays: dict[str, Array]) -> None:
    """Raise SceneError, with both shapes and the ratio, unless the guide's grid is `ratio` times as fine as `ms`."""
    guide = arrays["guide"].shape
    for name, step in (("ms", ratio), ("ms_up", 1)):
        if name not in arrays:
            continue
        shape = arrays[name].shape
        if (shape[0] * step, shape[1] * step) != guide[:2]:
            factors = guide[0] / shape[0], guide[1] / shape[1]
            raise SceneError(
                f"{name} is {_by(shape)} and the guide {_by(guide)} (rows x columns x bands), {factors[0]:.4g} and "
                f"{factors[1]:.4g} times as many rows and columns; at the model's scale ratio {ratio} the guide of "
                f"this {name} must have {shape[0] * step} x {shape[1] * step}: "
                + ("are the two swapped?" if max(factors) < 1 else "crop both to the same ground, or take a model ")
                + "of another scale" * (max(factors) >= 1)
            )


def _by(shape: tuple[int, ...]) -> str:
    return " x ".join(map(str, shape))


def check_ground(arrays: dict[str, Array]) -> None:
    """Raise SceneError where an image lies elsewhere than the guide, by more than half a coarse pixel."""
    for name in arrays.keys() - {"guide"}:
        check_same_ground(arrays[name], arrays["guide"], (name, "the guide"), tolerance=_FAR)


def matched(model: FusionNetwork, arrays: dict[str, Array]) -> dict[str, Array]:
    """Bring the coarse images to the bands that a weight was trained on, where both tell their wavelengths.

    Raises:
        SceneError: An image of more or fewer bands does not have these as they are.

    Warns:
        HsmambaWarning: Bands were selected or reordered; or an image of as many bands has others, which a network may
            still sharpen, but not as well as those that it was trained on.
    """
    want = trained_bands(model)
    result = dict(arrays)
    for name in ("ms", "ms_up"):
        here = wavelengths_of(arrays[name])[0] if name in arrays else None
        if here is None or want is None or len(want) != model.in_chans:
            continue
        match = _as_they_are(here, want)
        text = f"the bands of {name} ({_nm(here)}) are not those that the weight was trained on ({_nm(want)})"
        if match is None and len(here) != len(want):
            raise SceneError(
                f"{text}; resample them before (hsmamba.data.simulate_bands), or train a model on these bands"
            )
        if match is None:
            warnings.warn(f"{text}; they are sharpened as they stand", HsmambaWarning, stacklevel=4)
        elif match.note:
            result[name] = take_bands(arrays[name], match.indices)
            warnings.warn(f"{name}: {match.note}", HsmambaWarning, stacklevel=4)
    return result


def _as_they_are(here: ArrayLike, want: ArrayLike) -> BandMatch | None:
    """Find wanted bands among those at hand; None where they are not there, or only as a mixture of others."""
    try:
        match = match_bands(here, want)
    except SceneError:
        return None
    return match if match.mixing is None else None


def _nm(centres: ArrayLike) -> str:
    return f"{', '.join(f'{nm:.0f}' for nm in np.asarray(centres))} nm"


def check_pairs(model: FusionNetwork, pairs: FusionPairs, ms: NDArray[np.float64], guide: NDArray[np.float64]) -> None:
    """Hold pairs against what the weights of a network were trained on, as far as both tell it.

    Args:
        model: The network.
        pairs: The pairs.
        ms: (N, C) pixels of their coarse images, scaled as the pairs are.
        guide: (M, P) pixels of their guides.

    Raises:
        SceneError: The pairs have other bands, or the bands in another order.

    Warns:
        HsmambaWarning: Their numbers look like those of another unit.
    """
    here, want = pairs.wavelengths, trained_bands(model)
    if here is not None and want is not None and len(here) == len(want) and not _are_same(here, want):
        raise SceneError(
            f"the bands of the pairs {pairs.name!r} ({_nm(here)}) are not those of the weight in their order "
            f"({_nm(want)}); make the pairs of these bands, or train a network without pretrained weights"
        )
    odd, better = [], []
    for name, pixels, maximum in (("ms", ms, pairs.maxima[0]), ("guide", guide, pairs.maxima[1])):
        peak, usual = top(pixels), _usual(model, name)
        better.append(f"{likely(peak * maximum, usual):g}")
        if usual > 0 and peak and not _UNLIKE[0] <= peak / usual <= _UNLIKE[1]:
            odd.append(f"{name} reaches {peak * maximum:.4g}, {peak:.3g} of its maximum ({usual:.3g} in training)")
    if odd:
        warnings.warn(
            f"the pairs {pairs.name!r} look like images of another unit than the weight's: {'; '.join(odd)}. If so, "
            f"make them with maximum=, one number or a pair (of ms, of guide): {', '.join(better)}?",
            HsmambaWarning,
            stacklevel=4,
        )


def _are_same(here: Sequence[float], want: Sequence[float]) -> bool:
    match = _as_they_are(here, want)
    return match is not None and not match.note


def samples(arrays: dict[str, Array], ratio: int) -> dict[str, NDArray[np.float64]]:
    """Read the middle part of every image, the same ground for all, NaN where a pixel is invalid.

    Returns:
        (h, w, C) by name, `ms` at most 256 x 256, the others `ratio` times as fine.
    """
    height, width = (-(-side // ratio) for side in arrays["guide"].shape[:2])
    parts = [slice(max(0, (side - _SAMPLE) // 2), (side + _SAMPLE) // 2) for side in (height, width)]
    found = {}
    for name, array in arrays.items():
        step = 1 if name == "ms" else ratio
        window = np.asarray(array[tuple(slice(part.start * step, part.stop * step) for part in parts)])
        values = window.astype(np.float64)
        validity = Validity.of(array)
        rows, columns = (slice(part.start * step, part.stop * step) for part in parts)
        values[~validity(window, rows, columns)] = np.nan
        found[name] = values
    return found


def units_of(model: FusionNetwork, middle: dict[str, NDArray[np.float64]], maximum: Maximum | None) -> dict[str, Units]:
    """Find what brings each image to the network's range: the caller's word, the transform, the record, or a guess.

    Args:
        model: The network.
        middle: Middle part of each image, to see whether its numbers can be meant so.
        maximum: See `fuse`.

    Returns:
        Factor and offset by image.

    Raises:
        SceneError: The numbers cannot be of the unit on record.
        ValueError: A maximum that is none, or a transform that cannot be undone.
    """
    tops = {name: top(values.reshape(-1, values.shape[2])) for name, values in middle.items()}
    name = "ms" if "ms" in middle else "ms_up"
    known = _known(model) if maximum is None else None
    if maximum is not None:
        low, high = _given(maximum)
    elif known is not None:
        low, high = known
    elif model.any_sizes:
        low = high = (1.0, 0.0)
    else:
        low, high = _guessed(tops[name], tops["guide"])
    units = {key: high if key == "guide" else low for key in middle}
    if maximum is not None or known is not None:
        _check_tops(model, tops, units, given=maximum is not None)
    return units


def _check_tops(model: FusionNetwork, tops: dict[str, float], units: dict[str, Units], *, given: bool) -> None:
    """Hold how bright the brightest 1 % are to the network against those of its training, else against sense."""
    usual = {name: _usual(model, name) for name in tops}
    odd, far = [], False
    for name, peak in tops.items():
        shown = peak * units[name][0] + units[name][1]
        ratio = shown / usual[name] if usual[name] > 0 else abs(shown)
        low, high = _limits(usual[name], given=given)
        if peak and not low <= ratio <= high:
            trained = f" ({usual[name]:.3g} in training)" if usual[name] > 0 else ""
            odd.append(f"{name} reaches {peak:.4g}, {shown:.3g} to the network{trained}")
            far |= not _WHEN_GIVEN[0] <= ratio <= _WHEN_GIVEN[1]
    if odd and given:
        warnings.warn(f"maximum may be wrong: {'; '.join(odd)}", HsmambaWarning, stacklevel=5)
    elif odd:
        pair = ("ms" if "ms" in tops else "ms_up", "guide")
        before = [f"{1 / units[name][0]:g}" for name in pair]
        perhaps = ", ".join(f"{likely(tops[name], usual[name]):g}" for name in pair)
        same = f" Or {', '.join(before)} where the unit is the same and the ground merely darker or brighter"
        raise SceneError(
            f"the numbers are not like those that the network was trained on: {'; '.join(odd)}. By what came with its "
            f"weights, 1 is {before[0]} in ms and {before[1]} in the guide. Other units, it seems; give maximum= "
            f"(--maximum), what is 1 in yours, one number or a pair (of ms, of guide): {perhaps}?{'' if far else same}"
        )


def _limits(usual: float, *, given: bool) -> tuple[float, float]:
    """Between what the brightest 1 % may lie: times those of the training, or as they are where these are unknown."""
    if usual <= 0:
        return _PLAUSIBLE
    if given:
        return _WHEN_GIVEN
    return _UNLIKE[0], min(_UNLIKE[1], _BEYOND / usual) if usual <= 1 else _UNLIKE[1]


def _usual(model: FusionNetwork, name: str) -> float:
    """How bright the brightest 1 % of the training were to the network; 0 where it is not on record."""
    known = model.transform.range("aux" if name == "guide" else "hsi") if model.transform is not None else None
    return float(known.after[-1].max()) if known is not None else 0.0


def _guessed(low: float, high: float) -> tuple[Units, Units]:
    """Take the bits that the largest values of both images need, and tell the caller of `fuse`."""
    pair = [1.0 if peak <= 1.5 else float(2 ** max(8, math.ceil(math.log2(peak + 1))) - 1) for peak in (low, high)]
    if max(pair) <= 16 * min(pair):
        pair = [max(pair)] * 2
    if pair != [1, 1]:
        warnings.warn(
            f"nothing is on record of the number that is 1 to this model; {pair[0]:g} is taken for the coarse image, "
            f"whose middle reaches {low:g}, and {pair[1]:g} for the guide ({high:g}). Give maximum= to be sure, for "
            f'example 2047 for 11 bits, 10000 for scaled reflectance, or a sensor: "WV3"',
            HsmambaWarning,
            stacklevel=5,
        )
    return (1 / pair[0], 0.0), (1 / pair[1], 0.0)


def _given(maximum: Maximum) -> tuple[Units, Units]:
    low, high = maxima(maximum)
    return (1 / low, 0.0), (1 / high, 0.0)


def _known(model: FusionNetwork) -> tuple[Units, Units] | None:
    """What the weights brought: their transform, else `maximum` or `sensor` of the data on record."""
    if model.transform is not None and model.transform.steps:
        units = {"hsi": (1.0, 0.0), "aux": (1.0, 0.0)}
        for step in model.transform.steps:
            if not isinstance(step, SensorScale):
                raise ValueError(
                    f"the model's transform has a step {step.kind}, of which fuse cannot bring the result back; it "
                    f"takes SensorScale alone: give maximum="
                )
            factor, offset = units[step.on]
            units[step.on] = factor * step.scale, offset * step.scale + step.offset
        return units["hsi"], units["aux"]
    data = (model.record or {}).get("data") or {}
    maximum = data.get("maximum")
    if maximum is None and data.get("sensor") and (sensor := _sensor_or_none(data["sensor"])) is not None:
        maximum = sensor.maximum
    return None if maximum is None else _given(maximum)


def warn_of_shift(middle: dict[str, NDArray[np.float64]], ratio: int) -> None:
    """Warn the caller of `fuse` where the middle of the images looks shifted by more than half a pixel of `ms`."""
    if "ms" not in middle:
        return
    ms = middle["ms"]
    guide = middle["guide"].mean(axis=2)
    height, width = (min(n, g // ratio) for n, g in zip(ms.shape, guide.shape, strict=False))
    ms = ms[:height, :width]
    guide = guide[: height * ratio, : width * ratio].reshape(height, ratio, width, ratio).mean(axis=(1, 3))
    valid = np.isfinite(ms).all(axis=2) & np.isfinite(guide)
    if valid.mean() < 0.5:
        return
    ms = np.where(valid[..., None], ms, ms[valid].mean(axis=0))
    shift = measure_shift(ms, np.where(valid, guide, guide[valid].mean()))
    if shift is None or not shift.is_sure or shift.length <= _FAR:
        return
    down, right = ("down" if shift.rows > 0 else "up"), ("right" if shift.columns > 0 else "left")
    warnings.warn(
        f"the guide looks misregistered: it shows the ground {abs(shift.rows):.2f} pixels of ms further {down} and "
        f"{abs(shift.columns):.2f} further {right} than ms does (phase correlation of the middle {height} x {width} "
        f"pixels of ms). A network puts detail where the guide has it: co-register the images first",
        HsmambaWarning,
        stacklevel=4,
    )
