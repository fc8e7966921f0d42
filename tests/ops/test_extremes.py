"""Mean and maximum in training: torch's numbers, and its gradients where a maximum is in several places."""

import pytest
import torch

from hsmamba.ops.extremes import mean_and_most


@pytest.mark.parametrize("axes", [(1,), (2, 3), (0, 2)])
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_numbers_and_gradients_are_torchs(axes, layout):
    x = torch.randint(3, (2, 4, 3, 5)).float().contiguous(memory_format=layout).requires_grad_()
    made, plain = mean_and_most(x, axes), (x.mean(axes, keepdim=True), x.amax(axes, keepdim=True))
    assert "_MeanAndMost" in made[0].grad_fn.name()
    for one, other in zip(made, plain, strict=True):
        assert torch.equal(one, other)
    slopes = [torch.randn(y.shape) for y in plain]
    found = [torch.autograd.grad(y, x, slopes, retain_graph=True)[0] for y in (made, plain)]
    torch.testing.assert_close(*found)
    seconds = []
    for y in (made, plain):
        (slope,) = torch.autograd.grad(y[1].square().sum() + y[0].pow(3).sum(), x, create_graph=True)
        seconds.append(torch.autograd.grad(slope.square().sum(), x)[0])
    torch.testing.assert_close(*seconds)


def test_elsewhere_it_is_torchs_operation():
    x = torch.randn(2, 3, 4, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda x: mean_and_most(x, (1,)), x)
    with torch.no_grad():
        assert mean_and_most(x, (2,))[1].shape == (2, 3, 1)
