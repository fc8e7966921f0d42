"""Pairs that are made once."""

import pytest

from hsmamba.data import wald_pairs
from tests.engine.fusion.toys import images


@pytest.fixture(scope="session")
def pairs():
    return wald_pairs(*images(), sensor="QB", val=0.125, test=0.375, name="toy")
