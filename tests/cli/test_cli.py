"""The command line in process: what it prints, what it writes, how it ends."""

import json
import shutil
import signal
import subprocess
import sys
import warnings
from importlib.util import find_spec

import numpy as np
import pytest
import torch

import hsmamba
from hsmamba import cli
from hsmamba.data import PCA, Compose, Standardise
from tests.conftest import ROOT, run_python
from tests.data.files.samples import write_swapped_envi, write_tif, write_tile, write_vrt
from tests.data.files.vector_samples import box, write_geojson


@pytest.fixture
def scene_file(tmp_path):
    rng = np.random.default_rng(0)
    labels = np.kron(rng.integers(1, 4, (4, 4)), np.ones((6, 6), int)).astype(np.uint8)
    cube = rng.normal(size=(4, 10))[labels] + 0.3 * rng.normal(size=(24, 24, 10))
    path = tmp_path / "scene.npz"
    np.savez(path, cube=cube.astype(np.float32), labels=labels)
    return path


@pytest.fixture(scope="module")
def first_run(tmp_path_factory):
    """Where the run that many tests begin with is kept, and what it printed, once one of them has made it."""
    return tmp_path_factory.mktemp("first") / "run", []


@pytest.fixture
def trained(run, scene_file, tmp_path, first_run):
    out, (kept, printed) = tmp_path / "run", first_run
    if not printed:
        args = ["--count", 20, "--bands", 5, "--epochs", 6, "--batch-size", 16, "--json"]
        code, text, err = run("finetune", scene_file, "-o", kept, *args)
        assert code == 0, err
        printed.append(json.loads(text))
    shutil.copytree(kept, out)  # which a test may change
    return out, printed[0]


def test_no_command_shows_help(run):
    code, out, err = run()
    assert code in (0, 2)
    assert "classify" in out + err


@pytest.mark.parametrize("command", cli.VERBS)
def test_every_command_has_help(run, command):
    code, out, _ = run(command, "--help")
    assert code == 0
    assert "Usage" in out


def test_list_and_info(run):
    assert "md2f_mamba_ref" in run("list")[1].split()
    assert json.loads(run("list", "md2f_mamba", "--json")[1]) == ["md2f_mamba"]
    assert "92,167" in run("info", "md2f_mamba")[1]
    assert json.loads(run("info", "md2f_mamba", "--json")[1])["params"] == 92_167
    assert run("--version")[1].strip() == __import__("hsmamba").__version__


def test_a_listing_tells_sizes_and_figures_without_torch(run):
    lines = run("list", "--task", "fusion")[1].splitlines()
    assert [line.split()[0] for line in lines] == hsmamba.list_models(task="fusion")
    assert "73.4 K" in run("list", "rsanet")[1]
    lines = run("list", "--pretrained")[1].splitlines()
    assert [line.split()[0] for line in lines] == hsmamba.list_pretrained()
    assert "8 bands, a guide of 1 channel, ratio 4" in run("list", "ramsf.worldview2", "--pretrained")[1]
    code = (
        "import sys, typer.testing, hsmamba.cli as c\n"
        "r = typer.testing.CliRunner().invoke(c.load_app(), ['list'])\n"
        "assert r.exit_code == 0, r.output\n"
        "print('torch' in sys.modules, 'numpy' in sys.modules)"
    )
    assert run_python(code).split() == ["False", "False"]


def test_backends_of_the_scan(run):
    states = json.loads(run("info", "--backends", "--json")[1])
    assert states["reference"]["available"]
    text = run("info", "--backends")[1]
    assert all(name in text for name in states)
    assert "hsmamba list" in run("info")[2]


def test_finetune_evaluate_classify_and_verify_work_together(run, trained, scene_file, tmp_path):
    folder, printed = trained
    assert {p.name for p in folder.iterdir()} == {"checkpoint.pt", "history.csv", "model"}
    model = folder / "model"
    code, out, err = run("evaluate", model, scene_file, "--json")
    assert code == 0, err
    assert json.loads(out)["confusion"] == printed["test"]["confusion"]
    assert "kappa" in run("evaluate", f"local-dir:{model}", scene_file, "--all")[1]
    outputs = [tmp_path / f"map{suffix}" for suffix in (".npz", ".npy")]
    code, out, err = run("classify", scene_file, "-m", model, *(x for path in outputs for x in ("-o", path)))
    assert code == 0, err
    with np.load(outputs[0]) as arrays:
        assert arrays["labels"].shape == arrays["confidence"].shape == (24, 24)
        np.testing.assert_array_equal(np.load(outputs[1]), arrays["labels"])
    code, out, _ = run("verify", model)
    assert code == 0
    assert out.count("ok ") == 3
    with (model / "model.safetensors").open("ab") as file:
        file.write(b"0")
    code, _, err = run("verify", model)
    assert code == 2
    assert "SHA-256" in err


def test_lda_is_fitted_in_one_step_and_stands_beside_the_classical(run, scene_file, tmp_path):
    pytest.importorskip("sklearn", reason="needs the classical extra")
    args = ["finetune", scene_file, "-o", tmp_path / "run", "-m", "lda", "--count", 20]
    code, _, err = run(*args, "--epochs", 3)
    assert code == 2 and "lda is fitted in one step" in err and "leave --epochs out" in err
    code, out, err = run(*args)
    assert code == 0 and "fitted in one step; model in" in out, err
    model = tmp_path / "run" / "model"
    assert "in_chans" in (model / "config.json").read_text() and run("verify", model)[0] == 0
    code, out, err = run("evaluate", model, scene_file, "--baselines")
    assert code == 0 and "this model" in out and "lda-mnf-means" in out, err
    code, out, err = run("evaluate", model, scene_file, "--baselines", "--json")
    assert code == 0 and json.loads(out)["baselines"]["svm-pca"]["oa"] > 0.5, err
    assert "no training pixels" in run("evaluate", model, scene_file, "--baselines", "--all")[2]
    code, _, err = run("classify", scene_file, "-m", model, "-o", tmp_path / "map.npz")
    assert code == 0, err
    code, out, err = run("finetune", scene_file, "-o", tmp_path / "run2", "-m", model, "--count", 30)
    assert code == 0 and "fitted in one step" in out, err


@pytest.mark.slow
def test_a_class_that_cannot_be_tested_is_trained_and_saved(run, tmp_path):
    labels = np.repeat([1, 2], 18)[:, None].repeat(36, 1).astype(np.uint8)
    labels[8:11, 8:11] = 3  # within half a patch
    cube = np.random.default_rng(0).normal(size=(36, 36, 10)).astype(np.float32) + labels[..., None]
    np.savez(tmp_path / "scene.npz", cube=cube, gt=labels)
    args = ["--fraction", 0.02, "--disjoint", "--bands", 4, "--epochs", 1]
    code, out, err = run("finetune", tmp_path / "scene.npz", "-o", tmp_path / "run", *args, "--json")
    assert code == 0, err
    assert "hsmamba: warning: no test pixel of class 3" in err and "Traceback" not in err
    assert json.loads(out)["test"]["per_class"][2] is None and json.loads(out)["test"]["aa"] is not None
    code, out, err = run("evaluate", tmp_path / "run/model", tmp_path / "scene.npz")
    assert code == 0 and "no pixel of class 3" in out, err


def test_labels_that_are_codes_take_a_legend(run, scene_file, tmp_path):
    with np.load(scene_file) as arrays:
        codes = arrays["labels"].astype(float) * 1000
        np.savez(tmp_path / "codes.npz", cube=arrays["cube"], gt=codes)
    args = ["finetune", tmp_path / "codes.npz", "-o", tmp_path / "run", "--count", 20, "--epochs", 1, "--bands", 5]
    assert "--classes 1000,2000,3000" in run(*args)[2]
    legend = ["--classes", "1000=corn,2000=oats,3000=rye"]
    code, out, err = run(*args, *legend)
    assert code == 0 and "oats" in out, err
    code, out, err = run("evaluate", tmp_path / "run/model", tmp_path / "codes.npz", *legend, "--json")
    assert code == 0 and json.loads(out)["class_names"] == ["corn", "oats", "rye"], err
    assert "10=corn" in run(*args, "--overwrite", "--classes", "corn")[2]
    assert "leave --classes out" in run("evaluate", tmp_path / "run/model", "indian_pines", *legend)[2]


def test_polygons_serve_as_labels(run, scene_file, tmp_path):
    with np.load(scene_file) as arrays:
        source = write_tif(tmp_path / "scene.tif", arrays["cube"])
    fields = [(box(0, 0, 8, 24), {"crop": "oats"}), (box(12, 0, 12, 24), {"crop": "corn"})]
    write_geojson(tmp_path / "fields.geojson", fields)
    labels = ["--labels", tmp_path / "fields.geojson", "--labels-field", "crop"]
    args = ["finetune", source, "-o", tmp_path / "run", "--count", 20, "--bands", 5, "--epochs", 1]
    code, out, err = run(*args, *labels, "--json")
    assert code == 0, err
    assert json.loads(out)["test"]["support"] == [288 - 20, 192 - 20]
    code, out, err = run("evaluate", tmp_path / "run/model", source, *labels)
    assert code == 0 and "corn" in out and "oats" in out, err
    code, _, err = run("evaluate", tmp_path / "run/model", source, *labels[:2], "--labels-field", "class")
    assert code == 2 and "'crop'" in err and "--labels-field" in err


def test_few_labels_train_and_a_cap_takes_what_there_is(run, scene_file, tmp_path):
    with np.load(scene_file) as arrays:
        labels = arrays["labels"]
        few = np.zeros_like(labels)
        for k, size in ((1, 6), (2, 6), (3, 3)):
            few.ravel()[np.flatnonzero(labels == k)[:size]] = k
        np.savez(tmp_path / "few.npz", cube=np.tile(arrays["cube"], 5), labels=few)
    args = ["finetune", tmp_path / "few.npz", "-o", tmp_path / "run", "--count", 5, "--epochs", 1]
    code, _, err = run(*args)
    assert code == 2 and "--cap" in err
    code, out, err = run(*args, "--cap", "--overwrite", "--json")
    assert code == 0, err
    assert json.loads(out)["test"]["support"] == [1, 1, 1]


@pytest.mark.parametrize("bands", [12, 103])
def test_a_published_weight_is_tuned_on_a_scene_of_other_bands(run, tmp_path, bands):
    labels = np.repeat([1, 2, 3], 6)[:, None].repeat(18, 1).astype(np.uint8)
    cube = np.random.default_rng(0).integers(1, 4000, (18, 18, bands)).astype(np.uint16)
    np.savez(tmp_path / "scene.npz", cube=cube, gt=labels)
    args = [tmp_path / "scene.npz", "-o", tmp_path / "run", "-m", "md2f_mamba.indian_pines", "--count", 12]
    code, _, err = run("finetune", *args, "--epochs", 1)
    assert code == 0, err
    if bands > 40:
        assert "trained on (200 there, 103 here): another transform is fitted" in err
    code, _, err = run("evaluate", tmp_path / "run/model", tmp_path / "scene.npz")
    assert code == 0, err


@pytest.mark.slow
def test_other_classes_give_a_weight_a_new_head(run, trained, scene_file, tmp_path):
    with np.load(scene_file) as arrays:
        np.savez(tmp_path / "two.npz", cube=arrays["cube"], labels=np.minimum(arrays["labels"], 2))
    args = ["-m", trained[0] / "model", "--count", 20, "--epochs", 1, "--json"]
    code, out, err = run("finetune", tmp_path / "two.npz", "-o", tmp_path / "two", *args)
    assert code == 0 and "model gets a new head, for 2 classes" in err
    assert len(json.loads(out)["test"]["per_class"]) == 2
    code, out, err = run("finetune", scene_file, "-o", tmp_path / "three", *args)
    assert code == 0 and "new head" not in err


def test_classify_draws_a_map(run, trained, scene_file, tmp_path):
    pytest.importorskip("matplotlib", reason="needs the demo extra")
    code, _, err = run("classify", scene_file, "-m", trained[0] / "model", "-o", tmp_path / "map.PNG")
    assert code == 0, err
    assert (tmp_path / "map.PNG").read_bytes().startswith(b"\x89PNG")


def test_classify_writes_a_geotiff_on_the_grid_of_the_scene(run, trained, scene_file, tmp_path):
    rasterio = pytest.importorskip("rasterio")
    with np.load(scene_file) as arrays:
        source = write_tif(tmp_path / "scene.tif", arrays["cube"])
    target = tmp_path / "map.TIF"
    code, _, err = run("classify", source, "-m", trained[0] / "model", "-o", target, "-o", tmp_path / "map.npz")
    assert code == 0, err
    with rasterio.open(target) as file, rasterio.open(tmp_path / "map_confidence.TIF") as confidence:
        with rasterio.open(source) as scene:
            assert (file.crs, file.transform, file.dtypes) == (scene.crs, scene.transform, ("uint8",))
        assert confidence.dtypes == ("float32",)
        assert set(np.unique(file.read(1))) <= {1, 2, 3} and file.tags()["class_3"] == "class 3"
        with np.load(tmp_path / "map.npz") as arrays:  # of the same run
            np.testing.assert_array_equal(file.read(1), arrays["labels"])
            np.testing.assert_array_equal(confidence.read(1), arrays["confidence"])


def test_pixels_without_data_are_unlabelled_in_the_file(run, trained, scene_file, tmp_path):
    rasterio = pytest.importorskip("rasterio")
    with np.load(scene_file) as arrays:
        cube = arrays["cube"]
    cube[2, 3] = cube[10, 4, 7] = -9999
    source, out = write_tif(tmp_path / "scene.tif", cube, nodata=-9999), tmp_path / "map.tif"
    code, _, err = run("classify", source, "-m", trained[0] / "model", "-o", out)
    assert code == 2 and "--nan mask" in err and not out.exists()
    code, text, err = run("classify", source, "-m", trained[0] / "model", "-o", out, "--nan", "mask", "--json")
    assert code == 0, err
    told = json.loads(text)
    assert told["files"] == [str(out), str(tmp_path / "map_confidence.tif"), str(tmp_path / "map.qml")]
    with rasterio.open(out) as file, rasterio.open(tmp_path / "map_confidence.tif") as confidence:
        labels, sure = file.read(1), confidence.read(1)
        assert (labels == 0).sum() == told["pixels"]["unclassified"] and not labels[2, 3] and not labels[10, 4]
        np.testing.assert_array_equal(labels == 0, np.isnan(sure))


def test_a_scale_makes_the_numbers_those_of_the_training(run, trained, scene_file, tmp_path):
    with np.load(scene_file) as arrays:
        np.save(tmp_path / "small.npy", arrays["cube"] / 1000)
        np.save(tmp_path / "right.npy", arrays["cube"])
    args = ["classify", "-m", trained[0] / "model", "-o", tmp_path / "a.npy"]
    code, _, err = run(*args, tmp_path / "small.npy", "--scale", 1000)
    assert code == 0, err
    got = np.load(tmp_path / "a.npy")
    assert run(*args, tmp_path / "right.npy")[0] == 0
    np.testing.assert_array_equal(got, np.load(tmp_path / "a.npy"))
    code, _, err = run(*args, tmp_path / "right.npy", "--scale", "much")
    assert code == 2 and "scale is 'much'" in err


@pytest.mark.slow
def test_probabilities_are_regularised_on_request(run, trained, scene_file, tmp_path):
    model = trained[0] / "model"
    maps = {}
    for which in ("off", "on"):
        maps[which] = tmp_path / f"{which}.npz"
        code, _, err = run("classify", scene_file, "-m", model, "-o", maps[which], "--regularise", which)
        assert code == 0, err
    with np.load(maps["off"]) as off, np.load(maps["on"]) as on:
        assert np.abs(off["confidence"] - on["confidence"]).max() > 0.05
    reports = [json.loads(run("evaluate", model, scene_file, "--regularise", x, "--json")[1]) for x in ("off", "on")]
    assert [report["regularised"] for report in reports] == [False, True]
    code, _, err = run("evaluate", model, scene_file, "--regularise", "auto", "--json")
    assert (code, "which validation pixels decide" in err) == (2, True)  # of 20 a class none was set aside
    more = tmp_path / "more"
    assert run("finetune", scene_file, "-o", more, "--count", 40, "--bands", 5, "--epochs", 2)[0] == 0
    reports = [
        json.loads(run("evaluate", more / "model", scene_file, "--regularise", x, "--json")[1])
        for x in ("off", "on", "auto")
    ]
    assert reports[2] in reports[:2]
    for command in (["evaluate", model, scene_file], ["classify", scene_file, "-m", model, "-o", tmp_path / "x.npz"]):
        code, _, err = run(*command, "--regularise", "yes")
        assert (code, "regularise is 'yes'" in err) == (2, True)


def test_an_envi_scene_gives_a_map_with_its_place(run, trained, scene_file, tmp_path):
    rasterio = pytest.importorskip("rasterio")
    pytest.importorskip("rioxarray")
    with np.load(scene_file) as arrays:
        cube = arrays["cube"]
    info = "{UTM, 1, 1, 400000, 5800000, 30, 30, 33, North, WGS-84}"
    write_swapped_envi(tmp_path / "scene.hdr", cube, map_info=info)
    np.save(tmp_path / "scene.npy", cube)
    labels = {}
    for name in ("scene.hdr", "scene.npy"):
        out = tmp_path / f"{name}.tif"
        code, _, err = run("classify", tmp_path / name, "-m", trained[0] / "model", "-o", out, "--json")
        assert code == 0 and "warning" not in err.lower(), err
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with rasterio.open(out) as file:
                labels[name] = file.read(1)
                crs, transform = file.crs, file.transform
        if name == "scene.hdr":
            assert crs.to_epsg() == 32633 and transform[:6] == (30, 0, 400000, 0, -30, 5800000)
        else:
            assert crs is None and transform.is_identity
    np.testing.assert_array_equal(labels["scene.hdr"], labels["scene.npy"])


def test_an_output_never_is_an_input_nor_another_output(run, trained, scene_file, tmp_path):
    pytest.importorskip("rasterio")
    with np.load(scene_file) as arrays:
        source = write_tif(tmp_path / "map_confidence.tif", arrays["cube"])
    before = source.read_bytes()
    args = ["classify", source, "-m", trained[0] / "model"]
    for outs, text in [
        ((source,), "is an input and would be lost"),
        ((tmp_path / "map.tif",), "is an input and would be lost"),
        ((tmp_path / "a.tif", tmp_path / "a_confidence.tif"), "two of the outputs are one file"),
    ]:
        code, _, err = run(*args, *(part for out in outs for part in ("-o", out)))
        assert code == 2 and text in err
    assert source.read_bytes() == before and not (tmp_path / "map.tif").exists()


@pytest.mark.slow
def test_two_sources_go_through_every_command(run, scene_file, tmp_path):
    with np.load(scene_file) as arrays:
        labels = arrays["labels"]
    aux = tmp_path / "height.npy"
    np.save(aux, 5.0 * labels + np.random.default_rng(0).normal(size=labels.shape))
    out = tmp_path / "two"
    two = ("--aux", aux)
    code, text, err = run(
        "finetune", scene_file, *two, "-m", "msfmamba", "-o", out, "--count", 20, "--epochs", 2, "--json"
    )
    assert code == 0, err
    code, text, err = run("evaluate", out / "model", scene_file, *two, "--json")
    assert code == 0 and json.loads(text)["oa"] > 0.5, err
    code, _, err = run("classify", scene_file, *two, "-m", out / "model", "-o", tmp_path / "map.npy")
    assert code == 0 and np.load(tmp_path / "map.npy").shape == (24, 24), err
    code, _, err = run("classify", scene_file, "-m", out / "model", "-o", tmp_path / "map.npy")
    assert code == 2 and "auxiliary source of 1 channels" in err


@pytest.mark.slow
def test_an_interrupted_finetune_resumes(run, scene_file, tmp_path, monkeypatch):
    args = ["finetune", scene_file, "-o", tmp_path / "run", "--count", 20, "--bands", 5, "--epochs", 3, "--json"]
    whole = run(*args[:3], tmp_path / "whole", *args[4:])
    monkeypatch.setattr(sys.modules["hsmamba.engine.training"], "write_log", _interrupt)
    assert run(*args)[0] != 0
    monkeypatch.setattr(sys.modules["hsmamba.engine.training"], "write_log", lambda path, history: None)
    resumed = run(*args, "--resume")
    assert json.loads(resumed[1])["test"] == json.loads(whole[1])["test"]


@pytest.mark.slow
def test_a_run_that_was_killed_before_its_first_checkpoint_resumes_from_the_start(run, scene_file, tmp_path):
    args = ["finetune", scene_file, "-o", tmp_path / "run", "--count", 20, "--bands", 5, "--epochs", 1, "--resume"]
    code, _, err = run(*args)
    assert code == 0 and "holds no checkpoint yet; the run starts anew" in err
    (tmp_path / "run" / "checkpoint.pt").unlink()
    code, _, err = run(*args)
    assert code == 2 and "without its checkpoint.pt; replace it with --overwrite" in err
    assert run(*args[:-1], "--overwrite")[0] == 0


def test_a_replaced_run_that_is_killed_at_once_is_not_continued(run, scene_file, tmp_path, monkeypatch):
    args = ["finetune", scene_file, "-o", tmp_path / "run", "--count", 20, "--bands", 5, "--epochs", 1]
    assert run(*args)[0] == 0
    folder = tmp_path / "run" / "model"
    before = {path: path.read_bytes() for path in folder.iterdir()}

    def killed(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(sys.modules["hsmamba.engine.training"].Run, "next_epoch", killed)
        assert run(*args, "--overwrite")[0] == 130
    assert {path: path.read_bytes() for path in folder.iterdir()} == before
    assert "without its checkpoint.pt; replace it with --overwrite" in run(*args, "--resume")[2]


def _interrupt(path, history):
    if len(history) == 2:
        raise KeyboardInterrupt


@pytest.mark.slow
def test_a_name_of_the_zoo_means_its_weight_whatever_folders_there_are(run, trained, tmp_path, monkeypatch):
    shutil.copytree(trained[0] / "model", tmp_path / "cwd/ramsf.ikonos")
    shutil.copytree(trained[0] / "model", tmp_path / "cwd/mine")
    monkeypatch.chdir(tmp_path / "cwd")
    told = {
        name: json.loads(run("info", name, "--json")[1])["architecture"]
        for name in ("ramsf.ikonos", "./ramsf.ikonos", "local-dir:ramsf.ikonos", "mine")
    }
    assert list(told.values()) == ["ramsf", "md2f_mamba", "md2f_mamba", "md2f_mamba"]


@pytest.mark.parametrize("device", ["gpu", "cuda:99", "meta"])
@pytest.mark.parametrize("command", ["classify", "finetune"])
def test_an_unknown_device_is_a_mistake(run, command, device, tmp_path):
    code, _, err = run(command, "indian_pines", "-m", "md2f_mamba", "-o", tmp_path / "x.npy", "--device", device)
    assert code == 2
    assert f"--device is '{device}'" in err and len(err.strip().splitlines()) == 1


@pytest.mark.skipif(sys.platform == "win32", reason="Ctrl-C cannot be sent to one process alone")
@pytest.mark.parametrize("module", ["typer", "hsmamba.cli.bench", "numpy", "torch", "hsmamba.models"])
def test_an_interrupt_of_the_imports_ends_quietly(module):
    code = f"""
import signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)  # which a process of the background does not have
class Finder:
    def find_spec(name, path=None, target=None):
        if name == {module!r}:
            signal.raise_signal(signal.SIGINT)
sys.meta_path.insert(0, Finder)
sys.argv = ["hsmamba", "info", "md2f_mamba"]
from hsmamba.cli import main
main()
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 130
    assert "Traceback" not in done.stderr and done.stdout == ""


@pytest.mark.skipif(sys.platform == "win32", reason="Ctrl-C cannot be sent to one process alone")
def test_an_interrupt_that_a_library_makes_an_error_of_is_an_interrupt(run, monkeypatch):
    from hsmamba.errors import WeightsError
    from hsmamba.zoo import source

    def reading(*args, **kwargs):
        try:
            signal.raise_signal(signal.SIGINT)
        except KeyboardInterrupt:
            raise WeightsError("no whole file") from None

    monkeypatch.setattr(source, "find_folder", reading)
    handler = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        assert run("download", "ramsf.ikonos") == (130, "", "")
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    finally:
        signal.signal(signal.SIGINT, handler)


def test_an_earlier_run_is_replaced_on_request_alone(run, trained, scene_file):
    out, _ = trained
    before = {path: path.read_bytes() for path in out.rglob("*") if path.is_file()}
    args = ["finetune", scene_file, "-o", out, "--count", 20, "--bands", 5, "--epochs", 1]
    code, _, err = run(*args)
    assert code == 2
    assert "checkpoint.pt, history.csv, model" in err and "--resume" in err and "--overwrite" in err
    assert "give one of them" in run(*args, "--resume", "--overwrite")[2]
    assert {path: path.read_bytes() for path in out.rglob("*") if path.is_file()} == before
    code, _, err = run(*args, "--overwrite")
    assert code == 0, err
    assert len((out / "history.csv").read_text().splitlines()) == 2


@pytest.mark.slow
def test_a_fine_tuned_model_keeps_the_licence_of_its_base_weight(run, trained, scene_file, tmp_path):

    base = tmp_path / "base"
    hsmamba.save_pretrained(
        hsmamba.create_model(f"local-dir:{trained[0] / 'model'}"), base, license="LicenseRef-NonProfit"
    )
    args = ["finetune", scene_file, "-m", base, "--count", 20, "--epochs", 1]
    code, out, err = run(*args, "-o", tmp_path / "tuned")
    assert code == 0, err
    assert "LicenseRef-NonProfit; --license names another" in out
    assert json.loads((tmp_path / "tuned/model/config.json").read_text())["license"] == "LicenseRef-NonProfit"
    assert run(*args, "-o", tmp_path / "other", "--license", "MIT")[0] == 0
    assert json.loads((tmp_path / "other/model/config.json").read_text())["license"] == "MIT"


def test_convert_makes_a_model_folder_of_an_official_checkpoint(run, tmp_path):
    torch = pytest.importorskip("torch")
    from tests.oracles.md2f_mamba import article_logits, article_state

    state = {"state_dict": {f"module.{k}": v.float() for k, v in article_state(4, 5, 3, 6, 2, 3, 3, 3).items()}}
    path = tmp_path / "official.pth"
    torch.save(state, path)
    code, _, err = run("convert", path, tmp_path / "out", "--arch", "md2f_mamba_ref")
    assert code == 0, err
    x = torch.randn(2, 4, 5, 5)
    want = article_logits(x, {k.removeprefix("module."): v for k, v in state["state_dict"].items()})
    torch.testing.assert_close(hsmamba.create_model(f"local-dir:{tmp_path / 'out'}")(x), want, rtol=1e-4, atol=1e-3)
    code, told, err = run("convert", path, tmp_path / "out3")
    assert code == 0, err
    assert "a checkpoint of the official md2f_mamba_ref, under 'state_dict': " in told and "in_chans=4" in told
    path.write_bytes(b"not a checkpoint")
    code, _, err = run("convert", path, tmp_path / "out2", "--arch", "md2f_mamba_ref")
    assert code == 2
    assert "cannot be read as a checkpoint" in err


@pytest.mark.slow
def test_convert_names_a_checkpoint_that_is_none_of_the_released_networks(run, tmp_path):
    """Such as the file in Mamba-in-Mamba's repository: names of version 3, other shapes, a decoder beside."""
    torch = pytest.importorskip("torch")
    from tests.oracles import mim

    state = {key: value.float() for key, value in mim.state_v3(3, 4, 3, 1, 8, 2).items()}
    more = {"mim_1.T_mamba1.cls_token": torch.zeros(1, 1, 8), "back.0.weight": torch.zeros(8, 8, 3, 3)}
    torch.save({**state, **more}, tmp_path / "epoch200_0.02.pth")
    code, _, err = run("convert", tmp_path / "epoch200_0.02.pth", tmp_path / "out")
    assert code == 2 and not (tmp_path / "out").exists()
    assert "with the names of the official mim_v3, but is none of that network as it was released" in err
    assert "back.0.weight" in err and "cls_token" in err
    torch.save({"resnet.conv1.weight": torch.zeros(2, 3)}, tmp_path / "other.pth")
    code, _, err = run("convert", tmp_path / "other.pth", tmp_path / "out")
    assert code == 2 and "1 tensors with 6 numbers" in err and "neither of an official le_mamba" in err


@pytest.mark.parametrize(
    ("args", "text"),
    [
        (["info", "md2f_mamb"], "did you mean md2f_mamba"),
        (["classify", "nowhere.tif", "-m", "md2f_mamba", "-o", "x.png"], "nowhere.tif"),
        (["classify", "atlantis", "-m", "md2f_mamba", "-o", "x.png"], "indian_pines"),
        (["classify", "indian_pines", "-m", "md2f_mamba", "-o", "x.doc"], ".doc"),
        (["classify", "indian_pines", "-m", "md2f_mamba", "-o", "/proc/nothing/x.png"], "cannot write"),
        (["finetune", "indian_pines", "-o", "x"], "--fraction"),
        pytest.param(
            ["classify", "indian_pines", "-m", "rsanet.worldview2", "-o", "x.png"],
            "RSANet is a fusion network",
            marks=pytest.mark.skipif(find_spec("tensorly") is None, reason="needs the demo extra"),
        ),
        (["train", "no_such_recipe"], "no recipe"),
        (["list", "--task", "segmentation"], "classification or fusion"),
        (["list", "nothing*"], "no model is named"),
        (["verify", "md2f_mamba.nowhere"], "md2f_mamba.nowhere"),
    ],
)
def test_a_mistake_ends_with_one_line_and_exit_code_2(run, args, text, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    code, out, err = run(*args)
    assert code == 2
    assert out == ""
    assert text in err
    assert len(err.strip().splitlines()) == 1
    assert list(tmp_path.iterdir()) == []


def test_several_arrays_are_listed_with_the_argument_that_chooses(run, tmp_path):
    path = tmp_path / "two.npz"
    np.savez(path, first=np.zeros((6, 6, 4)), second=np.zeros((6, 6, 5)))
    code, _, err = run("classify", path, "-m", "md2f_mamba", "-o", tmp_path / "x.npy")
    assert code == 2
    assert "first" in err and "(6, 6, 5)" in err and "give --variable by name" in err


@pytest.mark.slow
def test_the_demo_classifies_the_scene_and_draws_the_map(run, tmp_path):
    pytest.importorskip("matplotlib")
    code, out, err = run("demo", "-o", tmp_path)
    assert code == 0, err
    for word in ("Corn", "OA", "kappa", "took", "indian_pines_map.png"):
        assert word in out
    assert (tmp_path / "indian_pines_map.png").read_bytes().startswith(b"\x89PNG")
    with np.load(tmp_path / "indian_pines_map.npz") as arrays:
        assert arrays["labels"].shape == (145, 145)
        assert set(np.unique(arrays["labels"])) <= set(range(1, 17))


def test_an_exported_weight_is_a_model_of_its_own(run, tmp_path):
    code, out, err = run("export", "rsanet.ikonos", tmp_path / "mine", "--repo-id", "maker/rsanet")
    assert (code, out, err) == (0, f"wrote {tmp_path / 'mine'}\n", "")
    assert {path.name for path in (tmp_path / "mine").iterdir()} == {
        *("config.json", "README.md", "model.safetensors", "transform.safetensors")
    }
    assert 'create_model("hf-hub:maker/rsanet")' in (tmp_path / "mine" / "README.md").read_text(encoding="utf-8")
    code, out, _ = run("verify", tmp_path / "mine")
    assert code == 0 and out.startswith("ok  ")
    code, _, err = run("export", "rsanet.ikonos", tmp_path)
    assert code == 2 and "holds something other than a model" in err


@pytest.fixture
def interrupted(run, monkeypatch):
    """Run a command that is interrupted once so many writes of its rows are done."""
    from hsmamba.data.spool import Spool
    from hsmamba.engine.classification import windows
    from hsmamba.engine.fusion import job

    monkeypatch.setattr(windows, "_WINDOW_BYTES", 1)
    monkeypatch.setattr(job, "_FINISHED", 1)
    usual = Spool.write

    def call(writes, *args):
        left = writes

        def write(self, *rows):
            nonlocal left
            if not left:
                raise KeyboardInterrupt
            left -= 1
            usual(self, *rows)

        with monkeypatch.context() as patch:
            patch.setattr(Spool, "write", write)
            return run(*args)

    return call


@pytest.fixture
def small(tmp_path):
    """A classifier of small patches, so that a small scene has many windows."""
    torch.manual_seed(0)
    model = hsmamba.create_model("lda", in_chans=4, num_classes=3, windows=(1, 3))
    torch.nn.init.normal_(model.head.weight)
    pixels = np.random.default_rng(0).normal(size=(50, 10))
    return hsmamba.save_pretrained(model, tmp_path / "small", transform=Compose([Standardise(), PCA(4)]).fit(pixels))


@pytest.mark.parametrize("suffix", [".npz", ".tif"])
def test_an_interrupted_map_goes_on_with_the_same_result(run, interrupted, small, scene_file, tmp_path, suffix):
    if suffix == ".tif":
        pytest.importorskip("rasterio")
    out, whole = tmp_path / f"map{suffix}", tmp_path / f"whole{suffix}"
    args = ("classify", scene_file, "-m", small, "-o", out)
    assert run("classify", scene_file, "-m", small, "-o", whole)[0] == 0
    code, _, err = interrupted(2, *args)
    assert code == 130 and "--resume goes on there" in err and not out.exists()
    code, _, err = interrupted(1, *args, "--resume")
    assert code == 130 and "going on after" in err
    code, _, err = run(*args, "--tta", "--resume")
    assert code == 2 and "is another job (tta: false there, true here)" in err
    code, _, err = run(*args, "--resume")
    assert code == 0 and "going on after" in err
    assert read_map(out) == read_map(whole)
    assert not [path.name for path in tmp_path.iterdir() if path.name.startswith(".")]


def read_map(path):
    if path.suffix == ".npz":
        with np.load(path) as arrays:
            return arrays["labels"].tobytes(), arrays["confidence"].tobytes()
    rasterio = pytest.importorskip("rasterio")
    with rasterio.open(path) as file, rasterio.open(path.with_stem(f"{path.stem}_confidence")) as beside:
        return file.read().tobytes(), beside.read().tobytes()


def test_without_resume_an_interrupted_map_begins_anew_and_that_is_said(run, interrupted, small, scene_file, tmp_path):
    args = ("classify", scene_file, "-m", small, "-o", tmp_path / "map.npz")
    assert interrupted(2, *args)[0] == 130
    code, _, err = run(*args)
    assert code == 0 and "begins anew" in err and "--resume" in err
    assert not [path.name for path in tmp_path.iterdir() if path.name.startswith(".")]


def test_an_interrupted_fusion_goes_on_with_the_same_result(run, interrupted, tmp_path):
    from tests.engine.fusion.toys import make

    rng = np.random.default_rng(0)
    np.save(tmp_path / "ms.npy", rng.random((12, 10, 4)).astype(np.float32))
    np.save(tmp_path / "pan.npy", rng.random((48, 40)).astype(np.float32))
    model = hsmamba.save_pretrained(make("rsanet", depth=1, recursions=1), tmp_path / "model", data={"maximum": 1.0})
    args = ("fuse", tmp_path / "ms.npy", tmp_path / "pan.npy", "-m", model, "--tile", 4, "-o")
    assert run(*args, tmp_path / "whole.npy")[0] == 0
    assert interrupted(11, *args, tmp_path / "fused.npy")[0] == 130
    code, _, err = run(*args, tmp_path / "fused.npy", "--resume")
    assert code == 0 and "going on after 11 of 48 rows" in err
    assert (tmp_path / "fused.npy").read_bytes() == (tmp_path / "whole.npy").read_bytes()


def test_an_area_limits_a_map_and_an_image(run, small, tmp_path):
    rasterio = pytest.importorskip("rasterio")
    rng = np.random.default_rng(0)
    scene = write_tif(tmp_path / "scene.tif", rng.normal(size=(24, 24, 10)).astype(np.float32))
    write_geojson(tmp_path / "area.geojson", [(box(3, 4, 9, 12), {"a": 1, "b": 2})])
    files = ("-o", tmp_path / "part.tif", "--area", tmp_path / "area.geojson", "--cog")
    for args in (("-o", tmp_path / "whole.tif"), files):
        assert run("classify", scene, "-m", small, *args)[0] == 0
    with rasterio.open(tmp_path / "part.tif") as part, rasterio.open(tmp_path / "whole.tif") as whole:
        found, labels = part.read(1), whole.read(1)
    want = np.zeros_like(labels)
    want[3:12, 4:16] = labels[3:12, 4:16]
    np.testing.assert_array_equal(found, want)
    code, _, err = run("classify", tmp_path / "scene.tif", "-m", small, "-o", tmp_path / "area.geojson", *files[2:4])
    assert code == 2 and "choose .tif" in err


def test_tiles_and_a_virtual_raster_become_the_map_of_the_whole(run, small, tmp_path):
    rasterio = pytest.importorskip("rasterio")
    cube = np.random.default_rng(0).normal(size=(24, 20, 10)).astype(np.float32)
    parts = [(0, 0, 14, 20), (14, 0, 24, 9), (14, 9, 24, 20)]
    tiles = [write_tile(tmp_path / f"{k}.tif", cube[a:c, b:d], a, b) for k, (a, b, c, d) in enumerate(parts)]
    scenes = {
        "whole": [write_tif(tmp_path / "scene.tif", cube)],
        "tiles": tiles,
        "vrt": [write_vrt(tmp_path / "all.vrt", tiles, cube.shape)],
    }
    found = {}
    for name, paths in scenes.items():
        out = tmp_path / f"{name}_map.tif"
        code, _, err = run("classify", *paths, "-m", small, "-o", out)
        assert code == 0, err
        with rasterio.open(out) as file:
            found[name] = file.read().tobytes(), file.transform, file.crs
    assert found["tiles"] == found["vrt"] == found["whole"]
