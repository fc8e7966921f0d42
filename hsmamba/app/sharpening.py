"""What a person does with a pair of images: open it, sharpen it by any method, compare, take the result away."""

from __future__ import annotations

import threading
import time
import warnings
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from hsmamba.app import pictures
from hsmamba.app.work import Teller, Work, in_words
from hsmamba.data import open_image
from hsmamba.data.bands import wavelengths_of
from hsmamba.data.files.lazy import as_image
from hsmamba.errors import HsmambaError, HsmambaWarning

MOST_SECONDS = 600
_TRAINABLE = ("rsanet", "ramsf", "cf2n")  # that take any ratio, and get ready in a minute
_SENSOR = "generic"
_CLIP = 2.0  # percent of the pixels beyond each end of the stretch
_JUDGED = 128  # coarse pixels on a side of what is judged at the full scale


@dataclass(frozen=True)
class Sharpened:
    """A result and what is known of it.

    Attributes:
        image: (H, W, C) on the guide's grid, in the units of the coarse image.
        method: That was asked for.
        used: What was used in the end, after `adapt`.
        seconds: It took.
        nodata: Value that stands for "no data", or None.
        reduced: Method -> figures at the reduced scale, where the truth is known.
        full: Method -> figures at the full scale, without truth.
        notes: What else is to be said.
    """

    image: NDArray[Any]
    method: str
    used: str
    seconds: float
    nodata: float | None
    reduced: dict[str, dict[str, float]] = field(default_factory=dict)
    full: dict[str, dict[str, float]] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


class Sharpening:
    """A pair of images and what was made of it.

    Attributes:
        ms: Coarse image (h, w, C); None before a pair is open.
        guide: Sharp image (H, W, G).
        result: The latest result; None before there is one.
        work: What runs.
    """

    def __init__(self) -> None:
        self.work = Work()
        self.version = 0
        self._turn = threading.RLock()
        self.ms: Any = None
        self.guide: Any = None
        self.ratio = 0
        self.name = ""
        self.result: Sharpened | None = None
        self._coarse: NDArray[np.float32] | None = None

    def open(self, ms: str, guide: str) -> None:
        """Open two files of the same ground.

        Args:
            ms: The coarse image.
            guide: The sharp one, of a whole number of times as many rows and columns.

        Raises:
            HsmambaError: What the library says of the files.
            ValueError: A path is missing, the two are swapped, or work goes on.
        """
        if not (ms.strip() and guide.strip()):
            raise ValueError("two images are needed: a coarse one (MS) and a sharp one of the same ground (the guide)")
        paths = [str(Path(one.strip()).expanduser()) for one in (ms, guide)]
        self._take(*(open_image(path) for path in paths), name=Path(paths[0]).stem)

    def open_sample(self) -> None:
        """Open the crop of a Landsat-8 image that comes with the package, with its place."""
        import tempfile

        from hsmamba.data import write_samples

        with tempfile.TemporaryDirectory() as folder:
            *_, ms, pan = write_samples(folder)
            images = [open_image(path) for path in (ms, pan)]
            self._take(*(one.load() if hasattr(one, "load") else np.array(one) for one in images), name="landsat8")

    def _take(self, ms: Any, guide: Any, *, name: str) -> None:
        from hsmamba.data.wald import ratio_of

        if self.work.status()["state"] == "running":
            raise ValueError("sharpening goes on; wait for it, or cancel it, before other images are opened")
        ms, guide = (as_image(what, image) for what, image in (("ms", ms), ("guide", guide)))
        if ms.shape[0] > guide.shape[0] and ms.shape[1] > guide.shape[1]:
            raise ValueError(
                f"the coarse image is {ms.shape[0]} x {ms.shape[1]} pixels, the sharp one {guide.shape[0]} x "
                f"{guide.shape[1]}: they are swapped"
            )
        ratio = ratio_of(ms, guide)
        with self._turn:
            self.ms, self.guide, self.ratio, self.name, self.result, self._coarse = ms, guide, ratio, name, None, None
            self.version += 1

    def methods(self) -> list[dict[str, Any]]:
        """List what can sharpen this pair: `name`, `kind` (classical, weight, untrained) and `text`."""
        self._open()
        return [{"name": name, "kind": kind, "text": text} for name, kind, text in self._methods()]

    def _methods(self) -> Iterator[tuple[str, str, str]]:
        from hsmamba.data.sensors import get_sensor
        from hsmamba.engine.fusion.classical import methods_for
        from hsmamba.zoo.listing import rows
        from hsmamba.zoo.manifest import load_manifest

        channels, bands = int(self.guide.shape[2]), int(self.ms.shape[2])
        for name in methods_for(channels, self.ratio, get_sensor(_SENSOR)):
            if name != "EXP" or not self.ratio & (self.ratio - 1):
                yield name, "classical", "classical method"
        records = load_manifest()
        for name, size, text in rows(task="fusion", pretrained=True):
            args = records[name].model_args
            if (args["in_chans"], args["guide_chans"], args["scale"]) == (bands, channels, self.ratio):
                yield name, "weight", f"{size}; {text}"
        for name, _, text in rows(task="fusion"):
            if name in _TRAINABLE:
                yield name, "untrained", f"{text}; trained on this pair alone"

    def picture(self, which: Literal["before", "after", "guide"], bands: list[int] | None = None) -> bytes:
        """Draw an image on the guide's grid as a PNG; both sides of the swipe have the stretch of the coarse image.

        Raises:
            ValueError: There is no result yet, or no such picture.
        """
        self._open()
        wavelengths = wavelengths_of(self.ms)[0]
        known = wavelengths if wavelengths is not None and np.isfinite(wavelengths).all() else None
        count = int(self.ms.shape[2])
        if bands is None and known is None and count < 3:
            bands = [0, 0, 0]
        if bands is None and known is None:
            bands = [2, 1, 0]  # most products count from blue to red
        if which == "guide":
            chosen = [2, 1, 0] if self.guide.shape[2] >= 3 else [0, 0, 0]
            image = pictures.three_bands(self.guide, chosen, None)
            return pictures.picture(image, *pictures.limits(image, _CLIP))
        coarse = pictures.three_bands(self.ms, bands, known)
        ends = pictures.limits(coarse, _CLIP)
        if which == "before":
            step = pictures.step_of(self.guide.shape)
            height, width = (-(-side // step) for side in self.guide.shape[:2])
            return pictures.picture(_resized(coarse, (height, width)), *ends)
        if which != "after":
            raise ValueError(f"there is no picture {which!r}; choose before, after or guide")
        return pictures.picture(pictures.three_bands(self._result().image, bands, known), *ends)

    def sharpen(self, method: str, *, adapt: float | None = None) -> None:
        """Begin to sharpen; `work` tells how far it is.

        Args:
            method: One of `methods`.
            adapt: Seconds to tune a network on this very pair first; None for no tuning.

        Raises:
            ValueError: No pair is open, no such method, or `adapt` does not go with it.
        """
        self._open()
        kinds = {name: kind for name, kind, _ in self._methods()}
        if method not in kinds:
            raise ValueError(f"{method!r} cannot sharpen this pair; choose {', '.join(kinds)}")
        if adapt is not None and not 0 < adapt <= MOST_SECONDS:
            raise ValueError(f"the tuning is to take {adapt} seconds; give more than 0 and at most {MOST_SECONDS}")
        if adapt is not None and kinds[method] == "classical":
            raise ValueError(f"{method} is a classical method, which is not tuned; choose a network, or no tuning")
        if adapt is None and kinds[method] == "untrained":
            raise ValueError(f"{method} has not been trained for such images; switch tuning on")
        ms, guide = self.ms, self.guide

        def run(tell: Teller) -> None:
            result, network = self._sharpened(ms, guide, method, kinds[method], adapt, tell)
            self._publish(ms, result)
            tell("figures")
            self._publish(ms, self._with_figures(ms, guide, result, network))

        self.work.start("sharpening", run)

    def _sharpened(
        self, ms: Any, guide: Any, method: str, kind: str, adapt: float | None, tell: Teller
    ) -> tuple[Sharpened, Any]:
        from hsmamba.engine.fusion.classical_job import prepare_classical
        from hsmamba.engine.fusion.job import prepare_fusion
        from hsmamba.zoo.factory import create_model

        begun, network, job = time.perf_counter(), None, None  # type: float, Any, Any
        tell("getting ready" if adapt is None else f"tuning on this pair, about {adapt:.0f} s")
        if kind == "classical":
            job = prepare_classical(method, ms, guide, nan="mask", progress=False)
        else:
            sizes: Any = {"in_chans": int(ms.shape[2]), "guide_chans": int(guide.shape[2]), "scale": self.ratio}
            network = create_model(method, pretrained=True) if kind == "weight" else create_model(method, **sizes)
            with warnings.catch_warnings():
                if kind == "untrained":  # of which nothing can be on record
                    warnings.filterwarnings("ignore", "nothing is on record", HsmambaWarning)
                job = prepare_fusion(network, ms, guide, nan="mask", adapt=adapt, progress=False)
        image = np.empty(job.shape, job.dtype)

        def keep(top: int, rows: NDArray[Any]) -> None:
            image[top : top + len(rows)] = rows
            tell("sharpening", (top + len(rows)) / job.shape[0])

        tell("sharpening", 0.0)
        job.run(keep)
        seconds = round(time.perf_counter() - begun, 1)
        report = None if job.adaptation is None else job.adaptation.report
        used, reduced, notes = method, {}, []  # type: str, dict[str, Any], list[str]
        if report is not None:
            used, reduced, notes = report.used, report.figures, [report.headline, *report.notes]
        return Sharpened(image, method, used, seconds, job.fill_value, reduced, {}, tuple(notes)), network

    def _with_figures(self, ms: Any, guide: Any, result: Sharpened, network: Any) -> Sharpened:
        """Judge the method on a strip of the pair, and what the classical methods make of it, where it is large enough.

        What `adapt` found stays: figures of the held-out tiles that it chose by; those of the full scale are then of
        the result's middle.
        """
        from hsmamba.data import wald_pairs
        from hsmamba.engine.fusion.evaluate import classical_figures, evaluate_fusion

        try:
            if result.reduced:
                return replace(result, full=_full_scale(ms, guide, result, self.ratio))
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", HsmambaWarning)  # of the pairs, not of the result
                pairs = wald_pairs(ms, guide, sensor=_SENSOR, nan="mask", val=0)
                report = classical_figures(pairs) if network is None else evaluate_fusion(network, pairs)
        except HsmambaError as error:
            return replace(result, notes=(*result.notes, f"no figures: {in_words(error)}"))
        names = {network.architecture: result.method} if network is not None else {}
        reduced, full = (
            {names.get(name, name): row for name, row in report.mean(full=which).items()} for which in (False, True)
        )
        return replace(result, reduced=reduced, full=full)

    def _publish(self, ms: Any, result: Sharpened) -> None:
        with self._turn:
            if self.ms is ms:
                self.result = result
                self.version += 1

    def export(self, folder: Path) -> Path:
        """Write the result as a GeoTIFF on the guide's grid, in the units of the coarse image.

        Raises:
            MissingExtraError: A package is not installed.
            OSError: The file cannot be written.
            ValueError: There is no result yet.
        """
        from hsmamba.data.outputs import image_rows

        result, path = self._result(), Path(folder) / "sharpened.tif"
        told = {"grid": self.guide, "values": self.ms, "nodata": result.nodata}
        with image_rows(path, result.image.shape, result.image.dtype, **told) as write:
            write(0, result.image)
        return path

    def state(self) -> dict[str, Any]:
        """Tell everything that a page shows, as plain values."""
        with self._turn:
            pair = None
            if self.ms is not None:
                shapes = {"ms": list(self.ms.shape), "guide": list(self.guide.shape)}
                pair = {"name": self.name, "ratio": self.ratio, **shapes, "methods": self.methods()}
            found = None
            if self.result is not None:
                shown = ("method", "used", "seconds", "reduced", "full", "notes")
                found = {name: getattr(self.result, name) for name in shown}
            return {"version": self.version, "pair": pair, "result": found}

    def _open(self) -> None:
        if self.ms is None:
            raise ValueError("no pair is open; open two images, or the sample")

    def _result(self) -> Sharpened:
        if self.result is None:
            raise ValueError("there is no result yet; sharpen first")
        return self.result


def _full_scale(ms: Any, guide: Any, result: Sharpened, ratio: int) -> dict[str, dict[str, float]]:
    """Figures without truth of the middle of a result, and of plain up-sampling there."""
    import torch

    from hsmamba.data import upsample
    from hsmamba.metrics import fusion as metrics

    tops = [max(0, (side - _JUDGED) // 2) for side in ms.shape[:2]]
    rows, columns = (slice(top, top + _JUDGED) for top in tops)
    fine = tuple(slice(top * ratio, (top + _JUDGED) * ratio) for top in tops)
    parts = [np.asarray(image[where], np.float64) for image, where in
             ((ms, (rows, columns)), (guide, fine), (result.image, fine))]  # fmt: skip
    if not all(np.isfinite(part).all() for part in parts) or ms.shape[2] < 2:
        return {}
    parts[1] *= parts[0].mean() / parts[1].mean()  # these figures compare the numbers of the two
    coarse, sharp, fused = (torch.from_numpy(part).permute(2, 0, 1)[None] for part in parts)
    pan = sharp.mean(1, keepdim=True)
    return {
        name: {key: float(value) for key, value in
               metrics.full_resolution(image, coarse, pan, sensor=_SENSOR, ratio=ratio).items()}
        for name, image in (("up-sampled", upsample(coarse, ratio)), (result.used, fused))
    }  # fmt: skip


def _resized(image: NDArray[np.float32], size: tuple[int, int]) -> NDArray[np.float32]:
    """Up-sample (h, w, 3) to rows and columns, smoothly, as a viewer shows it."""
    from PIL import Image

    bands = [Image.fromarray(image[..., k]).resize(size[::-1], Image.Resampling.BICUBIC) for k in range(3)]
    return np.stack([np.asarray(band, np.float32) for band in bands], axis=-1)
