"""`hsmamba bench models`: whole networks against the same computation without what makes ours fast.

A Mamba network is compared with itself on a pure-torch scan, the fall-back that runs where no CUDA kernel was built; a
fusion network with a transcription of its paper's equations. Both have the weights of ours, and must give the same
numbers before anything is timed.
"""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hsmamba.bench.measure import bandwidth, known, measure
from hsmamba.bench.peers import PEERS
from hsmamba.bench.transcriptions import cf2n, mmapp, ramsf, rsanet
from hsmamba.ops import scan_backend
from hsmamba.ops.backends import BACKENDS, choose_backend, forced_backend
from hsmamba.ops.inputs import ScanInputs
from hsmamba.ops.resampling import upsample
from hsmamba.zoo.factory import create_model
from hsmamba.zoo.official import load_official

OURS = "hsmamba"
SCANS: dict[str, str | None] = {OURS: None, "reference loop": "reference loop", "parallel scan": "parallel scan"}
TOLERANCE = 1e-4  # of the largest value: float32, sums in another order
PEER = "peer"  # name of the scan backend that exists inside `scanning_with`


class Candidate(NamedTuple):
    """One way to compute a network."""

    run: Callable[[], object]  # what is measured
    result: Callable[[], Tensor]  # what must be equal for all


class Subject(NamedTuple):
    """One pass of one network and the ways to compute it."""

    model: str
    size: str
    work: str
    candidates: dict[str, Candidate]
    goal: float | None = None  # the share of a peer's time and memory that ours may take at most


class Row(NamedTuple):
    """One candidate on one subject; None where a figure has no meaning or cannot be measured here."""

    model: str
    size: str
    work: str
    candidate: str
    ms: float
    extra: int | None  # peak bytes above what the process held before
    time_share: float | None  # ours / this one
    memory_share: float | None
    goal: float | None


@contextlib.contextmanager
def scanning_with(peer: Callable[..., tuple[Tensor, Tensor]]) -> Iterator[None]:
    """Run every selective scan inside a `with` block on one of `PEERS`: one more backend, as long as it lasts."""

    def scan(inputs: ScanInputs) -> tuple[Tensor, Tensor]:
        return peer(inputs.u, inputs.delta, inputs.A, inputs.B, inputs.C, inputs.D, inputs.delta_bias)

    BACKENDS[PEER] = BACKENDS["reference"]._replace(scan=scan, summary="a peer, for the benchmark")
    try:
        with scan_backend(PEER):
            yield
    finally:
        del BACKENDS[PEER]


def _forward(model: nn.Module, inputs: tuple[Tensor, ...], peer: str | None = None) -> Tensor:
    with torch.no_grad(), scanning_with(PEERS[peer]) if peer else contextlib.nullcontext():
        out: Tensor = model(*inputs)
    return out


def _forwards(model: nn.Module, inputs: tuple[Tensor, ...]) -> dict[str, Candidate]:
    runs = {name: partial(_forward, model.eval(), inputs, peer) for name, peer in SCANS.items()}
    return {name: Candidate(run, run) for name, run in runs.items()}


def _train(model: nn.Module, optimizer: torch.optim.Optimizer, inputs: tuple[Tensor, ...], peer: str | None) -> Tensor:
    """One training step on inputs whose last one is the labels; returns the gradients of all parameters."""
    *images, labels = inputs
    with scanning_with(PEERS[peer]) if peer else contextlib.nullcontext():
        optimizer.zero_grad()
        torch.autograd.backward(F.cross_entropy(model(*images), labels))
        optimizer.step()
    return torch.cat([x.grad.flatten() for x in model.parameters() if x.grad is not None])


def _training_step(model: nn.Module, inputs: tuple[Tensor, ...], peer: str | None) -> Candidate:
    """A network of its own for each candidate; the equal result is the gradients for two of the batch's samples."""

    def stepper(few: slice) -> Callable[[], Tensor]:
        own = copy.deepcopy(model).train()
        return partial(_train, own, torch.optim.AdamW(own.parameters(), lr=1e-4), tuple(x[few] for x in inputs), peer)

    return Candidate(stepper(slice(None)), stepper(slice(2)))


def msfmamba_subjects(batch: int = 128) -> list[Subject]:
    """MSFMamba in the official configuration of Houston 2013: forward, and a step of training with AdamW."""
    model, rng = _create("msfmamba_houston2013"), torch.Generator().manual_seed(1)
    inputs = torch.randn(batch, 30, 11, 11, generator=rng), torch.randn(batch, 1, 11, 11, generator=rng)
    labels = torch.randint(15, (batch,), generator=rng)
    step = {name: _training_step(model, (*inputs, labels), peer) for name, peer in SCANS.items()}
    size = f"batch {batch}"
    forward = Subject("msfmamba", size, "forward", _forwards(model, inputs))
    return [forward, Subject("msfmamba", size, "training step", step)]


def le_mamba_subjects(side: int = 64) -> list[Subject]:
    """LE-Mamba, tiny, on a tile of the size that it is trained on and tiles a scene by."""
    forward = _forwards(_create("le_mamba"), _images(side))
    return [Subject("le_mamba", f"{side} x {side}", "forward", forward)]


def rsanet_subjects(side: int = 256) -> list[Subject]:
    """RSANet beside its equations."""
    state = _released(rsanet.rsanet_shapes(**rsanet.RELEASED))
    _, guide, ms_up = _images(side)
    peer = partial(rsanet.rsanet, guide, ms_up, state, rsanet.RELEASED)
    return _beside_equations("rsanet", load_official("rsanet", state), side, peer, goal=1 / 3)


def mmapp_subjects(side: int = 256) -> list[Subject]:
    """MMAPP beside its equations."""
    state = _released(mmapp.mmapp_shapes(**mmapp.RELEASED))
    ms, guide, _ = _images(side)

    def peer() -> Tensor:
        return mmapp.mmapp(ms, guide, state, mmapp.RELEASED)[2]

    return _beside_equations("mmapp", load_official("mmapp", state), side, peer, goal=1 / 3)


def ramsf_subjects(side: int = 256) -> list[Subject]:
    """RAMSF beside its equations."""
    state = _released(ramsf.ramsf_shapes(**ramsf.RELEASED))
    ms, guide, ms_up = _images(side)
    peer = partial(ramsf.ramsf, guide, ms_up, ms, state, ramsf.RELEASED)
    return _beside_equations("ramsf", load_official("ramsf", state), side, peer, goal=1 / 2)


def cf2n_subjects(side: int = 256) -> list[Subject]:
    """CF2N beside its equations; no goal is set for it, and no network was published."""
    model = _create("cf2n")
    _, guide, ms_up = _images(side)
    peer = partial(cf2n.cf2n, guide, ms_up, model.state_dict(), depth=3)
    return _beside_equations("cf2n", model, side, peer)


def _beside_equations(
    name: str, model: nn.Module, side: int, equations: Callable[[], Tensor], goal: float | None = None
) -> list[Subject]:
    def transcription() -> Tensor:
        with torch.no_grad():
            return equations()

    ours = partial(_forward, model.eval(), _images(side))
    candidates = {OURS: Candidate(ours, ours), "transcription": Candidate(transcription, transcription)}
    return [Subject(name, f"{side} x {side}", "forward", candidates, goal)]


def _create(name: str) -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return create_model(name)


def _images(side: int) -> tuple[Tensor, Tensor, Tensor]:
    """MS (1, 8, side / 4, side / 4), guide (1, 1, side, side) and MS on the guide's grid, from 0 to 1."""
    rng = torch.Generator().manual_seed(1)
    ms = torch.rand(1, 8, side // 4, side // 4, generator=rng)
    return ms, torch.rand(1, 1, side, side, generator=rng), upsample(ms, 4)


def _released(shapes: rsanet.Shapes) -> dict[str, Tensor]:
    return {name: x.float() for name, x in rsanet.random_state(shapes, seed=0).items()}


MODELS: dict[str, Callable[[], list[Subject]]] = {
    "msfmamba": msfmamba_subjects,
    "rsanet": rsanet_subjects,
    "mmapp": mmapp_subjects,
    "ramsf": ramsf_subjects,
    "cf2n": cf2n_subjects,
    "le_mamba": le_mamba_subjects,
}


def bench_models(models: Iterable[str] = MODELS, rounds: int = 7, say: Callable[[str], None] = print) -> list[Row]:
    """Measure networks beside their peers, and print a table as it grows.

    Raises:
        ValueError: An unknown model.
        RuntimeError: A candidate computes other numbers than ours.
    """
    models = known("models", models, MODELS)
    backend = choose_backend(forced_backend(), "cpu", False, False, None)
    say(
        f"{torch.get_num_threads()} threads, {torch.backends.cpu.get_cpu_capability()}, {bandwidth() / 1e9:.1f} GB/s; "
        f"{OURS} scans on {backend!r}"
    )
    say("time, memory: what hsmamba takes of the peer's; extra MB: peak above what the process held before")
    say(HEADER)
    rows = []
    for name in models:
        for subject in MODELS[name]():
            for row in _bench_subject(subject, rounds):
                rows.append(row)
                say(format_row(row))
    return rows


def check_equal(subject: Subject) -> None:
    """Compute every candidate's result once; RuntimeError where one differs from ours by more than `TOLERANCE`."""
    results = {name: candidate.result() for name, candidate in subject.candidates.items()}
    ours = results[OURS]
    for name, result in results.items():
        error = float((result - ours).abs().max() / ours.abs().max())
        if not error <= TOLERANCE:
            raise RuntimeError(
                f"{subject.model}, {subject.work}: {name} differs from {OURS} by {error:.1e} of the largest value; "
                f"what computes something else cannot be compared"
            )


def _bench_subject(subject: Subject, rounds: int) -> list[Row]:
    check_equal(subject)
    measured = measure({name: x.run for name, x in subject.candidates.items()}, rounds)
    ours = measured[OURS]
    rows = []
    for name, (ms, extra) in measured.items():
        time_share = memory_share = None
        if name != OURS:
            time_share = ours.ms / ms
            memory_share = ours.extra / extra if extra and ours.extra is not None else None
        what = (subject.model, subject.size, subject.work, name)
        rows.append(Row(*what, ms, extra, time_share, memory_share, None if name == OURS else subject.goal))
    return rows


HEADER = (
    f"{'model':9} {'size':10} {'pass':14} {'candidate':15} {'ms':>10} {'extra MB':>9} {'time':>6} {'memory':>7}"
    f" {'goal':>5}"
)


def format_row(row: Row) -> str:
    """One line of the table."""
    what = f"{row.model:9} {row.size:10} {row.work:14} {row.candidate:15}"
    extra = "-" if row.extra is None else f"{row.extra / 1e6:.1f}"
    shares = ("" if x is None else f"{x:.3f}" for x in (row.time_share, row.memory_share, row.goal))
    return "{} {:10.1f} {:>9} {:>6} {:>7} {:>5}".format(what, row.ms, extra, *shares).rstrip()
