"""Tune a fusion on the user's own pair, without truth, and take what is best on tiles of it that were held out."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial

import torch
from torch import Tensor

from hsmamba.baselines import BackProjection
from hsmamba.baselines.regression import LowPass
from hsmamba.data.pairs import FusionPair, FusionPairs
from hsmamba.data.sensors import Sensor, band_gains, get_sensor
from hsmamba.engine.fusion.asked import JUDGED, Adapt, AdaptReport
from hsmamba.engine.fusion.candidates import Blend, Candidate, Consistent, Plain, sharpen_by
from hsmamba.engine.fusion.classical import methods_for
from hsmamba.engine.fusion.consistency import sensor_of
from hsmamba.engine.fusion.evaluate import check_pair
from hsmamba.engine.fusion.heldout import Held, Parts, cleaned, cut_parts, parts_of
from hsmamba.engine.fusion.images import Image, Images
from hsmamba.engine.fusion.injection import Injection
from hsmamba.engine.fusion.noise import Noise
from hsmamba.engine.fusion.sharpness import SHARP
from hsmamba.engine.fusion.stacking import mean_of
from hsmamba.engine.fusion.tiles import Advance, Running, Write
from hsmamba.engine.fusion.tuned import Tuned, run, tune
from hsmamba.engine.running import evaluating
from hsmamba.errors import SceneError, TrainingError
from hsmamba.metrics import fusion as metrics
from hsmamba.metrics.report import Figures
from hsmamba.models import FusionNetwork

FILTERS = "fitted filters"
_SHARES = (0.25, 0.5, 0.75, 1.0)  # of a correction, that are compared
_ROUNDS = (1, 3, 10)  # of back-projection
_DARK = 0.3  # of a band's mean: what is darker is not added to in proportion
_MOST = 2.0  # times what plain up-sampling leaves over of MS, that filters may
_PLAIN = "EXP"  # what a mean is left without, because all the others hold it
_HARDLY = 0.1  # in scores, which is 3 % by each of three figures
_LITTLE = 0.3  # the same where little is held out, 10 % by each
_FINE = 1e-9  # of figures that are 0 where nothing is wrong
_logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Adaptation:
    """What the comparison chose, ready to sharpen.

    Attributes:
        report: The comparison.
        sensor: Whose MTF it was made with.
        chosen: A classical method, the network as it was, a tuned one, a mean of these, or one of all with
            back-projection.
        noise: Of MS, which is left out of it; None to take MS as it is.
    """

    report: AdaptReport
    sensor: Sensor
    chosen: Candidate = field(repr=False)
    noise: Noise | None = field(default=None, repr=False)

    def sharpen(
        self,
        images: Images,
        write: Write,
        advance: Advance,
        *,
        tile: int | None = None,
        overlap: int | None = None,
        batch_size: int | None = None,
        device: torch.device | str | None = None,
    ) -> None:
        """Sharpen images in the units that were tuned on; see `hsmamba.engine.fusion.tiles.fuse_images`."""
        images = replace(cleaned(images, self.noise), repeats=True)
        sharpen_by(self.chosen, images, self.sensor, write, advance, Running(tile, overlap, batch_size, device))

    def predict(self, pair: FusionPair) -> Tensor:
        """Sharpen a pair in the units that were tuned on, (C, H, W), not clipped."""
        ms, guide = (Image(tensor.permute(1, 2, 0).numpy()) for tensor in (pair.ms, pair.guide))
        fused = torch.empty(pair.ms.shape[0], *pair.guide.shape[1:])

        def keep(top: int, rows: Tensor) -> None:
            fused[:, top : top + rows.shape[1]] = rows

        ratio = pair.guide.shape[-1] // pair.ms.shape[-1]
        self.sharpen(Images(ms, guide, None, ratio, fill=False), keep, lambda _: None)
        return fused


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
    sensor = _sensor_of(network, how)
    contest = _Contest(network, how, sensor, device, holds=Blend.is_for(images))
    return contest.held(lambda: cut_parts(images, sensor, how.seed))


def adapt_to_pairs(
    network: FusionNetwork, pairs: FusionPairs, how: Adapt, *, device: torch.device | str | None = None
) -> Adaptation:
    """Tune on the first training image of pairs, as `adapt_to` does on the pair that it was made of.

    So that it can be judged on the test images, which it does not see, by `Adaptation.predict`.

    Args:
        network: Left as it is; a copy is tuned.
        pairs: With a training image.
        how: See `Adapt`; the sensor is that of the pairs.
        device: Where to train; default where the network is.

    Raises:
        SceneError: There is no training image, or it is too small.
    """
    if not pairs.train:
        raise SceneError(f"the pairs {pairs.name!r} have no training images")
    check_pair(network, pairs.unturned()[0])
    parts = partial(parts_of, pairs.train[0], pairs.ratio, pairs.sensor, how.seed)
    return _Contest(network, how, pairs.sensor, device).held(parts)


class _Contest:
    """The candidates and their figures on the held-out tiles.

    Args:
        network: Left as it is.
        how: See `Adapt`.
        sensor: Whose MTF blurs.
        device: Where to train.
        holds: Whether the image can be held, for blends.
    """

    parts: Parts

    def __init__(
        self,
        network: FusionNetwork,
        how: Adapt,
        sensor: Sensor,
        device: torch.device | str | None,
        *,
        holds: bool = True,
    ) -> None:
        self.start, self.holds = time.monotonic(), holds
        self.network, self.how = network, how
        self.own = network.architecture or type(network).__name__
        self.tuned = f"{self.own}, tuned"
        self.sensor = sensor
        self.device = torch.device(device) if device is not None else next(network.parameters()).device
        self.bases: list[Injection] = []  # of each fold, and the one that is used
        self.pairs: list[FusionPair] = []  # that are held out
        self.fused: dict[str, list[Tensor]] = {}
        self.plain: dict[str, Plain] = {}  # what means are made of
        self.methods: dict[str, Candidate] = {}
        self.figures: dict[str, Figures] = {}
        self.theirs: tuple[str, ...] = ()
        self.classical = ""
        self.means: list[str] = []
        self.share, self.steps = 0.0, 0
        self.notes: list[str] = []

    def held(self, parts: Callable[[], Parts]) -> Adaptation:
        """Compare all candidates on the held-out tiles of some parts, and choose."""
        self.parts = parts()
        self.pairs = [part.pair for part in self.parts.held]
        self.enter_classical()
        seconds = self.enter_network()
        if self.enter_filters():
            self.enter_tuned(spare=2 * seconds)  # the comparison of the tuned network takes as long, and some
        self.enter_consistent()
        if self.holds:
            self.enter_means()
        return self.decided()

    def enter_classical(self) -> None:
        """Compare the classical methods; each takes its statistics over the tile."""
        network = self.network
        for name, method in methods_for(network.guide_chans, network.scale, self.sensor, wrap=False).items():
            self._enter(name, method, [method(pair.ms[None], pair.guide[None])[0] for pair in self._plain()])
        self.theirs = tuple(self.methods)
        self.classical = min(self.theirs, key=self._score_of)

    def enter_network(self) -> float:
        """Compare the network as it is; returns the seconds that it takes."""
        began = time.monotonic()
        with evaluating(self.network, "cpu"):
            self._enter(self.own, self.network, [run(self.network, pair) for pair in self._plain()])
        return time.monotonic() - began

    def enter_filters(self) -> bool:
        """Fit the filters and compare them; False where they are of no use at the full scale."""
        self.bases = [self._fitted(pairs) for pairs in self.parts.folds]
        if self.parts.every:
            self.bases.append(self._fitted(self.parts.every))
        mine, theirs = (self._left_over(way) for way in (partial(run, self.bases[-1]), lambda pair: pair.ms_up))
        if mine > _MOST * theirs:
            self.notes.append(
                f"the fitted filters, and {self.own} as their correction, are left out: at the full scale they leave "
                f"{mine:.2g} of the spread of ms over, plain up-sampling {theirs:.2g}; they were tuned on too little"
            )
            return False
        alone = Tuned(self.bases[-1], None, torch.ones(self.network.in_chans), 0.0)
        self._enter(FILTERS, alone, [self._by_those_who_did_not_see(part) for part in self.parts.held])
        return True

    def _by_those_who_did_not_see(self, part: Held) -> Tensor:
        """Sharpen a held-out pair by the filters of each fold where they were not fitted."""
        fused = torch.zeros_like(part.pair.ms_up)
        for fold in torch.unique(part.fold).tolist():
            fused = torch.where(part.fold == fold, run(self.bases[fold], part.pair), fused)
        return fused

    def _fitted(self, pairs: Sequence[FusionPair]) -> Injection:
        fitted = Injection(self.network.in_chans, self.network.guide_chans, self.network.scale).fit(pairs)
        return fitted.eval()

    def _left_over(self, way: Callable[[FusionPair], Tensor]) -> float:
        """Tell what a result lacks of MS on its grid at the full scale, in spreads of the bands, in the mean."""
        low_pass = LowPass(self.sensor, self.network.in_chans, self.network.scale)
        total = 0.0
        for pair in self.parts.full:
            lacking = (pair.ms - low_pass.down(way(pair)[None])[0]).flatten(1).double().square().mean(1).sqrt()
            total += float((lacking / pair.ms.flatten(1).double().std(1).clamp_min(_FINE)).mean())
        return total / max(1, len(self.parts.full))

    def enter_tuned(self, spare: float) -> None:
        """Train the network as a correction of the filters, and compare shares of it."""
        if self.how.steps == 0:
            return
        end = None if self.how.seconds is None else self.start + self.how.seconds - spare
        try:
            tuning = tune(
                self.network, self.bases[0], self.parts.folds[0], sensor=self.sensor, steps=self.how.steps, end=end,
                seed=self.how.seed, device=self.device,
            )  # fmt: skip
        except TrainingError as error:
            self.notes.append(f"the training of {self.own} failed, so that it corrects nothing: {error}")
            return
        self.steps = tuning.steps
        if not self.steps:
            self.notes.append(f"there was no time left to train {self.own}; give more seconds")
            return
        seen = Tuned(self.bases[0], tuning.correction, tuning.strength, 1.0)
        full = [  # where other folds are held out the network was trained, and the filters stand
            torch.where(part.fold == 0, run(seen, part.pair), bare)
            for part, bare in zip(self.parts.held, self.fused[FILTERS], strict=True)
        ]
        bare = self.fused[FILTERS]
        mixed = {share: [torch.lerp(a, b, share) for a, b in zip(bare, full, strict=True)] for share in _SHARES}
        self.share = min(_SHARES, key=lambda share: self._score(self._judged(mixed[share])))
        whole = Tuned(self.bases[-1], tuning.correction, tuning.strength, self.share)
        self._enter(self.tuned, whole, mixed[self.share])

    def enter_consistent(self) -> None:
        """Compare the best classical method, and the best of what is not classical, made consistent with MS."""
        others = [name for name in self.methods if name not in self.theirs]
        for name in (self.classical, min(others, key=self._score_of)):
            inner = self.methods[name]
            if isinstance(inner, Consistent):
                continue
            found = [(way, self._projected([self.fused[name]], way)[0]) for way in self._ways()]
            way, fused = min(found, key=lambda entry: self._score(self._judged(entry[1])))
            self._enter(_consistent(name, way), Consistent(inner, way), fused)

    def enter_means(self) -> None:
        """Compare means of what there is, the better of filters and tuned network among it, made consistent with MS.

        Where the choice is used at another scale, MS is what is known there, and none is compared without, but where
        it has noise that matters.
        """
        mine = [name for name in (FILTERS, self.tuned) if name in self.methods]
        names = [*(name for name in self.theirs if name != _PLAIN), *sorted(mine, key=self._score_of)[:1]]
        if self._score_of(self.own) < self._score_of(_PLAIN):  # not one that has learnt nothing yet
            names.append(self.own)
        for way in self._ways() if self.goes_far and self.parts.noise is None else [None, *self._ways()]:
            fused = [self.fused[name] for name in names]
            results = fused if way is None else self._projected(fused, way)
            found, mean = mean_of(results, self.parts.held)
            parts = sorted(((share, names[index]) for index, share in found.items()), reverse=True)
            name = ", ".join(f"{name} {100 * share:.0f} %" for share, name in parts) if len(parts) > 1 else parts[0][1]
            if (name := _consistent(name, way)) in self.methods:
                continue
            blend = Blend(tuple((self.plain[name], share) for share, name in parts))
            self._enter(name, blend if way is None else Consistent(blend, way), mean)
            self.means.append(name)

    @property
    def goes_far(self) -> bool:
        """Whether the choice is used at another scale than it is made at."""
        return self.parts.sharpness is not None

    @property
    def margin(self) -> float:
        """By how much, in scores, a method must be better than a mean to be used alone.

        At another scale, and on other ground than the little that is held out of a small image, which of them is best
        the held-out tiles tell less well, and a mean is never far from the best.
        """
        if self.goes_far:
            return _HARDLY
        return _LITTLE if self.parts.every else 0.0

    def _ways(self) -> list[BackProjection]:
        """Ways to make a result consistent; more than one round where the MTF is that of the table, or can be."""
        sharpness = self.parts.sharpness
        rounds = _ROUNDS if sharpness is None or sharpness < SHARP else _ROUNDS[:1]
        bands = torch.cat([pair.ms.flatten(1) for pair in self.pairs], dim=1)
        dark = (_DARK * bands.double().mean(dim=1)).clamp_min(_FINE)
        way = partial(BackProjection, self.sensor, self.network.scale)
        return [*map(way, rounds), *(way(count, dark=dark) for count in sorted({rounds[0], rounds[-1]}))]

    def _projected(self, results: list[list[Tensor]], project: BackProjection) -> list[list[Tensor]]:
        """Make results on the held-out pairs consistent with them."""
        found = []
        for index, pair in enumerate(self.pairs):
            images = torch.stack([images[index].float() for images in results])
            found.append(project(images, pair.ms.expand(len(results), -1, -1, -1)))
        return [[images[m] for images in found] for m in range(len(results))]

    def _score_of(self, name: str) -> float:
        return self._score(self.figures[name])

    def decided(self) -> Adaptation:
        """Choose what is worse in none of the figures than the classical method that is best in it.

        Where nothing is, what is worse in none than the one that is best in all. A mean is chosen before one method
        alone that is better by no more than `margin`.
        """
        best = {key: _least(_wrong(key, self.figures[name]) for name in self.theirs) for key in JUDGED}
        fair = self._no_worse_than(best) or self._no_worse_than(_all_wrong(self.figures[self.classical]))
        if margin := self.margin:
            near = min(map(self._score_of, fair)) + margin
            fair = [name for name in fair if name in self.means and self._score_of(name) <= near] or fair
        used = min(fair, key=self._score_of)
        report = AdaptReport(
            self.figures, used, self.classical, self.share if self.tuned in used else 0.0, self.steps,
            time.monotonic() - self.start, self.parts.words, tuple(self.notes),
        )  # fmt: skip
        for line in (report.headline, *self.notes):
            _logger.info(line)
        return Adaptation(report, self.sensor, self.methods[used], self.parts.noise)

    def _no_worse_than(self, wrong: dict[str, float]) -> list[str]:
        """Names of what is worse in none of the figures; one that is not defined here tells nothing."""
        return [
            name
            for name, figures in self.figures.items()
            if all(not value > wrong[key] for key, value in _all_wrong(figures).items())
        ]

    def _plain(self) -> list[FusionPair]:
        """The held-out pairs with the guide alone, as classical methods and plain networks take it."""
        channels = self.network.guide_chans
        return [pair._replace(guide=pair.guide[:channels]) for pair in self.pairs]

    def _enter(self, name: str, method: Candidate, fused: list[Tensor]) -> None:
        self.methods[name], self.fused[name], self.figures[name] = method, fused, self._judged(fused)
        if not isinstance(method, (Blend, Consistent)):
            self.plain[name] = method

    def _judged(self, fused: list[Tensor]) -> Figures:
        """Mean figures over the held-out pixels, less a rim where up-sampling wraps around."""
        total: Figures = dict.fromkeys(JUDGED, 0.0)
        weights = [pair.guide[0].numel() for pair in self.pairs]
        for pair, image, weight in zip(self.pairs, fused, weights, strict=True):
            truth = torch.as_tensor(pair.gt)
            rim = min(2 * self.network.scale, min(truth.shape[-2:]) // 8)
            x, y = (part[None, :, rim : part.shape[1] - rim, rim : part.shape[2] - rim] for part in (truth, image))
            angle = metrics.sam(x, y) if x.shape[1] > 1 else 0.0  # of one band it is rounding
            found = angle, metrics.ergas(x, y, ratio=self.network.scale), metrics.q2n(x, y)
            for key, value in zip(JUDGED, found, strict=True):
                total[key] += float(value) * weight / sum(weights)
        return total

    def _score(self, figures: Figures) -> float:
        """Mean logarithm of what is wrong by each figure; one that is not defined here, of any image, tells nothing."""
        wrong = [_wrong(key, figures) for key in JUDGED]
        return sum(math.log(max(value, _FINE)) for value in wrong if math.isfinite(value))


def _wrong(key: str, figures: Figures) -> float:
    return 1 - figures[key] if key == "Q2n" else figures[key]


def _all_wrong(figures: Figures) -> dict[str, float]:
    return {key: _wrong(key, figures) for key in JUDGED}


def _least(values: Iterable[float]) -> float:
    return min((value for value in values if math.isfinite(value)), default=math.nan)


def _consistent(name: str, way: BackProjection | None) -> str:
    if way is None:
        return name
    return f"{name}, {way.rounds} x back-projected" + (" in proportion" if way.dark is not None else "")


def _sensor_of(network: FusionNetwork, how: Adapt) -> Sensor:
    """The sensor that the caller names, else that of the weight where it has as many bands, else the generic one."""
    if how.sensor is not None:
        sensor = get_sensor(how.sensor)
        band_gains(sensor, network.in_chans)
        return sensor
    return sensor_of(network)
