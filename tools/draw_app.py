"""Draw the pictures of docs/app.md by driving the app, and print how long it takes to answer.

    python tools/draw_app.py [FOLDER]

Needs the extras app and test, and Chromium. FOLDER is docs/images/app by default.
"""

from __future__ import annotations

import io
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from PIL import Image
from playwright.sync_api import Page, sync_playwright

FOLDER = Path(__file__).resolve().parents[1] / "docs" / "images" / "app"
QUIET = ("no-sandbox", "disable-gpu", "disable-background-networking", "disable-component-update", "disable-sync")
DESKTOP, PHONE = {"width": 1240, "height": 860}, {"width": 390, "height": 844}
CLICKS = ((0.42, 0.42), (0.55, 0.68), (0.52, 0.2), (0.37, 0.15))  # shares of the view


@contextmanager
def started() -> Iterator[str]:
    """Run the app; give its address."""
    code = "import sys; sys.argv = ['hsmamba', 'app', '--no-browser']; from hsmamba.cli import main; main()"
    process = subprocess.Popen([sys.executable, "-u", "-c", code], stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        found = re.search(r"http://\S+", process.stdout.readline())
        assert found is not None, "the app has not started"
        yield found[0]
    finally:
        process.terminate()
        process.wait(20)


def keep(page: Page, path: Path, **options: Any) -> None:
    """Keep what is to be seen, in few colours, so that it is small."""
    page.wait_for_load_state("networkidle")
    page.mouse.move(2, 2)
    page.wait_for_timeout(400)
    image = Image.open(io.BytesIO(page.screenshot(**options))).convert("RGB")
    image.quantize(256, Image.Quantize.MAXCOVERAGE, dither=Image.Dither.NONE).save(path, optimize=True)
    print(f"{path.name}: {path.stat().st_size / 1000:.0f} kB")


def done(page: Page, box: str) -> None:
    """Wait for a piece of work."""
    page.locator(f'{box}:not([data-state="asked"], [data-state="running"])').wait_for(timeout=300_000)
    page.wait_for_timeout(500)


def classify(page: Page, folder: Path) -> None:
    """Go through the first tab."""
    keep(page, folder / "begin.png", clip={"x": 0, "y": 0, "width": 1240, "height": 500})
    begun = time.perf_counter()
    page.get_by_role("button", name="MUUFL Gulfport").click()
    page.locator('#view[data-layers*="composite"]').wait_for()
    print(f"a scene is shown {time.perf_counter() - begun:.2f} s after it was chosen")
    box = page.locator("#view").bounding_box()
    assert box is not None
    for x, y in CLICKS:
        begun = time.perf_counter()
        with page.expect_response(re.compile("spectrum")):
            page.mouse.click(box["x"] + x * box["width"], box["y"] + y * box["height"])
    print(f"a spectrum comes {time.perf_counter() - begun:.2f} s after the click")
    keep(page, folder / "look.png")
    page.get_by_text("Load labels").click()
    page.fill("#labels-count", "12")
    page.get_by_role("button", name="Those of the scene").click()
    page.locator("#classes li").first.wait_for()
    page.wait_for_load_state("networkidle")
    page.locator("#classes .pick").nth(5).click()
    keep(page, folder / "label.png")
    for number in ("first", "second"):
        begun = time.perf_counter()
        page.get_by_role("button", name="Train and map").click()
        done(page, "#progress")
        print(f"the {number} map of a dozen labels a class took {time.perf_counter() - begun:.1f} s")
    page.get_by_role("radio", name="Look").click()
    page.get_by_role("button", name="Least sure").click()
    page.set_viewport_size({**DESKTOP, "height": 980})
    page.evaluate("window.scrollTo(0, document.body.scrollHeight)")
    keep(page, folder / "map.png")


def sharpen(page: Page, folder: Path) -> None:
    """Go through the second tab."""
    page.set_viewport_size(DESKTOP)
    page.get_by_role("tab", name="Sharpen").click()
    page.get_by_role("button", name="Landsat-8 sample").click()
    page.locator("body.has-pair").wait_for()
    page.select_option("#method", "rsanet")
    page.get_by_role("button", name="Sharpen", exact=True).click()
    done(page, "#sharpen-progress")
    page.evaluate("window.scrollTo(0, 0)")
    keep(page, folder / "sharpen.png")


def main() -> None:
    """Draw all pictures."""
    folder = Path(sys.argv[1]) if sys.argv[1:] else FOLDER
    folder.mkdir(parents=True, exist_ok=True)
    chromium = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    with started() as address, sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=chromium, args=[f"--{one}" for one in QUIET])
        page = browser.new_page(viewport=DESKTOP)
        page.goto(address)
        page.locator("body[data-ready]").wait_for()
        classify(page, folder)
        sharpen(page, folder)
        phone = browser.new_page(viewport=PHONE, has_touch=True, is_mobile=True)
        phone.goto(address)
        phone.locator('#view[data-layers*="confidence"]').wait_for()
        keep(phone, folder / "phone.png")
        browser.close()


if __name__ == "__main__":
    main()
