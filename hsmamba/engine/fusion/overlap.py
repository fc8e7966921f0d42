"""Where the windows of a global network lie, and how much each says of a pixel: ramps, or LE-Mamba's official tiler."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

Windows: TypeAlias = "Ramps | Quarters"


def windows_over(size: tuple[int, int], window: int, overlap: int | None, ratio: int) -> Windows:
    """Lay windows over an image.

    Args:
        size: Rows and columns of the coarse image.
        window: Side in coarse pixels; smaller where the image is.
        overlap: Coarse pixels that neighbours share at least, up to half of `window`; or three quarters of it, for the
            official tiler. None for `usual_overlap`.
        ratio: Scale ratio.
    """
    overlap = usual_overlap(window) if overlap is None else overlap
    if is_official(window, overlap):
        return Quarters(*(QuarterLine.quarters(side, window, ratio) for side in size))
    return Ramps(*(Line.spread(side, window, overlap, ratio) for side in size))


def usual_overlap(window: int) -> int:
    """Return the overlap of windows where none is asked for: an eighth of their side."""
    return max(window // 8, min(1, window - 1))


def is_official(window: int, overlap: int) -> bool:
    """Whether windows lie a quarter of their side apart, as those of the official tiler do."""
    return overlap > 0 and 4 * overlap == 3 * window


@dataclass(frozen=True)
class Line:
    """Windows along one axis.

    Attributes:
        starts: First coarse pixel of every window.
        side: P, of a window, in pixels of the guide.
        ratio: Scale ratio.
    """

    starts: tuple[int, ...]
    side: int
    ratio: int

    @classmethod
    def spread(cls, length: int, window: int, overlap: int, ratio: int) -> Line:
        """Lay as few windows as overlap by so many coarse pixels, evenly from the first pixel to the last."""
        side = min(window, length)
        count = max(1, -(-(length - overlap) // (window - overlap))) if length > window else 1
        starts = (i * (length - side) // max(count - 1, 1) for i in range(count))
        return cls(tuple(starts), side * ratio, ratio)

    def meeting(self, part: slice) -> range:
        """Numbers of the windows that have some of these coarse pixels."""
        there = [i for i, a in enumerate(self.starts) if a < part.stop and a + self.side // self.ratio > part.start]
        return range(there[0], there[-1] + 1)

    def is_last(self, index: int) -> bool:
        """Whether a window is the one at the end."""
        return index == len(self.starts) - 1

    def ramps(self, index: int) -> NDArray[np.float64]:
        """Weights (P,) of a window's pixels: 1, and less towards the neighbours, evenly over what is shared."""
        weights = np.ones(self.side)
        for near, turn in ((index - 1, 1), (index + 1, -1)):
            if 0 <= near < len(self.starts):
                shared = self.side - abs(self.starts[near] - self.starts[index]) * self.ratio
                if shared > 0:
                    weights[::turn][:shared] *= (np.arange(shared) + 0.5) / shared
        return weights


@dataclass(frozen=True)
class Ramps:
    """Windows that pass into each other over what they share, linearly along both axes."""

    rows: Line
    columns: Line

    def weights(self, i: int, j: int) -> NDArray[np.float64]:
        """Weights (P, P) of the pixels of window (i, j), on the guide's grid; a result is the mean by these weights."""
        return np.outer(self.rows.ramps(i), self.columns.ramps(j))


@dataclass(frozen=True)
class QuarterLine(Line):
    """Windows of the official tiler along one axis: on a grid from 0, and a last one at the end.

    Attributes:
        step: Q, between windows of the grid, in pixels of the guide.
        seam: First pixel of the guide that is the last window's.
    """

    step: int
    seam: int

    @classmethod
    def quarters(cls, length: int, window: int, ratio: int) -> QuarterLine:
        """Lay windows a quarter of their side apart."""
        p, q = min(window, length), window // 4
        count, rest = (length - p) // q + 1, (length - p) % q
        grid_end = ((count - 1) * q + p) * ratio
        starts = (*(i * q for i in range(count)), length - p)
        return cls(starts, p * ratio, ratio, q * ratio, seam=grid_end - (p - rest) * ratio // 2)

    @property
    def grid_end(self) -> int:
        """End of the windows on the grid."""
        return (len(self.starts) - 2) * self.step + self.side

    def masks(self, index: int) -> dict[str, NDArray[np.bool_]]:
        """Tell of the pixels of a window what they are along this axis.

        Returns:
            inner: away from both ends of the grid; middle: in the half of the window that serves the mean; line: taken
            where windows are blended along this axis alone; kept: on this window's side of the seam; first: within
            the first window of the grid.
        """
        local = np.arange(self.side)
        t = local + self.starts[index] * self.ratio
        at_start, at_end = t < self.step, t >= self.grid_end - self.step
        inner = ~at_start & ~at_end
        middle = (local >= self.step) & (local < self.side - self.step)
        ends = (at_start & (index == 0)) | (at_end & ~at_start & (index == len(self.starts) - 2))
        kept = t >= self.seam if self.is_last(index) else t < self.seam
        line = ends | (inner & middle)
        return {"inner": inner, "middle": middle, "line": line, "kept": kept, "first": t < self.side}


@dataclass(frozen=True)
class Quarters:
    """LE-Mamba's official tiler: each pixel is the mean of the windows that have it in their middle half.

    At the rim of the image, and at the seam to the windows that are aligned with its end, as that tiler has it.
    """

    rows: QuarterLine
    columns: QuarterLine

    def weights(self, i: int, j: int) -> NDArray[np.bool_]:
        """Tell which pixels (P, P) of window (i, j), on the guide's grid, go into the mean of the result."""
        rows, columns = self.rows, self.columns
        y, x = rows.masks(i), columns.masks(j)
        if rows.is_last(i):
            taken = np.broadcast_to(True if columns.is_last(j) else x["line"], (rows.side, columns.side))
        elif columns.is_last(j):
            taken = np.broadcast_to(y["line"][:, None], (rows.side, columns.side))
        else:
            along_rows = (x["line"] & ~x["first"]) & (y["first"][:, None] & (i == 0))
            along_columns = y["line"][:, None] & (x["first"] & (j == 0))
            inner = y["inner"][:, None] & x["inner"]
            taken = np.where(inner, y["middle"][:, None] & x["middle"], along_rows | along_columns)
        result: NDArray[np.bool_] = taken & y["kept"][:, None] & x["kept"]
        return result
