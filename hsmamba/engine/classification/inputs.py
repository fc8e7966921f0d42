"""Whether a scene is what a classifier takes: sources, sizes, bands and units; and what brings it to that."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Literal, TypeAlias, cast

import numpy as np
from numpy.typing import NDArray

from hsmamba.data import Compose, Scene
from hsmamba.data.bands import BandMatch, match_bands
from hsmamba.data.image import Array, like, take_bands
from hsmamba.data.units import doubt
from hsmamba.data.validity import Validity
from hsmamba.data.windows import spread_pixels
from hsmamba.errors import HsmambaWarning, SceneError
from hsmamba.models import Classifier

Source: TypeAlias = Literal["hsi", "aux"]
Sources: TypeAlias = "Mapping[Source, Array]"
Scale: TypeAlias = "float | tuple[float, float]"

_SIDE = 64  # rows and columns that are looked at for the units


def transform_of(model: Classifier, given: Compose | None) -> Compose | None:
    """Return the preprocessing to use: the caller's, else the one that came with the model."""
    return given if given is not None else cast("Compose | None", model.transform)


def sources_of(model: Classifier, scene: Scene) -> Sources:
    """The images of a scene that a model looks at, by the name of the input."""
    sources: dict[Source, Array] = {"hsi": scene.hsi}
    return sources | {"aux": scene.aux} if model.aux_chans and scene.aux is not None else sources


def used_sources(model: Classifier, scenes: Sequence[Scene]) -> list[Scene]:
    """Leave out the second source of scenes where the model does not look at it."""
    return [scene if model.aux_chans else replace(scene, aux=None) for scene in scenes]


def match_of(model: Classifier, scene: Scene, transform: Compose | None) -> BandMatch | None:
    """Find the model's bands in a scene by wavelength; None where one of both does not tell, or nothing is to do.

    Raises:
        SceneError: The scene does not cover them.

    Warns:
        HsmambaWarning: Bands were reordered, selected or resampled.
    """
    return _found(scene, *_wavelengths(model, transform))


def _found(scene: Scene, want: Any, fwhm: Any) -> BandMatch | None:
    if want is None or scene.wavelengths is None:
        return None
    found = match_bands(scene.wavelengths, want, fwhm=fwhm, bad=_bad(scene, want))
    if not found.note:
        return None
    warnings.warn(found.note, HsmambaWarning, stacklevel=5)
    return found


def _wavelengths(model: Classifier, transform: Compose | None) -> tuple[Any, Any]:
    """Wavelengths and widths of the bands that a model takes, from its transform or else its record."""
    if transform is not None and transform.wavelengths is not None:
        return transform.wavelengths, transform.fwhm
    expected = transform.in_channels() if transform is not None else model.in_chans
    known = (model.record or {}).get("wavelengths") if transform is model.transform else None
    return (known, None) if known is not None and len(known) == expected else (None, None)


def _bad(scene: Scene, want: Any) -> NDArray[np.bool_] | None:
    """Bad bands of a scene; of one with the very bands that are wanted, the transform knows which it uses."""
    return None if len(want) == scene.num_bands else scene.bad_bands


def aligned(scene: Scene, match: BandMatch | None, wavelengths: Any, fwhm: Any) -> Scene:
    """Return a scene, in memory, that holds the bands of a match in their order; itself where there is none."""
    if match is None:
        return scene
    kept: dict[str, Any] = {"bad_bands": None, "band_names": (), "wavelengths": wavelengths, "fwhm": fwhm}
    if match.mixing is None:
        if scene.bad_bands is not None:
            kept["bad_bands"] = scene.bad_bands[match.indices]
        if scene.band_names:
            kept["band_names"] = tuple(scene.band_names[i] for i in match.indices)
        return replace(scene, hsi=take_bands(scene.hsi, match.indices), **kept)
    cube = np.asarray(scene.hsi)
    mixed = Compose().taking(match, scene.num_bands)(cube)
    mixed[~Validity.of(scene.hsi)(cube, bands=match.indices)] = np.nan
    return replace(scene, hsi=like(scene.hsi, mixed), **kept)


def check_fits(model: Classifier, scene: Scene, transform: Compose | None) -> None:
    """Check that a scene has what a model needs.

    Args:
        model: A classifier.
        scene: The scene.
        transform: The preprocessing that will be used.

    Raises:
        SceneError: Another number of bands or channels, no auxiliary source, or smaller than a patch.
    """
    size = model.patch_size or 1
    if min(scene.shape) < size:
        raise SceneError(
            f"the scene is {scene.shape[0]} x {scene.shape[1]} pixels, smaller than the model's {size} x {size} "
            f"patches; create the model with a smaller patch_size (finetune --patch-size) or take a larger scene"
        )
    if model.aux_chans and scene.aux is None:
        raise SceneError(
            f"the model takes an auxiliary source of {model.aux_chans} channels, the scene has none; "
            f"open it with aux= (LiDAR or SAR on the same grid)"
        )
    for name, source in sources_of(model, scene).items():
        fitted = transform.in_channels(name) if transform is not None else None
        own = model.in_chans if name == "hsi" else model.aux_chans
        bands = source.shape[2]
        made = bands if transform is None or fitted is not None else transform.out_channels(bands, name)
        if made != (own if fitted is None else fitted):
            span = ""
            if name == "hsi" and scene.wavelengths is not None:
                span = f" ({scene.wavelengths.min():.0f} to {scene.wavelengths.max():.0f} nm)"
            raise SceneError(
                f"the scene's {name} has {bands} bands{span}, "
                + (f"the model takes {own}" if fitted is None else f"the transform of the model takes {fitted}")
                + "; select the bands it was trained on (hsmamba.data.SelectBands), or fine-tune with a transform "
                "fitted on this scene"
            )


def scaled(transform: Compose | None, scale: Scale | None) -> Compose | None:
    """Put the caller's factors before a transform.

    Raises:
        ValueError: A factor that is none.
    """
    if scale is None:
        return transform
    pair = tuple(scale) if isinstance(scale, (tuple, list)) else (scale, 1.0)
    if len(pair) != 2 or not all(isinstance(f, (int, float)) and np.isfinite(f) and f != 0 for f in pair):
        raise ValueError(f"scale is {scale!r}; expected a number other than 0, or two (of hsi, of aux)")
    result = transform or Compose()
    for on, factor in zip(("hsi", "aux"), pair, strict=True):
        if factor != 1:
            result = result.scaled(float(factor), cast("Source", on))
    return result


def check_units(transform: Compose | None, sources: Sources, *, given: bool) -> None:
    """Refuse numbers that lie far off those that a transform was fitted on, and tell of those that lie off.

    Args:
        transform: With the matching of bands and the caller's factors before it.
        sources: The images.
        given: Whether the caller has said what the numbers are: then nothing is refused, only told.

    Raises:
        SceneError: They lie far off; the text has the figures and what mends it.

    Warns:
        HsmambaWarning: They lie off.
    """
    for on, source in sources.items():
        known = transform.range(on) if transform is not None else None
        if transform is None or known is None or not len(pixels := _sample(source, transform, on)):
            continue
        before = transform.before(pixels, on)
        if before.shape[1] != known.before.shape[1]:
            continue
        found = doubt(known, before, transform(pixels, on))
        if found is None:
            continue
        factor = found.factor
        if factor is not None and doubt(known, before * factor, transform(pixels * factor, on)) is not None:
            factor = None  # which would not mend it alone: an offset, or other bands too
        mend = "other units or other bands, it seems: bring them to those of the training"
        if factor is not None:
            mend = f"they look {1 / factor:.3g} times as large: pass scale={factor:g} (--scale {factor:g})"
        text = f"the numbers of {on} are not like those that the model was trained on ({found.figures}); {mend}"
        if found.sure and not given:
            raise SceneError(f"{text}. If they are right as they are, pass scale=1 (--scale 1)")
        warnings.warn(text, HsmambaWarning, stacklevel=4)


def _sample(source: Array, transform: Compose, on: Source) -> NDArray[Any]:
    """Take valid pixels (N, B) of an even grid over an image."""
    validity = Validity.of(source)
    bands = transform.input_bands(on) if transform.in_channels(on) is not None else None
    found = [values[validity(values, *place, bands=bands)] for place, values in spread_pixels(source, _SIDE)]
    return np.concatenate(found)


def alike(model: Classifier, scenes: Sequence[Scene], transform: Compose | None) -> list[Scene]:
    """Bring scenes to the bands that a model takes or, where it does not tell, to those of the first scene.

    Raises:
        SceneError: A scene does not cover them.
    """
    want, fwhm = _wavelengths(model, transform)
    if want is None:
        want, fwhm = scenes[0].wavelengths, scenes[0].fwhm
    return [aligned(scene, _found(scene, want, fwhm), want, fwhm) for scene in scenes]
