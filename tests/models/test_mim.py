"""MiM: the released versions' numbers at any size, their sizes, their inert scans, and the paper's network."""

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

import hsmamba
from hsmamba.bench.mim import VERSIONS, bench_mim, change_by_noise
from hsmamba.errors import WeightsError
from hsmamba.models.mim import MiMPaper, MiMv2, MiMv3
from hsmamba.models.mim_blocks import (
    MixerPaper,
    ScanBatchNorm,
    SequentialAttention,
    _Masked,
    _WithMask,
    feature_mask,
    four_scans,
    index_mask,
    paper_mask,
    pool_tokens,
    released_centre,
    released_mask,
)
from hsmamba.models.official.mim import checkpoint_filter_fn
from hsmamba.ops import inference
from tests.goldens.reader import Golden, each_golden
from tests.oracles.mim import mim_v1, mim_v2, mim_v3, state_v1, state_v2, state_v3

TINY = {"channels": 3, "num_classes": 4, "image_size": 3, "patch_size": 1, "dim": 8}


def _taps(model, hsi):
    """Run the model; its inner results under the names of the goldens. What comes more than once counts first."""
    seen = {}

    def keep(module, name, input_names=()):
        def hook(_module, args, output):
            seen.setdefault(name, output)
            for key, value in zip(input_names, args, strict=False):
                seen.setdefault(key, value)

        return module.register_forward_hook(hook)

    if model.variant == "3":
        handles = [
            keep(model.stem, "cells"),
            keep(model.vim.ssm, "ssm"),
            keep(model.vim, "vim"),
            keep(model.norm, "out"),
        ]
    else:
        blocks = model.blocks if model.variant == "1" else model.stages
        mixer = blocks[0].mixer
        handles = [
            keep(mixer.merge, "merged", ("yf", "yb")),
            keep(mixer.merge.proj, "projected", ("c",)),
            keep(mixer.stage.attention, "spatial_attn_seq1.weighted"),
            keep(mixer.stage.fuser, "tokenfuser_seq1"),
        ]
        if model.variant == "1":
            handles.append(keep(model.norm, "out"))
        else:
            handles += [keep(model.embed, "s"), keep(mixer.vim1, "mim_1_vim1_seq1")]
            handles += [keep(block, f"mim_{k}_out") for k, block in enumerate(blocks, 1)]
    logits = model(hsi)
    for handle in handles:
        handle.remove()

    batch = hsi.shape[0]
    taps = {name: value[:batch] for name, value in seen.items() if name.endswith("seq1") or "_seq1." in name}
    if model.variant == "3":
        grid = seen["cells"].permute(0, 3, 1, 2)
        taps |= {"patch_grid": grid, "vim_seq1_app1": seen["vim"][:batch]}
        fwd, bwd = seen["ssm"][:batch, :, :, 0].mT.unbind(1)  # bwd is back in the order of the tokens
        taps |= {"fwd_ssm_seq1_app1": fwd, "bwd_ssm_seq1_app1": bwd.flip(1)}
        seen["s"] = four_scans(grid)
    else:
        length = seen["yf"].shape[1]
        taps["gdm_index_seq1"] = index_mask(length, released_centre(length), hsi).expand(batch, -1)
        for tap, name in (("f", "yf"), ("b", "yb"), ("cat", "c")):
            taps[f"gdm_vector_{tap}_seq1"] = feature_mask(seen[name][:batch], released_centre(length))
    if "out" in seen:
        seen["mim_1_out"] = seen.pop("out").tanh()
    seen.setdefault("s", four_scans(hsi))
    for name, joint in {"s": "seq{}", "mim_1_out": "mim_1_out.{}", "mim_4_out": "mim_4_out.{}"}.items():
        if name in seen:
            taps |= {joint.format(k): scan for k, scan in enumerate(seen[name].chunk(4), 1)}
    return logits, taps


@each_golden("mim_*")
def test_golden_outputs_taps_and_gradients(path):
    golden = Golden(path)
    with torch.no_grad(), inference.plain():  # whose steps are not fused
        logits, seen = _taps(golden.model, golden.inputs["hsi"])
    with torch.no_grad():
        fused = golden.model(golden.inputs["hsi"])
    torch.testing.assert_close(fused, logits, rtol=0, atol=1e-5 * float(logits.abs().max()))
    golden.check(seen | {"logits": logits})


def _patches(channels, height, width):
    return torch.randn(2, channels, height, width, dtype=torch.float64, requires_grad=True)


def _same_with_gradients(logits, want, x):
    torch.testing.assert_close(logits, want, rtol=1e-8, atol=1e-8)
    gradients = [torch.autograd.grad(output.square().mean(), x)[0] for output in (logits, want)]
    torch.testing.assert_close(*gradients, rtol=1e-6, atol=1e-7 * gradients[1].abs().max().item() + 1e-10)


def _load_double(arch, state, **config):
    # Little but the tensors is needed: their shapes tell the configuration.
    model = hsmamba.load_official(arch, state, **config).double().eval()
    model.load_state_dict(checkpoint_filter_fn(state, model))
    return model


@settings(max_examples=6)
@given(
    channels=st.integers(1, 5),
    size=st.sampled_from([(2, 2), (3, 3), (4, 4), (5, 5), (8, 8), (2, 8)]),
    dim=st.sampled_from([5, 18]),
    depth=st.integers(1, 2),
    cells=st.booleans(),
    seed=st.integers(0, 99),
)
def test_v1_agrees_with_its_equations_at_any_size(channels, size, dim, depth, cells, seed):
    torch.manual_seed(seed)
    channels, patch_size = (dim, 2) if cells else (channels, 1)
    side = round((size[0] * size[1]) ** 0.5)
    state = state_v1(channels, 3, side, patch_size, dim, depth, seed)
    model, x = _load_double("mim_v1", state), _patches(channels, *size)
    _same_with_gradients(model(x), mim_v1(x, state, depth), x)


@settings(max_examples=6)
@given(
    channels=st.integers(1, 5),
    size=st.sampled_from([(2, 2), (3, 3), (4, 4), (6, 6), (3, 12)]),
    dim=st.sampled_from([3, 4, 9]),
    trap=st.sampled_from([0, 1, 2]),
    seed=st.integers(0, 99),
)
def test_v2_agrees_with_its_equations_at_any_size(channels, size, dim, trap, seed):
    torch.manual_seed(seed)
    patch_size = 1
    if trap:  # as many folded bands as dim: the released code embeds again in every stage
        channels = max(channels, 3)
        patch_size, dim = trap, channels * trap**2
    side = round((size[0] * size[1]) ** 0.5)
    state = state_v2(channels, 3, side, patch_size, dim, seed)
    model, x = _load_double("mim_v2", state), _patches(channels, *size)
    _same_with_gradients(model(x), mim_v2(x, state, patch_size), x)


@settings(max_examples=10)
@given(
    channels=st.integers(1, 5),
    cells=st.sampled_from([(1, 1), (2, 2), (3, 3), (4, 4), (2, 8)]),
    dim=st.sampled_from([1, 4, 6]),
    depth=st.integers(1, 3),
    patch_size=st.integers(1, 3),
    seed=st.integers(0, 99),
)
def test_v3_agrees_with_its_equations_at_any_size(channels, cells, dim, depth, patch_size, seed):
    torch.manual_seed(seed)
    height, width = (max(2, n * patch_size) for n in cells)
    if patch_size > 1:
        channels = dim
    side = round((height * width) ** 0.5)
    state = state_v3(channels, 3, side, patch_size, dim, depth, seed)
    model, x = _load_double("mim_v3", state), _patches(channels, height, width)
    _same_with_gradients(model(x), mim_v3(x, state, depth, patch_size), x)


def test_the_scans_of_v1_and_v2_hardly_reach_the_logits_and_the_papers_do():
    change = {name: change_by_noise(name) for name in ("mim_v1", "mim_v2", "mim_v3", "mim_paper")}
    assert max(change["mim_v1"], change["mim_v2"]) < 1e-4
    assert 3e-4 < change["mim_v3"] < 1e-2
    assert change["mim_paper"] > 0.03


def test_the_report_of_the_scans_influence():
    lines = []
    bench_mim(5, range(1), lines.append)
    change = {name: float(figure) for name, figure in (line.split() for line in lines[1:5])}
    assert change == {name: pytest.approx(change_by_noise(name, 5), rel=0.1) for name in VERSIONS}
    assert change["mim_paper"] > 1000 * change["mim_v2"]
    tokens, released, paper = zip(*(line.replace("tokens", "").split() for line in lines[6:]), strict=True)
    assert tokens == ("81", "49", "25", "9")
    assert all(100 * float(ours) < float(theirs) for ours, theirs in zip(released[:3], paper, strict=False))


@pytest.mark.parametrize(("side", "variation"), [(9, 4e-4), (7, 1e-3), (5, 4e-3), (3, 3e-2)])
def test_released_masks_are_flat_and_the_papers_are_not(side, variation):
    torch.manual_seed(0)
    y = torch.randn(16, side * side, 32).tanh()
    flat, working = released_mask(y), paper_mask(y, (side * side) // 2)
    torch.testing.assert_close(flat.sum(1), torch.ones(16, 1))
    assert (flat.std(1) / flat.mean(1)).max() < variation
    assert (working.std(1) / working.mean(1)).min() > 0.3
    assert (working.argmax(1) == (side * side) // 2).all()
    assert (working.amax(1) == 1).all()


@pytest.mark.parametrize("length", [5, 9, 25])
def test_masks_beside_their_tokens_have_the_gradients_of_both(length):
    y, slope, of_mask = (torch.randn(3, length, width) for width in (20, 20, 1))
    y[0, :] = y[0, :1]  # equal tokens, whose distances have no slope
    y.requires_grad_()
    tokens, mask = _WithMask.apply(y)
    wanted = released_mask(y.double())
    torch.testing.assert_close(tokens, y)
    torch.testing.assert_close(mask, wanted.float())
    got = torch.autograd.grad((tokens, mask), y, (slope, 1e4 * of_mask), retain_graph=True)[0]
    double = torch.autograd.grad(wanted, y, 1e4 * of_mask.double())[0] + slope
    torch.testing.assert_close(got, double, rtol=1e-4, atol=1e-4 * float(double.abs().max()))
    assert not torch.allclose(got, slope, atol=1e-2)  # the mask's part is no rounding here
    first = torch.autograd.grad((tokens, mask), y, (slope, of_mask), create_graph=True)[0]
    (second,) = torch.autograd.grad(first.square().sum(), y)
    again = torch.autograd.grad(released_mask(y), y, of_mask, create_graph=True)[0] + slope
    wanted = torch.autograd.grad(again.square().sum(), y)[0]
    torch.testing.assert_close(second, wanted, equal_nan=True)  # torch knows none where a distance is 0


@pytest.mark.parametrize("length", [5, 9, 25])
def test_both_directions_masked_have_the_gradients_of_tokens_and_masks(length):
    given = [torch.randn(3, length, 20, requires_grad=True) for _ in range(2)]

    def plain(forward, backward):
        return torch.cat([forward * released_mask(forward), backward * released_mask(backward).flip(1)], dim=-1)

    joined, wide = _Masked.apply(*given), [x.detach().double().requires_grad_() for x in given]
    wanted = plain(*wide)
    torch.testing.assert_close(joined.double(), wanted, rtol=1e-5, atol=1e-6)
    slope = 100 * torch.randn(joined.shape)
    got = torch.autograd.grad(joined, given, slope, retain_graph=True)
    for one, other in zip(got, torch.autograd.grad(wanted, wide, slope.double()), strict=True):
        torch.testing.assert_close(one.double(), other, rtol=1e-4, atol=1e-4 * float(other.abs().max()))
    seconds = []
    for made in (joined, plain(*given)):
        first = torch.autograd.grad(made, given, slope, create_graph=True)
        seconds.append(torch.autograd.grad(sum(x.square().sum() for x in first), given))
    torch.testing.assert_close(*seconds, rtol=1e-4, atol=1e-2, equal_nan=True)  # torch knows none where a distance is 0


def test_masks_of_equal_tokens_are_flat_and_have_gradients():
    y = torch.ones(2, 9, 4, requires_grad=True)
    mask = feature_mask(y, 5)
    torch.testing.assert_close(mask, torch.full((2, 9), 1 / 9))
    mask.square().sum().backward()
    assert y.grad.isfinite().all()


@given(tokens=st.integers(1, 12), length=st.integers(1, 12))
def test_pooling_keeps_constants_and_the_first_token_leads(tokens, length):
    x = torch.arange(float(length)).reshape(1, length, 1)
    pooled = pool_tokens(x, tokens)[0, :, 0]
    assert pooled.shape == (tokens,)
    assert bool((pooled.diff() >= 0).all())
    torch.testing.assert_close(pool_tokens(torch.ones(1, length, 2), tokens), torch.ones(1, tokens, 2))


@given(half=st.integers(1, 4))
def test_the_middle_of_all_four_scans_is_the_centre_pixel(half):
    side = 2 * half + 1
    x = torch.arange(float(side * side)).reshape(1, 1, side, side)
    scans = four_scans(x)[:, :, 0]  # (4, L)
    assert (scans[:, side * side // 2] == x[0, 0, half, half]).all()
    corners = [[0, -1], [0, -1], [side - 1, side * (side - 1)], [side * (side - 1), side - 1]]
    for scan, (first, last) in zip(scans, corners, strict=True):
        assert (scan[0], scan[-1]) == (x.flatten()[first], x.flatten()[last])


def test_stacked_scans_are_normalised_one_by_one_in_training():
    torch.manual_seed(0)
    ours, plain = ScanBatchNorm(1), nn.BatchNorm1d(1)
    x = torch.randn(12, 1, 7) * torch.arange(1.0, 13.0)[:, None, None]
    torch.testing.assert_close(ours(x), torch.cat([plain(scan) for scan in x.chunk(4)]))
    torch.testing.assert_close(dict(ours.state_dict()), dict(plain.state_dict()))
    torch.testing.assert_close(ours.eval()(x), plain.eval()(x))
    lonely = torch.randn(4, 1, 1)
    torch.testing.assert_close(ours.train()(lonely), plain(lonely))


@pytest.mark.parametrize(("tokens", "learns"), [(3, False), (1, True)])  # of one value a scan the statistics are fixed
def test_a_bias_that_the_norm_takes_away_stays_as_it_is(tokens, learns):
    attention = SequentialAttention().train()
    y = attention(torch.rand(4, tokens, 5))
    (y * torch.randn_like(y)).sum().backward()
    assert bool(attention.conv.bias.grad != 0) == learns
    assert attention.conv.weight.grad.abs().max() > 0


def test_a_single_sample_can_be_trained_on():
    model = MiMv2(4, 3, 3, dim=8).train()
    assert model(torch.randn(1, 4, 3, 3)).isfinite().all()


def test_the_papers_mixer_follows_its_equations():
    torch.manual_seed(0)
    mixer = MixerPaper(6, 9, 0.0).double().eval()
    for p in mixer.parameters():
        nn.init.normal_(p, std=0.4)
    x = torch.randn(2, 25, 6, dtype=torch.float64)
    u, z = mixer.in_proj_x(x), mixer.in_proj_z(x)
    halves = []
    for k, half in enumerate((u[:, :13], u.flip(1)[:, :13])):
        f = torch.zeros_like(half)
        for t in range(13):
            for lag in range(4):
                if t >= lag:
                    f[:, t] += mixer.conv.weight[12 * k : 12 * k + 12, 0, 3 - lag] * half[:, t - lag]
        f = F.silu(f + mixer.conv.bias[12 * k : 12 * k + 12])
        ssm, h, y = mixer.ssm, torch.zeros(2, 12, 16, dtype=torch.float64), []
        for t in range(13):
            q = f[:, t] @ ssm.x_proj_weight[k].T
            delta = F.softplus(q[:, :1] @ ssm.dt_proj_weight[k].T + ssm.dt_proj_bias[k])[..., None]
            h = torch.exp(-delta * ssm.A_log[k].exp()) * h + delta * q[:, None, 1:17] * f[:, t, :, None]
            y.append((h * q[:, None, 17:]).sum(-1) + ssm.D[k] * f[:, t])
        halves.append(_masked(torch.stack(y, 1), 12))
    centre = (halves[0][:, 12:] + halves[1][:, 12:]) / 2
    y = torch.cat([halves[0][:, :12], centre, halves[1][:, :12].flip(1)], 1)
    y = F.layer_norm(mixer.merge[0](y).tanh(), (12,), mixer.merge[2].weight, mixer.merge[2].bias)
    m = mixer.stage.attention(_masked(y, 12)).transpose(1, 2)
    learner, fuser = mixer.stage.learner, mixer.stage.fuser
    u = torch.softmax(torch.einsum("te,nle->ntl", learner.U1[0], m), -1) @ m @ learner.U2[0]
    z = F.silu(pool_tokens(z, 9))
    spread = torch.einsum(
        "nst,ntd->nsd", fuser.influence(z).sigmoid(), fuser.projection(u.transpose(1, 2)).transpose(1, 2)
    )
    want = mixer.stage.out_proj(spread + fuser.attention(z).transpose(1, 2)).tanh()
    torch.testing.assert_close(mixer(x), want)


def _masked(y, reference):
    steps = torch.arange(y.shape[1], dtype=y.dtype)
    gap = (steps - reference).abs()
    distance = (y - y[:, reference : reference + 1]).norm(dim=-1)
    mask = torch.exp(-0.5 * (gap / gap.mean()) ** 2 - 0.5 * (distance / distance.mean(1, keepdim=True)) ** 2)
    return y * mask[..., None]


def test_the_papers_network_predicts_at_every_scale_in_training():
    torch.manual_seed(0)
    model = MiMPaper(5, 4, 7, dim=8)
    hsi, target = torch.randn(6, 5, 7, 7), torch.tensor([0, 1, 2, 3, 0, 1])
    output = model(hsi)
    assert output.stage_logits.shape == (6, 3, 4)  # 49 -> 25 -> 9 -> 1 tokens
    torch.testing.assert_close(output.logits, output.stage_logits.mean(1))
    weight = torch.tensor([1.0, 2.0, 0.5, 0.0])
    want = sum(F.cross_entropy(stage, target, weight=weight) for stage in output.stage_logits.unbind(1)) / 3
    torch.testing.assert_close(output.loss(target, weight=weight), want)
    soft = F.one_hot(target, 4).float()
    torch.testing.assert_close(output.loss(soft), output.loss(target))
    output.loss(target).backward()
    assert all(p.grad is not None for p in model.parameters())
    assert isinstance(model.eval()(hsi), torch.Tensor)


def test_patches_that_cannot_be_cut_into_cells_are_named():
    with pytest.raises(ValueError, match=r"\(2, 4, 1, 16\).* divisible by 2"):
        MiMv3(4, 3, 4, dim=4, cell_size=2)(torch.zeros(2, 4, 1, 16))


def test_official_checkpoints_that_do_not_fit_are_told_apart():
    v1, v2, v3 = state_v1(**TINY, depth=1), state_v2(**TINY), state_v3(**TINY, depth=2)
    for arch, state, version in (("mim_v2", v1, 1), ("mim", v3, 3), ("mim_v1", v2, 2), ("mim_paper", v2, 2)):
        with pytest.raises(WeightsError, match=f"a checkpoint of mim_v{version}, not of"):
            hsmamba.load_official(arch, state)
    with pytest.raises(WeightsError, match=r"layers\.1\.norm\.weight differs from its other copies"):
        hsmamba.load_official("mim_v3", v3 | {"mim_1.T_mamba1.layers.1.norm.weight": torch.zeros(8)})


def test_the_released_checkpoint_is_refused_with_what_differs():
    """An unreleased successor of v3: a class token, half the states, a stem to the width, a decoder."""
    state = {key: x.float() for key, x in state_v3(10, 17, 7, 1, 8, 2).items()}
    top = "mim_1.T_mamba1."
    state |= {
        f"{top}pos_embedding": torch.zeros(1, 50, 8),
        f"{top}cls_token": torch.zeros(1, 1, 8),
        "to_patch_embedding.2.weight": torch.zeros(8, 10),
        "to_patch_embedding.2.bias": torch.zeros(8),
        "to_patch_embedding.3.weight": torch.zeros(8),
        "to_patch_embedding.3.bias": torch.zeros(8),
        "back.0.weight": torch.zeros(8, 8, 3, 3),
    }
    for key in [key for key in state if key.endswith(("A_log", "deltaBC_layer.weight"))]:
        state[key] = state[key][:, :4] if key.endswith("A_log") else state[key][:16]
    with pytest.raises(WeightsError) as caught:
        hsmamba.load_official("mim_v3", state)
    text = str(caught.value)
    assert "unexpected: back.0.weight, cls_token" in text
    assert "vim.ssm.A_log (2, 8, 4) instead of (2, 8, 8)" in text
    assert "pos_embed (1, 50, 8) instead of (1, 49, 8)" in text


def test_a_training_step_of_v3_compiles():
    torch.manual_seed(0)
    model, x = MiMv3(5, 3, 3, dim=4, depth=1), torch.randn(2, 5, 3, 3)
    parameters = list(model.parameters())
    torch._dynamo.reset()
    compiled = torch.compile(model, fullgraph=True, backend="aot_eager")
    gradients = (torch.autograd.grad(run(x).square().mean(), parameters) for run in (compiled, model))
    for got, want in zip(*gradients, strict=True):
        torch.testing.assert_close(got, want, rtol=1e-4, atol=1e-6)


def test_tied_copies_may_be_left_out():
    state = state_v3(**TINY, depth=2)
    once = {key: value for key, value in state.items() if ".layers." not in key}
    model = hsmamba.load_official("mim_v3", once, depth=2)
    torch.testing.assert_close(model.vim.norm.weight, state["mim_1.T_mamba1.vim.norm.weight"].float())
