"""`hsmamba finetune` of a fusion network on a pair of images: what it trains, tells, writes and refuses."""

import json
import sys

import numpy as np
import pytest

import hsmamba
from tests.engine.fusion.toys import images, make

QUICK = ("--epochs", 2, "--steps", 3)


@pytest.fixture
def pair(tmp_path):
    ms, pan = images(48, 48)
    np.save(tmp_path / "ms.npy", ms.astype(np.float32))
    np.save(tmp_path / "pan.npy", pan.astype(np.float32))
    return ("--ms", tmp_path / "ms.npy", "--guide", tmp_path / "pan.npy")


@pytest.fixture
def base(tmp_path):
    return hsmamba.save_pretrained(make(), tmp_path / "base", data={"sensor": "QB"}, license="MIT")


def test_48_pixels_are_trained_on_judged_saved_and_fused(run, pair, base, tmp_path):
    out = tmp_path / "run"
    code, text, err = run("finetune", *pair, "-m", base, "-o", out, *QUICK, "--maximum", 2047)
    assert code == 0, err
    assert all(name in text for name in ("EXP", "GSA", "ramsf", "best epoch", "its licence is that of"))
    assert "is better on the held-out rows of ms: ERGAS" in text  # after six steps
    config = json.loads((out / "model" / "config.json").read_text())
    assert config["data"] | {"sensor": "QB", "maximum": 2047.0, "name": "ms", "seed": 0} == config["data"]
    assert config["license"] == "MIT" and "ERGAS" in config["metrics"]["reduced resolution"]
    for model in (out, out / "model"):
        code, _, err = run("fuse", pair[1], pair[3], "-m", model, "-o", tmp_path / "fused.npy")
        assert code == 0, err
        assert np.load(tmp_path / "fused.npy").shape == (192, 192, 4)


def test_an_architecture_gets_the_sizes_of_the_pair(run, tmp_path):
    generator = np.random.default_rng(0)
    for name, shape in (("ms", (32, 32, 3)), ("rgb", (64, 64, 2))):
        np.save(tmp_path / f"{name}.npy", generator.random(shape))
    code, out, err = run(
        "finetune", "--ms", tmp_path / "ms.npy", "--guide", tmp_path / "rgb.npy", "-m", "rsanet", "-o", tmp_path / "r",
        "--epochs", 1, "--steps", 1, "--json",
    )  # fmt: skip
    assert code == 0, err
    told = json.loads(out)
    model = hsmamba.create_model(f"local-dir:{told['model']}")
    assert (model.in_chans, model.guide_chans, model.scale) == (3, 2, 2)
    assert model.record["data"]["sensor"] == "generic" and model.record["license"] == "unknown"
    assert told["best_epoch"] == 1 and {"EXP", "rsanet"} <= next(iter(told["test"]["reduced"].values())).keys()


@pytest.mark.slow
def test_an_interrupted_run_resumes_and_a_finished_one_is_replaced_on_request_alone(
    run, pair, base, tmp_path, monkeypatch
):
    def args(out, *more):
        return ("finetune", *pair, "-m", base, "-o", tmp_path / out, "--epochs", 3, "--steps", 2, "--json", *more)

    def interrupt(path, history):
        if len(history) == 2:
            raise KeyboardInterrupt

    whole = json.loads(run(*args("whole"))[1])
    monkeypatch.setattr(sys.modules["hsmamba.engine.training"], "write_log", interrupt)
    assert run(*args("broken"))[0] != 0
    monkeypatch.undo()
    code, _, err = run(*args("broken"))
    assert code == 2 and "--resume" in err and "--overwrite" in err
    assert json.loads(run(*args("broken", "--resume"))[1])["test"] == whole["test"]
    assert run(*args("broken", "--overwrite"))[0] == 0


def test_minutes_end_the_training(run, pair, base, tmp_path):
    args = ("finetune", *pair, "-m", base, "-o", tmp_path / "run", "--epochs", 50, "--steps", 1, "--minutes", 1e-6)
    assert run(*args)[0] == 0
    assert len((tmp_path / "run" / "history.csv").read_text().splitlines()) == 2
    assert "minutes is -1.0; it must be 0, for one epoch, or more" in run(*args[:-1], -1, "--overwrite")[2]


@pytest.mark.parametrize(
    ("args", "text"),
    [
        (["-m", "ramsf"], "give a labelled SCENE, or --ms and --guide"),
        (["-m", "ramsf", "--ms", "ms.npy"], "give --guide too"),
        (["-m", "ramsf", "--ms", "ms.npy", "--guide", "pan.npy", "--fraction", 0.1, "--labels", "x.tif"],
         "a pair of images has no use for --labels and --fraction; leave them out"),
        (["indian_pines", "--guide", "pan.npy"], "a pair of images has no use for SCENE; leave it out"),
        (["indian_pines", "--count", 5, "--steps", 3], "a labelled scene has no use for --steps; leave it out"),
        (["--ms", "ms.npy", "--guide", "pan.npy"], "give a fusion network with --model: bandwise, cf2n"),
        (["-m", "mim", "--ms", "ms.npy", "--guide", "pan.npy"], "mim is a classifier; a pair trains a fusion network"),
        (["-m", "ramsf", "--ms", "pan.npy", "--guide", "ms.npy"], "guide 48 x 48 pixels; the guide must have two or"),
        (["-m", "ramsf", "--ms", "ms.npy", "--guide", "pan.npy", "--test", 0.9], "It works with --test 0"),
    ],
)  # fmt: skip
def test_what_is_of_the_other_task_or_does_not_fit_is_refused(run, pair, tmp_path, monkeypatch, args, text):
    monkeypatch.chdir(tmp_path)
    code, out, err = run("finetune", *args, "-o", "run")
    assert (code, out) == (2, "")
    assert text in err and len(err.strip().splitlines()) == 1
    assert not (tmp_path / "run").exists()
