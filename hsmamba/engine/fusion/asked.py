"""What `fuse` is asked for by `adapt`, and the report on what came of it."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any

from hsmamba._html import table, titled
from hsmamba.data.sensors import Sensor, get_sensor
from hsmamba.metrics.report import Figures

JUDGED = ("SAM", "ERGAS", "Q2n")


@dataclass(frozen=True)
class Adapt:
    """How long, and how, `fuse` tunes on the user's own pair.

    Attributes:
        seconds: Wall time for tuning and comparison; the fusion comes after it. What takes longer than that by itself
            (the comparison of a slow network on the held-out tiles) is done all the same.
        steps: Steps of training instead, of which the result depends on the seed alone and not on the clock; 0 trains
            no network.
        sensor: Name of the sensor of MS whose MTF blurs, or one made by hand; default that of the weight's training,
            where the bands are as many, else "generic".
        seed: Of the choice of tiles in a large image and of the training.

    Raises:
        ValueError: Neither or both of `seconds` and `steps`, or one out of range; an unknown sensor.
    """

    seconds: float | None = None
    steps: int | None = None
    sensor: str | Sensor | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        if (self.seconds is None) == (self.steps is None):
            raise ValueError(
                f"Adapt takes either seconds or steps, and has seconds={self.seconds} and steps={self.steps}; "
                "adapt=60 is a minute, adapt=Adapt(steps=100) a hundred steps"
            )
        if self.seconds is not None and not (
            _is_real(self.seconds) and math.isfinite(self.seconds) and self.seconds > 0
        ):
            raise ValueError(f"seconds is {self.seconds!r}; expected a number above 0, 60 for a minute")
        for name in ("steps", "seed"):
            value = getattr(self, name)
            if value is not None and (type(value) is not int or value < 0):
                raise ValueError(f"{name} is {value!r}; expected a whole number, 0 or more")
        if self.sensor is not None:
            get_sensor(self.sensor)

    @classmethod
    def of(cls, given: float | Adapt) -> Adapt:
        """Take the argument of `fuse`, of which a number is seconds.

        Raises:
            TypeError: It is neither.
            ValueError: It is out of range.
        """
        if isinstance(given, Adapt):
            return given
        if not _is_real(given):
            raise TypeError(
                f"adapt is {given!r}; expected seconds (60 for a minute) or hsmamba.engine.Adapt(steps=...)"
            )
        return cls(seconds=float(given))


def _is_real(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


@dataclass(frozen=True)
class AdaptReport:
    """What `fuse` compared on the held-out tiles, and what it used; `str()` is a table.

    Attributes:
        figures: SAM (degrees), ERGAS and Q2n by candidate, means over the held-out pixels: the classical methods, the
            network as it was, the fitted filters, these with the network as their correction, means of these, and
            back-projections. Of a small image every part is held out in turn; the network's training is held out of the
            first, and on the others its rows are those of the filters.
        used: The candidate that the result was made by.
        classical: The best classical method, by all three figures.
        share: Of the network's correction, where that is used; else 0.
        steps: Steps of training.
        seconds: That all this took.
        parts: Which tiles were held out, in words.
        notes: What went otherwise than it should.
    """

    figures: dict[str, Figures]
    used: str
    classical: str
    share: float
    steps: int
    seconds: float
    parts: str
    notes: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Return everything as plain values."""
        return asdict(self)

    @property
    def headline(self) -> str:
        """What was used, and by how much it is better than the best classical method."""
        mine, theirs = (self.figures[name] for name in (self.used, self.classical))
        if self.used == self.classical:
            return f"adapt: {self.used} is best on the held-out tiles and is used ({_in_words(mine)})"
        share = f" ({100 * self.share:.0f} % of the correction)" if self.share else ""
        return (
            f"adapt: used {self.used}{share}: {_in_words(mine)}; best classical, {self.classical}: {_in_words(theirs)}"
        )

    def _repr_html_(self) -> str:
        """Show the table, in notebooks."""
        rows = [
            (name, *(f"{figures[key]:.4f}" for key in JUDGED), "used" if name == self.used else "")
            for name, figures in self.figures.items()
        ]
        told = [(self.parts,), *((note,) for note in self.notes)]
        return titled(self.headline, table(rows, ("on the held-out tiles", *JUDGED, "")), table(told))

    def __str__(self) -> str:
        """Write the table."""
        width = max(map(len, self.figures)) + 2
        lines = [f"{'':{width}}" + "".join(f"{key:>10}" for key in JUDGED)]
        for name, figures in self.figures.items():
            mark = "  <- used" if name == self.used else ""
            lines.append(f"{name:{width}}" + "".join(f"{figures[key]:10.4f}" for key in JUDGED) + mark)
        lines += [f"{self.parts}; {self.steps} steps, {self.seconds:.0f} s", *self.notes]
        return "\n".join([self.headline, *lines])


def _in_words(figures: Figures) -> str:
    return ", ".join(f"{key} {figures[key]:.4g}" for key in JUDGED)
