"""Two checkouts in turn: here the same one twice, and one that computes something else."""

import shutil

import numpy as np
import pytest

from hsmamba.bench import against as bench
from tests.conftest import ROOT
from tests.refusals import refused


@pytest.mark.slow
def test_a_checkout_beside_itself_does_the_same():
    lines = []
    rows = bench.bench_against(ROOT, ["lda"], ("scene", "forward", "step"), rounds=1, size=16, say=lines.append)
    assert [(row.model, row.work) for row in rows] == [("lda", work) for work in ("scene", "forward", "step")]
    assert [row.pixels for row in rows] == [16 * 96, 16, 3 * 16]
    assert all(row.ours > 0 and row.theirs > 0 and row.unlike == 0 for row in rows)
    assert len(lines) == 2 + len(rows) and lines[1] == bench.HEADER and len(lines[2]) == len(bench.HEADER)


@pytest.mark.slow
def test_a_checkout_that_computes_something_else_is_told(tmp_path):
    for name in ("hsmamba", "weights_manifest.json"):
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__", "weights"))
        elif (ROOT / name).exists():
            shutil.copy(ROOT / name, tmp_path / name)
    module = tmp_path / "hsmamba/models/lda.py"
    module.write_text(module.read_text().replace("return features", "return 0 * features + torch.rand(()) - 0.5"))
    (row,) = bench.bench_against(tmp_path, ["lda"], ("forward",), rounds=1, size=16, say=lambda _: None)
    assert row.unlike > 0.01


def test_results_are_compared_by_their_kind():
    labels = np.array([[1, 2], [3, 4]])
    assert bench._unlike(labels, np.array([[1, 2], [3, 5]])) == 0.25
    assert bench._unlike(np.array([1.0, -2.0]), np.array([1.0, -1.5])) == 0.25
    assert bench._unlike(labels, labels[:1]) == 1


test_misuse_is_refused = refused(
    (lambda: bench.bench_against("/nowhere"), ValueError, ["hsmamba/__init__.py", "'/nowhere'"]),
    (lambda: bench.bench_against(ROOT, ["unknown"]), ValueError, ["no model unknown"]),
)
