"""Pieces of HTML for notebooks: tables, pictures, curves; plain, so that they are read on light and on dark ground."""

from __future__ import annotations

import base64
import math
from collections.abc import Iterable, Mapping, Sequence
from html import escape

_WIDTH, _HEIGHT = 360, 140
_TONES = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9")


def table(rows: Iterable[Sequence[object]], head: Sequence[str] = ()) -> str:
    """Make a table of rows of cells, which are escaped."""

    def line(cells: Iterable[object], tag: str) -> str:
        return (
            "<tr>" + "".join(f"<{tag} style='text-align:left'>{escape(str(cell))}</{tag}>" for cell in cells) + "</tr>"
        )

    return f"<table>{line(head, 'th') if head else ''}{''.join(line(row, 'td') for row in rows)}</table>"


def titled(title: str, *parts: str) -> str:
    """Put parts below a title."""
    return f"<div><b>{escape(title)}</b>{''.join(parts)}</div>"


def picture(png: bytes, alt: str) -> str:
    """Show a picture."""
    return f"<div><img alt='{escape(alt)}' src='data:image/png;base64,{base64.b64encode(png).decode()}'></div>"


def curves(series: Mapping[str, Sequence[float]]) -> str:
    """Draw series of numbers against their number, each between its own least and largest one."""
    lines, words = [], []
    for (name, values), tone in zip(series.items(), _TONES, strict=False):
        good = [value for value in values if math.isfinite(value)]
        if len(good) < 2:
            continue
        low, high = min(good), max(good)
        points = [
            f"{8 + (_WIDTH - 16) * k / (len(values) - 1):.1f},"
            f"{_HEIGHT - 8 - (_HEIGHT - 16) * ((value - low) / (high - low) if high > low else 0.5):.1f}"
            for k, value in enumerate(values)
            if math.isfinite(value)
        ]
        lines.append(f"<polyline fill='none' stroke='{tone}' stroke-width='2' points='{' '.join(points)}'/>")
        words.append(f"<span style='color:{tone}'>{escape(name)} {low:.4g} to {high:.4g}</span>")
    if not lines:
        return ""
    frame = f"<rect width='{_WIDTH}' height='{_HEIGHT}' fill='none' stroke='#888'/>"
    drawn = f"<svg width='{_WIDTH}' height='{_HEIGHT}'>{frame}{''.join(lines)}</svg>"
    return f"<div>{drawn}</div><div>{' &nbsp; '.join(words)}</div>"
