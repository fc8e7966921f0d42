"""Sharpen whole images by a classical method, as `prepare_fusion` does by a network."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from hsmamba.baselines import BASELINES, OF_PAN_ALONE
from hsmamba.data.files.lazy import as_image
from hsmamba.data.image import Array, NanPolicy
from hsmamba.data.sensors import Sensor, band_gains, get_sensor
from hsmamba.data.validity import check_policy
from hsmamba.data.wald import ratio_of
from hsmamba.engine.fusion.classical import Method, methods_for, sharpen_whole
from hsmamba.engine.fusion.consistency import consistent_method
from hsmamba.engine.fusion.images import Image
from hsmamba.engine.fusion.inputs import check_grids, check_ground, samples, warn_of_shift
from hsmamba.engine.fusion.job import FusionJob, checked_images, dims_of
from hsmamba.engine.fusion.tiles import Advance, Write
from hsmamba.models import FusionNetwork


def method_named(name: str) -> str | None:
    """Return a classical method's name as `hsmamba.baselines.BASELINES` has it, whatever its case, else None."""
    return next((known for known in BASELINES if known.lower() == name.lower()), None)


@dataclass(frozen=True)
class ClassicalJob(FusionJob):
    """A checked fusion by a classical method; `prepare_classical` makes it.

    Attributes:
        method: The method; the network of the job is empty and says the sizes alone.
    """

    method: Method | None = None

    def _sharpen(self, write: Write, advance: Advance, start: int) -> None:
        if self.method is None:
            raise TypeError("a classical job has a method; prepare_classical makes one")
        sharpen_whole(self.method, self.images, write, advance, start=start)


def prepare_classical(
    method: str,
    ms: Array,
    guide: Array,
    *,
    sensor: str | Sensor = "generic",
    nan: NanPolicy = "raise",
    consistent: bool = False,
    progress: bool = True,
) -> ClassicalJob:
    """Check a fusion by a classical method without running it.

    Args:
        method: Name in `hsmamba.baselines.BASELINES`, in any case: "GSA", "MTF-GLP-FS", ...
        ms: Coarse image (h, w, C) or (h, w), as for `hsmamba.fuse`, in any unit.
        guide: Sharp image (r h, r w, G) or (r h, r w) of the same ground, r a whole number of two or more.
        sensor: Whose MTF the method takes, by name or made by hand; "generic" for others.
        nan: As for `hsmamba.fuse`.
        consistent: Make the result consistent with both images, as for `hsmamba.fuse`.
        progress: Show a progress bar.

    Returns:
        The fusion; `run` gives its rows. A result of more than 2^22 values is made part by part (`sharpen_whole`).

    Raises:
        SceneError: Grids, bands or ground do not fit each other, or there are invalid pixels with `nan="raise"`.
        ValueError: There is no such method, or it does not take this guide; an unknown sensor.

    Warns:
        HsmambaWarning: The images look misregistered.
    """
    check_policy(nan)
    arrays = {name: as_image(name, array) for name, array in (("ms", ms), ("guide", guide))}
    ratio = ratio_of(arrays["ms"], arrays["guide"])
    found = get_sensor(sensor)
    channels, bands = int(arrays["guide"].shape[2]), int(arrays["ms"].shape[2])
    known = methods_for(channels, ratio, found, wrap=False)
    name = method_named(method)
    if name not in known:
        why = "takes a guide of one channel" if name in OF_PAN_ALONE else "is no classical method"
        raise ValueError(f"{method!r} {why}; choose {', '.join(known)}")
    band_gains(found, bands)
    check_grids(ratio, arrays)
    check_ground(arrays)
    images = checked_images({key: Image(array) for key, array in arrays.items()}, ratio, nan)
    warn_of_shift(samples(arrays, ratio), ratio)
    chosen = consistent_method(known[name], images, found) if consistent else known[name]
    sizes: Any = FusionNetwork(bands, channels, ratio)
    given = sizes, images, Image(arrays["ms"]), None, None, 1, None
    return ClassicalJob(*given, nan == "mask", progress, dims_of(ms), method=chosen)
