"""Every text that says what to do is followed by a test of a `test_advice.py`, or stands here."""

import ast

import pytest

from tests.advice import ROOT, advice

ROOMS = ("data/**/*.py",)
UNFOLLOWED = {  # what lies out of a test's reach
    "fetch the product",
    "fetch it again",
    "fetch them again",
    "fetch that level",
    "fetch level L2D",
    "fetch DESIS-HSI-L2A",
    "fetch the data anew",
    "fetch the file anew",
    "install another release",
    "install it anew",
    "upgrade",
    "take a scene by day",
    "see that there is space on the disk",
}


def followed():
    """Words that tests look for: those of calls of `told`, `warned` and `says`, and the keys of the tables."""
    for path in sorted((ROOT / "tests").rglob("*/test_advice.py")):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        for node in ast.walk(tree):
            if isinstance(node, ast.Call) and getattr(node.func, "id", "") in ("told", "warned", "says"):
                yield from (word.value for word in node.args[1:] if isinstance(word, ast.Constant))
        for node in tree.body:
            if isinstance(node, ast.Assign) and isinstance(node.value, ast.Dict):
                yield from (
                    word.value for word in node.value.keys if isinstance(word, ast.Constant) and " " in word.value
                )


@pytest.fixture(scope="module")
def texts():
    return list(advice(*ROOMS))


def test_every_advice_is_followed(texts):
    words = {*followed(), *UNFOLLOWED}
    missing = [f"{where}: {text}" for where, text in texts if not any(word in text for word in words)]
    assert not missing, "follow in a test what these say:\n" + "\n".join(missing)


def test_every_word_is_of_a_text(texts):
    unknown = [word for word in (*followed(), *UNFOLLOWED) if not any(word in text for _, text in texts)]
    assert not unknown
