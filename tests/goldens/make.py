"""Make the small goldens: what the oracles and transcriptions give in float64, stored as float32.

Run from the repository's root: python -m tests.goldens.make FOLDER
"""

import json
import re
import sys
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file

from hsmamba.bench.transcriptions import mmapp, ramsf, rsanet
from tests.oracles import le_mamba, mambahsi, md2f_mamba, mim, msdcnn, msfmamba, pannet, plain, ssftt, tiling


def rand(*shape):
    return torch.rand(shape, generator=torch.Generator().manual_seed(sum(shape)), dtype=torch.float64)


def randn(seed, *shapes):
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(shape, generator=generator, dtype=torch.float64) for shape in shapes]


def make_rsanet():
    config = dict(n_bands=3, n_pan=2, width=4, n_blocks=1, n_recursions=2, kernel_att=5, kernel_conv=3, heads=3)
    state = rsanet.random_state(rsanet.rsanet_shapes(**config), seed=1)
    inputs = {"pan": rand(2, 2, 6, 9), "lms": rand(2, 3, 6, 9)}
    wanted = ("head_conv.0.weight", "RB1.conv1.attention1.0.conv_p.weight", "tail_conv.attention1.2.conv2.weight")
    return config, state, inputs, wanted, lambda: {"sr": rsanet.rsanet(*inputs.values(), state, config)}


def make_mmapp():
    config = dict(n_bands=2, n_pan=1, width=3, scale_ratio=4, n_fusion_blocks=1, kernel_att=7, kernel_conv=3, heads=3)
    state = rsanet.random_state(mmapp.mmapp_shapes(**config), seed=2)
    inputs = {"ms": rand(2, 2, 4, 5), "pan": rand(2, 1, 16, 20)}
    wanted = ("F2.0.RB1.conv1.attention1.0.fc.weight", "mb.conv_u2_out.weight", "tail_conv.0.attention1.2.conv2.bias")

    def run():
        out_d4, out_d2, out, ms_u4 = mmapp.mmapp(*inputs.values(), state, config)
        return {"out": out, "out_d2": out_d2, "out_d4": out_d4, "ms_u4": ms_u4}

    return config, state, inputs, wanted, run


def make_ramsf():
    config = dict(n_bands=3, n_guide=2, scale_ratio=4, n_stages=2, feat_dim=8, align_dim=5, mlp_dim=[9, 6])
    state = rsanet.random_state(ramsf.ramsf_shapes(**config), seed=3)
    inputs = {"pan": rand(2, 2, 12, 20), "lms": rand(2, 3, 12, 20), "ms": rand(2, 3, 3, 5)}
    wanted = ("imnet_64.layers.0.weight", "imnet_128.layers.4.bias", "DE_LH.conv1.weight", "blk_8_32.1.weight")
    return config, state, inputs, wanted, lambda: {"sr": ramsf.ramsf(*inputs.values(), state, config)}


def make_pannet():
    config = dict(spectral_num=3, pan_num=2, channel=4, num_res=2, ratio=4)
    state = plain.random_state(pannet.pannet_shapes(**config), seed=9)
    inputs = {"ms": rand(2, 3, 3, 5), "pan": rand(2, 2, 12, 20), "lms": rand(2, 3, 12, 20)}
    wanted = ("deconv.weight", "deconv.bias", "conv1.weight", "res2.conv20.weight", "res1.conv21.bias", "conv3.weight")

    def run():
        sharp, start, up = pannet.pannet(*inputs.values(), state)
        return {"sr": sharp, "tap/00_start": start, "tap/01_up": up}

    return config, state, inputs, wanted, run


def make_msdcnn():
    sizes = dict(spectral_num=3, pan_num=2)
    state = plain.random_state(msdcnn.msdcnn_shapes(dims=(6, 3), shallow_dims=(4, 3), **sizes), seed=10)
    inputs = {"pan": rand(2, 2, 8, 12), "lms": rand(2, 3, 8, 12)}
    wanted = ("conv1.weight", "conv2_3.weight", "conv4_1.bias", "conv5.weight", "shallow1.weight", "shallow3.bias")

    def run():
        sharp, deep, shallow, first = msdcnn.msdcnn(*inputs.values(), state, "paper")
        return {"sr": sharp, "tap/00_deep": deep, "tap/01_shallow": shallow, "tap/02_block1": first}

    return sizes | {"variant": "paper"}, state, inputs, wanted, run


def make_le_mamba():
    config = {
        **dict(ms_channels=3, guide_channels=2, out_channels=3, width=5, enc_depths=[2, 1, 1], mid_depth=1),
        **dict(dec_depths=[2, 1, 1], widen=[1, 2, 1], expand=[2, 1, 1], windows=[4, None, None]),
        **dict(enc_d_state=[[2, 3], [None, 3], [None, 3]], dec_d_state=[[None, 3], [None, 3], [2, 3]]),
        **dict(enc_kernel=[[3, 5], [None, 3], [None, 3]], dec_kernel=[[None, 3], [None, 3], [3, 5]]),
        **dict(drop_path=0.1, scale=4),
    }
    state = le_mamba.random_state(le_mamba.le_mamba_shapes(config), seed=4)
    inputs = {"pan": rand(1, 2, 8, 16), "lms": rand(1, 3, 8, 16), "ms": rand(1, 3, 2, 4)}
    owner, sharer = "lemm_decoders.2.mods.1.mamba.op", "lemm_decoders.2.mods.2.mamba.op"
    wanted = (f"{owner}.ssm_state_weight2", f"{sharer}.xs_gate_weight", "lemm_encoders.0.mods.0.mamba.op.A_logs")
    run = lambda: {"sr": le_mamba.le_mamba(inputs["pan"], inputs["lms"], state, config)}  # noqa: E731
    return config, state, inputs, wanted, run


def make_md2f_mamba_ref():
    config = dict(bands=5, patch=5, n_classes=3, hidden=6, expand=2, k_square=3, k_hor=5, k_ver=3)
    state = md2f_mamba.article_state(**config, seed=3)
    state["classifier.2.weight"] /= 100  # logits of about 1, so that the absolute tolerance means something
    (x,) = randn(4, (3, 5, 5, 5))
    wanted = ("hsm_gfe.phi", "hsm_gfe.omega", "ms_lfem.pos_enc.enc", "init_extractor.conv3d.0.weight")
    wanted = (*wanted, "mdconv.pw.weight")
    return config, state, {"x": x}, wanted, lambda: {"logits": md2f_mamba.article_logits(x, state)}


def make_msfmamba():
    config = dict(num_classes=3, pca_num=11, window_size=7, x_channels=2, num_layers=1, d_state=3, expand=0.125)
    state = msfmamba.random_state(**config, seed=5)
    hsi, x = randn(6, (2, 1, 11, 7, 7), (2, 2, 7, 7))
    names = ("MBh.self_attention.x_proj_weight", "MBh.self_attention.A_logs", "MBx.self_attention.conv_transpose.bias")
    names = (*names, "SpBh.self_attention.dt_projs_bias", "FSSBlock.attention1.Ds", "FSSBlock.in_proj1.weight")
    taps = ("l0_MBh_convT_k0", "l0_MBh_ms2d", "l0_MBh", "l0_SpBh", "l0_FSS_attention1", "l0_FSS.hsi")

    def run():
        feat, logits, seen = msfmamba.msfmamba(hsi, x, state)
        return {"logits": logits, "feat": feat} | {f"tap/{i:02d}_{name}": seen[name] for i, name in enumerate(taps)}

    return config, state, {"hsi": hsi, "x": x}, [f"layers.0.{name}" for name in (*names, "hsi_conv.0.weight")], run


def make_mambahsi():
    config = dict(in_channels=3, num_classes=3, hidden_dim=8, token_num=2, group_num=2)
    state = mambahsi.random_state(3, 3, 8, tokens=2, neck=6, seed=7)
    (x,) = randn(8, (2, 3, 9, 7))
    spatial, spectral = "mamba.2.spa_mamba", "mamba.0.spe_mamba"
    wanted = ("patch_embedding.0.weight", "mamba.4.weights", f"{spatial}.mamba.A_log", f"{spatial}.mamba.conv1d.weight")
    wanted = (*wanted, f"{spectral}.mamba.x_proj.weight", f"{spectral}.proj.0.bias", "cls_head.0.weight")

    def run():
        taps = {}
        logits = mambahsi.mambahsi(x, state, 2, 2, taps)
        return {"logits": logits} | {f"tap/{i:02d}_{name}": tap for i, (name, tap) in enumerate(taps.items())}

    return config, state, {"x": x}, wanted, run


def make_ssftt():
    config = dict(heads=2, patch_size=7)
    state = ssftt.random_state(bands=5, classes=3, tokens=4, dim=6, mlp_dim=5, depth=1, filters=2, seed=7)
    (x,) = randn(8, (3, 5, 7, 7))
    block = "transformer.layers.0"
    wanted = ("token_wA", "token_wV", "cls_token", "pos_embedding", f"{block}.0.fn.fn.to_qkv.weight")
    wanted = (*wanted, f"{block}.1.fn.fn.net.0.bias", "conv3d_features.0.weight", "conv2d_features.1.weight")

    def run():
        logits, tokens, features = ssftt.ssftt(x, state, config["heads"])
        return {"logits": logits, "tap/00_tokens": tokens, "tap/01_features": features}

    return config, state, {"x": x}, wanted, run


def make_mim(variant):
    sizes = dict(channels=4, num_classes=3, image_size=3, patch_size=1, dim=3)
    (x,) = randn(variant, (2, 4, 3, 3))
    if variant == 1:
        more, block = dict(depth=1, emb_dropout=0.1), "mim_1.T_mamba.mamba.layers.0."
        names = ("pro.weight", "mamba.A_log_f", "mamba.D_b", "mamba.x_proj_b.bias", "mamba.token_wV_f")
        wanted = ["k_weights", "mim_1.T_mamba.pos_embedding"]
        state, network = mim.state_v1(**sizes, depth=1, seed=1), lambda: mim.mim_v1(x, state, 1)
    elif variant == 2:
        more, block = dict(dim=6, depth=1, emb_dropout=0.0), "mim_3.T_mamba."
        names = ("U1", "vim1.ssm.A_log", "vim2.ssm.deltaBC_layer.weight", "tokenfuser.Z.bias", "in_proj_z.bias")
        wanted = ["embed.weight", "mim_4.pro.weight"]
        state, network = mim.state_v2(**sizes | {"dim": 6}, seed=2), lambda: mim.mim_v2(x, state, 1)
    else:
        more, block = dict(depth=2, emb_dropout=0.0), "mim_1.T_mamba1.vim."
        names = ("forward_ssm.A_log", "backward_ssm.dt_proj_layer.bias", "proj1.weight", "norm.bias")
        wanted = ["to_patch_embedding.2.weight", "k_weights"]
        state, network = mim.state_v3(**sizes, depth=2, seed=3), lambda: mim.mim_v3(x, state, 2, 1)
    wanted = [*(block + name for name in names), *wanted]
    return sizes | more | {"variant": str(variant)}, state, {"x": x[:, None]}, wanted, lambda: {"logits": network()}


def tensors_of(state, inputs, wanted, run):
    """The parts of a golden file, with the gradients of the mean squared output, the first of `run()`."""
    for name in wanted:
        state[name].requires_grad_()
    outputs = run()
    next(iter(outputs.values())).square().mean().backward()
    # Of the hundreds of MiM's tokenizers that are never used one stands for all.
    kept = {key: value for key, value in state.items() if not re.search(r"tokenizers\.[1-9]", key)}
    tensors = {f"state/{key}": value for key, value in kept.items()} | {f"input/{k}": x for k, x in inputs.items()}
    tensors |= {key if key.startswith("tap/") else f"output/{key}": value for key, value in outputs.items()}
    return tensors | {f"grad/{name}": state[name].grad for name in wanted}


def tiling_tensors():
    """The oracle's blend of the toy network's windows."""
    scale, height, width = 2, 21, 18  # remainders 1 and 2, so that the strips at both ends have their own windows
    rng = np.random.default_rng(0)
    shapes = {"ms": (height, width, 2), "lms": (height * scale, width * scale, 2)}
    images = {key: rng.normal(size=s) for key, s in (shapes | {"pan": (*shapes["lms"][:2], 1)}).items()}
    run = lambda a, b: tiling.toy_answer(*images.values(), scale, a, b)  # noqa: E731
    images["out"] = tiling.tiled(run, height, width, scale)
    return {key: torch.from_numpy(x.transpose(2, 0, 1)[None]) for key, x in images.items()}


def save(tensors, path, **metadata):
    save_file({k: x.detach().float().clone().contiguous() for k, x in tensors.items()}, path, metadata or None)


MAKERS = {
    **dict(le_mamba=make_le_mamba, mmapp=make_mmapp, ramsf=make_ramsf, rsanet=make_rsanet),
    **dict(msdcnn=make_msdcnn, pannet=make_pannet),
    **dict(mambahsi=make_mambahsi, md2f_mamba_ref=make_md2f_mamba_ref, msfmamba=make_msfmamba, ssftt=make_ssftt),
    **{f"mim_v{variant}": lambda variant=variant: make_mim(variant) for variant in (1, 2, 3)},
}

if __name__ == "__main__":
    folder = Path(sys.argv[1])
    for arch, make in MAKERS.items():
        config, *rest = make()
        save(tensors_of(*rest), folder / f"{arch}__tiny.safetensors", config=json.dumps(config))
    save(tiling_tensors(), folder / "le_mamba_tiling__tiny.safetensors")
