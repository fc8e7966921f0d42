"""The processing scripts of QGIS: the command lines that they make, how these run, and the scripts in QGIS itself."""

import importlib.util
import os
import shutil
import subprocess
import sys
import time

import numpy as np
import pytest

from tests.conftest import ROOT

FOLDER = ROOT / "integrations" / "qgis"
QGIS = shutil.which("qgis_process.bin") or shutil.which("qgis_process")  # Debian 12's wrapper hands on a wrong option


@pytest.fixture(scope="module")
def commands():
    spec = importlib.util.spec_from_file_location("hsmamba_command", FOLDER / "hsmamba_command.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def taken(command):
    """What our command line makes of the arguments, without running them."""
    from typer.main import get_command

    from hsmamba.cli import load_app

    verb = get_command(load_app()).commands[command[1]]
    return verb.make_context(command[1], list(command[2:])).params


def test_the_command_line_takes_what_the_classifying_script_says(commands, tmp_path):
    scene, aux, area = (tmp_path / name for name in ("a scene.tif", "lidar.tif", "field.gpkg"))
    for path in (scene, aux, area):
        path.touch()
    out = str(tmp_path / "map.tif")
    source = commands.source_file(f"{area}|layername=crops")
    found = taken(commands.classify_command(str(scene), " my/model ", out, aux=str(aux), area=source, smooth=True))
    assert [str(path) for path in found["scene"]] == [str(scene)] and found["model"] == "my/model"
    assert [str(path) for path in found["out"]] == [out] and str(found["area"]) == str(area)
    assert (str(found["aux"]), found["regularise"], found["nan"]) == (str(aux), "on", "mask")
    plain = taken(commands.classify_command(str(scene), "m", out, mask=False))
    assert (plain["aux"], plain["area"], plain["regularise"], plain["nan"]) == (None, None, "off", "raise")
    assert commands.confidence_file(out) == str(tmp_path / "map_confidence.tif")


def test_the_command_line_takes_what_the_sharpening_script_says(commands):
    found = taken(commands.sharpen_command("ms.tif", "pan.tif", "w", "out.tif", adapt=60.0, maximum="2047"))
    assert (found["ms"], found["guide"], str(found["out"])) == ("ms.tif", "pan.tif", "out.tif")
    assert (found["model"], found["adapt"], found["maximum"], found["nan"]) == ("w", 60, "2047", "mask")
    plain = taken(commands.sharpen_command("ms.tif", "pan.tif", "GSA", "out.tif", mask=False))
    assert (plain["adapt"], plain["maximum"], plain["nan"]) == (None, None, "raise")


def test_what_cannot_be_run_is_refused(commands):
    with pytest.raises(commands.CommandError, match="no model is named"):
        commands.classify_command("a.tif", " ", "out.tif")
    with pytest.raises(commands.CommandError, match=r"give it the ending \.tif"):
        commands.sharpen_command("a.tif", "b.tif", "GSA", "out.img")
    with pytest.raises(commands.CommandError, match="whole path"):
        commands.run(["no-such-program", "x"], print)


def python(code):
    return [sys.executable, "-u", "-c", code]


def test_output_is_handed_on_and_an_error_is_the_last_line(commands, monkeypatch):
    monkeypatch.setenv("PYTHONHOME", "/nowhere")  # as QGIS sets it on some systems
    told = []
    commands.run(python("import sys; print('one'); print('two', file=sys.stderr)"), told.append)
    assert told[1:] == ["one", "two"]
    with pytest.raises(commands.CommandError, match="hsmamba: no"):
        commands.run(python("print('hsmamba: no'); raise SystemExit(2)"), told.append)


def test_a_run_can_be_stopped(commands):
    told, start = [], time.monotonic()
    with pytest.raises(commands.CommandError, match="stopped"):
        commands.run(python("import time; print('here'); time.sleep(60)"), told.append, lambda: "here" in told)
    assert time.monotonic() - start < 30


@pytest.mark.slow
@pytest.mark.skipif(QGIS is None, reason="needs QGIS (qgis_process)")
def test_qgis_runs_the_scripts(tmp_path):
    pytest.importorskip("rioxarray", reason="needs the geo extra")
    import rasterio

    import hsmamba

    scripts = tmp_path / ".local/share/QGIS/QGIS3/profiles/default/processing/scripts"
    shutil.copytree(FOLDER, scripts)
    program = tmp_path / "hsmamba"
    program.write_text(
        f'#!/bin/sh\nPYTHONPATH="{ROOT}" exec "{sys.executable}" -c "from hsmamba.cli import main; main()" "$@"\n'
    )
    program.chmod(0o755)
    home = {"HOME": str(tmp_path), "XDG_RUNTIME_DIR": str(tmp_path), "QT_QPA_PLATFORM": "offscreen"}
    environment = {
        "PATH": os.defpath,
        **home,
    }  # of a virtual environment, QGIS would take the Python and not find itself

    def qgis(*arguments):
        ended = subprocess.run(
            [QGIS, *map(str, arguments)], env=environment, capture_output=True, text=True, check=False, cwd=tmp_path
        )
        return ended.returncode, ended.stdout + ended.stderr

    scene, labels, _, ms, pan = hsmamba.data.write_samples(tmp_path)
    opened = hsmamba.open_scene(scene, labels=labels)
    split = hsmamba.data.random_split(opened.labels, count=12, seed=0, cap=True)
    model = hsmamba.create_model("lda", num_classes=opened.num_classes)
    hsmamba.finetune(model, opened, split, progress=False)
    folder = hsmamba.save_pretrained(model, tmp_path / "model")
    qgis("plugins", "enable", "processing")
    out = tmp_path / "map.tif"
    code, text = qgis(
        "run",
        "script:hsmamba_classify",
        "--",
        f"INPUT={scene}",
        f"MODEL={folder}",
        f"PROGRAM={program}",
        f"OUTPUT={out}",
    )
    assert code == 0, text
    with rasterio.open(out) as found, rasterio.open(tmp_path / "map_confidence.tif") as sure:
        np.testing.assert_array_equal(found.read(1), hsmamba.classify(model, opened, progress=False)[0])
        assert found.colormap(1) and sure.read(1).max() <= 1
    assert out.with_suffix(".qml").is_file()
    sharp = tmp_path / "sharp.tif"
    code, text = qgis(
        *("run", "script:hsmamba_sharpen", "--", f"INPUT={ms}", f"GUIDE={pan}", "MODEL=GSA"),
        *(f"PROGRAM={program}", f"OUTPUT={sharp}"),
    )
    assert code == 0, text
    with rasterio.open(sharp) as found:
        assert (found.count, found.shape) == (7, (192, 256))
    code, text = qgis(
        "run",
        "script:hsmamba_sharpen",
        "--",
        f"INPUT={ms}",
        f"GUIDE={pan}",
        "MODEL=nothing",
        f"PROGRAM={program}",
        f"OUTPUT={sharp}",
    )
    assert code != 0 and "nothing" in text
