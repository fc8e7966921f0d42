"""The benchmark of whole networks: every peer computes what ours does, the table holds together."""

import time
from functools import partial

import pytest
import torch

from hsmamba.bench import models as bench
from hsmamba.bench.measure import measure
from hsmamba.ops import available_backends, selective_scan

TINY = {
    "msfmamba": lambda: bench.msfmamba_subjects(batch=2),
    "rsanet": lambda: bench.rsanet_subjects(side=12),
    "mmapp": lambda: bench.mmapp_subjects(side=20),
    "ramsf": lambda: bench.ramsf_subjects(side=12),
    "cf2n": lambda: bench.cf2n_subjects(side=12),
    "le_mamba": lambda: bench.le_mamba_subjects(side=16),
}


@pytest.mark.parametrize("name", bench.MODELS)
def test_every_peer_computes_the_same(name):
    for subject in TINY[name]():
        assert next(iter(subject.candidates)) == bench.OURS
        assert len(subject.candidates) > 1
        bench.check_equal(subject)


def test_a_peer_that_computes_something_else_is_refused():
    (subject,) = bench.ramsf_subjects(side=8)
    ours = subject.candidates[bench.OURS]
    for wrong in (lambda: ours.result() * 1.001, lambda: ours.result() * float("nan")):
        spoilt = subject._replace(candidates={**subject.candidates, "transcription": ours._replace(result=wrong)})
        with pytest.raises(RuntimeError, match="ramsf, forward: transcription differs from hsmamba by"):
            bench.check_equal(spoilt)


def test_the_training_step_moves_the_weights_of_its_own_network_alone():
    _, step = bench.msfmamba_subjects(batch=2)
    ours = step.candidates[bench.OURS]
    first, again = ours.result(), ours.result()
    assert first.numel() == sum(p.numel() for p in bench._create("msfmamba_houston2013").parameters())
    assert not torch.equal(first, again)  # the step between them has changed the weights
    bench.check_equal(bench.msfmamba_subjects(batch=2)[1])


def test_a_scan_inside_the_block_is_the_peers():
    seen = []

    def peer(u, *rest):
        seen.append([None if x is None else tuple(x.shape) for x in (u, *rest)])
        return u, u

    u = torch.randn(2, 6, 5)
    with bench.scanning_with(peer):
        y = selective_scan(u, u, -torch.ones(6, 3), torch.ones(2, 3, 5), torch.ones(2, 3, 5), delta_softplus=True)
        assert bench.PEER in available_backends()
    assert torch.equal(y, u)
    assert seen == [[(2, 6, 5), (2, 6, 5), (6, 3), (2, 1, 3, 5), (2, 1, 3, 5), None, None]]
    assert bench.PEER not in available_backends()


def test_the_table(monkeypatch):
    monkeypatch.setattr(bench, "MODELS", {"msfmamba": TINY["msfmamba"], "rsanet": TINY["rsanet"]})
    lines = []
    rows = bench.bench_models(["msfmamba", "rsanet"], rounds=1, say=lines.append)
    scans = ["hsmamba", "reference loop", "parallel scan"]
    assert [row.candidate for row in rows] == [*scans, *scans, "hsmamba", "transcription"]
    assert [row.work for row in rows] == ["forward"] * 3 + ["training step"] * 3 + ["forward"] * 2
    for row in rows:
        assert row.ms > 0
        assert (row.time_share is None) == (row.candidate == bench.OURS)
    assert rows[7].time_share == rows[6].ms / rows[7].ms
    assert rows[7].goal == pytest.approx(1 / 3)
    assert len(lines) == 3 + len(rows)
    assert "threads" in lines[0]
    assert lines[2] == bench.HEADER
    assert lines[3].split()[:4] == ["msfmamba", "batch", "2", "forward"]


def test_unknown_models_are_refused():
    with pytest.raises(ValueError, match="knows no 'resnet'; there are: msfmamba, rsanet, "):
        bench.bench_models(["resnet"])


def test_slow_runs_are_not_repeated_and_the_others_take_turns(monkeypatch):
    monkeypatch.setattr("hsmamba.bench.measure.ENOUGH_SECONDS", 0.1)
    order = []
    runs = {name: partial(order.append, name) for name in "ab"}
    measured = measure(runs | {"slow": lambda: time.sleep(0.2)}, rounds=2)
    assert order == ["a", "b"] * 3
    assert measured["slow"].ms >= 200
    assert 0 < measured["a"].ms < 200


def test_peak_memory_sees_what_a_run_took_and_gave_back():
    extra = measure({"": lambda: torch.ones(1 << 24).sum()}, rounds=1)[""].extra  # 64 MiB
    if extra is None:
        pytest.skip("this system does not tell a process its peak memory")
    assert 0.9 * 2**26 < extra < 2**27
