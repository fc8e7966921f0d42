"""S6: the recurrence it promises, its initialisation, its parts in half precision and without samples."""

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from hsmamba.layers.scan_order import CROSS
from hsmamba.layers.ssm import S6, init_dt_bias_, no_weight_decay_names


def naive(module, u, driver):
    """The equations, one step, scan and sample at a time: outputs and last states."""
    rank, states = module.dt_rank, module.d_state
    y, last = torch.zeros_like(u), u.new_zeros(*u.shape[:3], states)
    for sample in range(u.shape[0]):
        for k in range(u.shape[1]):
            h = torch.zeros(u.shape[2], states, dtype=u.dtype)
            for t in range(u.shape[3]):
                x = module.x_proj_weight[k] @ driver[sample, k, :, t]
                if module.x_proj_bias is not None:
                    x = x + module.x_proj_bias[k]
                r, b, c = x[:rank], x[rank : rank + states], x[rank + states :]
                delta = F.softplus(module.dt_proj_weight[k] @ r + module.dt_proj_bias[k])
                h = torch.exp(-delta[:, None] * module.A_log[k].exp()) * h
                h = h + (delta * u[sample, k, :, t])[:, None] * b
                y[sample, k, :, t] = h @ c + module.D[k] * u[sample, k, :, t]
            last[sample, k] = h
    return y, last


@settings(max_examples=25)
@given(
    batch=st.integers(0, 2),
    scans=st.integers(1, 4),
    d_inner=st.integers(1, 5),
    d_state=st.integers(1, 4),
    dt_rank=st.integers(1, 3),
    length=st.integers(1, 6),
    d_driver=st.one_of(st.none(), st.integers(1, 4)),
    proj_bias=st.booleans(),
)
def test_s6_is_the_recurrence_of_each_scan(batch, scans, d_inner, d_state, dt_rank, length, d_driver, proj_bias):
    torch.manual_seed(length)
    module = S6(d_inner, d_state, dt_rank, scans=scans, d_driver=d_driver, proj_bias=proj_bias).double()
    u = torch.randn(batch, scans, d_inner, length, dtype=torch.float64)
    driver = None if d_driver is None else torch.randn(batch, scans, d_driver, length, dtype=torch.float64)
    with torch.no_grad():
        y, last = naive(module, u, u if driver is None else driver)
        torch.testing.assert_close(module(u, driver), y)
        torch.testing.assert_close(module(u, driver, return_last_state=True), (y, last))


@pytest.mark.parametrize("scans", [1, 3])
def test_the_layout_of_the_sequences_changes_nothing(scans):
    torch.manual_seed(0)
    module = S6(4, 4, 2, scans=scans, d_driver=3).double()
    u, driver = (torch.randn(2, scans, d, 6, dtype=torch.float64) for d in (4, 3))
    wanted = module(u, driver)
    tokens = [x.permute(0, 3, 1, 2).contiguous().permute(0, 2, 3, 1) for x in (u, driver)]
    assert all(x.stride(2) == 1 for x in tokens)
    got = module(*tokens)
    torch.testing.assert_close(got, wanted)
    slope = torch.randn_like(wanted)
    gradients = (torch.autograd.grad(y, list(module.parameters()), slope) for y in (got, wanted))
    for one, other in zip(*gradients, strict=True):
        torch.testing.assert_close(one, other)


def test_one_scan_takes_several_sequences_in_any_layout():
    torch.manual_seed(0)
    module = S6(3, 4, 2, proj_bias=True).double()
    tokens = torch.randn(2, 6, 3 * 3, dtype=torch.float64)  # (B, L, K d)
    u = tokens.unflatten(2, (3, 3)).permute(0, 2, 3, 1)
    with torch.no_grad():
        torch.testing.assert_close(module(u), torch.cat([module(u[:, k : k + 1]) for k in range(3)], dim=1))


def test_maps_are_read_in_the_order_of_each_scan_with_gradients():
    torch.manual_seed(0)
    module, (height, width) = S6(4, 3, 2, scans=4, d_driver=5).double(), (3, 4)
    u = torch.randn(2, 1, 4, height, width, dtype=torch.float64, requires_grad=True)
    driver = torch.randn(2, 4, 5, height, width, dtype=torch.float64, requires_grad=True)
    orders = [torch.arange(12), torch.arange(12).view(3, 4).T.flatten()]
    orders += [order.flip(0) for order in orders]
    sequences = torch.stack([u[:, 0].flatten(2)[..., order] for order in orders], dim=1)
    drivers = torch.stack([driver[:, k].flatten(2)[..., order] for k, order in enumerate(orders)], dim=1)
    scanned, last = module(sequences, drivers, return_last_state=True)
    each = torch.stack([y[..., order.argsort()] for y, order in zip(scanned.unbind(1), orders, strict=True)], dim=1)
    each = each.unflatten(3, (height, width))
    for summed, wanted in ((False, each), (True, each.sum(1))):
        got = module(u, driver, return_last_state=True, orders=CROSS, summed=summed)
        torch.testing.assert_close(got, (wanted, last))
        torch.testing.assert_close(module(u, driver, orders=CROSS, summed=summed), wanted)
        leaves = [u, driver, *module.parameters()]
        slope = torch.randn_like(wanted)
        for one, other in zip(
            *(torch.autograd.grad(y, leaves, slope, retain_graph=True) for y in (got[0], wanted)), strict=True
        ):
            torch.testing.assert_close(one, other)


def test_the_initialisation_is_mambas():
    torch.manual_seed(0)
    module = S6(40, 5, 9, scans=3)
    torch.testing.assert_close(module.A_log.exp(), torch.arange(1.0, 6.0).expand(3, 40, 5))
    assert torch.equal(module.D, torch.ones(3, 40))
    assert module.dt_proj_weight.abs().max() <= 1 / 3
    assert module.x_proj_weight.abs().max() <= 40**-0.5
    assert module.dt_proj_weight.abs().max() > 0.9 / 3
    steps = F.softplus(init_dt_bias_(torch.empty(100_000)))
    assert 1e-3 * 0.999 < steps.min() < 1.01e-3
    assert 0.099 < steps.max() < 0.1 * 1.001
    assert float(steps.log10().median()) == pytest.approx(-2, abs=0.02)
    linear = S6(4000, 1, 4, dt_bias="linear").dt_proj_bias
    assert 0.49 < linear.max() <= 0.5
    assert abs(linear.mean()) < 0.05


def test_the_state_stays_in_float32_under_autocast():
    torch.manual_seed(0)
    module, u = S6(8, 4, 2, scans=2), torch.randn(2, 2, 8, 30)
    with torch.autocast("cpu", torch.bfloat16):
        half = module(u)
    assert (half.float() - module(u)).abs().max() < 0.05 * module(u).abs().max()


def test_weight_decay_leaves_the_dynamics_alone():
    model = torch.nn.ModuleDict({"a": S6(2, 2, 1), "b": torch.nn.Linear(2, 2)})
    assert no_weight_decay_names(model, "weight") == {"a.A_log", "a.D", "a.dt_proj_bias", "b.weight"}
