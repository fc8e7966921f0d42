"""Building an architecture by its arguments."""

from __future__ import annotations

import pytest

import hsmamba


def test_an_argument_that_the_architecture_does_not_take_is_named():
    with pytest.raises(TypeError, match=r"md2f_mamba: .*'widht'.*It takes: .*dim"):
        hsmamba.create_model("md2f_mamba", widht=3)
    with pytest.raises(TypeError, match="aux_chans"):
        hsmamba.create_model("md2f_mamba", aux_chans=1)
