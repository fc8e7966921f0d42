"""Windows of a scene: read, transformed and cut into patches one at a time, so that memory does not grow with it.

A window is read with half a patch of its surroundings, so that its patches equal those of the whole scene. Windows are
as wide as the scene where so many bytes allow it; else they are cut along the blocks that the file is stored in. A
network of whole images gets the whole scene, or parts as `images` cuts them.
"""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass, field
from typing import cast

import numpy as np
from numpy.typing import NDArray

from hsmamba.data import Compose, Patches, valid_mask
from hsmamba.data.memory import available_bytes
from hsmamba.data.validity import Validity
from hsmamba.data.windows import Within, blocks_of, cut_windows, read_window, release
from hsmamba.engine.classification.images import cut_image, read_around
from hsmamba.engine.classification.inputs import Source, Sources
from hsmamba.errors import SceneError

# Of what is held of a window: its values as they are read, and what is made of them. Three may be there: one that is
# read, one that is computed and one whose results are waited for.
_WINDOW_BYTES = 32 * 2**20
_WHOLE_BYTES = 12  # of a channel of a pixel, where an image is transformed as a whole
_BLOCK_BYTES = 2**22  # that are looked at for their validity at once


@dataclass(frozen=True)
class Window:
    """A part of a scene.

    Attributes:
        rows: Where it lies.
        columns: Where it lies.
        seen: (h, w) bool, the pixels that are to be predicted.
        patches: Of each input of the network, around the pixels of the window and of its surroundings; none where
            nothing is seen.
        valid: (h', w') bool, the pixels of the window and of its surroundings that have data; empty where nothing is
            seen.
        origin: Row and column in them of the window's first pixel.
    """

    rows: slice
    columns: slice
    seen: NDArray[np.bool_]
    patches: list[Patches] = field(default_factory=list)
    valid: NDArray[np.bool_] = field(default_factory=lambda: np.zeros((0, 0), bool))
    origin: tuple[int, int] = (0, 0)

    @property
    def core(self) -> tuple[slice, slice]:
        """Where the window lies in what was read."""
        (top, left), (height, width) = self.origin, self.seen.shape
        return slice(top, top + height), slice(left, left + width)

    def within_patches(self, pixels: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return the numbers that flat indices (N,) in the window have in `patches`."""
        y, x = np.divmod(pixels, self.seen.shape[1])
        flat: NDArray[np.int64] = (y + self.origin[0]) * self.patches[0].shape[1] + x + self.origin[1]
        return flat


@dataclass(frozen=True)
class Windows:
    """How the sources of a scene are read.

    Attributes:
        sources: The images (H, W, C), by the name of the input.
        transform: What stands before the network, or None.
        bands: The bands of each source that count for the validity of a pixel; None for all.
        size: Side P of a patch; 1 for a network of whole images.
        classes: K, of the probabilities that are made of a window.
        image: Side of the largest image that a network of whole images is given; None for one of patches.
    """

    sources: Sources
    transform: Compose | None
    bands: dict[Source, NDArray[np.int64] | None]
    size: int
    classes: int
    image: int | None = None
    validity: dict[Source, Validity] = field(init=False)

    def __post_init__(self) -> None:
        """Read off what is invalid in each source."""
        object.__setattr__(self, "validity", {on: Validity.of(source) for on, source in self.sources.items()})

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns of the scene."""
        height, width = self.sources["hsi"].shape[:2]
        return int(height), int(width)

    def cut(self) -> list[list[tuple[slice, slice]]]:
        """Cut the scene into rows of windows, from top to bottom and from left to right; the scene alone decides."""
        if self.image is not None:
            return cut_image(self.shape, self.image)
        pixels = _WINDOW_BYTES // self._pixel_bytes()
        return cut_windows(self.shape, blocks_of(self.sources["hsi"]), pixels, least=self.size)

    def check_memory(self) -> None:
        """Raise SceneError where the transform takes an image as a whole that does not fit into memory."""
        height, width = self.shape
        for on, source in self.sources.items():
            if self.transform is None or not self.transform.looks_around(on):
                continue
            needed = height * width * _WHOLE_BYTES * self.transform.out_channels(int(source.shape[2]), on)
            there = available_bytes()
            if there is not None and needed > there:
                raise SceneError(
                    f"the transform has a step that takes the image as a whole (Diffuse), {needed / 1e9:.2g} GB for "
                    f"{height} x {width} pixels, and {there / 1e9:.2g} GB are free; take a part of the scene at a "
                    "time, or a model without that step"
                )

    def _pixel_bytes(self) -> int:
        """Bytes of a pixel while its window is read and transformed."""
        count = 8 * self.classes + 32  # probabilities, and the labels that are made of them
        for on, source in self.sources.items():
            bands = int(source.shape[2])
            made = bands if self.transform is None else self.transform.out_channels(bands, on)
            count += bands * 2 * source.dtype.itemsize + made * 3 * 4
        return count

    def read(self, first: int, wanted: Within | None) -> Generator[Window]:
        """Read the windows, from the row of them on that has the row `first`.

        Args:
            first: Of the rows of the scene.
            wanted: Tells which pixels are to be predicted where they are valid; None for all.
        """
        whole = {on: self._whole(on) for on in self.sources if self.transform and self.transform.looks_around(on)}
        for windows in self.cut():
            for rows, columns in windows if windows[0][0].stop > first else ():
                asked = np.ones((rows.stop - rows.start, columns.stop - columns.start), bool)
                if wanted is not None:
                    asked &= wanted(rows, columns)
                yield self._window(rows, columns, asked, whole)
            for source in self.sources.values():
                release(source)

    def _whole(self, on: Source) -> NDArray[np.float32]:
        """Transform a source at once, whose pixels depend on what lies around them."""
        source, transform = self.sources[on], cast("Compose", self.transform)
        with np.errstate(over="ignore", invalid="ignore"):
            return np.asarray(transform(source, on, valid=valid_mask(source, "mask", bands=self.bands[on])))

    def _window(
        self, rows: slice, columns: slice, seen: NDArray[np.bool_], whole: dict[Source, NDArray[np.float32]]
    ) -> Window:
        """Read a window, of which nothing is read where nothing is to be seen."""
        if not seen.any():
            return Window(rows, columns, seen)
        place = self._reach(rows, self.shape[0]), self._reach(columns, self.shape[1])
        top, left = rows.start - place[0].start, columns.start - place[1].start
        core = slice(top, top + seen.shape[0]), slice(left, left + seen.shape[1])
        cubes, valid = [], np.ones((place[0].stop - place[0].start, place[1].stop - place[1].start), bool)
        for on in self.sources:
            cube, good = self._transformed(on, *place, whole.get(on))
            valid &= good
            cubes.append(cube)
        seen = seen & valid[core]
        if not seen.any():
            return Window(rows, columns, seen)
        patches = [Patches(cubes.pop(0), self.size) for _ in self.sources]
        return Window(rows, columns, seen, patches, valid, (top, left))

    def _reach(self, part: slice, length: int) -> slice:
        """What is read of a dimension for a part of it: at an end of the scene enough for a whole patch."""
        if self.image is not None:
            whole = part.stop - part.start == length
            return part if whole else read_around(part, self.image, length)
        size = self.size
        first = max(0, min(part.start - size // 2, length - size))
        return slice(first, min(max(part.stop + size // 2, size), length))

    def _transformed(
        self, on: Source, rows: slice, columns: slice, whole: NDArray[np.float32] | None
    ) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
        """Read a part of a source: what the network sees of it, 0 where it has no data, and where it has."""
        cube = read_window(self.sources[on], (rows, columns))
        good = np.ones(cube.shape[:2], bool)
        step = max(1, _BLOCK_BYTES // max(1, cube[:1].nbytes))
        for start in range(0, len(cube), step) if self.validity[on].may_lack(cube.dtype) else ():
            part = slice(start, min(start + step, len(cube)))
            at = slice(rows.start + part.start, rows.start + part.stop)
            good[part] = self.validity[on](cube[part], at, columns, bands=self.bands[on])
        with np.errstate(over="ignore", invalid="ignore"):  # of what is invalid
            if whole is not None:
                made = np.array(whole[rows, columns])
            else:
                made = self.transform(cube, on=on) if self.transform is not None else cube.astype(np.float32)
        made[~good] = 0
        return made, good
