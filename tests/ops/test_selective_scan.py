"""Every backend against the float64 reference: values, gradients, shapes, layouts and dtypes."""

import itertools

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from hsmamba.ops import available_backends, selective_scan

FORWARD_TOLERANCE, GRADIENT_TOLERANCE = 2e-6, 2e-5
STATUS = available_backends()
HERE = [name for name in ("cpu", "lean", "torch") if STATUS[name].available]


def sizes(**ranges):
    return st.fixed_dictionaries({name: st.integers(*ends) for name, ends in ranges.items()})


shapes = st.one_of(
    sizes(b=(0, 5), groups=(1, 4), per_group=(1, 37), l=(0, 3), n=(0, 20)),
    sizes(b=(0, 5), groups=(1, 4), per_group=(1, 37), l=(4, 140), n=(0, 20)),
    sizes(b=(1, 2), groups=(1, 2), per_group=(1, 9), l=(141, 3000), n=(1, 5)),
)
options = st.fixed_dictionaries({name: st.booleans() for name in ("D", "z", "delta_bias", "initial_state", "softplus")})
weights = st.sampled_from(["constant", "time", "grouped"])


def make_case(b, groups, per_group, l, n, *, B="grouped", C="grouped", seed=0, dtype=torch.float64, **present):  # noqa: E741
    """Arguments of a scan, as keywords, with the size of decay that models have."""
    rng = torch.Generator().manual_seed(seed)
    d = groups * per_group

    def randn(*shape):
        return torch.randn(*shape, generator=rng, dtype=torch.float64).to(dtype)

    forms = {"constant": (d, n), "time": (b, n, l), "grouped": (b, groups, n, l)}
    case = {
        "u": randn(b, d, l),
        "delta": randn(b, d, l) if present.get("softplus") else randn(b, d, l).abs() * 0.3,
        "A": -(torch.rand(d, n, generator=rng, dtype=torch.float64) * 4 + 0.01).to(dtype),
        "B": randn(*forms[B]),
        "C": randn(*forms[C]),
    }
    optional = {"D": (d,), "z": (b, d, l), "delta_bias": (d,), "initial_state": (b, d, n)}
    case |= {name: randn(*shape) for name, shape in optional.items() if present.get(name)}
    if "delta_bias" in case and not present.get("softplus"):
        case["delta_bias"] = case["delta_bias"].abs()  # a negative time step would make the state explode
    return case, {"delta_softplus": bool(present.get("softplus")), "return_last_state": True}


def run(case, settings_, backend, cotangents=None):
    """Outputs and the gradients of every argument."""
    leaves = {name: x.detach().requires_grad_() for name, x in case.items()}
    y, last = selective_scan(**leaves, **settings_, backend=backend)
    dy, dlast = cotangents or (torch.randn_like(y), torch.randn_like(last))
    outputs = [(y, dy.to(y.dtype)), (last, dlast.to(last.dtype))]
    outputs = [(out, grad) for out, grad in outputs if out.requires_grad]
    grads = torch.autograd.grad(
        [o for o, _ in outputs], list(leaves.values()), [g for _, g in outputs], allow_unused=True
    )
    return (y, last), dict(zip(leaves, grads, strict=True)), (dy, dlast)


def error(value, truth):
    """Largest difference over the largest true value, for which 0.1 is least: the terms of its sum are about 1."""
    if truth is None or truth.numel() == 0:
        return 0.0
    value = torch.zeros_like(truth) if value is None else value
    return ((value.double() - truth).abs().max() / truth.abs().max().clamp_min(0.1)).item()


LAYOUTS = {
    "contiguous": lambda x: x,
    "channels last": lambda x: x.transpose(1, -1).contiguous().transpose(1, -1),
    "every second step": lambda x: x.repeat_interleave(2, -1)[..., ::2],
    "flipped": lambda x: x.flip(-1),
    "part of a larger tensor": lambda x: torch.cat([x, x], 1)[:, : x.shape[1]],
    "one row for all": lambda x: x[:, :1].expand_as(x),
}


def check(
    case, settings_, backend, forward=FORWARD_TOLERANCE, gradient=GRADIENT_TOLERANCE, dtype=torch.float32, layout=None
):
    """Hold a backend on the case in `dtype` against the reference in float64 on the same rounded numbers.

    Where a sum of many terms happens to end near zero float32 itself is worse than the bounds; there the backend may be
    four times as far off as the reference in float32.
    """
    rounded = {name: x.to(dtype) for name, x in case.items()}
    if layout is not None:
        rounded = {name: LAYOUTS[layout](x) if x.ndim > 2 else x.float() for name, x in rounded.items()}
    exact = {k: x.double() for k, x in rounded.items()}
    state = case["u"].shape[:2] + case["A"].shape[1:]
    rng = torch.Generator().manual_seed(1)
    cotangents = torch.randn(case["u"].shape, generator=rng).to(dtype), torch.randn(state, generator=rng)
    truth, true_grads, _ = run(exact, settings_, "reference", cotangents)
    values, grads, _ = run(rounded, settings_, backend, cotangents)
    assert values[0].dtype == rounded["u"].dtype
    assert values[1].dtype == (torch.float64 if dtype == torch.float64 else torch.float32)
    outputs = dict(zip(("y", "last state"), zip(values, truth, strict=True), strict=True))
    for value, true in outputs.values():
        assert value.shape == true.shape
    for name in true_grads:
        assert grads[name] is None or grads[name].dtype == rounded[name].dtype
    pairs = outputs | {name: (grads[name], true) for name, true in true_grads.items()}
    bounds = {name: forward if name in outputs else gradient for name in pairs}
    if far := [name for name, pair in pairs.items() if error(*pair) > bounds[name]]:
        single, of_single, _ = run({k: x.float() for k, x in rounded.items()}, settings_, "reference", cotangents)
        float32 = dict(zip(outputs, single, strict=True)) | of_single
        for name in far:
            assert error(*pairs[name]) <= 4 * error(float32[name], pairs[name][1]), name


@pytest.mark.parametrize("backend", HERE)
@given(
    shape=shapes,
    present=options,
    B=weights,
    C=weights,
    layout=st.sampled_from(sorted(LAYOUTS)),
    dtype=st.sampled_from([torch.float32, torch.float32, torch.bfloat16, torch.float16]),
    seed=st.integers(0, 1000),
)
@settings(max_examples=30, deadline=None)
def test_agrees_with_float64_reference(backend, shape, present, B, C, layout, dtype, seed):
    case, settings_ = make_case(**shape, B=B, C=C, seed=seed, **present)
    # Of half precision only what comes out is rounded: the state is float32.
    bounds = (FORWARD_TOLERANCE, GRADIENT_TOLERANCE) if dtype == torch.float32 else (torch.finfo(dtype).eps,) * 2
    check(case, settings_, backend, *bounds, dtype=dtype, layout=layout)


@pytest.mark.parametrize("backend", HERE)
@pytest.mark.parametrize("length", [1, 31, 32, 33, 1000, 3000])
def test_lengths(backend, length):
    case, settings_ = make_case(1, 2, 9, length, 4, D=True, z=True, initial_state=True)
    check(case, settings_, backend)


EMPTY = [sizes for sizes in itertools.product((0, 2), (0, 1, 9), (0, 1, 33), (0, 1, 5)) if 0 in sizes]  # b, d, l, n


@pytest.mark.parametrize("backend", HERE)
@pytest.mark.parametrize("form", ["constant", "time", "grouped"])
def test_empty_axes(backend, form):
    for b, d, length, n in EMPTY:
        for present in ({}, dict.fromkeys(("D", "z", "delta_bias", "initial_state", "softplus"), True)):
            case, settings_ = make_case(b, 1, d, length, n, B=form, C=form, **present)
            check(case, settings_, backend)


@pytest.mark.parametrize("backend", HERE)
@pytest.mark.parametrize("states", [1, 300, 5000])
def test_numbers_of_states(backend, states):
    case, settings_ = make_case(2, 1, 5, 40, states, D=True, z=True, initial_state=True)
    check(case, settings_, backend)


@pytest.mark.parametrize("backend", ["lean", "torch", "reference"])
def test_gradcheck_in_float64(backend):
    case, settings_ = make_case(2, 2, 2, 5, 3, D=True, z=True, delta_bias=True, initial_state=True, softplus=True)
    names, tensors = list(case), [x.requires_grad_() for x in case.values()]

    def scan(*values):
        return selective_scan(**dict(zip(names, values, strict=True)), **settings_, backend=backend)

    assert torch.autograd.gradcheck(scan, tensors)
    if backend != "lean":
        assert torch.autograd.gradgradcheck(scan, tensors)


@pytest.mark.parametrize("backend", HERE)
@pytest.mark.parametrize("constant_length", [33, 40])
def test_gradcheck_of_a_loss_that_uses_only_one_output(backend, constant_length):
    case, settings_ = make_case(2, 1, 5, constant_length, 3, softplus=True)
    for output in (0, 1):
        grads = []
        for name, dtype in (("reference", torch.float64), (backend, torch.float32)):
            leaves = {k: x.to(dtype).requires_grad_() for k, x in case.items()}
            out = selective_scan(**leaves, **settings_, backend=name)[output]
            wanted = [x for k, x in leaves.items() if k in ("u", "delta", "A", "B")]
            grads.append(torch.autograd.grad(out.square().sum(), wanted))
        assert all(error(value, true) <= GRADIENT_TOLERANCE for true, value in zip(*grads, strict=True))


@pytest.mark.parametrize("backend", HERE)
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_inputs(backend, dtype):
    case, settings_ = make_case(2, 2, 10, 50, 4, D=True, z=True, softplus=True)
    half = torch.finfo(dtype).eps  # only the output and the gradients are rounded: the state is float32
    check(case, settings_, backend, forward=half, gradient=half, dtype=dtype)


@pytest.mark.parametrize("backend", HERE)
def test_mixed_dtypes_as_under_autocast(backend):
    case, settings_ = make_case(2, 1, 8, 20, 4, dtype=torch.float32)
    mixed = {name: x.bfloat16() if name in ("u", "B") else x for name, x in case.items()}
    y, last = selective_scan(**mixed, **settings_, backend=backend)
    truth, _ = selective_scan(**{k: x.double() for k, x in mixed.items()}, **settings_, backend="reference")
    assert (y.dtype, last.dtype) == (torch.bfloat16, torch.float32)
    assert error(y, truth) <= torch.finfo(torch.bfloat16).eps


@pytest.mark.parametrize("backend", HERE)
@pytest.mark.parametrize("layout", LAYOUTS)
def test_layouts(backend, layout):
    case, settings_ = make_case(3, 2, 19, 45, 5, z=True, dtype=torch.float32)
    rearranged = {k: LAYOUTS[layout](x) if k in ("u", "delta", "z") else x for k, x in case.items()}
    rearranged["B"] = case["B"].permute(0, 1, 3, 2).contiguous().permute(0, 1, 3, 2)
    grads = []
    for x in (rearranged, {k: x.contiguous() for k, x in rearranged.items()}):
        leaves = {k: v.requires_grad_() for k, v in x.items()}
        y, last = selective_scan(**leaves, **settings_, backend=backend)
        grads.append([y, last, *torch.autograd.grad(y.square().sum() + last.sum(), list(leaves.values()))])
    for value, true in zip(*grads, strict=True):
        torch.testing.assert_close(value, true, rtol=1e-5, atol=1e-5 * true.abs().max().item())


@pytest.mark.parametrize("backend", HERE)
def test_extreme_decays_underflow_to_zero_and_never_to_nan(backend):
    u = torch.ones(1, 3, 40)
    delta = torch.tensor([1e-30, 1.0, 100.0])[None, :, None].expand(1, 3, 40)
    A = torch.full((3, 2), -100.0)
    ones = torch.ones(1, 2, 40)
    y = selective_scan(u, delta, A, ones, ones, backend=backend)
    assert torch.isfinite(y).all()
    torch.testing.assert_close(y[0, :, -1], 2 * torch.tensor([40e-30, 1.0, 100.0]))


@pytest.mark.parametrize("backend", HERE)
def test_large_time_steps_through_softplus(backend):
    delta = torch.tensor([-200.0, -50.0, -15.0, 0.0, 15.0, 25.0, 200.0])[None, :, None].repeat(1, 1, 4).requires_grad_()
    u, ones = torch.ones(1, 7, 4), torch.ones(1, 1, 4)
    y = selective_scan(u, delta, torch.zeros(7, 1), ones, ones, delta_softplus=True, backend=backend)
    y[..., 0].sum().backward()
    x = delta.detach()[0, :, 0].double()
    torch.testing.assert_close(y[0, :, 0].double(), torch.nn.functional.softplus(x), rtol=1e-6, atol=1e-37)
    torch.testing.assert_close(delta.grad[0, :, 0].double(), torch.sigmoid(x), rtol=1e-6, atol=1e-37)


@pytest.mark.parametrize("backend", HERE)
@pytest.mark.parametrize("where", ["u", "delta", "B"])
def test_nan_is_not_hidden(backend, where):
    case, settings_ = make_case(1, 1, 4, 40, 2, dtype=torch.float32)
    case[where].view(-1)[20] = float("nan")
    y, _ = selective_scan(**case, **settings_, backend=backend)
    assert y.isnan().any()


@pytest.mark.parametrize("backend", HERE)
def test_a_sequence_in_two_halves_joined_by_the_state(backend):
    case, settings_ = make_case(2, 2, 5, 90, 3, D=True, dtype=torch.float32)
    whole, last = selective_scan(**case, **settings_, backend=backend)
    varying = ("u", "delta", "B", "C")
    state, parts = None, []
    for part in (slice(0, 41), slice(41, None)):
        piece = {k: x[..., part] if k in varying else x for k, x in case.items()}
        y, state = selective_scan(**piece, **settings_, initial_state=state, backend=backend)
        parts.append(y)
    torch.testing.assert_close(torch.cat(parts, -1), whole, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(state, last, rtol=1e-5, atol=1e-5)


def test_the_kernel_gives_the_same_bits_on_any_number_of_threads_forward():
    if not STATUS["cpu"].available:
        pytest.skip(str(STATUS["cpu"]))
    case, settings_ = make_case(8, 2, 40, 70, 16, dtype=torch.float32)
    threads = torch.get_num_threads()
    outputs = []
    try:
        for count in (1, 2, 5):
            torch.set_num_threads(count)
            outputs.append(selective_scan(**case, **settings_, backend="cpu")[0])
    finally:
        torch.set_num_threads(threads)
    assert torch.equal(outputs[0], outputs[1])
    assert torch.equal(outputs[0], outputs[2])


def test_the_kernel_is_deterministic_backward():
    if not STATUS["cpu"].available:
        pytest.skip(str(STATUS["cpu"]))
    case, settings_ = make_case(4, 1, 70, 200, 16, softplus=True, delta_bias=True, dtype=torch.float32)
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(3)
        _, first, cotangents = run(case, settings_, "cpu")
        for _ in range(3):
            _, again, _ = run(case, settings_, "cpu", cotangents)
            assert all(torch.equal(first[name], again[name]) for name in first)
    finally:
        torch.set_num_threads(threads)
