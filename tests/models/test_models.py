"""One tester for every registered model: what the contract promises holds for all of them."""

import copy
import io

import pytest
import torch
from torch import nn
from torch.utils._pytree import tree_leaves

import hsmamba
from hsmamba.errors import SceneError
from hsmamba.layers.conv_bn import ConvBN
from hsmamba.layers.fusion import pad_sides
from hsmamba.models import ModelCfg, entry, example_inputs, register_model, registry
from hsmamba.models import _registry as table
from hsmamba.ops.resampling import upsample
from tests.models.samples import CLASSIFIERS, FUSION, NAMES, tiny

# Networks that differ from another one in sizes alone are not traced again.
TRACED = [name for name in NAMES if name != "mim" and not name.startswith(("msfmamba_", "le_mamba_"))]
# Their graphs have the most nodes. Two thirds of the time of an export to ONNX would go into the optimiser's patterns,
# and three quarters of a compilation into the graph of the gradients, which the checks of every operator trace, too.
LARGE = {"le_mamba", "mambahsi", "mim_paper", "mim_v2", "mmapp", "msfmamba", "ramsf", "rsanet"}

# (multiple, least side) of the guide's grid, as the specifications have it
SIDES = {"cf2n": (2, 4), "le_mamba": (4, 1), "mmapp": (4, 16), "ramsf": (4, 4), "rsanet": (1, 4)}
SENSORS = {  # in_chans, guide_chans, scale
    "WorldView-3": (8, 1, 4),
    "QuickBird, GaoFen-2": (4, 1, 4),
    "CAVE at ratio 4": (31, 3, 4),
    "CAVE at ratio 8": (31, 3, 8),
    "Sentinel-2 guided by Sentinel-1": (13, 2, 4),
}


def in_a_row(output):
    """The output of a model in one vector; some give a tuple in training."""
    return torch.cat([x.flatten() for x in tree_leaves(output)])


def smaller(name, inputs, by):
    """The inputs, of a fusion network with sides of one `by`-th: its time goes with the pixels."""
    return tuple(x[..., : x.shape[-2] // by, : x.shape[-1] // by] for x in inputs) if name in FUSION else inputs


def flagged(name, flag, action):
    """Run what a capability flag promises, or check that what it denies does fail."""
    if getattr(entry(name).cfg, flag):
        action()
    else:
        with pytest.raises(Exception):  # noqa: B017 - whatever torch raises there
            action()


@pytest.mark.parametrize("name", NAMES)
def test_forward_backward_at_the_sizes_that_a_name_stands_for(name):
    torch.manual_seed(0)
    model = hsmamba.create_model(name)
    if name == "residual":
        nn.init.ones_(model.rate)  # of the correction, which is 0 at first
    if name == "bandwise":
        nn.init.normal_(model.tail.weight)  # the same
    # the deepest of the U-nets has parameters that nothing reaches on a smaller image
    inputs = smaller(name, example_inputs(model, 2), 1 if name == "le_mamba_base" else 2)
    output = in_a_row(model(*inputs))
    assert output.isfinite().all()
    output.square().mean().backward()
    normed = {f"{key}.0.bias" for key, module in model.named_modules() if isinstance(module, ConvBN)}
    for key, parameter in model.named_parameters():
        assert parameter.grad is not None, key
        assert parameter.grad.isfinite().all(), key
        if key in normed or key.endswith("attention.conv.bias"):
            assert not parameter.grad.any(), f"a batch norm takes {key} away again"
        else:
            assert parameter.grad.any(), f"{key} has no influence"


@pytest.mark.parametrize("name", CLASSIFIERS)
def test_classifier_contract(name):
    model = tiny(name, num_classes=5).eval()
    inputs = example_inputs(model, 2)
    features = model.forward_features(*inputs)
    pooled = model.forward_head(features, pre_logits=True)
    pixels = () if model.patch_size else inputs[0].shape[2:]  # of a network of whole images
    assert pooled.shape == (2, model.num_features, *pixels)
    torch.testing.assert_close(model.forward_head(features), model(*inputs))
    assert model(*inputs).shape == (2, 5, *pixels)
    heads = model.get_classifier()
    assert all(isinstance(head, nn.Linear) for head in (heads if isinstance(heads, nn.ModuleList) else [heads]))
    model.reset_classifier(7)
    assert model.num_classes == 7
    assert model(*inputs).shape == (2, 7, *pixels)
    model.reset_classifier(0)
    torch.testing.assert_close(model(*inputs), pooled)
    torch.testing.assert_close(tiny(name, num_classes=0).eval()(*inputs).shape, pooled.shape)


@pytest.mark.parametrize("name", NAMES)
def test_a_sample_does_not_depend_on_its_batch(name):
    model = tiny(name).eval()
    inputs = example_inputs(model, 4)
    if name == "bandwise":  # whose quotients of noise around 0 magnify rounding
        model, inputs = model.double(), tuple(x.double() for x in inputs)
    together = model(*inputs)
    alone = torch.cat([model(*(x[i : i + 1] for x in inputs)) for i in range(4)])
    torch.testing.assert_close(alone, together, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", NAMES)
def test_determinism(name):
    first, second = tiny(name), tiny(name)
    inputs = example_inputs(first, 2)
    for mode in (True, False):
        outputs = []
        for model in (first.train(mode), second.train(mode)):
            torch.manual_seed(1)
            outputs.append(in_a_row(model(*inputs)))
        assert torch.equal(*outputs)


@pytest.mark.parametrize("name", NAMES)
def test_save_load_round_trip(name, tmp_path):
    model = tiny(name).eval()
    hsmamba.save_pretrained(model, tmp_path / "model")
    again = hsmamba.create_model(f"local-dir:{tmp_path / 'model'}")
    inputs = example_inputs(model, 2)
    assert torch.equal(model(*inputs), again(*inputs))


@pytest.mark.parametrize("name", NAMES)
def test_state_dict_and_deepcopy(name):
    model = tiny(name).eval()
    inputs = example_inputs(model, 2)
    buffer = io.BytesIO()
    torch.save(model.state_dict(), buffer)
    buffer.seek(0)
    other = entry(name).entry_point(**entry(name).cfg.tiny).eval()
    other.load_state_dict(torch.load(buffer, weights_only=True))
    assert torch.equal(other(*inputs), model(*inputs))
    assert torch.equal(copy.deepcopy(model)(*inputs), model(*inputs))


@pytest.mark.parametrize("name", NAMES)
def test_autocast_bf16(name):
    model = tiny(name).eval()
    inputs = example_inputs(model, 2)
    full = model(*inputs)
    with torch.autocast("cpu", torch.bfloat16):
        half = model(*inputs)
    assert half.isfinite().all()
    assert (half.float() - full).abs().max() < 0.1 * full.abs().max() + 0.05


@pytest.mark.parametrize("name", NAMES)
def test_double(name):
    model = tiny(name, dtype=torch.float64).eval()
    inputs = example_inputs(model, 2)
    assert inputs[0].dtype == torch.float64
    assert model(*inputs).dtype == torch.float64


@pytest.mark.parametrize("name", TRACED)
def test_compile_without_graph_break(name):
    model = tiny(name).eval()
    inputs = example_inputs(model, 2)

    def action():
        torch._dynamo.reset()
        # The graph is what can break; "eager" runs it without a compiler on the machine.
        compiled = torch.compile(model, fullgraph=True, backend="eager" if name in LARGE else "aot_eager")
        torch.testing.assert_close(compiled(*inputs), model(*inputs), rtol=1e-4, atol=1e-5)

    flagged(name, "can_compile", action)


@pytest.mark.parametrize("name", TRACED)
def test_export_with_any_batch_size(name):
    model = tiny(name).eval()

    def action():
        batch = torch.export.Dim("batch", min=1, max=4096)
        inputs = example_inputs(model, 3)
        program = torch.export.export(model, inputs, dynamic_shapes=tuple({0: batch} for _ in inputs))
        more = example_inputs(model, 5, seed=1)
        torch.testing.assert_close(program.module()(*more), model(*more), rtol=1e-4, atol=1e-5)

    flagged(name, "can_export", action)


@pytest.mark.parametrize("name", TRACED)
def test_onnx_through_onnxruntime(name, tmp_path):
    onnxruntime = pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    # What is exported grows with every token of MiM's four stages and with every scan of a fusion network.
    model = tiny(name, **({"patch_size": 3} if name.startswith("mim") else {})).eval()
    inputs = smaller(name, example_inputs(model, 2), 4)

    def action():
        path = tmp_path / "model.onnx"
        torch.onnx.export(model, inputs, path, dynamo=True, verbose=False, optimize=name not in LARGE)
        session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
        feed = {arg.name: x.numpy() for arg, x in zip(session.get_inputs(), inputs, strict=True)}
        got = torch.from_numpy(session.run(None, feed)[0])
        torch.testing.assert_close(got, model(*inputs), rtol=1e-3, atol=1e-4)

    flagged(name, "can_onnx", action)


def three_bands(name):
    return tiny(name, in_chans=3, guide_chans=2, scale=4).eval()


def images(scale, height, width, batch=2):
    gen = torch.Generator().manual_seed(1)
    ms = torch.rand(batch, 3, height, width, generator=gen)
    return ms, torch.rand(batch, 2, scale * height, scale * width, generator=gen)


@pytest.mark.parametrize("sizes", SENSORS.values(), ids=SENSORS)
@pytest.mark.parametrize("name", FUSION)
def test_sensors_are_sizes(name, sizes):
    bands, chans, scale = sizes
    model = tiny(name, in_chans=bands, guide_chans=chans, scale=scale).eval()
    with torch.inference_mode():
        fused = model(torch.rand(1, bands, 4, 4), torch.rand(1, chans, 4 * scale, 4 * scale))
    assert fused.shape == (1, bands, 4 * scale, 4 * scale)
    assert fused.isfinite().all()


@pytest.mark.parametrize("name", FUSION)
def test_the_up_sampled_image_is_made_where_it_is_not_given(name):
    model = three_bands(name)
    ms, guide = images(4, 5, 4)
    torch.testing.assert_close(model(ms, guide), model(ms, guide, upsample(ms, 4)))


@pytest.mark.parametrize("name", FUSION)
@pytest.mark.parametrize("side", [(3, 5), (1, 4)])
def test_sides_that_do_not_fit_are_padded_by_reflection_and_cropped(name, side):
    model = three_bands(name)
    ms, guide = images(4, *side)
    ms_up = upsample(ms, 4)
    got = model(ms, guide, ms_up)
    assert got.shape == ms_up.shape and got.isfinite().all()
    if family := SIDES.get(entry(name).module.rpartition(".")[2]):
        multiple, least = family
        padded_ms = pad_sides(ms, max(1, multiple // 4), -(-least // 4))
        want = model(padded_ms, pad_sides(guide, multiple, least), pad_sides(ms_up, multiple, least))
        torch.testing.assert_close(got, want[..., : 4 * side[0], : 4 * side[1]])


@pytest.mark.parametrize("name", FUSION)
def test_inputs_that_do_not_fit_are_named(name):
    model = three_bands(name)
    ms, guide = images(4, 4, 4)
    with pytest.raises(SceneError, match=r"\(2, 3, 4, 4\).*\(2, 2, 16, 12\).*ratio 4"):
        model(ms, guide[..., :12])
    with pytest.raises(SceneError, match=r"\(2, 2, 4, 4\).*\(B, 3, h, w\)"):
        model(ms[:, :2], guide)
    with pytest.raises(SceneError, match="ms"):
        model(None, guide)


def test_the_registry_is_mirrored_into_timm():
    import timm

    assert set(registry()) <= set(timm.list_models())
    model = timm.create_model("md2f_mamba", num_classes=3, in_chans=8, patch_size=7)
    assert model(torch.zeros(1, 8, 7, 7)).shape == (1, 3)


def test_users_register_their_own_architectures():
    class Tiny(nn.Module):
        in_chans, aux_chans, patch_size = 4, 0, 3

        def __init__(self, num_classes: int = 2) -> None:
            super().__init__()
            self.num_classes = num_classes
            self.head = nn.Linear(4, num_classes)

        def forward(self, hsi, aux=None):
            return self.head(hsi.mean((2, 3)))

    def tiny_test_net(**kwargs):
        return Tiny(**kwargs)

    try:
        register_model(tiny_test_net, cfg=ModelCfg(summary="a test"))
        assert hsmamba.is_model("tiny_test_net")
        assert hsmamba.create_model("tiny_test_net", num_classes=6).num_classes == 6
        assert hsmamba.model_info("tiny_test_net").params == 10
        tiny_test_net.__module__ = "elsewhere"
        with pytest.raises(ValueError, match="is registered by"):
            register_model(tiny_test_net)
    finally:
        table._ENTRIES.pop("tiny_test_net")
