"""The compiled S6: the numbers of the plain network, for every instruction set, order, layout and number of threads."""

import copy
import sys

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from hsmamba.layers.scan_order import CROSS, order_table
from hsmamba.layers.ssm import S6
from hsmamba.ops import cpu, s6, scan_backend
from tests.ops.guarded import run_guarded
from tests.ops.scan_cases import STATUS

pytestmark = pytest.mark.skipif(not STATUS["cpu"].available, reason=str(STATUS["cpu"]))


@pytest.fixture(params=["baseline", "avx2", "avx512"])
def level(request, monkeypatch):
    """Each instruction set of this processor in turn."""
    levels = ["baseline", "avx2", "avx512"]
    if levels.index(request.param) > levels.index(cpu.level()):
        pytest.skip(f"{request.param} does not run here")
    monkeypatch.setattr(cpu, "level", lambda: request.param)
    return request.param


def made(d=21, n=5, rank=3, **options):
    """Scans whose steps differ from channel to channel."""
    torch.manual_seed(0)
    module = S6(d, n, rank, **options).requires_grad_(False)
    torch.nn.init.normal_(module.dt_proj_bias)
    torch.nn.init.normal_(module.D)
    return module


def gradients(module, inputs, orders, summed):
    """Gradients of the inputs and all parameters, for slopes from a seed."""
    leaves = [x.detach().requires_grad_() for x in inputs]
    outputs = module(*leaves, return_last_state=True, orders=orders, summed=summed)
    gen = torch.Generator().manual_seed(1)
    slopes = [torch.randn(y.shape, generator=gen).to(y) for y in outputs]
    return torch.autograd.grad(outputs, [*leaves, *module.parameters()], slopes)


def assert_exact(module, *inputs, summed=False):
    """Hold the gradients against those in double precision."""
    module = module.requires_grad_(True)
    got = gradients(module, inputs, CROSS, summed)
    exact = gradients(copy.deepcopy(module).double(), [x.double() for x in inputs], CROSS, summed)
    for one, other in zip(got, exact, strict=True):
        scale = float(other.abs().max()) if other.numel() else 0.0
        torch.testing.assert_close(one.double(), other, rtol=1e-5, atol=1e-5 * max(1.0, scale))


def both(module, *inputs, **options):
    """What the kernel gives, and the plain network."""
    assert s6.takes(*inputs, *module.parameters())
    got = module(*inputs, return_last_state=True, orders=CROSS, **options)
    with scan_backend("reference"):
        assert not s6.takes(*inputs, *module.parameters())
        return got, module(*inputs, return_last_state=True, orders=CROSS, **options)


def assert_same(got, wanted):
    for one, other in zip(got, wanted, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-5)


@pytest.mark.usefixtures("level")
@pytest.mark.parametrize("d", [1, 4, 21, 36])
@pytest.mark.parametrize("summed", [True, False])
def test_every_instruction_set_of_this_processor(d, summed):
    module = made(d, 11, scans=4)
    x = torch.randn(2, 1, d, 5, 8)
    assert_same(*both(module, x, summed=summed))
    with torch.no_grad():
        assert_same(*both(module, x, summed=summed))
    assert_exact(module, x, summed=summed)


@settings(max_examples=25, deadline=None)
@given(
    batch=st.integers(0, 2),
    height=st.integers(1, 9),
    width=st.integers(1, 9),
    own_inputs=st.booleans(),
    own_drivers=st.one_of(st.none(), st.booleans()),
    one_scan=st.booleans(),
    proj_bias=st.booleans(),
    summed=st.booleans(),
    channels_last=st.booleans(),
)
def test_orders_drivers_biases_and_layouts(
    batch, height, width, own_inputs, own_drivers, one_scan, proj_bias, summed, channels_last
):
    module = made(6, scans=1 if one_scan else 4, d_driver=None if own_drivers is None else 7, proj_bias=proj_bias)
    inputs = [torch.randn(batch, 4 if own_inputs else 1, 6, height, width)]
    if own_drivers is not None:
        inputs.append(torch.randn(batch, 4 if own_drivers else 1, 7, height, width))
    if channels_last:
        inputs = [x.movedim(2, -1).contiguous().movedim(-1, 2) for x in inputs]
    assert_same(*both(module, *inputs, summed=summed))
    with torch.no_grad():  # in inference the kernel projects, too
        assert_same(*both(module, *inputs, summed=summed))
    assert_exact(module, *inputs, summed=summed)


def test_any_number_of_threads_gives_the_same_bits():
    module, x = made(70, 16, scans=4), torch.randn(1, 1, 70, 16, 16)
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        wanted = module(x, orders=CROSS, summed=True)
        torch.set_num_threads(3)
        assert torch.equal(module(x, orders=CROSS, summed=True), wanted)
    finally:
        torch.set_num_threads(threads)


def test_threads_change_gradients_by_rounding_alone():
    module, x = made(70, 16, scans=4), torch.randn(1, 1, 70, 16, 16)
    threads = torch.get_num_threads()
    try:
        for number in (1, 3):
            torch.set_num_threads(number)
            assert_exact(module, x, summed=True)
            assert_exact(module, x)
    finally:
        torch.set_num_threads(threads)


def test_either_output_alone_has_a_gradient_and_no_second_one():
    module, x = made(scans=4).requires_grad_(True), torch.randn(2, 1, 21, 3, 4, requires_grad=True)
    y, last = module(x, return_last_state=True, orders=CROSS)
    with scan_backend("torch"):
        wanted = module(x, return_last_state=True, orders=CROSS)
    for one, other in zip((y, last), wanted, strict=True):
        slope = torch.randn_like(one)
        (got,) = torch.autograd.grad(one, x, slope, retain_graph=True, create_graph=True)
        torch.testing.assert_close(
            got, torch.autograd.grad(other, x, slope, retain_graph=True)[0], rtol=1e-5, atol=1e-5
        )
        with pytest.raises(NotImplementedError, match="scan_backend"):
            got.sum().backward()


def test_the_operator_keeps_what_torch_expects_of_one():
    order = order_table(CROSS, 3, 4)
    shapes = (2, 1, 12, 5), (2, 4, 12, 3 + 2 * 6), (4, 5, 6), (4, 5, 3), (4, 5), (4, 5)
    u, projected, *weights = (torch.randn(shape, requires_grad=True) for shape in shapes)
    for summed in (True, False):
        torch.library.opcheck(s6.s6_op, (u, projected, order, *weights, summed, True))


def test_it_takes_only_what_it_was_made_for():
    module, x = made(scans=4), torch.randn(1, 1, 21, 3, 3)
    parameters = list(module.parameters())
    assert s6.takes(x, *parameters)
    assert not s6.takes(x.double(), *parameters)
    assert s6.takes(x.requires_grad_(), *parameters)
    with torch.autocast("cpu", torch.bfloat16):
        assert not s6.takes(x, *parameters)
    taken = []
    torch.func.vmap(lambda one: taken.append(s6.takes(one, *parameters)) or one)(x.detach())
    assert taken == [False]


def test_the_last_states_are_given_where_they_are_asked_for():
    module, x = made(scans=4), torch.randn(2, 1, 21, 5, 5)
    with torch.no_grad():
        y, last = module(x, return_last_state=True, orders=CROSS)
        assert torch.equal(module(x, orders=CROSS), y)
    assert last.shape == (2, 4, 21, 5)


_GUARDED = """
import itertools
from guard_kernel import extent, redirect
from hsmamba.layers.scan_order import CROSS
from hsmamba.layers.ssm import S6
from hsmamba.ops import s6, scan_backend

run_team = cpu.run_team
def beside_guards(kernel, arguments, threads, held):
    if not isinstance(arguments, (s6._S6, s6._S6Backward)):  # the scan of the plain network
        return run_team(kernel, arguments, threads, held)
    arrays = [x for x in held if not 0 <= arguments.scratch - x.data_ptr() < 64]  # it begins where it is aligned
    arrays.sort(key=extent)  # of two at one place the longer
    places = {x.data_ptr(): Guarded(extent(x), behind) for x in arrays}
    places[arguments.scratch] = Guarded(4 * threads * arguments.scratch_floats, behind)
    for x in arrays:
        ctypes.memmove(places[x.data_ptr()].address, x.data_ptr(), extent(x))
    redirect(arguments, places)
    arguments.tokens += overrun
    kernel(ctypes.byref(arguments))
    for x in arrays:
        ctypes.memmove(x.data_ptr(), places[x.data_ptr()].address, extent(x))

cpu.run_team = beside_guards
for level, d, n, rank, summed, behind in itertools.product(
    levels, (1, 3, 4, 15, 16, 17, 33), (1, 4, 11), (1, 3), (True, False), (True, False)
):
    cpu.level = lambda: level
    torch.manual_seed(0)
    module, x = S6(d, n, rank, scans=4), torch.randn(2, 1, d, 5, 8)
    results = []
    for backend in (None, "torch"):
        with scan_backend(backend):
            leaf = x.clone().requires_grad_()
            y = module(leaf, orders=CROSS, summed=summed)
            results.append([y.detach(), *torch.autograd.grad(y.square().sum(), [leaf, *module.parameters()])])
            with torch.no_grad():
                results[-1].append(module(x, orders=CROSS, summed=summed))
    for one, other in zip(*results, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-5 * max(1, float(other.abs().max())))
print("all")
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="pages are protected by Linux's call")
def test_no_access_outside_an_array():
    run_guarded("overrun = 0" + _GUARDED)


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="pages are protected by Linux's call")
def test_the_guards_notice_a_step_too_far():
    with pytest.raises(AssertionError, match="ended by signal 11"):
        run_guarded("overrun = 1" + _GUARDED)
