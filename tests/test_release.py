"""`tools/release.py`: what it says of a checkout and of a wheel."""

import hashlib
import json
import subprocess
import zipfile

import pytest

from tests.conftest import ROOT
from tests.zoo.samples import CONTENT, RECORD

pytest.importorskip("hatchling", reason="hatch_build.py names the kernels")


@pytest.fixture(scope="module")
def release():
    import importlib.util

    spec = importlib.util.spec_from_file_location("release", ROOT / "tools" / "release.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def tree(tmp_path):
    """A checkout of version 1.2.0 with one weight, everything right."""
    root = tmp_path / "tree"
    (root / "hsmamba" / "weights" / "tiny.first").mkdir(parents=True)
    (root / "hsmamba" / "_version.py").write_text('__version__ = "1.2.0"\n')
    (root / "CITATION.cff").write_text("cff-version: 1.2.0\nversion: 1.2.0\n")
    (root / "CHANGELOG.md").write_text("# Changelog\n\n## 1.2.0 - 2026-01-31\n\n## 1.1.0 - 2025-01-31\n")
    (root / "hatch_build.py").write_text((ROOT / "hatch_build.py").read_text(encoding="utf-8"), encoding="utf-8")
    for which in ("model", "transform"):
        (root / "hsmamba" / "weights" / "tiny.first" / f"{which}.safetensors").write_bytes(CONTENT[which])
    manifest = {"schema": 1, "weights": {"tiny.first": {**RECORD, "hub": None}}}
    (root / "weights_manifest.json").write_text(json.dumps(manifest))
    for command in (["init", "-q"], ["add", "-A"], ["commit", "-q", "-m", "First"]):
        who = ["-c", "user.name=x", "-c", "user.email=x@x.org"]
        subprocess.run(["git", *who, *command], cwd=root, check=True)
    return root


def wrong(checks):
    return [str(check) for check in checks if check.wrong]


def test_a_checkout_that_is_ready(release, tree):
    checks = list(release.check_tree(tree))
    assert len(checks) == 5 and not wrong(checks)
    assert str(checks[0]) == "ok    CITATION.cff has 1.2.0"


def test_what_is_wrong_with_a_checkout_is_named(release, tree):
    (tree / "CHANGELOG.md").write_text("# Changelog\n\n## 1.2.0 - unreleased\n")
    (tree / "CITATION.cff").write_text("version: 1.1.0\n")
    subprocess.run(["git", "tag", "v1.2.0"], cwd=tree, check=True)
    (tree / "hsmamba" / "weights" / "tiny.first" / "model.safetensors").unlink()
    found = wrong(release.check_tree(tree))
    told = ("it has 1.1.0", "heading is '1.2.0 - unreleased'", "v1.2.0 is there", "3 files", "tiny.first")
    assert len(found) == 5 and all(text in line for line, text in zip(found, told, strict=True))


def wheel_of(release, tree, *, leave_out=(), name="hsmamba-1.2.0-py3-none-any.whl", **more):
    kernels = [f"ops/lib/{key}" for key in release.runpy.run_path(str(tree / "hatch_build.py"))["TARGETS"]]
    files = {f"hsmamba/{kernel}": b"kernel" for kernel in kernels}
    files |= {f"hsmamba/weights/tiny.first/{which}.safetensors": CONTENT[which] for which in ("model", "transform")}
    files["hsmamba/weights_manifest.json"] = (tree / "weights_manifest.json").read_bytes()
    with zipfile.ZipFile(tree.parent / name, "w") as wheel:
        for path, content in (files | more).items():
            if path not in leave_out:
                wheel.writestr(path, content)
    return tree.parent / name


def test_a_wheel_is_held_against_its_checkout(release, tree, monkeypatch):
    assert not wrong(release.check_wheel(wheel_of(release, tree), tree))
    gone = "hsmamba/ops/lib/scan-windows-x86_64.dll"
    path = wheel_of(
        release, tree, leave_out=[gone, "hsmamba/weights_manifest.json"], name="hsmamba-1.1.0-py3-none-any.whl",
        **{"hsmamba/weights/tiny.first/model.safetensors": b"other", "hub_weights/x": b""},
    )  # fmt: skip
    monkeypatch.setattr(release, "WHEEL_MB", 1e-6)
    told = ("MB is the most", "1.1.0", "scan-windows-x86_64.dll", "tiny.first/model", "another", "hub_weights/x")
    found = wrong(release.check_wheel(path, tree))
    assert len(found) == 6 and all(text in line for line, text in zip(found, told, strict=True))


def test_a_weight_of_the_hub_alone_may_be_missing_in_the_wheel(release, tree):
    manifest = {"schema": 1, "weights": {"tiny.first": RECORD}}
    (tree / "weights_manifest.json").write_text(json.dumps(manifest))
    place = "hsmamba/weights/tiny.first"
    path = wheel_of(release, tree, leave_out=[f"{place}/model.safetensors", f"{place}/transform.safetensors"])
    checks = list(release.check_wheel(path, tree))
    assert not wrong(checks) and any(check.what.startswith("0 files of weights") for check in checks)


def test_a_folder_must_hold_one_wheel_and_one_source_distribution(release, tree, tmp_path):
    assert "0 and 0" in wrong(release.check_built(tmp_path / "none", tree))[0]
    assert hashlib.sha256(CONTENT["model"]).hexdigest() == RECORD["sha256"]
