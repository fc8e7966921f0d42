"""Who may reach the page, and what it says without one."""

import json
import socket
import sys
import urllib.error
import urllib.request
from urllib.parse import urlsplit

import pytest

from hsmamba.app.server import serve
from hsmamba.errors import MissingExtraError


def fetch(address, *, method="GET", body=None, **headers):
    """Status, headers and body of an answer."""
    request = urllib.request.Request(address, body, headers, method=method)
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:
            return answer.status, answer.headers, answer.read()
    except urllib.error.HTTPError as error:
        return error.code, error.headers, error.read()


def told(address, **options):
    status, _, body = fetch(address, **options)
    return status, json.loads(body)


def test_the_page_is_there_for_whoever_knows_the_token(address):
    status, headers, body = fetch(address)
    assert status == 200 and b"hsmamba" in body
    assert headers["Referrer-Policy"] == "no-referrer" and "default-src 'self'" in headers["Content-Security-Policy"]
    assert fetch(address.rstrip("/"))[0] == 200  # by way of a redirect
    assert fetch(f"{address}static/app.js")[0] == 200


@pytest.mark.parametrize("path", ["/", "/static/app.js", "/api/state", "/wrong/", "/wrong/api/state", "//", "/%C3%A9/"])
def test_without_the_token_nothing_is(address, path):
    split = urlsplit(address)
    status, _, body = fetch(f"http://{split.netloc}{path}")
    assert status == 403 and b"token" in body
    status, _, _ = fetch(f"http://{split.netloc}{split.path[:-2]}/api/state")  # one character is missing
    assert status == 403


def test_a_name_of_another_site_is_refused(address):
    assert fetch(address, Host="evil.example")[0] == 403
    assert fetch(address, Host=f"localhost:{urlsplit(address).port}")[0] == 200


def test_only_this_machine_is_listened_to(address):
    with pytest.raises(OSError), socket.create_connection(("127.0.0.2", urlsplit(address).port), timeout=2):
        pass


def test_errors_are_lines_and_no_tracebacks(address):
    status, found = told(f"{address}api/open", method="POST", body=b'{"path": "/nowhere.tif"}')
    assert status == 400 and "nowhere.tif" in found["error"]
    status, found = told(f"{address}api/open", method="POST", body=b"[1]")
    assert status in (400, 500) and "Traceback" not in found["error"]
    assert fetch(f"{address}api/nothing")[0] == 404
    assert fetch(f"{address}static/../server.py")[0] == 404


def test_files_are_received_under_their_plain_name(address):
    status, found = told(f"{address}api/upload?batch=a1&name=..%2F..%2Fx.npy", method="PUT", body=b"123")
    assert status == 200 and found["path"].endswith("/a1/x.npy")
    for wrong in ("batch=..&name=x.npy", "batch=a1&name="):
        assert told(f"{address}api/upload?{wrong}", method="PUT", body=b"123")[0] == 400


def test_a_missing_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "uvicorn", None)
    with pytest.raises(MissingExtraError, match=r'pip install "hsmamba\[app\]"'):
        serve(browser=False)


def test_what_cannot_be_opened_ends_the_command(run, tmp_path):
    pytest.importorskip("uvicorn")
    (tmp_path / "text.tif").write_text("no image")
    code, _, err = run("app", tmp_path / "text.tif", "--no-browser")
    assert code == 2 and "text.tif" in err and "Traceback" not in err
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        code, _, err = run("app", "--no-browser", "--port", taken.getsockname()[1])
    assert code == 2 and "give another --port" in err
