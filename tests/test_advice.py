"""Every text that says what to do is followed by a test of a `test_advice.py`, or stands here."""

import ast

import pytest

from tests.advice import ROOT, advises, has, texts

ROOMS = ("data/**/*.py", "engine/**/*.py", "cli/*.py", "zoo/*.py")
UNFOLLOWED = {  # what lies out of a test's reach
    "train anew with a lower lr=",
    "fetch the product",
    "fetch it again",
    "fetch them again",
    "fetch that level",
    "fetch level L2D",
    "fetch DESIS-HSI-L2A",
    "fetch the data anew",
    "fetch the file anew",
    "fetch the set anew",
    "free some space",
    "set HF_TOKEN",
    "reinstall",
    "install another release",
    "install it anew",
    "upgrade",
    "take a scene by day",
    "see that there is space on the disk",
}


def followed():
    """Words that tests look for: those of calls of `told`, `warned` and `says`, and the keys of the tables."""
    for path in sorted((ROOT / "tests").rglob("test_advice.py")):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        for node in ast.walk(tree):
            if isinstance(node, ast.Call) and getattr(node.func, "id", "") in ("told", "warned", "says"):
                yield from _sentences(node.args[1:])
        for node in tree.body:
            if isinstance(node, ast.Assign) and isinstance(node.value, ast.Dict):
                yield from _sentences(node.value.keys)


def _sentences(nodes):
    texts = (str(node.value) for node in nodes if isinstance(node, ast.Constant))
    return (text for text in texts if " " in text)


@pytest.fixture(scope="module")
def found():
    return list(texts(*ROOMS))


def test_every_advice_is_followed(found):
    words = {*followed(), *UNFOLLOWED}
    missing = [f"{where}: {text}" for where, text in found if advises(text) and not any(has(text, w) for w in words)]
    assert not missing, "follow in a test what these say:\n" + "\n".join(missing)


def test_every_word_is_of_a_text(found):
    assert not [word for word in (*followed(), *UNFOLLOWED) if not any(has(text, word) for _, text in found)]
