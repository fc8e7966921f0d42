"""Tune a fusion on the user's own pair, without truth, and take what is best on tiles of it that were held out."""

from __future__ import annotations

import logging
import math
import time
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import torch
from torch import Tensor, nn

from hsmamba.data.pairs import FusionPair
from hsmamba.data.sensors import Sensor, band_gains, get_sensor
from hsmamba.engine.fusion.classical import Method, methods_for, sharpen_whole
from hsmamba.engine.fusion.heldout import cut_parts, with_low_pass
from hsmamba.engine.fusion.images import Images
from hsmamba.engine.fusion.injection import Injection
from hsmamba.engine.fusion.tiles import Advance, Write, fuse_images
from hsmamba.engine.fusion.tuned import Tuned, run, tune
from hsmamba.engine.running import evaluating
from hsmamba.errors import SceneError, TrainingError
from hsmamba.metrics import fusion as metrics
from hsmamba.metrics.report import Figures
from hsmamba.models import FusionNetwork, as_fusion_network

JUDGED = ("SAM", "ERGAS", "Q2n")
FILTERS = "fitted filters"
_SHARES = (0.25, 0.5, 0.75, 1.0)  # of a correction, that are compared
_FINE = 1e-9  # of figures that are 0 where nothing is wrong
_logger = logging.getLogger(__name__)


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
            network as it was, the fitted filters and these with the network as their correction.
        used: The candidate that the result was made by.
        classical: The best classical method.
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


@dataclass(frozen=True)
class Adaptation:
    """What the comparison chose, ready to sharpen.

    Attributes:
        report: The comparison.
        sensor: Whose MTF it was made with.
        chosen: A classical method, the network as it was, or a tuned one.
    """

    report: AdaptReport
    sensor: Sensor
    chosen: Method | FusionNetwork = field(repr=False)

    def sharpen(
        self,
        images: Images,
        write: Write,
        advance: Advance,
        *,
        tile: int | None = None,
        batch_size: int = 8,
        device: torch.device | str | None = None,
    ) -> None:
        """Sharpen images in the units that were tuned on; see `hsmamba.engine.fusion.tiles.fuse_images`."""
        if not isinstance(self.chosen, nn.Module):
            sharpen_whole(self.chosen, images, write, advance)
            return
        network = as_fusion_network(self.chosen)
        guided = with_low_pass(images, self.sensor) if isinstance(network, Tuned) else images
        with evaluating(network, device) as where:
            placed = replace(guided, dtype=next(network.parameters()).dtype, device=where)
            fuse_images(network, placed, write, advance, tile=tile, batch_size=batch_size)


def adapt_to(
    network: FusionNetwork, images: Images, how: Adapt, *, device: torch.device | str | None = None
) -> Adaptation:
    """Tune on a pair and choose; `hsmamba.fuse` calls this and has the words.

    Args:
        network: Left as it is; a copy is tuned.
        images: The pair, with `ms` and without `ms_up`, in the network's units.
        how: See `Adapt`.
        device: Where to train; default where the network is.

    Returns:
        The choice and its report.

    Raises:
        SceneError: The image is too small or holds too few valid pixels.
    """
    contest = _Contest(network, images, how, device)
    contest.enter_classical()
    seconds = contest.enter_network()
    contest.enter_filters()
    contest.enter_tuned(spare=2 * seconds)  # the comparison of the tuned network takes as long, and some
    return contest.decided()


class _Contest:
    """The candidates and their figures on the held-out tiles."""

    def __init__(self, network: FusionNetwork, images: Images, how: Adapt, device: torch.device | str | None) -> None:
        self.start = time.monotonic()
        self.network, self.how = network, how
        self.own = network.architecture or type(network).__name__
        self.tuned = f"{self.own}, tuned"
        self.sensor = _sensor_of(network, how)
        self.device = torch.device(device) if device is not None else next(network.parameters()).device
        self.parts = cut_parts(images, self.sensor, how.seed)
        self.base = Injection(network.in_chans, network.guide_chans, network.scale)
        self.methods: dict[str, Method | FusionNetwork] = {}
        self.figures: dict[str, Figures] = {}
        self.classical = ""
        self.share, self.steps = 0.0, 0
        self.notes: list[str] = []

    def enter_classical(self) -> None:
        """Compare the classical methods; each takes its statistics over the tile."""
        for name, method in methods_for(self.network.guide_chans, self.network.scale, self.sensor).items():
            self._enter(name, method, [method(pair.ms[None], pair.guide[None])[0] for pair in self._plain()])
        self.classical = min(self.methods, key=lambda name: self._score(self.figures[name]))

    def enter_network(self) -> float:
        """Compare the network as it is; returns the seconds that it takes."""
        began = time.monotonic()
        with evaluating(self.network, "cpu"):
            self._enter(self.own, self.network, [run(self.network, pair) for pair in self._plain()])
        return time.monotonic() - began

    def enter_filters(self) -> None:
        """Fit the filters and compare them."""
        self.base.fit(self.parts.tune).eval()
        alone = Tuned(self.base, None, torch.ones(self.network.in_chans), 0.0)
        self._enter(FILTERS, alone, [run(self.base, pair) for pair in self.parts.held])

    def enter_tuned(self, spare: float) -> None:
        """Train the network as a correction of the filters, and compare shares of it."""
        if self.how.steps == 0:
            return
        end = None if self.how.seconds is None else self.start + self.how.seconds - spare
        try:
            tuning = tune(
                self.network, self.base, self.parts.tune, sensor=self.sensor, steps=self.how.steps, end=end,
                seed=self.how.seed, device=self.device,
            )  # fmt: skip
        except TrainingError as error:
            self.notes.append(f"the training of {self.own} failed, so that it corrects nothing: {error}")
            return
        self.steps = tuning.steps
        if not self.steps:
            self.notes.append(f"there was no time left to train {self.own}; give more seconds")
            return
        whole = Tuned(self.base, tuning.correction, tuning.strength, 1.0)
        bare = [run(self.base, pair) for pair in self.parts.held]
        full = [run(whole, pair) for pair in self.parts.held]
        mixed = {share: [torch.lerp(a, b, share) for a, b in zip(bare, full, strict=True)] for share in _SHARES}
        self.share = min(_SHARES, key=lambda share: self._score(self._judged(mixed[share])))
        whole.share = self.share
        self._enter(self.tuned, whole, mixed[self.share])

    def decided(self) -> Adaptation:
        """Choose: nothing that is worse than the best classical method in one of the figures."""
        theirs = self.figures[self.classical]
        fair = [name for name, mine in self.figures.items() if all(_no_worse(key, mine, theirs) for key in JUDGED)]
        used = min(fair, key=lambda name: self._score(self.figures[name]))
        report = AdaptReport(
            self.figures, used, self.classical, self.share if used == self.tuned else 0.0, self.steps,
            time.monotonic() - self.start, self.parts.words, tuple(self.notes),
        )  # fmt: skip
        for line in (report.headline, *self.notes):
            _logger.info(line)
        return Adaptation(report, self.sensor, self.methods[used])

    def _plain(self) -> list[FusionPair]:
        """The held-out pairs with the guide alone, as classical methods and plain networks take it."""
        channels = self.network.guide_chans
        return [pair._replace(guide=pair.guide[:channels]) for pair in self.parts.held]

    def _enter(self, name: str, method: Method | FusionNetwork, fused: list[Tensor]) -> None:
        self.methods[name], self.figures[name] = method, self._judged(fused)

    def _judged(self, fused: list[Tensor]) -> Figures:
        """Mean figures over the held-out pixels, less a rim where up-sampling wraps around."""
        total: Figures = dict.fromkeys(JUDGED, 0.0)
        weights = [pair.guide[0].numel() for pair in self.parts.held]
        for pair, image, weight in zip(self.parts.held, fused, weights, strict=True):
            truth = torch.as_tensor(pair.gt)
            rim = min(2 * self.network.scale, min(truth.shape[-2:]) // 8)
            x, y = (part[None, :, rim : part.shape[1] - rim, rim : part.shape[2] - rim] for part in (truth, image))
            found = metrics.sam(x, y), metrics.ergas(x, y, ratio=self.network.scale), metrics.q2n(x, y)
            for key, value in zip(JUDGED, found, strict=True):
                total[key] += float(value) * weight / sum(weights)
        return total

    def _score(self, figures: Figures) -> float:
        """Mean logarithm of what is wrong by each figure; one that is not defined here, of any image, tells nothing."""
        wrong = [_wrong(key, figures) for key in JUDGED]
        return sum(math.log(max(value, _FINE)) for value in wrong if math.isfinite(value))


def _wrong(key: str, figures: Figures) -> float:
    return 1 - figures[key] if key == "Q2n" else figures[key]


def _no_worse(key: str, mine: Figures, theirs: Figures) -> bool:
    return not _wrong(key, mine) > _wrong(key, theirs)


def _sensor_of(network: FusionNetwork, how: Adapt) -> Sensor:
    """The sensor that the caller names, else that of the weight where it has as many bands, else the generic one."""
    if how.sensor is not None:
        sensor = get_sensor(how.sensor)
        band_gains(sensor, network.in_chans)
        return sensor
    name = ((network.record or {}).get("data") or {}).get("sensor")
    try:
        sensor = get_sensor(str(name))
        band_gains(sensor, network.in_chans)
    except (ValueError, SceneError):
        return get_sensor("generic")
    return sensor
