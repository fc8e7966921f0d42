"""Spectral responses: MS, PAN or RGB simulated from a hyperspectral image.

A response table is a mapping from band name to an array (n, 2): wavelength in nm, relative response.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from hsmamba.data.degrade import check_image
from hsmamba.errors import SceneError

Curves = Mapping[str, npt.NDArray[np.float64]]

# A heading is a comment that ends in "Band NAME", "Band 3 NAME" or "BAND 8A".
_HEADING = re.compile(r"^[#;]+.*\bband\s+(?:\d+\s+(?=\S))?(\S.*)$", re.IGNORECASE)

# Relative response of the Nikon D700 camera at 400, 410, ..., 700 nm in thousandths, rows red, green, blue: the usual
# RGB response of the CAVE fusion benchmark (tabulated by J. Yao).
_NIKON_D700 = (
    (0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 3, 10, 12, 13, 22, 20, 20, 18, 17, 16, 16, 14, 14, 13),
    (0, 0, 0, 0, 0, 1, 2, 3, 5, 7, 12, 13, 15, 16, 17, 20, 13, 11, 9, 5, 1, 1, 1, 1, 1, 1, 1, 1, 2, 2, 3),
    (5, 7, 12, 15, 23, 25, 30, 26, 24, 19, 10, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0),
)


def nikon_d700() -> npt.NDArray[np.float64]:
    """Return the weights (3, 31) of red, green and blue over the 31 CAVE bands, 400 to 700 nm; each row sums to 1."""
    table = np.array(_NIKON_D700, dtype=np.float64)
    return np.asarray(table / table.sum(axis=1, keepdims=True))


def read_response(path: str | Path) -> dict[str, npt.NDArray[np.float64]]:
    """Read a response table from a text file.

    The file holds a comment line (`#` or `;`) ending in "Band NAME" above the rows of each band; a row is a wavelength,
    in nm or micrometres (told apart by size), and a response; further columns are ignored. Negative responses, noise
    of the measurement, become 0.

    Args:
        path: The file.

    Returns:
        Band name to (n, 2) float64, wavelengths in nm, ascending; in the order of the file.

    Raises:
        FileNotFoundError: No such file.
        SceneError: A row that is no pair of numbers or stands above the first band, a band given twice, wavelengths
            that do not increase, or no band at all; the text names file and line.
    """
    rows: dict[str, list[tuple[float, float]]] = {}
    name = ""
    for number, raw in enumerate(Path(path).read_text(encoding="utf-8-sig").splitlines(), start=1):
        line = raw.strip()
        if heading := _HEADING.match(line):
            name = heading[1].strip()
            if name in rows:
                raise SceneError(f"{path}, line {number}: band {name!r} is there twice, expected each band once")
            rows[name] = []
        elif line and line[0] not in "#;":
            rows.setdefault(name, []).append(_row(line, name, f"{path}, line {number}"))
    curves = {band: np.array(values) for band, values in rows.items() if values}
    if not curves:
        raise SceneError(f"{path} holds no response: expected '# Band NAME' above rows of wavelength and response")
    for band, curve in curves.items():
        if not np.all(np.diff(curve[:, 0]) > 0):
            raise SceneError(
                f"{path}: wavelengths of band {band!r} do not increase; sort the rows, each wavelength once"
            )
        curve[:, 0] *= 1000 if curve[-1, 0] < 100 else 1  # no response ends below 100 nm: such values are micrometres
        np.maximum(curve[:, 1], 0, out=curve[:, 1])
    return curves


def _row(line: str, band: str, where: str) -> tuple[float, float]:
    fields = line.split()
    try:
        wavelength, response = float(fields[0]), float(fields[1])
    except (ValueError, IndexError) as error:
        raise SceneError(f"{where}: got {line[:60]!r}, expected a wavelength and a response") from error
    if not band:
        raise SceneError(f"{where}: numbers above the first band, expected a comment line '# Band NAME' before them")
    if not (np.isfinite(wavelength) and np.isfinite(response)):
        raise SceneError(f"{where}: got {line[:60]!r}, expected finite numbers")
    return wavelength, response


def response_matrix(
    curves: Curves, wavelengths: npt.ArrayLike, *, bands: Sequence[str] | None = None
) -> npt.NDArray[np.float64]:
    """Turn response curves into weights over the bands of a hyperspectral image.

    Simulated band k is the integral of response times spectrum over the integral of the response. The spectrum is
    taken as linear between the image's wavelengths, the response as linear between its own, so the integral is exact.
    Only the part of a response within the image's wavelengths counts.

    Args:
        curves: Band name to (n, 2): wavelength in nm, response.
        wavelengths: (C,) band centres of the image in nm, in any order, each once.
        bands: Names of the bands wanted, in order; all by default.

    Returns:
        (K, C) float64, each row summing to 1.

    Raises:
        SceneError: Unknown band name, wavelengths that are not distinct finite numbers, or a response of which less
            than half lies within the image's wavelengths.

    Warns:
        UserWarning: Less than 90 % of a response lies within the image's wavelengths.
    """
    centres = np.asarray(wavelengths, dtype=np.float64)
    if centres.ndim != 1 or np.unique(centres[np.isfinite(centres)]).size < max(centres.size, 2):
        raise SceneError(
            f"wavelengths have shape {centres.shape}, expected (C,): at least two distinct finite numbers, nm"
        )
    wanted = list(curves) if bands is None else list(bands)
    if unknown := [band for band in wanted if band not in curves]:
        raise SceneError(f"no response for {', '.join(unknown)}: the table has {', '.join(curves)}")
    order = np.argsort(centres)
    matrix = np.empty((len(wanted), centres.size))
    for row, band in enumerate(wanted):
        matrix[row, order] = _band_weights(band, np.asarray(curves[band], dtype=np.float64), centres[order])
    return matrix


def _integral(grid: npt.NDArray[np.float64], curve: npt.NDArray[np.float64]) -> float:
    values = np.interp(grid, curve[:, 0], curve[:, 1])
    return float(np.sum((values[1:] + values[:-1]) / 2 * np.diff(grid)))


def _band_weights(
    band: str, curve: npt.NDArray[np.float64], centres: npt.NDArray[np.float64]
) -> npt.NDArray[np.float64]:
    """Weights (C,) of one response over ascending band centres."""
    knots = np.union1d(curve[:, 0], centres)
    knots = knots[(knots >= max(centres[0], curve[0, 0])) & (knots <= min(centres[-1], curve[-1, 0]))]
    total = _integral(curve[:, 0], curve)
    share = _integral(knots, curve) / total if total > 0 else 0.0
    span = f"{100 * share:.0f} % of the response of {band!r} lies within {centres[0]:g} to {centres[-1]:g} nm"
    if share < 0.5:
        raise SceneError(f"only {span}: the image cannot simulate this band; leave it out (bands=...)")
    if share < 0.9:
        warnings.warn(f"only {span}; the rest is left out of the simulated band", stacklevel=3)
    # Both factors are linear between knots, so Simpson's rule on knots and midpoints is exact.
    points = np.sort(np.concatenate([knots, (knots[1:] + knots[:-1]) / 2]))
    step = np.diff(knots) / 6
    simpson = np.zeros(points.size)
    simpson[:-1:2] += step
    simpson[1::2] += 4 * step
    simpson[2::2] += step
    response = simpson * np.interp(points, curve[:, 0], curve[:, 1])
    # Linear interpolation written as weights: each point shares its response between its two neighbour bands.
    right = np.clip(np.searchsorted(centres, points, side="right"), 1, centres.size - 1)
    part = (points - centres[right - 1]) / (centres[right] - centres[right - 1])
    weights = np.zeros(centres.size)
    np.add.at(weights, right - 1, response * (1 - part))
    np.add.at(weights, right, response * part)
    return np.asarray(weights / weights.sum())


def simulate_bands(hsi: Tensor, weights: npt.ArrayLike | Tensor) -> Tensor:
    """Simulate MS, PAN or RGB bands from a hyperspectral image.

    Args:
        hsi: (B, C, H, W), floating point; radiance or reflectance.
        weights: (K, C), from `response_matrix`, `nikon_d700` or any table; used as they are.

    Returns:
        (B, K, H, W) in the image's dtype and unit (where the rows sum to 1).

    Raises:
        TypeError: `hsi` is no floating-point tensor.
        SceneError: The weights do not have one column for each band.
    """
    check_image(hsi, "hsi")
    table = torch.as_tensor(np.asarray(weights) if not isinstance(weights, Tensor) else weights).to(hsi)
    if table.ndim != 2 or table.shape[1] != hsi.shape[1]:
        raise SceneError(
            f"weights have shape {tuple(table.shape)}, expected (K, {hsi.shape[1]}) for an image of shape "
            f"{tuple(hsi.shape)}: make them with response_matrix for the image's own wavelengths"
        )
    return torch.einsum("kc,bchw->bkhw", table, hsi)
