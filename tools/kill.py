"""Kill what writes files, at random instants, and look that nothing is lost.

Run from the repository's root: python tools/kill.py [--rounds N] [--only CASE] [--seed S]. Each round starts a command
(or `save_pretrained`) on small data in a process of its own and ends it: at an instant spread evenly over its running
time, or at one of its operations on files or shortly after it; by SIGKILL or, in a fifth of the rounds, by SIGINT. A
round that ends before it is hit is not counted. Then what was there before must be there still, or the new result as a
whole; nothing may stand half written under its final name; and the same command, run again, must give the very result
of a run that nobody disturbed and leave nothing behind. Some folders are hit several times before they may be finished.

The system's memory survives a kill: what a power cut would do is not tried.

Exit code 0: nothing was lost, nothing stayed. 1: what was and did is printed. 2: it cannot run here.
"""

from __future__ import annotations

import argparse
import importlib
import os
import random
import shutil
import signal
import statistics
import sys
import tempfile
import warnings
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from kill_cases import CASES, Case
from kill_process import Ended, LostError, Shot, rehearse, run

# What all cases import, once and for all.
WARM = ("hsmamba.engine", "hsmamba.zoo.factory", "hsmamba.zoo.save", "rioxarray", "huggingface_hub.file_download")

MOST = 30  # losses of a case before it is given up


@dataclass
class Tally:
    """What the kills of a case did."""

    seconds: float  # of a run that nobody disturbs
    kills: Counter[str] = field(default_factory=Counter)
    seen: Counter[str] = field(default_factory=Counter)
    losses: list[str] = field(default_factory=list)
    left: int = 0  # files beside the results, at most, right after a kill
    stayed: set[str] = field(default_factory=set)  # after the next run, by name without what is random in it


def besiege(case: Case, rounds: int, rng: random.Random) -> Tally:
    """Kill a case so many times."""
    trial = case.folder / "trial"
    _fresh(case, trial, rng)
    events = rehearse(case.work(trial), trial)
    seconds = statistics.median(_undisturbed(case, trial, rng).seconds for _ in range(3))
    tally = Tally(seconds)
    number = 0
    while tally.kills.total() < rounds:
        if (number := number + 1) > 9 * rounds or len(tally.losses) > MOST:
            tally.losses.append(f"given up after {number} rounds")
            break
        place = case.folder / f"place{number}"
        try:
            _round(case, place, rng, seconds, events, tally)
        except Exception as error:  # whatever a reader raises is a loss
            tally.losses.append(f"{place}: {type(error).__name__}: {error}")
        else:
            shutil.rmtree(place)
    return tally


def _fresh(case: Case, place: Path, rng: random.Random) -> None:
    shutil.rmtree(place, ignore_errors=True)
    place.mkdir()
    case.begin(place, rng)


def _undisturbed(case: Case, place: Path, rng: random.Random) -> Ended:
    _fresh(case, place, rng)
    ended = run(case.work(place), place)
    if ended.code:
        raise SystemExit(f"{type(case).__name__} fails undisturbed: {ended.text}")
    case.finished(place)
    return ended


def _round(case: Case, place: Path, rng: random.Random, seconds: float, events: int, tally: Tally) -> None:
    """Hit a place, once or more, and finish it."""
    _fresh(case, place, rng)
    while True:
        before = case.look(place)
        shot = _shot(rng, seconds, events)
        ended = run(case.work(place), place, shot)
        if ended.code == 0:
            break
        if shot.sign == signal.SIGINT and (ended.code != 130 or "Traceback" in ended.text):
            raise LostError(f"an interrupt ended with {ended.code}: {ended.text[-2000:]}")
        if ended.code > 0 and shot.sign != signal.SIGINT:
            raise LostError(f"failed after a kill: {ended.text[-2000:]}")
        kind = "SIGINT" if shot.sign == signal.SIGINT else "instant" if shot.event is None else "file"
        tally.kills[kind] += 1
        after = case.look(place)
        if after < before:
            raise LostError(f"{after[1]} instead of {before[1]}")
        tally.seen[after[1]] += 1
        tally.left = max(tally.left, len(case.left(place)))
        if rng.random() < 0.6:
            break
    case.wait(place)
    ended = run(case.work(place), place)
    if ended.code:
        raise LostError(f"the next run failed: {ended.text[-2000:]}")
    case.finished(place)
    tally.stayed |= case.left(place)


def _shot(rng: random.Random, seconds: float, events: int) -> Shot:
    kind = rng.random()
    if kind < 0.4:
        return Shot(seconds=rng.uniform(0, seconds))
    if kind < 0.6:
        return Shot(signal.SIGINT, rng.uniform(0, seconds))
    return Shot(event=rng.randint(1, events), delay=rng.choice((0.0, rng.uniform(1e-5, 0.01))))


def main() -> int:
    """Kill every case, print the table."""
    if not hasattr(os, "fork"):
        print("tools/kill.py needs os.fork", file=sys.stderr)
        return 2
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=200, help="kills of each case")
    parser.add_argument("--only", choices=CASES, action="append", help="one case; may be repeated")
    parser.add_argument("--seed", type=int, default=0, help="of the instants")
    args = parser.parse_args()
    os.environ |= {"HF_HUB_DISABLE_XET": "1", "HF_HUB_DISABLE_PROGRESS_BARS": "1", "HF_HUB_DISABLE_TELEMETRY": "1"}
    import torch

    from hsmamba.cli import load_app

    torch.set_num_threads(1)  # a process with threads cannot be forked
    load_app()
    for name in WARM:
        importlib.import_module(name)
    warnings.filterwarnings("ignore", "Dataset has no geotransform")
    losses: list[str] = []
    print(f"{'case':<9}{'seconds':>8}{'kills':>7} {'(instant, file, SIGINT)':<24}", end="")
    print(f"{'lost':>5}{'left':>6}{'stayed':>8}  what was seen after a kill")
    with tempfile.TemporaryDirectory(prefix="kill-") as folder:
        for name in args.only or CASES:
            tally = besiege(CASES[name](Path(folder) / name), args.rounds, random.Random(f"{args.seed} {name}"))
            kinds = "({})".format(", ".join(f"{tally.kills[kind]}" for kind in ("instant", "file", "SIGINT")))
            seen = ", ".join(f"{word} {count}" for word, count in sorted(tally.seen.items()))
            counts = f"{len(tally.losses):>5}{tally.left:>6}{len(tally.stayed):>8}"
            print(f"{name:<9}{tally.seconds:>8.2f}{tally.kills.total():>7} {kinds:<24}{counts}  {seen}", flush=True)
            losses += [f"{name}: {loss}" for loss in tally.losses]
            losses += [f"{name}: {path} stays" for path in sorted(tally.stayed)]
    print("\n".join(losses), end="\n" if losses else "")
    return int(bool(losses))


if __name__ == "__main__":
    sys.exit(main())
