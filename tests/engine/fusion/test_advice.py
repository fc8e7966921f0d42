"""What the errors of fusion say to do, done: each time it works."""

import copy
import re
import warnings
from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.io import savemat

import hsmamba
from hsmamba.data import Compose, SensorScale, Standardise, simulate_bands, wald_pairs
from hsmamba.data.pairs import GivenImage
from hsmamba.data.srf import response_matrix
from hsmamba.engine import Adapt
from hsmamba.engine import recipe as recipes
from hsmamba.engine.fusion.classical_job import prepare_classical
from hsmamba.engine.fusion.job import prepare_fusion
from hsmamba.engine.multisensor.train import Several
from hsmamba.errors import HsmambaWarning
from tests.advice import alternatives, has, says, told, warned
from tests.engine.fusion.test_recipe import TOML
from tests.engine.fusion.toys import BANDS, images, make, train_on_many
from tests.engine.multisensor.test_recipe import TOML as SEVERAL

MS, PAN = images(32, 32)
RECORD = {"wavelengths": (485.0, 560.0, 660.0, 830.0), "data": {"maximum": 2047}}
STEP = Adapt(steps=1)
QUICK = {"epochs": 1, "steps": 1, "batch_size": 1, "crop": 16, "progress": False}
LARGE = images()
NM = np.linspace(400, 900, 41)


def weight(**changes):
    """A network with a record, as weights have it."""
    model = make().eval()
    model.record = {**copy.deepcopy(RECORD), **changes}
    return model


def fuse(ms=MS, pan=PAN, model=None, **options):
    """Fuse, and tell whether the result is that of the images as they are."""
    got = hsmamba.fuse(model or weight(), ms, pan, progress=False, **options)
    return got.shape == (*np.shape(pan)[:2], np.shape(ms)[2] if ms is not None else 4) and np.isfinite(got).all()


def same(got, ms=MS, pan=PAN, **options):
    return np.array_equal(got, hsmamba.fuse(weight(), ms, pan, progress=False, **options))


def raster(values, wavelengths):
    xarray = pytest.importorskip("xarray", reason="needs the geo extra")
    return xarray.DataArray(values, dims=("y", "x", "band"), attrs={"wavelength": tuple(wavelengths)})


def chunked():
    """Both images as dask holds them."""
    pytest.importorskip("dask", reason="needs the dask extra")
    return raster(MS, RECORD["wavelengths"]).chunk(y=16), raster(PAN[..., None], (600.0,)).chunk(y=16)


def whole():
    """A network that looks at the whole image."""
    return hsmamba.create_model("residual", in_chans=4, network_args={"dim": 8, "mlp_dims": (8,)})


def spectra():
    """An image of more and narrower bands."""
    return raster(np.repeat(MS, 11, axis=2)[..., :41], NM)


def resampled():
    """The image with the bands of the weight, simulated by box responses."""
    curves = {f"{nm:g}": np.array([[nm - 30, 1.0], [nm + 30, 1.0]]) for nm in RECORD["wavelengths"]}
    image = torch.from_numpy(np.asarray(spectra())).permute(2, 0, 1)[None]
    return raster(simulate_bands(image, response_matrix(curves, NM))[0].permute(1, 2, 0).numpy(), RECORD["wavelengths"])


def pairs(ms=LARGE[0], pan=LARGE[1], **options):
    return wald_pairs(ms, pan, **{"sensor": "QB", "val": 0, "test": 0.375} | options)


def bordered(rows, **options):
    """Pairs of which the metrics leave out as much as those of a whole scene do."""
    return replace(pairs(LARGE[0][:rows], LARGE[1][: 4 * rows], **options), cut=21)


def placed(wavelengths):
    return pairs(raster(LARGE[0], wavelengths))


def trained(data=None):
    model = make()
    hsmamba.finetune(model, pairs(maximum=2047) if data is None else data, **QUICK)
    return model


def larger(rows, columns):
    return MS[:rows, :columns], PAN[: 4 * rows, : 4 * columns]


def mostly_invalid(columns):
    """The image with data in its first columns alone."""
    return np.where(np.arange(MS.shape[1])[:, None] < columns, MS, np.nan)


def numbers(text, pattern):
    return tuple(float(one) for one in re.search(pattern, text)[1].split(", "))


def judged(data, model=None):
    return hsmamba.evaluate(model or weight(), data).mean()["ramsf"]["PSNR"] > 0


def scale_of(text):
    """A scale at which the network could be made: the guide is so many times as fine."""
    return round(float(re.search(r", ([\d.]+) and", text)[1]))


def units(text):
    return numbers(text, r"of ms, of guide\): ([\d., ]+)\?")


def standardised():
    model = make()
    model.transform = Compose([Standardise()]).fit(MS.reshape(-1, 4))
    return model


CASES = {
    "select these bands in this order, or create and train a model with {}={}": (
        lambda: fuse(MS[..., :3]),
        (
            lambda text: fuse(MS[..., : int(re.search(r"takes (\d+)", text)[1])]),
            lambda text: fuse(MS[..., :3], model=make(**sizes(text)), maximum=2047),
        ),
    ),
    "are the two swapped?": (
        lambda: hsmamba.fuse(weight(), PAN[..., None], MS, progress=False),
        lambda text: fuse(MS, PAN),
    ),
    "crop both to the same ground, or take a model": (
        lambda: fuse(MS, PAN[: MS.shape[0] * 2, : MS.shape[1] * 2]),
        (
            lambda text: fuse(MS[: MS.shape[0] // 2, : MS.shape[1] // 2], PAN[: MS.shape[0] * 2, : MS.shape[1] * 2]),
            lambda text: fuse(
                MS, PAN[: MS.shape[0] * 2, : MS.shape[1] * 2], model=make(scale=scale_of(text)), maximum=2047
            ),
        ),
    ),
    "{}; resample them before (hsmamba.data.simulate_bands), or train a model on these bands": (
        lambda: fuse(spectra()),
        (lambda text: fuse(resampled()), lambda text: fuse(spectra(), model=make(in_chans=41), maximum=2047)),
    ),
    "make the pairs of these bands, or train a network without pretrained weights": (
        lambda: judged(placed((830, 660, 560, 485))),
        (
            lambda text: judged(placed(numbers(text, r"in their order \(([\d, ]+) nm"))),
            lambda text: judged(placed((830, 660, 560, 485)), trained(placed((830, 660, 560, 485)))),
        ),
    ),
    "Other units, it seems; give maximum= (--maximum), what is 1 in yours, one number or a pair": (
        lambda: fuse(MS / 8, PAN / 8, model=trained()),
        lambda text: fuse(MS / 8, PAN / 8, model=trained(), maximum=units(text)),
    ),
    "of which fuse cannot bring the result back; it takes SensorScale alone: give maximum=": (
        lambda: fuse(model=standardised()),
        (
            lambda text: fuse(model=standardised(), maximum=2047),
            lambda text: fuse(model=with_transform(SensorScale(1 / 2047), SensorScale(1 / 2047, on="aux"))),
        ),
    ),
    "there is no guide; pass the sharp image (PAN, RGB, SAR) of the same ground": (
        lambda: hsmamba.fuse(weight(), MS, None, progress=False),
        lambda text: fuse(MS, PAN),
    ),
    "neither ms nor ms_up is given; pass the coarse image as ms, or up-sampled as ms_up": (
        lambda: fuse(None),
        (lambda text: fuse(MS), lambda text: fuse(None, model=make("ramsf"), ms_up=upsampled(), maximum=2047)),
    ),
    "there is no ms that a result could be consistent with; pass it, or consistent=False": (
        lambda: fuse(None, model=make("ramsf"), ms_up=upsampled(), maximum=2047, consistent=True),
        (
            lambda text: fuse(MS, consistent=True),
            lambda text: fuse(None, model=make("ramsf"), ms_up=upsampled(), maximum=2047, consistent=False),
        ),
    ),
    "leave one of them out": (
        lambda: fuse(consistent=True, adapt=STEP),
        (lambda text: fuse(consistent=True), lambda text: fuse(adapt=STEP)),
    ),
    "pass ms and guide, without ms_up": (
        lambda: fuse(MS, ms_up=upsampled(), adapt=STEP), lambda text: fuse(MS, adapt=STEP)
    ),
    "adapt compares on tiles of it {}: leave adapt out, or give a larger image": (
        lambda: fuse(MS[:12, :8], PAN[:48, :32], adapt=STEP),
        (
            lambda text: fuse(MS[:12, :8], PAN[:48, :32]),
            lambda text: fuse(*larger(*map(int, re.search(r"must be (\d+) x (\d+)", text).groups())), adapt=STEP),
        ),
    ),
    "too few pixels of ms and guide are valid {}: leave adapt out, or give images with fewer invalid pixels": (
        lambda: fuse(mostly_invalid(2), adapt=STEP, nan="mask"),
        (
            lambda text: hsmamba.fuse(weight(), mostly_invalid(2), PAN, nan="mask", progress=False).size,
            lambda text: hsmamba.fuse(weight(), mostly_invalid(28), PAN, nan="mask", progress=False, adapt=STEP).size,
        ),
    ),
    "looks at the whole images at once; load them before with .compute()": (
        lambda: hsmamba.fuse(whole(), *chunked(), maximum=2047, progress=False),
        (
            lambda text: fuse(*(image.compute() for image in chunked()), model=whole(), maximum=2047),
            lambda text: fuse(*(image.compute() for image in chunked()), adapt=STEP),
        ),
    ),
    "its tiles are read with their margin; leave overlap out": (
        lambda: fuse(overlap=2), lambda text: fuse()
    ),
    "of windows of {} pixels of ms it is 0 to {}, or three quarters {}: pass overlap={}, or leave it out": (
        lambda: fuse(model=overlapping(), overlap=11),
        (
            lambda text: fuse(model=overlapping(), overlap=int(re.search(r"overlap=(\d+)", text)[1])),
            lambda text: fuse(model=overlapping(), overlap=int(re.search(r"0 to (\d+)", text)[1])),
            lambda text: fuse(model=overlapping(), overlap=12),
            lambda text: fuse(model=overlapping()),
        ),
    ),
    "have no test images; make them with test= above 0": (
        lambda: judged(pairs(test=0)), lambda text: judged(pairs(test=0.4))
    ),
    "make pairs of a larger scene or with a larger test=, or take dataclasses.replace(pairs, cut=0)": (
        lambda: judged(bordered(64, test=0.7)),
        (
            lambda text: judged(bordered(128, test=0.7)),
            lambda text: judged(bordered(64, test=0.75)),
            lambda text: judged(replace(bordered(64, test=0.7), cut=int(re.search(r"cut=(\d)", text)[1]))),
        ),
    ),
}  # fmt: skip


@pytest.mark.parametrize(("words", "call", "mended"), alternatives(CASES))
def test_what_an_error_says_works(words, call, mended):
    text = told(call, words)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", HsmambaWarning)
        assert mended(text)


def overlapping():
    model = make("cf2n", depth=1).eval()
    model.record, model.window = copy.deepcopy(RECORD), 16
    return model


def sizes(text):
    name, number = re.search(r"model with (\w+)=(\d+)", text).groups()
    return {name: int(number)}


def with_transform(*steps):
    model = make()
    model.transform = Compose(steps)
    return model


def upsampled():
    return hsmamba.data.upsample(torch.from_numpy(MS).permute(2, 0, 1)[None], 4)[0].permute(1, 2, 0).numpy()


WARNED = {
    "look like images of another unit than the weight's: {}. If so, make them with maximum=, one number or a pair": (
        lambda: judged(pairs(LARGE[0] / 8, LARGE[1] / 8), trained()),
        lambda text: judged(pairs(LARGE[0] / 8, LARGE[1] / 8, maximum=units(text)), trained()),
    ),
    "Give maximum= to be sure, for example 2047 for 11 bits, 10000 for scaled reflectance, or a sensor": (
        lambda: fuse(model=make()),
        (
            lambda text: fuse(model=make(), maximum=int(re.search(r"example (\d+) for 11", text)[1])),
            lambda text: fuse(MS * 8, PAN * 8, model=make(), maximum=int(re.search(r"(\d+) for scaled", text)[1])),
            lambda text: fuse(model=make(), maximum=re.search(r'sensor: "(\w+)"', text)[1]),
        ),
    ),
}


@pytest.mark.parametrize(("words", "call", "mended"), alternatives(WARNED))
def test_what_a_warning_says_silences_it(words, call, mended):
    text = warned(call, words)
    with warnings.catch_warnings():
        warnings.simplefilter("error", HsmambaWarning)
        assert mended(text)


def test_a_recipe_that_ran_is_published(tmp_path):
    folder = tmp_path / "worldview2_ikonos"
    folder.mkdir()
    savemat(
        folder / "imgIK.mat",
        {f"I_{name}": image.astype(np.uint16) for name, image in zip(("MS", "PAN"), LARGE, strict=True)},
    )
    (tmp_path / "toy.toml").write_text(TOML)
    recipe = recipes.load_recipe(tmp_path / "toy.toml")
    told(lambda: recipes.publish(recipe, tmp_path / "runs", tmp_path / "weights"), "run the recipe {} first")
    recipes.run(recipe, tmp_path / "runs", data=tmp_path, minutes=0, progress=False)
    assert hsmamba.create_model(f"local-dir:{recipes.publish(recipe, tmp_path / 'runs', tmp_path / 'weights')}")


def test_a_recipe_of_several_images_names_two_and_a_network_for_any(tmp_path):
    path = tmp_path / "several.toml"

    def load(text):
        path.write_text(text)
        return recipes.load_recipe(path)

    told(lambda: load(SEVERAL.replace(', "worldview2"', "")), "name two or more, of which each is left out")
    for name, pan in (("IK", LARGE[1]), ("WV2", LARGE[1])):
        (tmp_path / "worldview2_ikonos").mkdir(exist_ok=True)
        ms = LARGE[0] if name == "IK" else np.concatenate([LARGE[0]] * 2, axis=2)
        savemat(tmp_path / "worldview2_ikonos" / f"img{name}.mat", {"I_MS": ms.astype(int), "I_PAN": pan.astype(int)})
    other = load(SEVERAL.replace("bandwise.toy", "ramsf.toy").replace("dim = 4\ndilations = [1]", ""))
    run = {"data": tmp_path, "minutes": 0, "progress": False}
    told(lambda: recipes.run(other, tmp_path / "runs", **run), "take bandwise")
    assert "stopped in" in recipes.run(load(SEVERAL), tmp_path / "runs", **run).text


def test_images_that_others_made_coarse_give_way_to_pairs_of_the_protocol():
    data = pairs(maximum=2047)
    (pair,) = data.unturned()
    given = replace(data, train=(GivenImage("given", pair.gt, pair.ms, pair.ms_up, pair.guide),))
    told(lambda: Several.of({"given": given}, 1, 0), "train on pairs of wald_pairs")
    assert Several.of({"made": data}, 1, 0).samples["made"]


def test_a_network_that_died_lives_at_the_rate_that_the_error_names():
    text = told(
        lambda: train_on_many(lr=1e-2, lr_bands=BANDS),
        "as where ReLUs are zero for every pixel; train anew with a lower lr= (it is {}, try {})",
    )
    lower = float(re.search(r"try ([\d.e-]+)\)", text)[1])
    history = train_on_many(lr=lower, lr_bands=BANDS).history
    assert history[-1]["val_psnr"] > history[0]["val_psnr"] + 0.5


def test_more_seconds_leave_time_to_train():
    def notes(seconds):
        return str(prepare_fusion(weight(), MS, PAN, adapt=seconds, progress=False).adaptation.report)

    says(notes(1e-3), "there was no time left to train {}; give more seconds")
    assert not has(notes(4), "give more seconds")


def test_a_classical_method_is_chosen_by_name():
    rgb = np.repeat(PAN[..., None], 3, 2)
    for method, guide in (("Brovey", rgb), ("unknown", PAN)):
        text = told(lambda method=method, guide=guide: prepare_classical(method, MS, guide), "{} {}; choose {}")
        for name in re.search(r"choose (.*)", text)[1].split(", "):
            assert prepare_classical(name, MS, guide, progress=False).shape[:2] == guide.shape[:2]


def test_what_was_tuned_runs_whole():
    job = prepare_fusion(weight(), MS, PAN, adapt=0.5, progress=False)
    rows = []
    told(lambda: job.run(lambda top, part: rows.append(part), start=8), "leave start out")
    job.run(lambda top, part: rows.append(part))
    assert sum(map(len, rows)) == job.shape[0]
