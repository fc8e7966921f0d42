"""The sizes of every network: parameters as the papers and specifications count them, sizes that are refused."""

import pytest

from hsmamba.models import entry, example_inputs
from hsmamba.zoo.info import count_macs
from tests.models.samples import NAMES

CAVE = {"in_chans": 31, "guide_chans": 3}
SIXTY_BANDS = {"in_chans": 60, "num_classes": 17}
PARAMETERS = [
    ("cf2n", {}, 477_302),
    ("cf2n", {"depth": 4}, 600_936),
    ("cf2n", {"in_chans": 4}, 472_694),
    ("cf2n", CAVE, 505_526),
    ("cf2n", {"in_chans": 13, "guide_chans": 2}, 483_926),
    ("le_mamba", {}, 743_464),
    ("le_mamba", {"in_chans": 4}, 741_156),
    ("le_mamba", {**CAVE, "scale": 8}, 757_311),
    ("le_mamba", {"dim": 24}, 495_392),
    ("le_mamba_small", CAVE, 2_588_895),
    ("le_mamba_base", {}, 1_650_152),
    ("le_mamba_base", CAVE, 1_664_639),
    ("mambahsi", {}, 412_239),
    ("mambahsi", {"in_chans": 144, "num_classes": 15}, 418_261),
    ("md2f_mamba", {}, 92_167),
    ("md2f_mamba", {"patch_size": 11}, 91_911),
    ("md2f_mamba", {"num_classes": 15}, 92_557),
    ("md2f_mamba", {"num_classes": 16}, 92_622),
    ("md2f_mamba_ref", {}, 222_770),
    *(("mim", SIXTY_BANDS | {"patch_size": side}, params) for side, params in ((7, 1_046_153), (9, 1_066_761))),
    *(("mim_v1", SIXTY_BANDS | {"patch_size": side}, params) for side, params in ((7, 121_698), (9, 123_746))),
    *(("mim_v2", SIXTY_BANDS | {"patch_size": side}, params) for side, params in ((7, 1_046_153), (9, 1_066_761))),
    *(("mim_v3", SIXTY_BANDS | {"patch_size": side}, params) for side, params in ((7, 74_569), (9, 76_617))),
    *(("mim_paper", SIXTY_BANDS | {"patch_size": side}, params) for side, params in ((7, 255_124), (9, 348_705))),
    ("msdcnn", {}, 228_556),
    ("msdcnn", {"in_chans": 4}, 189_852),
    ("msfmamba", {}, 1_077_873),
    ("msfmamba_berlin", {}, 2_744_992),
    ("msfmamba_augsburg", {}, 886_633),
    ("msfmamba_houston2013", {}, 1_077_873),
    ("msfmamba_houston2018", {}, 2_969_068),
    ("pannet", {}, 83_024),
    ("pannet", {"in_chans": 4}, 77_640),
    ("ramsf", {}, 666_350),
    ("ramsf", CAVE, 696_965),
    ("ssftt", {}, 153_224),
    ("ssftt", {"num_classes": 9}, 152_769),
]
REFUSED = [
    *(("cf2n", kwargs, "dim must be a multiple of 4") for kwargs in ({"dim": 6}, {"dim": 4, "reduction": 8})),
    *(("cf2n", kwargs, "dim must be a multiple of 4") for kwargs in ({"kernel_size": 2}, {"depth": 0})),
    ("le_mamba", {"widen": (1, 1)}, "one entry a level"),
    ("le_mamba", {"dec_depths": (1, 1, 0)}, "at least one block"),
    ("le_mamba", {"dec_d_state": ((None, 16), (16, 32), (16, 32))}, "one number of them"),
    ("le_mamba", {"windows": (None, 8, None)}, "level 0 has local states and kernels and needs a window"),
    *(("mambahsi", {name: 6}, "must be a multiple of") for name in ("dim", "neck_dim")),
    ("mambahsi", {"window": 4}, "at least 8"),
    ("md2f_mamba", {"in_chans": 2}, "in_chans >= 3"),
    ("md2f_mamba", {"patch_size": 2}, "patch_size >= 3"),
    ("md2f_mamba", {"dim": 30}, "divisible by 4"),
    ("md2f_mamba", {"kernel_sizes": (3, 4, 3)}, "odd"),
    ("md2f_mamba", {"variant": "v2"}, "'paper' or 'article'"),
    ("md2f_mamba", {"variant": "article", "product": "verbatim"}, "dim == patch_size"),
    ("md2f_mamba", {"variant": "article", "product": "x"}, "'repaired' or 'verbatim'"),
    ("mim_v1", {"embed": False}, "in_chans=60 and dim=64"),
    ("mim_v2", {"patch_size": 1}, "at least 2"),
    ("mim_v3", {"patch_size": 7, "cell_size": 2, "in_chans": 64}, "cell_size=2, patch_size=7"),
    ("mim_v3", {"patch_size": 8, "cell_size": 2}, "need in_chans = dim"),
    ("mim_paper", {"patch_size": 8}, "the nearest are 7 and 9"),
    ("mim_paper", {"patch_size": 2}, "the nearest is 3"),
    ("mmapp", {"scale": 3}, r"scale must be 2, 4, 8, .*got 3"),
    ("mmapp", {"num_heads": 2}, "must be odd and num_heads divide"),
    ("msdcnn", {"dims": (60, 32)}, "two multiples of 3"),
    ("msdcnn", {"shallow_dims": (64,)}, "shallow_dims two numbers"),
    ("msdcnn", {"variant": "x"}, "'paper' or 'dlpan'"),
    ("msfmamba", {"patch_size": 10}, "the nearest are 9 and 11"),
    ("msfmamba", {"patch_size": 4, "depth": 2}, "the nearest is 5"),
    ("msfmamba", {"patch_size": 3, "depth": 2, "in_chans": 30}, "2 layers need at least 5"),
    ("msfmamba", {"in_chans": 8}, "at least 9"),
    ("msfmamba", {"in_chans": 14, "depth": 2}, "at least 15"),
    ("msfmamba", {"depth": 5}, "1 to 4 layers"),
    ("msfmamba", {"expand": 0.01}, "leaves no channel"),
    ("pannet", {"box_size": 4}, "box_size must be odd"),
    ("pannet", {"scale": 1}, "scale=1"),
    ("ramsf", {"scale": 6}, r"scale must be 2, 4, 8, .*got 6"),
    ("ramsf", {"dim": 6}, "dim must be a multiple of 4"),
    ("ramsf", {"align_dim": 1}, "align_dim at least 2"),
    ("ramsf", {"mlp_dims": ()}, "mlp_dims not empty"),
    ("rsanet", {"kernel_size": 2}, "must be odd and num_heads divide"),
    ("rsanet", {"window_size": 6}, "must be odd and num_heads divide"),
    ("rsanet", {"num_heads": 2}, "must be odd and num_heads divide"),
    ("ssftt", {"in_chans": 2}, "in_chans >= 3"),
    ("ssftt", {"patch_size": 4}, "patch_size >= 5"),
    ("ssftt", {"patch_size": 100}, "patches end at 99"),
    ("ssftt", {"num_heads": 3}, "num_heads must divide dim"),
    ("ssftt", {"depth": 0}, "at least 1"),
    ("ssftt", {"scale_by": "x"}, "'head' or 'width'"),
]


@pytest.mark.parametrize(("name", "kwargs", "params"), PARAMETERS)
def test_parameters_are_those_of_the_paper(name, kwargs, params):
    assert sum(p.numel() for p in entry(name).entry_point(**kwargs).parameters()) == params


@pytest.mark.parametrize(("name", "kwargs", "text"), REFUSED)
def test_sizes_that_do_not_go_together_are_refused(name, kwargs, text):
    with pytest.raises(ValueError, match=text):
        entry(name).entry_point(**kwargs)


@pytest.mark.parametrize(("name", "side", "macs"), [
    ("md2f_mamba", 13, 8_302_888),
    ("md2f_mamba", 11, 5_720_808),
    ("md2f_mamba_ref", 13, 39_351_888),
    ("md2f_mamba_ref", 11, 28_175_184),
])  # fmt: skip
def test_the_cost_is_that_of_the_specification(name, side, macs):
    model = entry(name).entry_point(patch_size=side)
    assert count_macs(model, example_inputs(model, 1)) == macs


@pytest.mark.parametrize("name", [name for name in NAMES if name.startswith("le_mamba")])
def test_le_mamba_has_as_many_tensors_as_the_official_network(name):
    tensors = {"le_mamba": 397, "le_mamba_small": 509, "le_mamba_base": 853}
    assert len(list(entry(name).entry_point().parameters())) == tensors[name]
