"""`hsmamba fuse`: files in, files out, and how mistakes end."""

import errno
import json
import os

import numpy as np
import pytest
import torch

import hsmamba
from hsmamba.data import Compose, SensorScale, degrade_ms
from tests.data.files.samples import write_tif


@pytest.fixture
def model(tmp_path):
    torch.manual_seed(0)
    network = hsmamba.create_model("rsanet", in_chans=4, dim=4, depth=1, recursions=1)
    transform = Compose([SensorScale(1 / 2047), SensorScale(1 / 2047, on="aux")])
    return hsmamba.save_pretrained(network, tmp_path / "model", transform=transform, data={"sensor": "QB"})


@pytest.fixture
def images():
    rng = np.random.default_rng(0)
    return rng.integers(1, 2048, (12, 15, 4)).astype(np.uint16), rng.integers(1, 2048, (48, 60, 1)).astype(np.uint16)


def test_geotiffs_in_a_geotiff_out(run, model, images, tmp_path):
    rasterio = pytest.importorskip("rasterio")
    pytest.importorskip("rioxarray")
    ms, guide = images
    ms[2, 3] = 0
    names = [f"band {i}" for i in range(4)]
    pan = write_tif(tmp_path / "pan.tif", guide, pixel=0.5)
    low = write_tif(tmp_path / "ms.tif", ms, pixel=2, nodata=0, texts=names)
    out = tmp_path / "new" / "fused.tif"
    code, text, err = run("fuse", low, pan, "-m", model, "-o", out, "--tile", 5, "--nan", "mask", "--json")
    assert code == 0, err
    assert json.loads(text)["shape"] == [48, 60, 4] and json.loads(text)["warnings"] == []
    with rasterio.open(out) as file, rasterio.open(pan) as grid:
        assert (file.crs, file.transform, file.nodata) == (grid.crs, grid.transform, 0)
        assert file.dtypes == ("uint16",) * 4
        assert file.descriptions == tuple(names)
        got = np.moveaxis(file.read(), 0, 2)
    assert not got[8:12, 12:16].any()
    network = hsmamba.create_model(f"local-dir:{model}")
    low, high = (hsmamba.data.open_image(path) for path in (low, pan))
    np.testing.assert_array_equal(got, hsmamba.fuse(network, low, high, nan="mask", progress=False))
    assert {path.name for path in out.parent.iterdir()} == {"fused.tif"}


def test_a_geotiff_out_tells_what_the_coarse_image_tells_of_its_bands(run, model, images, tmp_path):
    rasterio = pytest.importorskip("rasterio")
    pytest.importorskip("rioxarray")
    ms, guide = images
    tags = [{"wavelength": str(w), "wavelength_units": "Nanometers"} for w in (485, 560, 660, 830)]
    low, pan = write_tif(tmp_path / "ms.tif", ms, pixel=2, tags=tags), write_tif(tmp_path / "pan.tif", guide, pixel=0.5)
    with rasterio.open(low, "r+") as file:
        file.scales, file.offsets = (1e-4, 2e-4, 3e-4, 4e-4), (-0.1,) * 4
    out = tmp_path / "fused.TIF"
    code, _, err = run("fuse", low, pan, "-m", model, "-o", out)
    assert code == 0, err
    with rasterio.open(out) as file:
        assert file.scales == (1e-4, 2e-4, 3e-4, 4e-4) and file.offsets == (-0.1,) * 4
        assert [file.tags(i) for i in file.indexes] == tags
    assert hsmamba.data.open_scene(out).wavelengths.tolist() == [485, 560, 660, 830]
    before = low.read_bytes()
    code, _, err = run("fuse", low, pan, "-m", model, "-o", low)
    assert code == 2 and "is an input and would be lost" in err and low.read_bytes() == before


def test_arrays_in_an_array_out(run, model, images, tmp_path):
    ms, guide = images
    np.save(tmp_path / "pan.npy", guide[..., 0])
    np.savez(tmp_path / "two.npz", low=ms, other=guide)
    out = tmp_path / "fused.npy"
    args = ["fuse", tmp_path / "two.npz", tmp_path / "pan.npy", "-m", model, "-o", out]
    code, _, err = run(*args)
    assert code == 2 and "'low' (12, 15, 4)" in err and "variable" in err and not out.exists()
    code, text, err = run(*args, "--ms-variable", "low")
    assert code == 0, err
    assert "48 x 60 pixels, 4 bands, uint16" in text
    got = np.load(out)
    assert got.shape == (48, 60, 4) and got.dtype == np.uint16
    code, _, err = run(*args, "--ms-variable", "low", "--maximum", "4094,2047")
    assert code == 0, err
    assert (np.load(out) != got).any()
    code, _, err = run(*args, "--ms-variable", "low", "--maximum", "QB")
    assert code == 0, err
    np.testing.assert_array_equal(np.load(out), got)


def test_a_network_is_adapted_and_the_comparison_printed(run, model, tmp_path):
    from tests.engine.fusion.toys import images as toy

    ms, pan = (image.astype(np.uint16) for image in toy(32, 32))
    np.save(tmp_path / "ms.npy", ms)
    np.save(tmp_path / "pan.npy", pan)
    args = ["fuse", tmp_path / "ms.npy", tmp_path / "pan.npy", "-m", model, "-o", tmp_path / "out.npy"]
    code, text, err = run(*args, "--adapt", 0.1)
    assert code == 0, err
    assert "adapt: used fitted filters" in text.splitlines()[0]
    assert "MTF-GLP-HPM" in text and "held out in 4 turns: " in text
    assert np.load(tmp_path / "out.npy").shape == (128, 128, 4)
    code, text, err = run(*args, "--adapt", 0.1, "--json")
    assert code == 0, err
    report = json.loads(text)["adapt"]
    assert report["used"] in report["figures"] and set(report["figures"]["EXP"]) == {"SAM", "ERGAS", "Q2n"}
    code, _, err = run(*args, "--adapt", 0)
    assert code == 2 and "seconds is 0.0; expected a number above 0" in err


def test_a_shift_is_told_on_standard_error(run, model, tmp_path):
    from scipy import ndimage

    rng = np.random.default_rng(0)
    image = ndimage.gaussian_filter(rng.normal(size=(256, 256)), 2)
    image = 1000 + 200 * image / image.std()
    np.save(tmp_path / "pan.npy", np.roll(image, 8, 0))
    np.save(tmp_path / "ms.npy", np.repeat(image.reshape(64, 4, 64, 4).mean((1, 3))[..., None], 4, 2))
    args = ["fuse", tmp_path / "ms.npy", tmp_path / "pan.npy", "-m", model, "-o", tmp_path / "out.npy"]
    code, text, err = run(*args, "--json")
    assert code == 0, err
    assert "warning: the guide looks misregistered" in err and "further down" in err
    assert len(json.loads(text)["warnings"]) == 1


def test_mistakes_end_with_one_line_and_leave_nothing(run, model, images, tmp_path):
    ms, guide = images
    np.save(tmp_path / "pan.npy", guide)
    np.save(tmp_path / "ms.npy", ms)
    np.save(tmp_path / "three.npy", ms[..., :3])
    np.save(tmp_path / "bad.npy", np.where(guide < 9, np.nan, guide))
    before = sorted(tmp_path.rglob("*"))
    pan, low, out = tmp_path / "pan.npy", tmp_path / "ms.npy", tmp_path / "out.npy"
    for args, text in [
        ((pan, low, "-o", out), "the coarse image comes first"),
        ((tmp_path / "three.npy", pan, "-o", out), "takes 4 (QB: blue, green, red, NIR)"),
        ((low, pan, "-o", tmp_path / "out.doc"), "choose .tif"),
        ((low, pan, "-o", "/proc/nothing/x.npy"), "cannot write"),
        ((low, tmp_path / "bad.npy", "-o", out), "hold NaN"),
        ((low, pan, "-o", out, "--nan", "drop"), "mask"),
        ((low, tmp_path / "none.npy", "-o", out), "none.npy"),
        ((low, pan, "-o", out, "--maximum", "landsat"), "unknown sensor"),
    ]:
        code, printed, err = run("fuse", *args, "-m", model)
        assert code == 2 and printed == "" and len(err.strip().splitlines()) == 1, err
        assert text in err
    code, _, err = run("fuse", low, pan, "-o", out, "-m", "md2f_mamba.indian_pines")
    assert code == 2 and "is a patch classifier, and a fusion network is needed" in err
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.skipif(not hasattr(os, "posix_fallocate"), reason="the system cannot reserve space")
def test_the_space_of_an_array_is_reserved_before_the_work(run, model, images, tmp_path, monkeypatch):
    ms, guide = images
    np.save(tmp_path / "pan.npy", guide)
    np.save(tmp_path / "ms.npy", ms)

    def full(handle, start, size):
        assert start == 0 and size >= guide.size * 4 * 2
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", full)
    before = sorted(tmp_path.rglob("*"))
    code, _, err = run("fuse", tmp_path / "ms.npy", tmp_path / "pan.npy", "-m", model, "-o", tmp_path / "out.npy")
    assert code == 2 and "No space left on device" in err  # and no SIGBUS, which leaves a half-written file
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize("method", ["gsa", "MTF-GLP-FS"])
def test_a_classical_method_stands_in_for_a_model(run, images, tmp_path, method):
    from hsmamba.baselines import BASELINES

    ms, guide = images
    np.save(tmp_path / "pan.npy", guide)
    np.save(tmp_path / "ms.npy", ms)
    args = ["fuse", tmp_path / "ms.npy", tmp_path / "pan.npy", "-o", tmp_path / "out.npy", "-m", method]
    code, _, err = run(*args, "--sensor", "QB")
    assert code == 0, err
    low, high = (torch.from_numpy(image.astype(float)).permute(2, 0, 1)[None] for image in images)
    want = BASELINES[method.upper()](low, high, ratio=4, sensor="QB", wrap=False)[0].permute(1, 2, 0).numpy()
    np.testing.assert_array_equal(np.load(tmp_path / "out.npy"), np.rint(want).clip(0, 65535))
    assert run(*args)[0] == 0
    code, _, err = run(*args, "--sensor", "WV2")
    assert code == 2 and "WV2" in err
    code, _, err = run(*args, "--tile", 4, "--adapt", 3)
    assert code == 2 and "has no use for --tile and --adapt" in err
    code, _, err = run("fuse", "-", tmp_path / "pan.npy", *args[3:])
    assert code == 2 and "on its own grid as MS" in err


def test_results_agree_with_ms_where_that_is_asked_for(run, model, images, tmp_path):
    low, high = images[0].astype(np.float32), images[1].astype(np.float32)
    np.save(tmp_path / "ms.npy", low)
    np.save(tmp_path / "pan.npy", high)
    out = tmp_path / "out.npy"

    def left(method, *options):
        args = ["fuse", tmp_path / "ms.npy", tmp_path / "pan.npy", "-o", out, "-m", method, *options]
        code, _, err = run(*args)
        assert code == 0, err
        fused = torch.from_numpy(np.load(out)).permute(2, 0, 1)[None].double()
        again = degrade_ms(fused, ratio=4, sensor="QB" if method == model else "generic")[0].permute(1, 2, 0).numpy()
        return np.sqrt(np.mean((again - low) ** 2))

    for method in (model, "MTF-GLP-FS"):
        assert left(method, "--consistent") < 0.5 * left(method, "--no-consistent")
        assert left(method) == left(method, "--no-consistent")


def test_a_method_that_takes_pan_alone_says_which_do_not(run, images, tmp_path):
    np.save(tmp_path / "ms.npy", images[0])
    np.save(tmp_path / "rgb.npy", np.repeat(images[1], 3, 2))
    args = ["fuse", tmp_path / "ms.npy", tmp_path / "rgb.npy", "-o", tmp_path / "out.npy", "-m"]
    code, _, err = run(*args, "Brovey")
    assert code == 2 and "takes a guide of one channel; choose EXP, GSA" in err
    assert run(*args, "GSA")[0] == 0


def test_the_coarse_image_may_lie_on_the_guides_grid(run, model, images, tmp_path):
    ms, guide = images
    np.save(tmp_path / "pan.npy", guide)
    np.save(tmp_path / "ms.npy", ms)
    np.save(tmp_path / "up.npy", ms.repeat(4, 0).repeat(4, 1))
    rest = ["-m", model, "--ms-up", tmp_path / "up.npy"]
    code, _, err = run("fuse", "-", tmp_path / "pan.npy", *rest, "-o", tmp_path / "alone.npy")
    assert code == 0, err
    network = hsmamba.create_model(f"local-dir:{model}")
    want = hsmamba.fuse(network, None, guide, ms_up=np.load(tmp_path / "up.npy"), progress=False)
    np.testing.assert_array_equal(np.load(tmp_path / "alone.npy"), want)
    code, _, err = run("fuse", tmp_path / "ms.npy", tmp_path / "pan.npy", *rest, "-o", tmp_path / "both.npy")
    assert code == 0, err
    code, _, err = run("fuse", "-", tmp_path / "pan.npy", "-m", model, "-o", tmp_path / "none.npy")
    assert code == 2 and "neither ms nor ms_up is given" in err


def test_quiet_prints_nothing_but_what_goes_wrong(run, model, images, tmp_path):
    np.save(tmp_path / "pan.npy", images[1])
    np.save(tmp_path / "ms.npy", images[0])
    args = ["fuse", tmp_path / "ms.npy", tmp_path / "pan.npy", "-m", model, "-o", tmp_path / "out.npy"]
    assert run(*args, "--quiet") == (0, "", "")
    assert run(*args)[1].startswith("wrote ")
    assert run(*args, "--quiet", "--tile", 0)[2]
