"""The page: addresses of the verbs of a session and of a sharpening, and the files that the browser shows them with."""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Awaitable, Callable
from importlib import resources
from pathlib import Path
from typing import Any, TypeAlias

from starlette.applications import Starlette
from starlette.background import BackgroundTask
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, Response
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles

from hsmamba._optional import is_there
from hsmamba._version import __version__
from hsmamba.app import learning
from hsmamba.app.labels import LabelSheet
from hsmamba.app.session import BUNDLED, EXPORTS, Session
from hsmamba.app.sharpening import MOST_SECONDS, Sharpening
from hsmamba.app.work import MISTAKES, in_words

UPLOAD_LIMIT = 2**30  # bytes of a file that comes through the browser

Told: TypeAlias = dict[str, Any]
Verb: TypeAlias = Callable[[Told], Any]


def build(session: Session, sharpening: Sharpening, folder: Path) -> Starlette:
    """Make the application of a session and a sharpening.

    Args:
        session: Of the first tab.
        sharpening: Of the second one.
        folder: Where files that come through the browser are put.
    """
    session.uploads = folder
    verbs = {**_scene_verbs(session), **_label_verbs(session), **_pair_verbs(sharpening)}
    static = resources.files("hsmamba.app") / "static"
    routes = [
        Route("/", _front),
        *(Route(f"/api/{name}", _endpoint(verb), methods=[method]) for (method, name), verb in verbs.items()),
        Route("/api/upload", _receiver(folder), methods=["PUT"]),
        Mount("/static", StaticFiles(directory=str(static))),
    ]
    return Starlette(routes=routes)


def _scene_verbs(session: Session) -> dict[tuple[str, str], Verb]:
    """What is done with a scene as a whole."""

    def about(told: Told) -> Any:
        models = [{"name": name, "text": text} for name, text in learning.models()]
        bundled = [name for name, package in BUNDLED.items() if package is None or is_there(package)]
        return {"version": __version__, "bundled": bundled, "exports": EXPORTS, "models": models,
                "limit": UPLOAD_LIMIT, "seconds": MOST_SECONDS}  # fmt: skip

    def opened(told: Told) -> Any:
        session.open(str(told["path"]), variable=told.get("variable"))
        return session.state()

    def trained(told: Told) -> Any:
        epochs = told.get("epochs")
        session.train(learning.Request(str(told["model"]), None if epochs in (None, "") else int(epochs)))
        return session.work.status()

    def composite(told: Told) -> bytes:
        bands = [int(band) for band in told["bands"].split(",")] if told.get("bands") else None
        return session.composite(bands, float(told.get("clip", 2)))

    return {
        ("GET", "about"): about,
        ("GET", "state"): lambda told: session.state(),
        ("POST", "open"): opened,
        ("GET", "composite.png"): composite,
        ("GET", "spectrum"): lambda told: session.spectrum(int(told["row"]), int(told["column"])),
        ("POST", "train"): trained,
        ("GET", "work"): lambda told: session.work.status() | {"version": session.version},
        ("POST", "cancel"): lambda told: session.work.cancel(),
        ("GET", "map.png"): lambda told: session.map_picture(),
        ("GET", "confidence.png"): lambda told: session.confidence_picture(),
        ("GET", "suggest"): lambda told: session.suggest(told["kind"]),
        ("GET", "export"): lambda told: _written(lambda where: session.export(told["what"], where)),
    }


def _label_verbs(session: Session) -> dict[tuple[str, str], Verb]:
    """What is done with the labels; all but the picture answer with the state."""

    def changed(change: Callable[[LabelSheet, Told], Any]) -> Verb:
        def verb(told: Told) -> Any:
            session.change_labels(lambda sheet: change(sheet, told))
            return session.state()

        return verb

    def loaded(told: Told) -> Any:
        count = told.get("count")
        taken = session.load_labels(
            told.get("path"), field=told.get("field"), layer=told.get("layer"),
            count=None if count in (None, "") else int(count),
        )  # fmt: skip
        return session.state() | {"taken": taken}

    return {
        ("GET", "labels.png"): lambda told: session.labels_picture(),
        ("POST", "labels"): loaded,
        ("POST", "paint"): changed(lambda sheet, told: sheet.paint(told["path"], told["label"], told["radius"])),
        ("POST", "undo"): changed(lambda sheet, told: sheet.undo()),
        ("POST", "clear"): changed(lambda sheet, told: sheet.clear()),
        ("POST", "class/add"): changed(lambda sheet, told: sheet.add_class(told["name"])),
        ("POST", "class/rename"): changed(lambda sheet, told: sheet.rename_class(told["label"], told["name"])),
        ("POST", "class/remove"): changed(lambda sheet, told: sheet.remove_class(told["label"])),
    }


def _pair_verbs(sharpening: Sharpening) -> dict[tuple[str, str], Verb]:
    """What is done with a pair."""

    def opened(told: Told) -> Any:
        if told.get("sample"):
            sharpening.open_sample()
        else:
            sharpening.open(str(told["ms"]), str(told["guide"]))
        return sharpening.state()

    def sharpened(told: Told) -> Any:
        adapt = told.get("adapt")
        sharpening.sharpen(str(told["method"]), adapt=None if adapt in (None, "") else float(adapt))
        return sharpening.work.status()

    return {
        ("GET", "pair"): lambda told: sharpening.state(),
        ("POST", "pair"): opened,
        ("GET", "pair.png"): lambda told: sharpening.picture(told["which"]),
        ("POST", "sharpen"): sharpened,
        ("GET", "pair/work"): lambda told: sharpening.work.status() | {"version": sharpening.version},
        ("POST", "pair/cancel"): lambda told: sharpening.work.cancel(),
        ("GET", "pair/export"): lambda told: _written(sharpening.export),
    }


def _front(request: Request) -> Response:
    page = (resources.files("hsmamba.app") / "static" / "page.html").read_text(encoding="utf-8")
    return Response(page, media_type="text/html")


def _endpoint(verb: Verb) -> Callable[[Request], Awaitable[Response]]:
    """Let a verb answer: values as JSON, bytes as a PNG, a file as a download; a mistake as its text."""

    async def endpoint(request: Request) -> Response:
        try:
            told = dict(request.query_params) if request.method == "GET" else json.loads(await request.body() or b"{}")
            found = await run_in_threadpool(verb, told)
        except Exception as error:
            return JSONResponse({"error": in_words(error)}, 400 if isinstance(error, MISTAKES) else 500)
        if isinstance(found, Response):
            return found
        return Response(found, media_type="image/png") if isinstance(found, bytes) else JSONResponse(found)

    return endpoint


def _written(write: Callable[[Path], Path]) -> Response:
    """Give a file that is written for it, and remove it after."""
    folder = Path(tempfile.mkdtemp(prefix="hsmamba-export-"))
    tidy = BackgroundTask(shutil.rmtree, folder, ignore_errors=True)
    try:
        path = write(folder)
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise
    return FileResponse(path, filename=path.name, background=tidy)


def _receiver(folder: Path) -> Callable[[Request], Awaitable[Response]]:
    """Take a file, up to `UPLOAD_LIMIT`, into a folder; files of one `batch` lie side by side."""

    async def receive(request: Request) -> Response:
        name = Path(request.query_params.get("name", "").replace("\\", "/")).name
        batch = request.query_params.get("batch", "")
        if not name or not batch.isalnum():
            return JSONResponse({"error": "the file has no name"}, 400)
        place = folder / batch
        place.mkdir(exist_ok=True)
        size = 0
        try:
            with (place / name).open("wb") as file:
                async for part in request.stream():
                    size += len(part)
                    if size > UPLOAD_LIMIT:
                        break
                    file.write(part)
        except OSError as error:
            return JSONResponse({"error": in_words(error)}, 400)
        if size > UPLOAD_LIMIT:
            (place / name).unlink()
            text = f"{name} is larger than {UPLOAD_LIMIT / 2**30:g} GiB; type its path instead, it is read where it is"
            return JSONResponse({"error": text}, 413)
        return JSONResponse({"path": str(place / name)})

    return receive
