"""The network that a scene is to be learnt by."""

import numpy as np
import pytest

from hsmamba.data import Scene
from hsmamba.engine.classification.network import network_for


@pytest.mark.parametrize(("model", "channels"), [("lda", 2), ("msfmamba", 2), ("md2f_mamba", 0), ("mim_v3", 0)])
def test_a_second_source_goes_to_those_that_take_one(model, channels):
    rng = np.random.default_rng(0)
    scene = Scene(rng.normal(size=(16, 16, 40)), labels=np.ones((16, 16), int) + 1, aux=rng.normal(size=(16, 16, 2)))
    assert network_for(model, scene).aux_chans == channels
