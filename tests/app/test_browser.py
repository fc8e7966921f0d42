"""The whole job in a real browser, as a person does it."""

import io
import os
import shutil
import subprocess
import sys
import zipfile

import numpy as np
import pytest
from PIL import Image

from hsmamba.data import load_scene
from tests.app.conftest import started

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
QUIET = ("no-sandbox", "disable-gpu", "disable-background-networking", "disable-component-update", "disable-sync")

pytest.importorskip("starlette")
pytest.importorskip("rioxarray")
pytest.importorskip("pyogrio")
playwright = pytest.importorskip("playwright.sync_api")
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium on this machine")


@pytest.fixture(scope="module")
def browser():
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=CHROMIUM, args=[f"--{one}" for one in QUIET])
        yield browser
        browser.close()


@pytest.fixture
def page(browser):
    """A page of a fresh app, which asks nobody else for anything and has no error in its scripts."""
    problems = []
    with started() as address:
        page = browser.new_page(viewport={"width": 1360, "height": 900}, accept_downloads=True)
        page.on("pageerror", lambda error: problems.append(str(error)))
        page.on("request", lambda one: one.url.startswith((address, "blob:")) or problems.append(one.url))
        page.goto(address)
        page.wait_for_selector("body[data-ready]")
        yield page
        page.close()
    assert not problems


def place_of(page, row, column, shape=(90, 90)):
    """Where a pixel of the scene, which fits into the view, is in it: x and y."""
    box = page.locator("#view").bounding_box()
    scale = min(box["width"] / shape[1], box["height"] / shape[0])
    left, top = (box["width"] - shape[1] * scale) / 2, (box["height"] - shape[0] * scale) / 2
    return left + (column + 0.5) * scale, top + (row + 0.5) * scale


def click_pixel(page, row, column):
    """Click a pixel of the scene, and wait until the app has heard of it."""
    box, (x, y) = page.locator("#view").bounding_box(), place_of(page, row, column)
    with page.expect_response(lambda answer: "/api/" in answer.url):
        page.mouse.click(box["x"] + x, box["y"] + y)


def open_bundled(page):
    page.get_by_role("button", name="MUUFL Gulfport").click()
    page.locator('#view[data-layers*="labels"]').wait_for()


def shown(page, selector="#view"):
    """The colours of a canvas (h, w, 3)."""
    page.locator(f"{selector}[data-layers]").wait_for()
    page.mouse.move(0, 0)
    return np.asarray(Image.open(io.BytesIO(page.locator(selector).screenshot())).convert("RGB"))


def saved(page, name, folder, within="#exports"):
    with page.expect_download() as found:
        page.locator(within).get_by_role("link", name=name).click()
    path = folder / name
    found.value.save_as(path)
    return path


def trained(page):
    page.get_by_role("button", name="Train and map").click()
    page.locator('#progress:not([data-state="asked"], [data-state="running"])').wait_for(timeout=90_000)
    assert page.locator("#error").is_hidden(), page.locator("#error").inner_text()


@pytest.mark.slow
def test_a_scene_becomes_a_map(page, tmp_path):
    open_bundled(page)
    before = shown(page)
    assert len(np.unique(before.reshape(-1, 3), axis=0)) > 500
    page.select_option("#preset", label="Infrared")
    assert page.locator("#band-r option:checked").inner_text().endswith("853 nm")
    click_pixel(page, 18, 45)
    page.wait_for_selector("#chart path")
    assert "row 18, column 45" in page.inner_text("#chart")

    truth = np.asarray(load_scene("muufl_crop").labels)
    rng = np.random.default_rng(0)
    for name, number in (("trees", 1), ("roof", 8), ("road", 5)):
        page.fill("#class-name", name)
        page.get_by_role("button", name="Add").click()
        playwright.expect(page.locator("#classes .chosen .name")).to_have_value(name)
        for row, column in rng.permutation(np.argwhere(truth == number))[:5]:
            click_pixel(page, row, column)
    playwright.expect(page.locator("#classes .count")).to_have_text(["5", "5", "5"])
    page.wait_for_load_state("networkidle")
    x, y = place_of(page, row, column)
    assert np.abs(shown(page)[int(y), int(x)].astype(int) - (0x00, 0x9E, 0x73)).max() < 8  # of the third class
    page.get_by_role("button", name="Undo").click()
    playwright.expect(page.locator("#classes .count")).to_have_text(["5", "5", "4"])

    page.select_option("#model", "lda")
    trained(page)
    playwright.expect(page.locator("#accuracy")).to_contain_text("95 % interval")
    with_map = shown(page)
    page.locator("#opacity-map").fill("0")
    assert (shown(page) != with_map).any()
    page.get_by_role("button", name="Least sure").click()
    page.wait_for_selector("#no-marks:not([hidden])")
    page.get_by_role("radio", name="Label").click()
    click_pixel(page, *np.argwhere(truth == 5)[0])  # correct, and train again
    trained(page)
    playwright.expect(page.locator("#per-class tr").last).to_contain_text("of 5")

    paths = {name: saved(page, name, tmp_path) for name in ("map.tif", "labels.gpkg", "make_map.py", "all.zip")}
    with zipfile.ZipFile(paths["all.zip"]) as archive:
        assert "model/config.json" in archive.namelist()
    rasterio = pytest.importorskip("rasterio")
    with rasterio.open(paths["map.tif"]) as file:
        mapped = file.read(1)
        assert file.tags()["class_2"] == "roof"
    assert (mapped == 2)[truth == 8].mean() > 0.8
    (tmp_path / "again").mkdir()
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    command = [sys.executable, paths["make_map.py"]]
    subprocess.run(command, cwd=tmp_path / "again", env=environment, check=True, capture_output=True)
    with rasterio.open(tmp_path / "again" / "map.tif") as file:
        assert (file.read(1) == mapped).all()


def test_bad_files_are_said_and_nothing_is_lost(page, tmp_path):
    (tmp_path / "text.tif").write_text("this is no image\n" * 9)
    np.save(tmp_path / "small.npy", np.ones((5, 7), np.uint8))
    page.set_input_files("#file", tmp_path / "text.tif")
    alert = page.get_by_role("alert")
    alert.wait_for()
    assert "text.tif" in alert.inner_text() and "Traceback" not in alert.inner_text()
    page.fill("#path", "/nowhere/scene.tif")
    page.get_by_role("button", name="Open", exact=True).click()
    playwright.expect(alert).to_contain_text("nowhere")
    open_bundled(page)
    assert alert.is_hidden()
    page.get_by_text("Load labels").click()
    page.set_input_files("#labels-file", tmp_path / "small.npy")
    playwright.expect(alert).to_contain_text("(5, 7)")
    page.get_by_role("button", name="Train and map").click()
    playwright.expect(alert).to_contain_text("nothing is labelled")
    page.fill("#labels-count", "3")
    page.get_by_role("button", name="Those of the scene").click()
    page.wait_for_selector("#classes li")
    page.select_option("#model", "md2f_mamba")
    page.fill("#epochs", "500")
    page.get_by_role("button", name="Train and map").click()
    playwright.expect(page.locator("#progress")).to_contain_text("epoch", timeout=60_000)
    page.get_by_role("button", name="Cancel").click()
    playwright.expect(page.locator("#progress")).to_contain_text("cancelled")


def test_a_pair_is_sharpened_and_compared(page, tmp_path):
    page.get_by_role("tab", name="Sharpen").click()
    page.get_by_role("button", name="Landsat-8 sample").click()
    page.wait_for_selector("body.has-pair")
    page.get_by_role("button", name="Sharpen", exact=True).click()
    page.locator("#reduced tr.mine").wait_for(timeout=60_000)
    assert "GSA" in page.inner_text("#reduced tr.mine") and "QNR" in page.inner_text("#full")
    page.locator("#swipe").fill("0")
    after = shown(page, "#pair-view")
    page.locator("#swipe").fill("1")
    assert (shown(page, "#pair-view") != after).any()
    path = saved(page, "sharpened.tif", tmp_path, within="#sharpen")
    with pytest.importorskip("rasterio").open(path) as file:
        assert file.shape == (192, 256) and file.crs is not None


def test_nothing_is_cut_off_on_a_phone(page):
    open_bundled(page)
    for width in (1360, 390):
        page.set_viewport_size({"width": width, "height": 844})
        for tab in ("Sharpen", "Classify"):
            page.get_by_role("tab", name=tab).click()
            assert page.evaluate("document.documentElement.scrollWidth") <= width
