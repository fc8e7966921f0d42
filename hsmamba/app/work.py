"""One piece of work at a time, in a thread of its own: how far it is, and its end before its time."""

from __future__ import annotations

import logging
import threading
import time
import warnings
from collections.abc import Callable
from typing import Any

from hsmamba.errors import HsmambaError, HsmambaWarning

_logger = logging.getLogger(__name__)

MISTAKES = (HsmambaError, ValueError, TypeError, OSError)  # whose text is for people


class Cancelled(Exception):
    """The work is to end."""


class Teller:
    """What a piece of work tells of itself.

    Attributes:
        text: What it does.
        share: How much of that is done, 0 to 1; None where that is not known.
    """

    def __init__(self) -> None:
        self.text, self.share = "", None  # type: str, float | None
        self.cancelled = False

    def __call__(self, text: str, share: float | None = None) -> None:
        """Tell what is done now.

        Raises:
            Cancelled: The work is to end.
        """
        if self.cancelled:
            raise Cancelled
        self.text, self.share = text, share


class Work:
    """Runs one piece of work after the other."""

    def __init__(self) -> None:
        self._turn = threading.Lock()
        self._thread: threading.Thread | None = None
        self._teller = Teller()
        self._state, self._verb, self._error = "idle", "", ""
        self._notes: list[str] = []
        self._began = self._ended = 0.0

    def start(self, verb: str, run: Callable[[Teller], None]) -> None:
        """Run a function; one that was cancelled and has not ended yet is waited for first, in the thread.

        Args:
            verb: What it is, for `status`.
            run: Gets the teller, which it calls on its way, and which ends it by raising `Cancelled`.

        Raises:
            ValueError: Another piece of work runs.
        """
        with self._turn:
            if self._state == "running":
                raise ValueError(f"{self._verb} is not done yet; wait for it, or cancel it")
            before, teller = self._thread, Teller()
            self._teller, self._state, self._verb, self._error, self._notes = teller, "running", verb, "", []
            self._began = time.monotonic()
            self._thread = threading.Thread(target=self._run, args=(run, teller, before), daemon=True)
            self._thread.start()

    def cancel(self) -> None:
        """End the work at its next step; what it has made by then stays."""
        with self._turn:
            if self._state == "running":
                self._teller.cancelled = True
                self._state, self._ended = "cancelled", time.monotonic()

    def wait(self) -> dict[str, Any]:
        """Wait for the end of the work; return its status."""
        if self._thread is not None:
            self._thread.join()
        return self.status()

    def status(self) -> dict[str, Any]:
        """Say what goes on: `state` (idle, running, done, failed, cancelled), `verb`, `text`, `share`, `seconds`..."""
        with self._turn:
            end = time.monotonic() if self._state == "running" else self._ended
            return {
                "state": self._state, "verb": self._verb, "text": self._teller.text, "share": self._teller.share,
                "seconds": round(end - self._began, 1), "error": self._error, "notes": list(self._notes),
            }  # fmt: skip

    def _run(self, run: Callable[[Teller], None], teller: Teller, before: threading.Thread | None) -> None:
        state, error, notes = "done", "", []
        if before is not None:
            before.join()
        try:
            with warnings.catch_warnings(record=True) as told:
                warnings.simplefilter("always", HsmambaWarning)
                try:
                    run(teller)
                finally:
                    notes = [str(one.message) for one in told if issubclass(one.category, HsmambaWarning)]
        except Cancelled:
            state = "cancelled"
        except Exception as problem:
            state, error = "failed", in_words(problem)
        with self._turn:
            if self._teller is teller:
                self._notes = list(dict.fromkeys(notes))
                if self._state == "running":
                    self._state, self._error, self._ended = state, error, time.monotonic()


def in_words(problem: Exception) -> str:
    """Say what went wrong in one line; what nobody foresaw with its kind, and whole in the log."""
    text = " ".join(str(problem).split())
    if isinstance(problem, MISTAKES):
        return text or type(problem).__name__
    _logger.error("unexpected", exc_info=problem)
    return f"something went wrong that should not: {type(problem).__name__}: {text}"
