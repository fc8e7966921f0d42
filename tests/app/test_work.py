"""One piece of work at a time."""

import threading
import warnings

import pytest

from hsmamba.app.work import Work
from hsmamba.errors import HsmambaWarning, SceneError


def test_work_says_how_far_it_is_and_what_was_warned_of():
    work, go, there = Work(), threading.Event(), threading.Event()

    def run(tell):
        tell("half", 0.5)
        there.set()
        go.wait(10)
        warnings.warn("look at this", HsmambaWarning, stacklevel=1)

    assert work.status()["state"] == "idle"
    work.start("counting", run)
    there.wait(10)
    status = work.status()
    assert (status["state"], status["verb"], status["text"], status["share"]) == ("running", "counting", "half", 0.5)
    with pytest.raises(ValueError, match="counting is not done yet"):
        work.start("more", run)
    go.set()
    assert work.wait()["state"] == "done"
    assert work.status()["notes"] == ["look at this"]


def test_cancelled_work_ends_at_its_next_step_and_the_next_waits_for_it():
    work, go, order = Work(), threading.Event(), []

    def first(tell):
        go.wait(10)
        order.append("first")
        tell("never told")
        order.append("not reached")

    work.start("one", first)
    work.cancel()
    assert work.status()["state"] == "cancelled"
    work.start("two", lambda tell: order.append("second"))
    go.set()
    assert work.wait()["state"] == "done"
    assert order == ["first", "second"]


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (SceneError("no such band"), "no such band"),
        (ZeroDivisionError("division"), "something went wrong that should not: ZeroDivisionError: division"),
    ],
)
def test_an_error_is_a_line(error, text):
    work = Work()

    def run(tell):
        raise error

    work.start("failing", run)
    status = work.wait()
    assert status["state"] == "failed" and status["error"] == text
