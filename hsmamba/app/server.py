"""The server: bound to this machine alone, and to whoever knows the token in its address."""

from __future__ import annotations

import hmac
import logging
import secrets
import shutil
import socket
import tempfile
import threading
import webbrowser
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

from hsmamba._optional import optional_import
from hsmamba.app.session import Session
from hsmamba.app.sharpening import Sharpening

HOST = "127.0.0.1"

_logger = logging.getLogger(__name__)
_HEADERS = (
    (b"cache-control", b"no-store"),
    (b"referrer-policy", b"no-referrer"),
    (b"x-content-type-options", b"nosniff"),
    (b"x-frame-options", b"DENY"),
    (b"content-security-policy", b"default-src 'self'; img-src 'self' blob: data:; style-src 'self' 'unsafe-inline'"),
)
_REFUSAL = b"This page opens by the address that `hsmamba app` has printed: its token is missing or wrong.\n"


class Gate:
    """Lets requests through whose path begins with the token, and which are meant for this machine.

    The comparison takes the same time for every wrong token. The name that a request is for is looked at, too, so that
    no other page can reach this one by a name of its own (DNS rebinding).

    Args:
        app: What stands behind the gate; it sees paths without the token.
        token: The first part of every path.
    """

    def __init__(self, app: Any, token: str) -> None:
        self._app, self._token = app, token.encode()

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Answer a request, as ASGI has it."""
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        first, slash, rest = str(scope["path"]).removeprefix("/").partition("/")
        known = hmac.compare_digest(first.encode("utf-8", "replace"), self._token)
        if scope["type"] != "http" or not known or not _is_local(scope["headers"]):
            await _answer(send, 403, _REFUSAL)
            return
        if not slash:
            await _answer(send, 307, b"", (b"location", b"/" + self._token + b"/"))
            return

        async def guarded(message: Any) -> None:
            if message["type"] == "http.response.start":
                message = {**message, "headers": [*message["headers"], *_HEADERS]}
            await send(message)

        path = f"/{rest}"
        await self._app({**scope, "path": path, "raw_path": path.encode(), "root_path": ""}, receive, guarded)


def _is_local(headers: Any) -> bool:
    """Whether a request names this machine."""
    host = next((value.decode("latin-1") for name, value in headers if name == b"host"), "")
    return host.rpartition(":")[0] in (HOST, "localhost") or host in (HOST, "localhost")


async def _answer(send: Any, status: int, body: bytes, *headers: tuple[bytes, bytes]) -> None:
    kind = (b"content-type", b"text/plain; charset=utf-8")
    await send({"type": "http.response.start", "status": status, "headers": [kind, *headers, *_HEADERS]})
    await send({"type": "http.response.body", "body": body})


def serve(
    scene: str | None = None, *, port: int = 0, browser: bool = True, ready: Callable[[str], None] | None = None
) -> None:
    """Run the app until it is interrupted.

    Args:
        scene: What to open first: a path, or the name of a data set.
        port: To listen on; 0 for one that is free.
        browser: Open the page in the browser.
        ready: Is told the address.

    Raises:
        HsmambaError: The scene cannot be opened.
        MissingExtraError: The extra `app` is not installed.
        OSError: The port is taken.
    """
    uvicorn = optional_import("uvicorn", "to run the app")
    optional_import("starlette", "to run the app")
    from hsmamba.app.page import build

    session, folder = Session(), Path(tempfile.mkdtemp(prefix="hsmamba-app-"))
    try:
        if scene is not None:
            session.open(scene)
        token = secrets.token_urlsafe(24)
        with closing(_listening(port)) as listener:
            address = f"http://{HOST}:{listener.getsockname()[1]}/{token}/"
            gate = Gate(build(session, Sharpening(), folder), token)
            config = uvicorn.Config(gate, log_level="warning", access_log=False, lifespan="off", ws="none")
            if ready is not None:
                ready(address)
            if browser:
                threading.Timer(0.5, webbrowser.open, (address,)).start()
            threading.Thread(target=_prepare, daemon=True).start()
            uvicorn.Server(config).run(sockets=[listener])
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _listening(port: int) -> socket.socket:
    listener = socket.socket()
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((HOST, port))
        listener.listen(128)  # so that the address answers from the moment it is told
    except (OSError, OverflowError) as error:
        listener.close()
        raise OSError(f"port {port} of {HOST} cannot be used ({error}); give another --port, or none") from error
    return listener


def _prepare() -> None:
    """Import what the first training would wait for."""
    try:
        optional_import("sklearn.ensemble", "to fit extra trees")
    except Exception:  # the training says it
        _logger.debug("not prepared", exc_info=True)
