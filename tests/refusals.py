"""Tests of what is refused."""

import re

import pytest


def refused(*cases):
    """Make a test that calls are refused: (call, error, what its text says).

    What the text says is a regular expression, or a list of words that all stand in it.
    """

    @pytest.mark.parametrize(("call", "error", "told"), cases)
    def test(call, error, told):
        with pytest.raises(error) as caught:
            call()
        for text in [told] if isinstance(told, str) else map(re.escape, told):
            assert re.search(text, str(caught.value)), f"{text} is not in: {caught.value}"

    return test
