"""The words of the command line in errors and warnings, its progress, and its samples."""

import json

import numpy as np
import pytest

import hsmamba
from hsmamba.cli._running import begin, in_options
from hsmamba.engine.pace import deadline
from hsmamba.errors import HsmambaWarning
from tests.engine.fusion import toys


class Param:
    def __init__(self, name, *opts):
        self.name, self.opts = name, opts


@pytest.fixture
def command():
    names = ("nan", "classes", "maximum", "labels", "labels_field", "epochs", "resume", "scale")
    begin([*(Param(name, f"--{name.replace('_', '-')}") for name in names), Param("scene", "scene")])
    yield
    begin([])


@pytest.mark.parametrize(
    ("said", "meant"),
    [
        ('pass nan="mask" (--nan mask) to leave them out', "pass --nan mask to leave them out"),
        ('pass nan="mask" to leave them out', "pass --nan mask to leave them out"),
        ("by classes=[1000, 2000, 3000]", "by --classes 1000,2000,3000"),
        ("a pair: maximum=(2047, 255)?", "a pair: --maximum 2047,255?"),
        ("pass scale=0.5 (--scale 0.5). If", "pass --scale 0.5. If"),
        ("open it with labels=...", "open it with --labels"),
        ("give maximum=, what is 1", "give --maximum, what is 1"),
        ("leave epochs= and lr= out", "leave --epochs and lr= out"),
        ("give it as root= (--data on the command line) or", "give it as --data or"),
        ("hsmamba.fuse(model, nan='mask') does", "hsmamba.fuse(model, nan='mask') does"),
        ("labels_field=... (--labels-field) by name", "--labels-field by name"),
        ("scene= is no option", "scene= is no option"),
    ],
)
def test_errors_name_the_options_of_the_command(command, said, meant):
    assert in_options(said) == meant


def test_bars_are_not_for_files(run, tmp_path):
    ms, pan = hsmamba.data.load_sample_pair()
    np.save(tmp_path / "ms.npy", ms)
    np.save(tmp_path / "pan.npy", pan)
    code, out, err = run("fuse", tmp_path / "ms.npy", tmp_path / "pan.npy", "-m", "GSA", "-o", tmp_path / "out.npy")
    assert (code, err) == (0, "") and "wrote" in out


def test_an_epoch_that_is_longer_than_the_time_says_so():
    pairs = hsmamba.data.wald_pairs(*toys.images(32, 32), sensor="QB", maximum=2047)
    with pytest.warns(HsmambaWarning, match="the time is over at step 1 of 3; the run ends with this epoch"):
        result = hsmamba.finetune(
            toys.make("rsanet"), pairs, epochs=5, steps=3, batch_size=1, crop=16, callback=deadline(0), progress=False
        )
    assert len(result.history) == 1 and "\n" not in repr(result)


def test_the_demo_writes_files_that_the_commands_take(run, tmp_path):
    code, out, err = run("demo", "--files", "-o", tmp_path, "--json")
    assert code == 0, err
    scene, labels, lidar, ms, pan = json.loads(out)["files"]
    assert run("fuse", ms, pan, "-m", "ramsf.landsat8", "-o", tmp_path / "sharp.npy")[0] == 0
    assert run("classify", scene, "--aux", lidar, "-m", "msfmamba.muufl", "-o", tmp_path / "map.npy")[0] == 0
    text = run("demo", "--files", "-o", tmp_path)[1]
    assert f"hsmamba finetune {scene} --labels {labels}" in text and f"hsmamba fuse {ms} {pan}" in text
    assert f"hsmamba classify {scene} --aux {lidar} -m msfmamba.muufl" in text
