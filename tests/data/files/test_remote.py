"""GeoTIFFs on a web server: windows are fetched by ranges, and what fails names the address."""

import re
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest

from hsmamba.data import open_image, open_scene
from hsmamba.data.files.geotiff import gdal_name, is_remote
from hsmamba.errors import SceneError
from tests.data.files.samples import write_tif

rasterio = pytest.importorskip("rasterio", reason="needs the geo extra")
pytest.importorskip("rioxarray", reason="needs the geo extra")


@pytest.fixture
def server(tmp_path, monkeypatch):
    """A server of a folder on loopback that knows ranges; gives its address and the bytes and names it was asked."""
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    asked = []

    class Handler(BaseHTTPRequestHandler):
        def do_HEAD(self):
            self.do_GET(body=False)

        def do_GET(self, body=True):
            path = tmp_path / self.path.split("?")[0].lstrip("/")
            if not path.is_file():
                self.send_error(404)
                return
            data = path.read_bytes()
            found = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", ""))
            first, last = (int(found[1]), int(found[2] or len(data) - 1)) if found else (0, len(data) - 1)
            part = data[first : last + 1]
            self.send_response(206 if found else 200)
            self.send_header("Accept-Ranges", "bytes")
            self.send_header("Content-Length", str(len(part)))
            if found:
                self.send_header("Content-Range", f"bytes {first}-{first + len(part) - 1}/{len(data)}")
            self.end_headers()
            asked.append((path.name, len(part) if body else 0))
            if body:
                self.wfile.write(part)

        def log_message(self, *args):
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as http:
        threading.Thread(target=http.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{http.server_address[1]}", asked
        http.shutdown()


def test_windows_of_a_remote_scene_are_fetched_and_nothing_beside_it(server, tmp_path):
    address, asked = server
    cube = np.random.default_rng(0).integers(0, 4000, (600, 500, 6)).astype(np.uint16)
    tags = [{"wavelength": str(w), "wavelength_units": "Nanometers"} for w in (400, 500, 600, 700, 800, 900)]
    path = write_tif(tmp_path / "scene.tif", cube, tags=tags)
    scene = open_scene(f"{address}/scene.tif")
    assert scene.shape == (600, 500) and scene.wavelengths.tolist() == [400, 500, 600, 700, 800, 900]
    assert scene.name == "scene" and scene.hsi.rio.crs == open_image(path).rio.crs
    before = sum(size for _, size in asked)
    np.testing.assert_array_equal(scene.hsi[300:310], cube[300:310])
    assert before < 100_000 and sum(size for _, size in asked) - before < path.stat().st_size / 4
    assert {name for name, _ in asked} == {"scene.tif"}
    np.testing.assert_array_equal(open_image(f"/vsicurl/{address}/scene.tif")[0], cube[0])
    np.testing.assert_array_equal(open_scene([f"{address}/scene.tif?token=a.b"]).hsi[:2], cube[:2])


def test_what_fails_names_the_address(server, tmp_path):
    address, _ = server
    with pytest.raises(SceneError, match=rf"{address}/none.tif.*could not be read.*check the address"):
        open_scene(f"{address}/none.tif")
    (tmp_path / "text.tif").write_text("no image")
    with pytest.raises(SceneError, match=r"text.tif.*could not be read"):
        open_scene(f"{address}/text.tif")
    with pytest.raises(SceneError, match="is no address of a GeoTIFF"):
        open_scene(f"{address}/scene.npy")


def test_addresses_are_known_and_become_names_of_gdal():
    names = {
        "https://a.b/c.tif": "/vsicurl/https://a.b/c.tif",
        "s3://bucket/c.tif": "/vsis3/bucket/c.tif",
        "gs://bucket/c.tif": "/vsigs/bucket/c.tif",
        "az://bucket/c.tif": "/vsiaz/bucket/c.tif",
        "/vsis3/bucket/c.tif": "/vsis3/bucket/c.tif",
    }
    assert {address: gdal_name(address) for address in names} == names
    assert all(map(is_remote, names)) and not any(map(is_remote, ("c.tif", "/data/c.tif", "/vsizip/c.tif", "C:/c.tif")))
