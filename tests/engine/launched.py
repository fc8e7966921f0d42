"""Trainings that a launch of several processes and a single process do alike; a program and a module.

    accelerate launch ... tests/engine/launched.py FOLDER

Every process writes what it found into FOLDER.
"""

import json
import sys
from pathlib import Path

import numpy as np
import torch

import hsmamba
from hsmamba.data import Scene, random_split, wald_pairs
from hsmamba.engine import recipe as recipes
from hsmamba.engine.benchmark import load_suite, run_suite
from hsmamba.engine.classification import recipe as recipe_module
from hsmamba.engine.parallel import group
from hsmamba.errors import TrainingError
from hsmamba.metrics.report import HEADLINES
from tests.conftest import ROOT
from tests.engine.benchmark.suites import CLASSIFICATION, write
from tests.engine.fusion.toys import images

EPOCHS = 3
RUN = {"epochs": EPOCHS, "lr": 1e-2, "warmup_epochs": 1, "progress": False}
# The last batch of an epoch has one sample, so that all processes compute it whole.
PIXELS = {"batch_size": 10, "mixup": 0.4, "erase": 0.3, "jitter": 0.1, "ema_decay": 0.9, "val_fraction": 0.2}
CROPS = {"batch_size": 3, "steps": 4, "gain_jitter": 0.1}
CLASSIFIERS = {
    "md2f_mamba": {"in_chans": 8, "patch_size": 5, "dim": 8, "d_state": 2, "filters": 2, "expand": 1.0},
    "mim_paper": {"in_chans": 8, "patch_size": 5, "dim": 8},  # norms of its own, a loss of its own
}
FUSION = {
    "ramsf": {"dim": 8, "mlp_dims": (8,)},
    "mmapp": {"dim": 4, "depth": 1},  # a loss of its own
}


def scene():
    rng = np.random.default_rng(0)
    labels = np.kron(rng.integers(1, 4, (4, 5)), np.ones((6, 6), int))
    labels[::7] = 0
    signature = rng.normal(size=(4, 12))
    hsi = (signature[labels] + 0.3 * rng.normal(size=(*labels.shape, 12))).astype(np.float32)
    return Scene(hsi, labels, class_names=("corn", "oats", "wheat"), name="toy")


def classifier(name="md2f_mamba", **options):
    torch.manual_seed(0)
    return hsmamba.create_model(name, num_classes=3, **CLASSIFIERS[name], **options)


def train(name="md2f_mamba", model=None, **options):
    """Train a classifier; its history and a sum over its weights."""
    model = classifier(name) if model is None else model
    data = scene()
    split = random_split(data.labels, count=17, seed=0)
    result = hsmamba.finetune(model, data, split, **RUN | PIXELS | options)
    return outcome(result, model)


def sharpen(name, **options):
    """Train a fusion network."""
    torch.manual_seed(0)
    model = hsmamba.create_model(name, in_chans=4, **FUSION[name])
    pairs = wald_pairs(*images(), sensor="QB", val=0.125, test=0.375, name="toy")
    return outcome(hsmamba.finetune(model, pairs, **RUN | CROPS | options), model)


def outcome(result, model):
    """What is the same in every run: no seconds."""
    history = [{key: value for key, value in record.items() if key != "seconds"} for record in result.history]
    return {"history": history, "weights": fingerprint(model)}


def fingerprint(model):
    return [float(tensor.double().sum()) for tensor in model.state_dict().values()]


def resumed(folder):
    """A run that is stopped after its second epoch and goes on; who was told of the epochs."""
    told = []

    def stop(record, model):
        told.append(record["epoch"])
        return record["epoch"] == 2

    path = folder / "run.pt"
    dropping = {"model": classifier(drop_rate=0.3)}
    train(checkpoint=path, log=folder / "history.csv", callback=stop, **dropping)
    found = train(checkpoint=path, resume=path, model=classifier(drop_rate=0.3))
    return {**found, "told": told, "whole": train(model=classifier(drop_rate=0.3))}


def ran(folder):
    """What a recipe gave, but for what differs from run to run."""
    recipe = recipes.load_recipe(ROOT / "tests" / "engine" / "classification" / "toy.toml")
    recipe_module.load_scenes = lambda name, root: [scene()]
    nothing = {"split": "random", "seed": 0, "method": "none", **dict.fromkeys(HEADLINES, 1)}
    recipe_module.baseline_rows = lambda *_: [nothing]
    outcome = recipes.run(recipe, folder / "recipe", splits=["random"], seeds=[0], progress=False)
    runs = outcome.record["runs"]
    return [{key: value for key, value in row.items() if key not in ("minutes", "machine")} for row in runs]


def held(folder):
    """The rows of a benchmark, but for when and how fast they were made."""
    (folder / "suite").mkdir(exist_ok=True)
    here = folder / "suite" / str(group().rank)
    here.mkdir()
    suite = load_suite(write(here, CLASSIFICATION, ("seeds = [0, 1]", "seeds = [0]")))
    rows = run_suite(suite, folder / "suite.csv")
    return [{key: row[key] for key in ("method", "oa", "aa", "cell", "split_sha256")} for row in rows]


def refused():
    """What is said where the processes' settings, or their devices, are not the same."""
    said = []
    for options in ({"seed": group().rank}, {"device": "meta"}):
        try:
            train(**options)
        except (TrainingError, ValueError) as error:
            said.append(str(error))
    return said


def main():
    folder, here = Path(sys.argv[1]), group()
    found = {name: train(name) for name in CLASSIFIERS} | {name: sharpen(name) for name in FUSION}
    found |= {"resumed": resumed(folder), "refused": refused(), "size": here.size}
    found |= {"recipe": ran(folder), "benchmark": held(folder)}
    (folder / f"process{here.rank}.json").write_text(json.dumps(found))


if __name__ == "__main__":
    main()
