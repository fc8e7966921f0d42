"""The scan's benchmark: its peers compute the same, its table holds together."""

import pytest
import torch

from hsmamba.bench import scan as bench
from hsmamba.ops import available_backends, selective_scan
from tests.refusals import refused


@pytest.mark.parametrize("name", bench.CANDIDATES)
@pytest.mark.parametrize("length", [1, 7, 16, 21])
def test_every_candidate_computes_the_same_scan(name, length):
    inputs = bench.make_inputs(2, 6, length, 3, 2)
    u, delta, A, B, C, D, bias = inputs
    true = selective_scan(u, delta, A, B, C, D, None, bias, True, backend="reference")
    y = bench.CANDIDATES[name](*inputs)
    torch.testing.assert_close(y, true, rtol=1e-4, atol=1e-5)
    dy = torch.randn_like(y)
    for got, expected in zip(torch.autograd.grad(y, inputs, dy), torch.autograd.grad(true, inputs, dy), strict=True):
        torch.testing.assert_close(got, expected, rtol=1e-3, atol=1e-4)


def test_the_table(monkeypatch):
    if not available_backends()["cpu"].available:
        pytest.skip(str(available_backends()["cpu"]))
    monkeypatch.setitem(bench.WORKLOADS, "tiny", (2, 8, 10, 4, 2))
    lines = []
    rows = bench.bench_scan(["tiny"], ["parallel scan"], rounds=2, say=lines.append)
    assert [row.candidate for row in rows] == ["hsmamba", "parallel scan"]
    assert all(row.forward_ms > 0 and row.both_ms > 0 and row.both_limit_ms >= row.forward_limit_ms > 0 for row in rows)
    assert len(lines) == 5
    assert "exponentials/s" in lines[0]
    assert f"tiny {rows[0].forward_limit_ms:.2f} / {rows[0].both_limit_ms:.2f}" in lines[1]
    assert lines[3].split()[:2] == ["tiny", "hsmamba"]


def test_loops_have_no_backward_on_long_sequences(monkeypatch):
    if not available_backends()["cpu"].available:
        pytest.skip(str(available_backends()["cpu"]))
    monkeypatch.setitem(bench.WORKLOADS, "tiny", (2, 8, 10, 4, 2))
    monkeypatch.setattr(bench, "QUADRATIC_LIMIT", 1)
    lines = []
    rows = bench.bench_scan(["tiny"], ["reference loop"], rounds=1, say=lines.append)
    assert rows[1].both_ms is None
    assert rows[0].both_ms > 0
    assert lines[4].split()[-4] == "-"


def test_the_limit_counts_every_byte_once_and_every_exponential():
    inputs = bench.make_inputs(*bench.WORKLOADS["W2a"])
    assert bench.moved_bytes("W2a") == sum(x.nbytes for x in inputs) + inputs[0].nbytes
    b, d, length, n, _ = bench.WORKLOADS["W2a"]
    assert bench.limits_ms("W2a", bench.Machine(1, 1e9, 1e15)) == pytest.approx(
        (b * d * length * n / 1e6, 2 * b * d * length * n / 1e6)
    )
    assert bench.limits_ms("W2a", bench.Machine(1, 1e15, 1e9))[0] == pytest.approx(bench.moved_bytes("W2a") / 1e6)


test_unknown_names_are_refused = refused(
    (lambda: bench.bench_scan(["W9"]), ValueError, "knows no 'W9'; there are: W1, "),
    (lambda: bench.bench_scan(["W1"], ["mine"]), ValueError, "knows no 'mine'; there are: hsmamba, "),
)
