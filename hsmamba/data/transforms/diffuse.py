"""A step that adds to the channels of an image their diffused copies: the one step that looks around a pixel."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from hsmamba.data.diffusion import middle, settle, squared, steps_to, transitions
from hsmamba.data.transforms.step import Floats, Source, Spectra, Step

_LEADING = 12  # channels that pixels are compared by
_LEFT = 1e-3  # of the distance to the solution
_CHANNELS = 16  # diffused at a time, so that the buffers stay small


class Diffuse(Step):
    """Add copies of the channels that are diffused on the image's own graph (`hsmamba.data.diffusion`).

    Neighbours are compared by the first 12 channels, in units of the median squared distance of neighbours around the
    fitted pixels; so it belongs after `MNF` or `PCA`. For B channels and n `shares` a of the diffusion, each in (0, 1),
    the result has B (1 + n) channels: those that came in, then a copy of all for each share. Copies of a small share
    are nearly the pixel, those of 0.99 and 0.999 know the pixels of the same ground within some 6 and 20 pixels.

    An image has to come whole: `Compose` sees to that, and holds the result in memory. Spectra without a place count as
    lying among their like: the copies are the channels themselves. State: metric (B,), by which channels are multiplied
    before they are compared.
    """

    kind = "diffuse"
    arguments = ("shares",)
    fitted_arrays = ("metric",)
    window = 3

    def __init__(self, shares: Sequence[float] = (0.9, 0.99, 0.999), *, on: Source = "hsi") -> None:
        super().__init__(on=on)
        self.shares = tuple(float(share) for share in shares)
        if not self.shares or not all(0 < share < 1 for share in self.shares):
            raise ValueError(f"shares are {shares!r}; expected one or more, each between 0 and 1")

    def out_channels(self, in_channels: int) -> int:
        """Return the number of channels with their copies."""
        return super().out_channels(in_channels) * (1 + len(self.shares))

    def image(self, cube: Spectra) -> npt.NDArray[np.float32]:
        """Apply the step to a whole image (H, W, B): float32 (H, W, B (1 + n)); what is not finite takes no part."""
        channels = cube.shape[2]
        result = np.empty((*cube.shape[:2], self.out_channels(channels)), np.float32)
        result[..., :channels] = cube
        there = np.asarray(np.isfinite(cube).all(axis=2))
        compared = (cube * self._state["metric"])[..., self._state["metric"] > 0].astype(np.float32)
        walk = transitions(compared, there)
        start = np.where(there[..., None], cube, np.nan).reshape(-1, channels).astype(np.float32)
        for level, share in enumerate(self.shares, start=1):
            for first in range(0, channels, _CHANNELS):
                part = np.ascontiguousarray(start[:, first : first + _CHANNELS])
                settled = settle(walk, part, share, steps_to(share, _LEFT))
                begin = level * channels + first
                result[..., begin : begin + part.shape[1]] = settled.reshape(*there.shape, -1)
        return result

    def _learn(self, pixels: Spectra, neighbours: Spectra | None) -> dict[str, Floats]:
        if neighbours is None or len(neighbours) < 1:
            raise ValueError("diffuse compares neighbouring pixels; fit it with Compose.fit_scene")
        leading = neighbours[..., :_LEADING]
        metric = np.zeros(pixels.shape[1])
        metric[:_LEADING] = 1 / np.sqrt(middle(squared(leading[:, 0], leading[:, 1])))
        return {"metric": metric}

    def _shapes(self, state: dict[str, Floats]) -> dict[str, tuple[int, ...]]:
        return {"metric": (state["metric"].size,)}

    def _apply(self, block: Spectra) -> npt.NDArray[np.float32]:
        return np.concatenate([block] * (1 + len(self.shares)), axis=-1).astype(np.float32)
