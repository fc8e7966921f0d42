"""The average of the weights that training keeps."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from hsmamba.engine.training import Average


@given(st.floats(0, 0.9999), st.lists(st.floats(-10, 10), min_size=1, max_size=20))
def test_it_is_the_exponential_average_of_the_steps_alone(decay, values):
    model = nn.Linear(1, 1, bias=False).double()
    nn.init.constant_(model.weight, 1e6)  # what was before the first step leaves no trace
    average = Average(model, decay=decay)
    for step, value in enumerate(values, 1):
        nn.init.constant_(model.weight, value)
        average.update(model, step)
    shares = [(1 - decay) * decay ** (len(values) - step) for step in range(1, len(values) + 1)]
    expected = sum(share * value for share, value in zip(shares, values, strict=True)) / sum(shares)
    torch.testing.assert_close(average.module.weight.item(), expected, rtol=1e-6, atol=1e-6)


def test_it_needs_the_number_of_the_step():
    model = nn.Linear(1, 1)
    with pytest.raises(TypeError, match="the number of the step, from 1"):
        Average(model, decay=0.9).update(model)
