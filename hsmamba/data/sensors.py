"""Sensors of the pansharpening protocol: Nyquist gains, band order, largest digital number.

Gains as in the DLPan-Toolbox (Vivone et al., IEEE GRSM 9(1), 2021); maxima of WorldView-2/3, QuickBird and GaoFen-2
as PanCollection states them, 11 bits for the other 11-bit products.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from hsmamba.errors import SceneError

_BGRN = ("blue", "green", "red", "NIR")
_WORLDVIEW = ("coastal", "blue", "green", "yellow", "red", "red edge", "NIR1", "NIR2")


@dataclass(frozen=True)
class Sensor:
    """What the protocol needs to know of a sensor.

    Attributes:
        name: Name in messages and records.
        ms_gains: Modulation transfer of each MS band at the Nyquist frequency, in (0, 1); a single value serves any
            number of bands.
        pan_gain: The same of the panchromatic band.
        bands: Names of the MS bands in order; empty where the sensor has no fixed bands.
        maximum: Largest digital number, for scaling to [0, 1]; None where it is not known.
        wavelengths: Centre of each MS band in nm, the mean of its measured response; empty where that is not known.

    Raises:
        ValueError: A gain outside (0, 1), or band names or wavelengths that do not match the gains.
    """

    name: str
    ms_gains: tuple[float, ...]
    pan_gain: float
    bands: tuple[str, ...] = ()
    maximum: float | None = None
    wavelengths: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        """Refuse gains that no Gaussian response can have."""
        if not self.ms_gains or not all(0 < gain < 1 for gain in (*self.ms_gains, self.pan_gain)):
            raise ValueError(
                f"sensor {self.name}: gains are {self.ms_gains} and {self.pan_gain} (PAN), expected at least one MS "
                "gain and all of them between 0 and 1, both excluded"
            )
        if self.wavelengths and len(self.wavelengths) != len(self.ms_gains):
            raise ValueError(
                f"sensor {self.name}: {len(self.wavelengths)} wavelengths for {len(self.ms_gains)} gains, expected one "
                "a gain"
            )
        if self.bands and len(self.bands) != len(self.ms_gains):
            raise ValueError(
                f"sensor {self.name}: {len(self.bands)} band names for {len(self.ms_gains)} gains, expected one a gain"
            )

    def with_bands(self, bands: Sequence[int]) -> Sensor:
        """Take some bands, by index from 0, in a given order; gains of a single value stay."""

        def taken(values: tuple[Any, ...]) -> tuple[Any, ...]:
            return tuple(values[band] for band in bands) if len(values) > 1 else values

        return replace(
            self, ms_gains=taken(self.ms_gains), bands=taken(self.bands), wavelengths=taken(self.wavelengths)
        )


SENSORS: dict[str, Sensor] = {
    sensor.name: sensor
    for sensor in (
        Sensor("QB", (0.34, 0.32, 0.30, 0.22), 0.15, _BGRN, 2047, (492, 551, 654, 810)),
        Sensor("IKONOS", (0.26, 0.28, 0.29, 0.28), 0.17, _BGRN, 2047, (496, 559, 666, 792)),
        Sensor("GeoEye1", (0.23,) * 4, 0.16, _BGRN, 2047, (485, 548, 676, 841)),
        Sensor("WV2", (0.35,) * 7 + (0.27,), 0.11, _WORLDVIEW, 2047, (428, 479, 548, 608, 659, 724, 828, 923)),
        Sensor(
            "WV3",
            (0.325, 0.355, 0.360, 0.350, 0.365, 0.360, 0.335, 0.315),
            0.14,
            _WORLDVIEW,
            2047,
            (427, 482, 547, 605, 660, 723, 827, 922),
        ),
        Sensor("WV4", (0.23,) * 4, 0.16, _BGRN, 2047),
        Sensor("GF2", (0.3,) * 4, 0.15, _BGRN, 1023),
        Sensor("generic", (0.3,), 0.15),
    )
}

_ALIASES = {
    "quickbird": "QB",
    "quickbird2": "QB",
    "ik": "IKONOS",
    "ikonos2": "IKONOS",
    "ge1": "GeoEye1",
    "worldview2": "WV2",
    "worldview3": "WV3",
    "worldview4": "WV4",
    "gaofen2": "GF2",
} | {name.lower(): name for name in SENSORS}


def get_sensor(sensor: str | Sensor) -> Sensor:
    """Find a sensor by name; case, spaces, hyphens and underscores do not matter.

    Args:
        sensor: "QB", "IKONOS", "GeoEye1", "WV2", "WV3", "WV4", "GF2" or a longer form ("WorldView-3"); "generic" for
            anything else, with the toolbox's default gains; or a `Sensor`, which is returned.

    Raises:
        ValueError: Unknown name. It is never taken for "generic": that would change every figure silently.
    """
    if isinstance(sensor, Sensor):
        return sensor
    key = "".join(c for c in str(sensor).lower() if c.isalnum())
    if key not in _ALIASES:
        raise ValueError(
            f"unknown sensor {sensor!r}, known are {', '.join(SENSORS)}: use 'generic' for the default gains 0.3 and "
            "0.15, or pass hsmamba.data.sensors.Sensor(name, ms_gains, pan_gain)"
        )
    return SENSORS[_ALIASES[key]]


def band_gains(sensor: str | Sensor, bands: int) -> tuple[float, ...]:
    """Return the gain of each of `bands` MS bands.

    Raises:
        ValueError: Unknown sensor name.
        SceneError: The sensor has another number of bands.
    """
    found = get_sensor(sensor)
    if len(found.ms_gains) == 1:
        return found.ms_gains * bands
    if len(found.ms_gains) != bands:
        names = f" ({', '.join(found.bands)})" if found.bands else ""
        raise SceneError(
            f"the image has {bands} bands, {found.name} has {len(found.ms_gains)}{names}: select the sensor's bands in "
            "this order, or use sensor='generic'"
        )
    return found.ms_gains
