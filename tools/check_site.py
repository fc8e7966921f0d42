"""Check the built site without a network: every link leads to a file and a place in it, and pictures stay small.

python tools/check_site.py build/docs: prints what is wrong, and ends with code 1 where anything is.
"""

from __future__ import annotations

import argparse
import sys
from functools import cache
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

PICTURES = Path(__file__).resolve().parents[1] / "docs" / "images"
MOST_BYTES = 2_000_000  # of the pictures in the repository together


class Page(HTMLParser):
    """Links of a page and the places that links may lead to."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.links: list[str] = []
        self.places: set[str] = set()
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Take what an element says."""
        known = dict(attrs)
        self.links += [value for key in ("href", "src") if (value := known.get(key)) is not None]
        self.places |= {value for key in ("id", "name") if (value := known.get(key)) is not None}


@cache
def read(path: Path) -> Page:
    """Parse a page once."""
    return Page(path.read_text(encoding="utf-8"))


def wrong_links(site: Path) -> list[str]:
    """Return one line for every link between pages that leads nowhere; links to other hosts are left alone."""
    found = []
    for path in sorted(site.rglob("*.html")):
        for link in read(path).links:
            parts = urlsplit(link)
            if parts.scheme or parts.netloc:
                continue
            target = path if not parts.path else (path.parent / unquote(parts.path)).resolve()
            if target.is_dir():
                target /= "index.html"
            place = unquote(parts.fragment)
            if not target.is_file():
                found.append(f"{path.relative_to(site)}: {link}: no such file")
            elif place and target.suffix == ".html" and place not in read(target).places:
                found.append(f"{path.relative_to(site)}: {link}: no such place in it")
    return found


def main() -> None:
    """Check."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("site", type=Path, help="folder of the built pages")
    site = parser.parse_args().site.resolve()
    found = wrong_links(site)
    if not (site / "index.html").is_file():
        found.append(f"{site} holds no index.html; build it first: sphinx-build docs {site}")
    size = sum(path.stat().st_size for path in PICTURES.rglob("*") if path.is_file())
    if size > MOST_BYTES:
        found.append(f"{PICTURES} holds {size} bytes, more than {MOST_BYTES}: make pictures smaller")
    print(
        "\n".join(found) or f"{len(list(site.rglob('*.html')))} pages, all links lead somewhere; pictures {size} bytes"
    )
    sys.exit(bool(found))


if __name__ == "__main__":
    main()
