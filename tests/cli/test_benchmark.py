"""`hsmamba benchmark`: what it writes."""

import pytest

from tests.engine.benchmark.suites import CLASSIFICATION, write


@pytest.mark.slow
def test_tables_and_picture_lie_beside_the_rows(run, tmp_path, monkeypatch):
    pytest.importorskip("matplotlib", reason="needs the demo extra")
    suite = write(tmp_path, CLASSIFICATION)
    code, out, err = run("benchmark", suite, "-o", tmp_path / "out")
    assert code == 0, err
    assert {path.suffix for path in (tmp_path / "out").glob("trial.*")} >= {".csv", ".md", ".tex", ".svg"}
    assert "differences from small in" in out
    text = (tmp_path / "out" / "trial.svg").read_text(encoding="utf-8")
    assert "muufl_crop, random" in text and "OA less that of small" in text
    monkeypatch.setattr("hsmamba._optional.is_there", lambda module: False)
    assert (
        'matplotlib is not installed (pip install "hsmamba[demo]")'
        in run("benchmark", suite, "-o", tmp_path / "out")[1]
    )
