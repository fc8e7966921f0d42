"""The benchmark over scenes: what is counted, and that the table holds together."""

import pytest
import torch

import hsmamba
from hsmamba.bench import scene as bench
from hsmamba.layers.adaptive_conv import adaptive_conv
from hsmamba.layers.ssm import S6
from hsmamba.layers.window_attention import window_attention


class Taps(torch.nn.Module):
    def forward(self, x, taps, weight):
        return adaptive_conv(x, taps, weight)


class Attention(torch.nn.Module):
    def forward(self, x):
        return window_attention(x, x, x, torch.zeros(3, 2), heads=2, window=5)


class Scans(torch.nn.Module):
    def __init__(self, d, n, r, k):
        super().__init__()
        self.ssm = S6(d, n, r, scans=k)

    def forward(self, x):
        return self.ssm(x, orders=("rows", "columns", "rows back"), summed=True)


def test_the_scans_own_operations_are_counted():
    b, k, d, n, r, length = 2, 3, 5, 4, 2, 7
    projections = 2 * b * k * length * (d * (r + 2 * n) + r * d)
    assert bench.count_flops(S6(d, n, r, scans=k), (torch.randn(b, k, d, length),)) == (
        projections + 6 * b * k * d * length * n
    )
    assert bench.count_flops(Scans(d, n, r, k), (torch.randn(b, 1, d, 1, length),)) == (
        projections + 6 * b * k * d * length * n
    )


def test_the_operators_of_fusion_networks_are_counted():
    x, taps, weight = torch.randn(2, 3, 6, 7), torch.rand(2, 9, 6, 7), torch.randn(4, 3, 3, 3)
    assert bench.count_flops(Taps(), (x, taps, weight)) == 2 * 6 * 7 * (3 * 9 + 2 * 4 * 3 * 9)
    assert bench.count_flops(Attention(), (torch.randn(1, 6, 8, 9),)) == 2 * 8 * 9 * 25 * (4 * 3 + 3)


def test_the_table_has_every_way_of_every_model(monkeypatch):
    made = {
        "md2f_mamba": {"in_chans": 6, "num_classes": 3, "patch_size": 5, "dim": 8},
        "mim_v3": {"in_chans": 6, "num_classes": 3, "patch_size": 5, "dim": 8},
        "rsanet": {"dim": 4, "depth": 1, "recursions": 1},
    }
    monkeypatch.setattr(bench, "create_model", lambda name, **_: hsmamba.create_model(name, **made[name]))
    lines = []
    rows = bench.bench_scene(made, ["plain", "parallel scan"], rounds=1, size=16, say=lines.append)
    ways = [bench.OURS, "plain", "parallel scan"]
    assert [(row.model, row.candidate) for row in rows] == [(name, way) for name in made for way in ways]
    assert all(row.rate > 0 and row.share > 0 for row in rows)
    assert all(row.scene_seconds == pytest.approx(1e6 / row.rate) for row in rows)
    assert [row.times for row in rows[::3]] == [1, 1, 1]
    assert len(lines) == 2 + len(rows) and lines[1] == bench.HEADER
    assert lines[2].split()[:2] == ["md2f_mamba", "hsmamba"]


def test_the_patch_loop_gives_what_classify_gives():
    model = hsmamba.create_model("md2f_mamba", in_chans=6, num_classes=3, patch_size=5, dim=8)
    runs, pixels, _ = bench._classifying(model, 16, torch.device("cpu"))
    labels, confidence = runs[bench.OURS]()
    best, winners = runs["plain"]().max(1)
    assert pixels == labels.size
    assert (labels.ravel() == winners.numpy() + 1).all()
    torch.testing.assert_close(torch.from_numpy(confidence.ravel()), best.clone())


def test_the_size_follows_the_speed():
    model = hsmamba.create_model("md2f_mamba", in_chans=6, num_classes=3, patch_size=5, dim=8)
    assert bench._subject(model, None, 0.0, torch.device("cpu"))[1] == 16 * bench._WIDTH


def test_unknown_ways_are_refused():
    with pytest.raises(ValueError, match="knows no 'slow'; there are: plain, reference loop"):
        bench.bench_scene(beside=["slow"])
