"""The operator under torch's transforms: compile, export, ONNX, autocast, torch.func, activation checkpointing."""

import numpy as np
import pytest
import torch
from torch.utils.checkpoint import checkpoint

from hsmamba.ops import BackendUnavailableError, decompositions, scan_backend, selective_scan
from hsmamba.ops.inputs import check_inputs
from hsmamba.ops.operator import scan_backward_op, scan_op
from tests.ops.scan_cases import FUSED_HERE, arguments

LAYOUTS = {
    "contiguous": lambda x: x,
    "channels last": lambda x: x.transpose(1, 2).contiguous().transpose(1, 2),
    "one row for all": lambda x: x[:, :1].expand_as(x),
}


@pytest.mark.parametrize("backend", FUSED_HERE)
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_operator_passes_torch_checks(backend, layout, dtype):
    case = {"z": None, "delta_bias": None, "initial_state": None} | arguments()
    if dtype == torch.bfloat16:
        case |= {"z": torch.ones(2, 6, 40), "delta_bias": torch.ones(6), "initial_state": torch.ones(2, 6, 4)}
        case = {k: v.to(dtype) if k in ("u", "delta", "z") else v for k, v in case.items()}
    case["u"], case["delta"] = (LAYOUTS[layout](case[name]).detach() for name in ("u", "delta"))
    case = {k: v.requires_grad_() if isinstance(v, torch.Tensor) else v for k, v in case.items()}
    inputs = check_inputs(**case)
    for save in (True, False):
        torch.library.opcheck(scan_op, (*inputs, save, backend))
    y, last, checkpoints = scan_op(*inputs, True, backend)
    detached = [x.detach() if isinstance(x, torch.Tensor) else x for x in inputs]
    checks = ("test_schema", "test_faketensor")
    torch.library.opcheck(
        scan_backward_op, (*detached, backend, checkpoints.detach(), y.detach(), last.detach()), test_utils=checks
    )
    torch.library.opcheck(
        scan_backward_op, (*detached, backend, checkpoints[:0].detach(), None, last.detach()), test_utils=checks
    )


@pytest.mark.parametrize("backend", FUSED_HERE)
def test_compiles_for_any_sizes_with_states(backend):
    def scan(case):
        return selective_scan(**case, return_last_state=True, backend=backend)

    torch._dynamo.reset()
    compiled = torch.compile(scan, fullgraph=True, dynamic=True, backend="aot_eager")
    for batch, length, groups in ((2, 40, 2), (3, 33, 3)):
        case = arguments(b=batch, length=length, g=groups) | {"initial_state": torch.ones(batch, 6, 4)}
        case |= {"u": LAYOUTS["channels last"](case["u"]), "C": case["C"][:, 0]}
        leaves = [x.requires_grad_() for x in case.values() if isinstance(x, torch.Tensor)]
        pairs = []
        for run in (compiled, scan):
            y, last = run(case)
            pairs.append([y, last, *torch.autograd.grad(y.square().sum() + last.sum(), leaves)])
        for got, want in zip(*pairs, strict=True):
            torch.testing.assert_close(got, want, rtol=1e-4, atol=1e-4)


def test_compiles_without_graph_break_and_follows_the_forced_backend():
    case = arguments()
    scan = torch.compile(lambda **k: selective_scan(**k), fullgraph=True, backend="aot_eager")
    leaf = case["u"].requires_grad_()
    (true,) = torch.autograd.grad(selective_scan(**case).square().sum(), leaf)
    for name in (None, "reference", "torch", None):
        with scan_backend(name):
            y = scan(**case)
            torch.testing.assert_close(y, selective_scan(**case), rtol=1e-5, atol=1e-5)
        (grad,) = torch.autograd.grad(y.square().sum(), leaf)
        torch.testing.assert_close(grad, true, rtol=1e-4, atol=1e-4)


class Scan(torch.nn.Module):
    def __init__(self, d=6, n=4):
        super().__init__()
        self.A = torch.nn.Parameter(-torch.rand(d, n))

    def forward(self, u, delta, B, C):
        return selective_scan(u, delta, self.A, B, C, delta_softplus=True)


def export_arguments(batch=2, length=40):
    case = arguments(b=batch, length=length)
    return case["u"], case["delta"], case["B"], case["C"]


@pytest.mark.parametrize("strict", [True, False])
def test_exports_as_one_operator_with_dynamic_batch_and_length(strict):
    model = Scan().eval()
    batch, length = torch.export.Dim("batch"), torch.export.Dim("length", min=2)
    shapes = ({0: batch, 2: length}, {0: batch, 2: length}, {0: batch, 3: length}, {0: batch, 3: length})
    with torch.no_grad():
        program = torch.export.export(model, export_arguments(), dynamic_shapes=shapes, strict=strict)
    assert any(node.target == torch.ops.hsmamba.selective_scan.default for node in program.graph.nodes)
    for inputs in (export_arguments(), export_arguments(3, 71)):
        torch.testing.assert_close(program.module()(*inputs), model(*inputs))


def test_export_under_the_torch_backend_has_plain_operations_only():
    with torch.no_grad(), scan_backend("torch"):
        program = torch.export.export(Scan().eval(), export_arguments())
    targets = {str(node.target) for node in program.graph.nodes if node.op == "call_function"}
    assert targets
    assert all(target.startswith("aten.") for target in targets)


def test_an_exported_program_decomposes_into_plain_operations():
    model, batch = Scan(), torch.export.Dim("batch")
    program = torch.export.export(model, export_arguments(), dynamic_shapes=({0: batch},) * 4)
    plain = program.run_decompositions(decompositions())
    assert not any("hsmamba" in str(node.target) for node in plain.graph.nodes)
    inputs = export_arguments(5)
    torch.testing.assert_close(plain.module()(*inputs), model(*inputs), rtol=1e-4, atol=1e-5)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("dynamo", [True, False])
def test_onnx_export_decomposes_and_runs_with_another_batch(tmp_path, dynamo):
    pytest.importorskip("onnxscript")
    runtime = pytest.importorskip("onnxruntime")
    model = Scan().eval()
    if dynamo:
        options = {"dynamic_shapes": ({0: torch.export.Dim("batch")},) * 4}
    else:
        names = ["u", "delta", "B", "C"]
        options = {"input_names": names, "dynamic_axes": {name: {0: "batch"} for name in names}}
    with torch.no_grad():
        torch.onnx.export(model, export_arguments(), tmp_path / "scan.onnx", dynamo=dynamo, verbose=False, **options)
    session = runtime.InferenceSession(str(tmp_path / "scan.onnx"))
    inputs = export_arguments(5)
    names = [x.name for x in session.get_inputs()]
    (y,) = session.run(None, {name: x.numpy() for name, x in zip(names, inputs, strict=True)})
    np.testing.assert_allclose(y, model(*inputs).detach().numpy(), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("backend", FUSED_HERE)
def test_torch_func(backend):
    case = arguments(b=1, length=35)
    case.pop("delta_softplus")

    def loss(u, delta, A, B, C, D):
        y, last = selective_scan(u, delta, A, B, C, D, delta_softplus=True, return_last_state=True, backend=backend)
        return y.square().sum() + last.sum()

    tensors = list(case.values())
    leaves = [x.clone().requires_grad_() for x in tensors]
    true = torch.autograd.grad(loss(*leaves), leaves)
    wanted = tuple(range(len(tensors)))
    for value, expected in zip(torch.func.grad(loss, argnums=wanted)(*tensors), true, strict=True):
        torch.testing.assert_close(value, expected)
    stacked = [torch.stack([x, 0.5 * x]) if i != 2 else x for i, x in enumerate(tensors)]
    in_dims = (0, 0, None, 0, 0, 0)
    per_sample = torch.func.vmap(torch.func.grad(loss, argnums=wanted), in_dims=in_dims)(*stacked)
    halves = [0.5 * x if i != 2 else x for i, x in enumerate(tensors)]
    for value, first, second in zip(per_sample, true, torch.func.grad(loss, argnums=wanted)(*halves), strict=True):
        torch.testing.assert_close(value, torch.stack([first, second]), rtol=1e-4, atol=1e-4)
    losses = torch.func.vmap(loss, in_dims=in_dims)(*stacked)
    torch.testing.assert_close(losses, torch.stack([loss(*tensors), loss(*halves)]), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("backend", FUSED_HERE)
def test_jacobians(backend):
    case = arguments(b=1, d=2, length=4, n=2, g=1, dtype=torch.float32)

    def scan(u):
        return selective_scan(**case | {"u": u}, backend=backend)

    want = torch.autograd.functional.jacobian(scan, case["u"])
    torch.testing.assert_close(torch.func.jacrev(scan)(case["u"]), want)
    product, pull = torch.func.vjp(scan, case["u"])
    torch.testing.assert_close(pull(torch.ones_like(product))[0], want.sum((0, 1, 2)))


def test_forward_mode_derivatives_run_on_plain_operations():
    case = arguments(b=1, d=2, length=4, n=2, g=1, dtype=torch.float64)

    def scan(u, backend=None):
        return selective_scan(**case | {"u": u}, backend=backend)

    u, tangent = case["u"], torch.randn_like(case["u"])
    jacobian = torch.autograd.functional.jacobian(scan, u)
    want = torch.einsum("abcdef,def->abc", jacobian, tangent)
    torch.testing.assert_close(torch.func.jvp(scan, (u,), (tangent,))[1], want)
    torch.testing.assert_close(torch.func.jacfwd(scan)(u), jacobian)
    hessian = torch.func.hessian(lambda u: scan(u).square().sum())(u)
    torch.testing.assert_close(hessian.reshape(8, 8), hessian.reshape(8, 8).T)
    with torch.autograd.forward_ad.dual_level():
        dual = torch.autograd.forward_ad.make_dual(u, tangent)
        torch.testing.assert_close(torch.autograd.forward_ad.unpack_dual(scan(dual)).tangent, want)
        with pytest.raises(BackendUnavailableError, match="forward-mode differentiation needs plain torch operations"):
            scan(dual, "lean")


@pytest.mark.parametrize("backend", FUSED_HERE)
def test_second_derivative_is_refused_and_points_to_the_backend_that_has_it(backend):
    case = arguments()
    u = case["u"].requires_grad_()
    (grad,) = torch.autograd.grad(selective_scan(**case, backend=backend).square().sum(), u, create_graph=True)
    with pytest.raises(NotImplementedError, match=r'backend="torch"'):
        grad.sum().backward()


@pytest.mark.parametrize("backend", FUSED_HERE)
@pytest.mark.parametrize("reentrant", [True, False])
def test_activation_checkpointing(backend, reentrant):
    case = arguments()
    u = case["u"].requires_grad_()

    def scan(u):
        return selective_scan(**case | {"u": u}, backend=backend).square().sum()

    (true,) = torch.autograd.grad(scan(u), u)
    checkpoint(scan, u, use_reentrant=reentrant).backward()
    assert torch.equal(u.grad, true)


def test_autocast_leaves_the_operator_alone():
    case, linear = arguments(), torch.nn.Linear(40, 40)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        y = selective_scan(**case)
        u = linear(case["u"])
        half, last = selective_scan(**case | {"u": u}, return_last_state=True)
    assert y.dtype == torch.float32
    assert torch.equal(y, selective_scan(**case))
    assert (u.dtype, half.dtype, last.dtype) == (torch.bfloat16, torch.bfloat16, torch.float32)
    half.float().square().sum().backward()
    assert linear.weight.grad.isfinite().all()


def test_inference_keeps_no_checkpoints():
    inputs = check_inputs(**{"z": None, "delta_bias": None, "initial_state": None} | arguments())
    assert scan_op(*inputs, False, "lean")[2].numel() == 0
