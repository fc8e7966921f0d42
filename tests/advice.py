"""Errors that say what to do: what they say, and which of them the tests follow."""

import ast
import re
from collections.abc import Iterator

import pytest

from hsmamba.errors import HsmambaError, HsmambaWarning
from tests.conftest import ROOT

_VERBS = """
    call choose complete continue convert correct create crop drop export fetch fill fit free give go import install
    keep leave load lower make mend move name open order pass put reinstall rename replace reproject resample
    restore resume rewrite run save say see select set sort start take train transpose unpack upgrade use wait write
"""
_WORDS = "|".join([*_VERBS.split(), *_VERBS.title().split()])
_ADVICE = re.compile(rf"(?:^|[;:,.(?] |\b(?:or|and) )(?:{_WORDS})(?![\w=])")


def told(call, *words):
    """What the error of a call says, which has the words in it; {} stands for what is filled in."""
    with pytest.raises((HsmambaError, ValueError, TypeError, FileExistsError)) as caught:
        call()
    return says(str(caught.value), *words)


def warned(call, *words):
    """What the warnings of a call say, like `told`."""
    with pytest.warns(HsmambaWarning) as caught:
        call()
    return says("; ".join(str(one.message) for one in caught), *words)


def says(text, *words):
    """Return a text that has the words in it."""
    for word in words:
        assert has(text, word), f"{word} is not in: {text}"
    return text


def has(text, word):
    return re.search(re.escape(word).replace(r"\{\}", ".*?"), text, re.DOTALL) is not None


def texts(*rooms: str) -> Iterator[tuple[str, str]]:
    """Find the texts in the functions of rooms: (where, text), with {} for what is filled in."""
    for path in sorted(file for room in rooms for file in (ROOT / "hsmamba").glob(room)):
        for function in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(function, ast.FunctionDef):
                for text, line in _texts(function.body[ast.get_docstring(function) is not None :]):
                    yield f"{path.relative_to(ROOT)}:{line}", text


def advises(text):
    """Whether a clause of a text begins with a verb in the imperative."""
    return " " in text and _ADVICE.search(text) is not None


def _texts(nodes) -> Iterator[tuple[str, int]]:
    """Strings below nodes; what an f-string fills in stands as {}, and its own strings come by themselves."""
    for node in nodes:
        if isinstance(node, ast.JoinedStr):
            parts = [one.value if isinstance(one, ast.Constant) else "{}" for one in node.values]
            yield "".join(parts), node.lineno
            yield from _texts(one for one in node.values if not isinstance(one, ast.Constant))
        elif isinstance(node, ast.Constant):
            if isinstance(node.value, str):
                yield node.value, node.lineno
        else:
            yield from _texts(ast.iter_child_nodes(node))


def alternatives(cases):
    """Make of cases {words: (broken, mend)} parameters, one for each of several ways to mend."""
    return [
        pytest.param(words, broken, mend, id=f"{words[-40:]}-{number}")
        for words, (broken, mends) in cases.items()
        for number, mend in enumerate(mends if isinstance(mends, tuple) else (mends,))
    ]
