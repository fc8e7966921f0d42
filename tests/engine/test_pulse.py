"""A network without a gradient is noticed, and nothing else is taken for one."""

import warnings

import pytest
import torch
from torch import nn

from hsmamba.engine.pulse import Pulse
from hsmamba.errors import HsmambaWarning, TrainingError


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.head, self.tail, self.unused = nn.Linear(2, 3), nn.Linear(3, 1), nn.Linear(1, 1)

    def forward(self, x):
        return self.tail(torch.relu(self.head(x)))


def feel(pulse, model, steps):
    for step in range(steps):
        model.zero_grad()
        model(torch.ones(4, 2)).sum().backward()
        pulse.feel(f"step {step + 1}", 1e-3)


def dead():
    model = Net()
    nn.init.constant_(model.head.bias, -100)
    return model


def test_a_network_that_learns_is_left_alone():
    torch.manual_seed(0)
    model = Net()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        feel(Pulse(model), model, 50)


def test_a_dead_part_is_told_once():
    model = dead()  # the bias of its tail still learns
    pulse = Pulse(model)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        feel(pulse, model, 19)
    with pytest.warns(HsmambaWarning, match=r"head of Net has had no gradient left for 20 steps.*lower lr= .*0\.0001"):
        feel(pulse, model, 1)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        feel(pulse, model, 30)


def test_a_dead_network_is_refused():
    model = dead()
    model.tail.bias.requires_grad_(False)
    with pytest.raises(TrainingError, match=r"step 20: Net has had no gradient left for 20 steps.*lower lr="):
        feel(Pulse(model), model, 25)


def test_a_pause_is_no_death():
    torch.manual_seed(0)
    model = Net()
    pulse = Pulse(model)
    weights = model.head.bias.detach().clone()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for _ in range(3):
            model.head.bias.data.fill_(-100)
            feel(pulse, model, 15)
            model.head.bias.data.copy_(weights)
            feel(pulse, model, 1)
