"""What `tools/kill.py` kills: how it begins, what must be there after a kill and at the end."""

from __future__ import annotations

import csv
import json
import os
import random
import shutil
import signal
import sys
from abc import ABC, abstractmethod
from collections.abc import Callable
from pathlib import Path

from kill_process import LostError, run


def tree(folder: Path) -> dict[str, bytes]:
    """Return all files below a folder by their relative paths."""
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() or path.is_symlink()
    }


def hsmamba(*args: object) -> Callable[[], object]:
    """Return the command line with these arguments."""

    def call() -> None:
        from hsmamba.cli import main

        sys.argv = ["hsmamba", *map(str, args)]
        main()

    return call


class Case(ABC):
    """What is killed, in places below a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir()

    @abstractmethod
    def begin(self, place: Path, rng: random.Random) -> None:
        """Put into a new folder what was there before."""

    @abstractmethod
    def work(self, place: Path) -> Callable[[], object]:
        """Return what is to be killed."""

    @abstractmethod
    def look(self, place: Path) -> tuple[int, str]:
        """Say in a number, which must not fall, and a word what is there, or raise LostError; must bear any moment."""

    @abstractmethod
    def finished(self, place: Path) -> None:
        """Raise LostError unless the result is that of a run that nobody disturbed."""

    def wait(self, place: Path) -> None:  # noqa: B027 - most need not
        """Let the time pass that must before the next run can tell what was left from what another one writes."""

    @abstractmethod
    def left(self, place: Path) -> set[str]:
        """Return the files that are neither an input nor a result."""


def scene_file(path: Path) -> Path:
    """Write a small labelled scene."""
    import numpy as np

    rng = np.random.default_rng(0)
    labels = np.kron(rng.integers(1, 4, (4, 4)), np.ones((6, 6), int)).astype(np.uint8)
    cube = rng.normal(size=(4, 10))[labels] + 0.3 * rng.normal(size=(24, 24, 10))
    np.savez(path, cube=cube.astype(np.float32), labels=labels)
    return path


def classifier(folder: Path, seed: int, **more: object) -> Path:
    """Save a small classifier of that scene."""
    import numpy as np
    import torch

    from hsmamba import create_model, save_pretrained
    from hsmamba.data import PCA, Compose, Standardise

    torch.manual_seed(seed)
    sizes = {"in_chans": 4, "num_classes": 3, "patch_size": 5, "dim": 8, "d_state": 2, "filters": 2, "expand": 1.0}
    model = create_model("md2f_mamba", **sizes)
    pixels = np.random.default_rng(seed).normal(size=(50, 10))
    return save_pretrained(model, folder, transform=Compose([Standardise(), PCA(4)]).fit(pixels), **more)


class _Training(Case):
    """`hsmamba finetune --resume`: the rerun gives the weights of the whole run bit for bit."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.scene, self.base = scene_file(folder / "scene.npz"), classifier(folder / "base", 0)
        whole = folder / "whole"
        whole.mkdir()
        assert run(self.work(whole), whole).code == 0, whole.with_suffix(".log").read_text()
        self.files = set(tree(whole))
        self.weights = (whole / "run/model/model.safetensors").read_bytes()
        self.history = self._history(whole)

    def begin(self, place: Path, rng: random.Random) -> None:
        """Begin without anything."""

    def work(self, place: Path) -> Callable[[], object]:
        return hsmamba(
            "finetune", self.scene, "-m", self.base, "-o", place / "run", "--count", 12, "--epochs", 4, "--batch-size",
            16, "--resume", "--json",
        )  # fmt: skip

    def _history(self, place: Path) -> list[dict[str, str]]:
        with (place / "run/history.csv").open() as file:
            return [{key: value for key, value in row.items() if key != "seconds"} for row in csv.DictReader(file)]

    def look(self, place: Path) -> tuple[int, str]:
        import torch

        from hsmamba.engine.checkpoint import read_checkpoint
        from hsmamba.zoo.source import read_folder

        out, epoch = place / "run", 0
        if (out / "checkpoint.pt").exists():
            epoch = read_checkpoint(out / "checkpoint.pt", torch.device("cpu"))["epoch"]
        if (out / "history.csv").exists():
            history = self._history(place)
            if history != self.history[: len(history)] or not epoch - 1 <= len(history) <= epoch:
                raise LostError(f"history of {len(history)} epochs beside a checkpoint of epoch {epoch}")
        if not (out / "model/config.json").exists():
            return epoch, f"epoch {epoch}"
        if read_folder(out / "model").model_path.read_bytes() != self.weights:
            raise LostError("the model is not that of the whole run")
        return 99, "model"

    def finished(self, place: Path) -> None:
        if (place / "run/model/model.safetensors").read_bytes() != self.weights:
            raise LostError("the resumed run gave other weights")
        if self._history(place) != self.history:
            raise LostError("the resumed run has another history")

    def left(self, place: Path) -> set[str]:
        return set(tree(place)) - self.files


class _Saving(Case):
    """`save_pretrained` over another model, or into a new folder, with a file of the user's beside."""

    def __init__(self, folder: Path) -> None:
        from hsmamba import create_model
        from hsmamba.data import random_split

        super().__init__(folder)
        import numpy as np

        split = random_split(np.ones((9, 9), int), count=5, seed=0)
        self.states: dict[str, dict[str, bytes]] = {}
        self.used: set[Path] = set()  # places that held a model before
        for seed, word in ((1, "old"), (2, "new")):
            self.states[word] = tree(classifier(folder / word, seed, **({"split": split} if word == "old" else {})))
        self.model = create_model(f"local-dir:{folder / 'new'}")

    def begin(self, place: Path, rng: random.Random) -> None:
        if rng.random() < 0.7:
            shutil.copytree(self.folder / "old", place / "model")
            (place / "model/notes.txt").write_text("mine")
            self.used.add(place)

    def work(self, place: Path) -> Callable[[], object]:
        from hsmamba import save_pretrained

        return lambda: save_pretrained(self.model, place / "model")

    def look(self, place: Path) -> tuple[int, str]:
        from hsmamba import create_model
        from hsmamba.zoo.source import read_folder

        model, noted = place / "model", place / "model/notes.txt"
        if place in self.used and noted.read_text() != "mine":
            raise LostError("the user's file is another")
        if not (model / "config.json").exists():
            return 0, "none"
        files = {which: path.read_bytes() for which, path in read_folder(model).files.items()}
        create_model(f"local-dir:{model}")
        for rank, (word, state) in enumerate(self.states.items(), 1):
            if files == {name.split(".")[0]: held for name, held in state.items() if name.endswith(".safetensors")}:
                return rank, word
        raise LostError(f"the folder holds a mixture: {sorted(files)}")

    def finished(self, place: Path) -> None:
        held, wanted = (
            {name: content for name, content in files.items() if name.endswith(".safetensors")}
            for files in (tree(place / "model"), self.states["new"])
        )
        if held != wanted:
            raise LostError("the files under the plain names are not those of the new model")

    def left(self, place: Path) -> set[str]:
        return set(tree(place)) - {f"model/{name}" for name in (*self.states["old"], "notes.txt")}


class _Output(Case):
    """A command that writes its result over an earlier one, or where there was none."""

    outputs: tuple[str, ...]

    def command(self, place: Path, which: int, name: str) -> Callable[[], object]:
        """Return the command that writes the first or the second result."""
        raise NotImplementedError

    def states(self) -> None:
        """Run the command undisturbed for every output."""
        self.names: dict[Path, str] = {}
        self.results: dict[str, dict[str, dict[str, bytes]]] = {}
        for name in self.outputs:
            self.results[name] = {"none": {}}
            for which, word in enumerate(("old", "new")):
                place = self.folder / f"{word}-{name}"
                place.mkdir()
                ended = run(self.command(place, which, name), place)
                assert ended.code == 0, ended.text
                self.results[name][word] = tree(place)

    def begin(self, place: Path, rng: random.Random) -> None:
        name = self.names[place] = rng.choice(self.outputs)
        if rng.random() < 0.7:
            shutil.copytree(self.folder / f"old-{name}", place, dirs_exist_ok=True)

    def work(self, place: Path) -> Callable[[], object]:
        return self.command(place, 1, self.names.setdefault(place, self.outputs[0]))

    def look(self, place: Path) -> tuple[int, str]:
        name = self.names[place]
        held = {path: content for path, content in tree(place).items() if path not in self.left(place)}
        for rank, (word, result) in enumerate(self.results[name].items()):
            if held == result:
                return rank, word
        raise LostError(f"{sorted(held)} are neither the old nor the new result")

    def finished(self, place: Path) -> None:
        if self.look(place)[1] != "new":
            raise LostError("the next run did not give the new result")

    def left(self, place: Path) -> set[str]:
        return set(tree(place)) - set(self.results[self.names[place]]["new"])


class _Classify(_Output):
    """`hsmamba classify`: beside labels lie their own confidence and names, or none."""

    outputs = ("map.tif", "map.npz")

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.scene = scene_file(folder / "scene.npz")
        names = [("corn", "oats", "wheat"), ("fir", "oak", "pine")]
        self.models = [classifier(folder / f"model{k}", k, class_names=names[k]) for k in range(2)]
        self.states()

    def command(self, place: Path, which: int, name: str) -> Callable[[], object]:
        return hsmamba("classify", self.scene, "-m", self.models[which], "-o", place / name, "--json")

    def look(self, place: Path) -> tuple[int, str]:
        if self.names[place] != "map.tif":
            return super().look(place)
        held = set(tree(place)) - self.left(place)
        if "map.tif" not in held:
            if held:
                raise LostError(f"{sorted(held)} without a map")
            return 0, "none"
        labels, *beside = _map(place)
        for rank, word in ((1, "old"), (2, "new")):
            own, *others = _map(self.folder / f"{word}-map.tif")
            if labels == own:
                if any(part not in (None, other) for part, other in zip(beside, others, strict=True)):
                    raise LostError(f"beside the {word} labels lies what is not theirs")
                return rank, word if None not in beside else f"{word} labels alone"
        raise LostError("the labels are neither the old nor the new ones")


class _Resume(_Classify):
    """`hsmamba classify --resume`: rows that are kept are those of the whole run, and none are there in the end."""

    def command(self, place: Path, which: int, name: str) -> Callable[[], object]:
        whole = hsmamba("classify", self.scene, "-m", self.models[which], "-o", place / name, "--json", "--resume")

        def call() -> None:
            from hsmamba.engine.classification import windows

            windows._WINDOW_BYTES = 1  # so that there are several rows of windows
            whole()

        return call


def _map(place: Path) -> tuple[object, object, object]:
    """Read labels with their tags, confidence and categories of a map; None where there is none."""
    import rasterio

    with rasterio.open(place / "map.tif") as file:
        tags = file.tags()
        run, labels = tags.pop("run"), (file.read().tobytes(), tags)
    confidence = None
    if (place / "map_confidence.tif").exists():
        with rasterio.open(place / "map_confidence.tif") as file:
            confidence = file.read().tobytes()
            if file.tags()["run"] != run:
                raise LostError("labels and confidence are of two runs")
    categories = place / "map.tif.aux.xml"
    return labels, confidence, categories.read_bytes() if categories.exists() else None


class _Fuse(_Output):
    """`hsmamba fuse`: rows go into a file that is not there before it is whole."""

    outputs = ("fused.tif", "fused.npy")

    def __init__(self, folder: Path) -> None:
        import numpy as np
        import torch

        from hsmamba import create_model, save_pretrained
        from hsmamba.data import Compose, SensorScale

        super().__init__(folder)
        rng = np.random.default_rng(0)
        np.save(folder / "ms.npy", rng.integers(1, 2048, (16, 20, 4)).astype(np.uint16))
        np.save(folder / "pan.npy", rng.integers(1, 2048, (64, 80, 1)).astype(np.uint16))
        transform = Compose([SensorScale(1 / 2047), SensorScale(1 / 2047, on="aux")])
        self.models = []
        for seed in (1, 2):
            torch.manual_seed(seed)
            network = create_model("rsanet", in_chans=4, dim=4, depth=1, recursions=1)
            self.models.append(
                save_pretrained(network, folder / f"model{seed}", transform=transform, data={"sensor": "QB"})
            )
        self.states()

    def command(self, place: Path, which: int, name: str) -> Callable[[], object]:
        images = (self.folder / "ms.npy", self.folder / "pan.npy")
        return hsmamba("fuse", *images, "-m", self.models[which], "-o", place / name, "--tile", 5, "--json")


class _Download(Case):
    """`hsmamba download` from a Hub on loopback, into an empty cache or one that holds an older commit."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        import torch

        from hsmamba import create_model, save_pretrained

        sizes = {"in_chans": 30, "num_classes": 16, "dim": 256}
        self.commits: list[dict[str, bytes]] = []
        for seed in (1, 2):
            torch.manual_seed(seed)
            network = create_model("md2f_mamba", **sizes)
            self.commits.append(tree(save_pretrained(network, folder / f"model{seed}")))
        self.hashes = self._serve()
        for commit, word in zip(self.hashes, ("old", "new"), strict=True):
            place = folder / f"{word}-cache"
            place.mkdir()
            ended = run(self._fetch(place, commit), place)
            assert ended.code == 0, ended.text
        self.known = set(tree(folder / "old-cache")) | set(tree(folder / "new-cache"))

    def _serve(self) -> list[str]:
        """Start the Hub in a process of its own, which ends with this one; return the commits' hashes."""
        from tests.zoo.hub_server import HubServer

        ours, theirs = os.pipe(), os.pipe()
        if os.fork() == 0:
            signal.signal(signal.SIGINT, signal.SIG_IGN)
            os.close(theirs[1])
            os.dup2(os.open(os.devnull, os.O_WRONLY), 2)  # the server tells of clients that hang up
            with HubServer() as hub:
                hashes = [hub.push("me/model", files) for files in self.commits]
                os.write(ours[1], json.dumps([hub.url, hashes]).encode())
                os.read(theirs[0], 1)  # until this end is closed
            os._exit(0)
        os.close(theirs[0])
        self.held_open = theirs[1]
        url, hashes = json.loads(os.read(ours[0], 1 << 16))
        from huggingface_hub import constants

        constants.ENDPOINT = url
        constants.HUGGINGFACE_CO_URL_TEMPLATE = url + "/{repo_id}/resolve/{revision}/{filename}"
        return list(hashes)

    def _fetch(self, place: Path, commit: str) -> Callable[[], object]:
        fetch = hsmamba("download", f"hf-hub:me/model@{commit}", "--cache-dir", place, "--json")

        def work() -> None:
            os.close(self.held_open)  # of the server, which shall end with the parent alone
            fetch()

        return work

    def begin(self, place: Path, rng: random.Random) -> None:
        if rng.random() < 0.5:
            shutil.copytree(self.folder / "old-cache", place, symlinks=True, dirs_exist_ok=True)

    def work(self, place: Path) -> Callable[[], object]:
        return self._fetch(place, self.hashes[1])

    def look(self, place: Path) -> tuple[int, str]:
        counts = []
        for commit, files in zip(self.hashes, self.commits, strict=True):
            snapshot = place / f"models--me--model/snapshots/{commit}"
            held = tree(snapshot) if snapshot.exists() else {}
            if wrong := [name for name, content in held.items() if files[name] != content]:
                raise LostError(f"half a file under its final name: {wrong}")
            counts.append(len(held))
        return sum(counts), f"{counts[1]} files"

    def finished(self, place: Path) -> None:
        snapshot = tree(place / f"models--me--model/snapshots/{self.hashes[1]}")
        if any(snapshot.get(name) != self.commits[1][name] for name in ("config.json", "model.safetensors")):
            raise LostError("the next download did not give the files")

    def wait(self, place: Path) -> None:
        for path in place.rglob("*.incomplete"):
            os.utime(path, (1, 1))

    def left(self, place: Path) -> set[str]:
        return {name for name, held in tree(place).items() if held and name not in self.known}  # nothing costs nothing


CASES: dict[str, type[Case]] = {
    "training": _Training,
    "saving": _Saving,
    "classify": _Classify,
    "fuse": _Fuse,
    "resume": _Resume,
    "download": _Download,
}
