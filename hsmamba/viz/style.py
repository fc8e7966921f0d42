"""One style for all pictures: figures that bring it with them, legends, scale bars and north arrows."""

from __future__ import annotations

import functools
import io
import re
from collections.abc import Callable, Sequence
from typing import Any, ParamSpec, TypeVar

import numpy as np
from numpy.typing import NDArray

from hsmamba._optional import optional_import
from hsmamba.data.colours import PALETTES, class_colours
from hsmamba.data.georeference import Georeference

STYLE: dict[str, Any] = {
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.titlesize": "medium",
    "axes.prop_cycle": None,  # filled in below: matplotlib is not imported here
    "font.size": 9,
    "legend.frameon": False,
    "pdf.fonttype": 42,  # text stays text
    "svg.fonttype": "none",
    "svg.hashsalt": "hsmamba",  # the same picture gives the same file
}
_DEGREE = 111_320.0  # metres of a degree on the equator
P = ParamSpec("P")
R = TypeVar("R")


@functools.cache
def style() -> dict[str, Any]:
    """Return the style of all pictures, as `matplotlib.rc_context` takes it.

    Raises:
        MissingExtraError: matplotlib is not installed.
    """
    cycler = optional_import("matplotlib", "to draw").cycler
    return {**STYLE, "axes.prop_cycle": cycler(color=class_colours(7)[[5, 1, 3, 6, 7, 2]].tolist())}


def styled(function: Callable[P, R]) -> Callable[P, R]:
    """Draw in the style."""

    @functools.wraps(function)
    def draw(*args: P.args, **kwargs: P.kwargs) -> R:
        matplotlib = optional_import("matplotlib", "to draw")
        with matplotlib.rc_context(style()):
            return function(*args, **kwargs)

    return draw


@functools.cache
def _figure_class() -> Any:
    """Return matplotlib's figure, which saves in the style and brings the picture that notebooks ask for.

    They know those of pyplot alone.
    """
    base = optional_import("matplotlib.figure", "to draw").Figure

    def savefig(self: Any, *args: Any, **kwargs: Any) -> None:
        styled(base.savefig)(self, *args, **kwargs)

    def _repr_png_(self: Any) -> bytes:
        file = io.BytesIO()
        self.savefig(file, format="png", dpi=100)
        return file.getvalue()

    return type("Figure", (base,), {"savefig": savefig, "_repr_png_": _repr_png_, "__module__": __name__})


def new_figure(width: float, height: float) -> Any:
    """Make a figure of so many inches."""
    return _figure_class()(figsize=(width, height), layout="constrained")


def show(axes: Any, image: NDArray[Any], title: str, **kwargs: Any) -> Any:
    """Draw an image without axes."""
    shown = axes.imshow(image, interpolation="nearest", **kwargs)
    axes.set_title(title)
    axes.set_axis_off()
    return shown


def palette_of(name: str, num_classes: int, palette: str | None) -> str | None:
    """Return the palette to draw in: "auto" is the usual one of a known data set, where it has as many classes."""
    if palette != "auto":
        return palette
    return name if name in PALETTES and len(PALETTES[name].split()) == num_classes else None


def legend(figure: Any, class_names: Sequence[str], colours: NDArray[Any], columns: int) -> None:
    """Write the names of classes beside their colours, below all."""
    patch = optional_import("matplotlib.patches", "to draw").Patch
    handles = [patch(facecolor=colours[k], edgecolor="0.6", lw=0.4, label=n) for k, n in enumerate(class_names, 1)]
    figure.legend(handles=handles, loc="outside lower center", ncols=columns, fontsize="small")


def mark_place(axes: Any, image: Any) -> None:
    """Draw a scale bar and a north arrow on an image that has a place; nothing on others."""
    place = Georeference.of(image)
    if place is None or place.affine is None:
        return
    a, b, _, d, e, f = place.affine
    if abs(a * e - b * d) == 0:
        return
    height, width = image.shape[:2]
    east, north = _metres(place.crs, f + e * height / 2)
    if east is not None and north is not None:
        _scale_bar(axes, width, height, float(np.hypot(a * east, d * north)))
    toward = np.linalg.solve([[a, b], [d, e]], [0.0, 1.0])  # pixels that lead to the north
    toward = toward / np.hypot(*toward)
    _north_arrow(axes, width, height, toward)


def _metres(crs: str | None, y: float) -> tuple[float | None, float | None]:
    """Return the metres of a unit to the east and to the north; None where the unit is not known."""
    if not crs:
        return None, None
    if re.match(r"\s*(GEOGCS|GEOGCRS|GEODCRS)\b", crs):
        return _DEGREE * float(np.cos(np.deg2rad(y))), _DEGREE
    units = re.findall(r'UNIT\["[^"]*",\s*([\d.eE+-]+)', crs.partition("PROJCRS")[2] or crs)
    projected = re.findall(r'LENGTHUNIT\["[^"]*",\s*([\d.eE+-]+)', crs) or units[-1:]
    return (float(projected[-1]), float(projected[-1])) if projected else (None, None)


def _scale_bar(axes: Any, width: int, height: int, metres: float) -> None:
    wanted = metres * width / 4
    power = 10 ** np.floor(np.log10(wanted))
    length = float(max(step * power for step in (1, 2, 5) if step * power <= wanted))
    text = f"{length / 1000:g} km" if length >= 1000 else f"{length:g} m"
    left, bottom = 0.04 * width, height - 0.06 * height
    right = left + length / metres
    effects = optional_import("matplotlib.patheffects", "to draw")
    axes.plot([left, right], [bottom, bottom], color="black", lw=4.5, solid_capstyle="butt", gid="scale bar")
    axes.plot([left, right], [bottom, bottom], color="white", lw=2.5, solid_capstyle="butt")
    outline = [effects.withStroke(linewidth=2, foreground="black")]
    middle, above = (left + right) / 2, bottom - 0.02 * height
    axes.text(middle, above, text, color="white", ha="center", va="bottom", fontsize="small", path_effects=outline)
    axes.set(xlim=(-0.5, width - 0.5), ylim=(height - 0.5, -0.5))


def _north_arrow(axes: Any, width: int, height: int, toward: NDArray[Any]) -> None:
    reach = 0.07 * min(width, height)
    foot = np.array([width - 2.2 * reach, 2.4 * reach])
    effects = optional_import("matplotlib.patheffects", "to draw")
    outline = [effects.withStroke(linewidth=2, foreground="black")]
    start, end = foot - toward * reach * 0.5, foot + toward * reach * 0.5
    style = {"arrowstyle": "-|>", "color": "white", "lw": 1.5, "path_effects": outline, "shrinkA": 0, "shrinkB": 0}
    axes.annotate("", xy=tuple(end), xytext=tuple(start), arrowprops=style)
    at = foot + toward * reach * 1.1
    axes.text(*at, "N", color="white", ha="center", va="center", fontsize="small", path_effects=outline)
