"""What the errors of the command line say to do, done: each time it ends well."""

import re

import numpy as np
import pytest

import hsmamba
from hsmamba.data import Scene, random_split
from tests.advice import alternatives, says
from tests.engine.fusion import toys

QUICK = ("--bands", 5, "--epochs", 1, "--batch-size", 64, "--json")


class Shell:
    """The command line, files of a scene, models with and without a split of it."""

    def __init__(self, run, folder, models):
        self.call, self.folder, self.models = run, folder, models
        cube, labels = images()
        np.savez(folder / "scene.npz", cube=cube, labels=labels)
        np.savez(folder / "bare.npz", cube=cube)
        np.save(folder / "labels.npy", labels)

    def __call__(self, *args):
        """Run a command that ends well."""
        code, out, err = self.call(*args)
        assert code == 0, err
        return out

    def fails(self, *args):
        code, _, err = self.call(*args)
        assert code == 2, err
        return err

    def finetune(self, *args, out="run", scene="scene.npz", count=("--count", 20)):
        return ("finetune", self.folder / scene, "-o", self.folder / out, *count, *QUICK, *args)

    def classify(self, *outs):
        outputs = (word for out in outs for word in ("-o", self.folder / out))
        return ("classify", self.folder / "scene.npz", "-m", self.models / "model", *outputs)

    def evaluate(self, *args):
        return ("evaluate", self.models / "without a split", self.folder / "scene.npz", "--json", *args)

    def saved(self, *outs):
        """Classify to files, and tell whether they are there."""
        self(*self.classify(*outs))
        return all((self.folder / out).exists() for out in outs)


def moved(shell, name):
    """Move a Zarr group away, where there is zarr to write another."""
    pytest.importorskip("zarr")
    (shell.folder / name).rename(shell.folder / "old")


def images():
    rng = np.random.default_rng(0)
    labels = np.kron(rng.integers(1, 4, (4, 4)), np.ones((6, 6), int)).astype(np.uint8)
    cube = rng.normal(size=(4, 10))[labels] + 0.3 * rng.normal(size=(24, 24, 10))
    return cube.astype(np.float32), labels


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    folder, scene = tmp_path_factory.mktemp("models"), Scene(*images())
    split = random_split(scene.labels, count=20)
    network = hsmamba.create_model("md2f_mamba", num_classes=3, in_chans=5)
    hsmamba.finetune(network, scene, split, epochs=1, warmup_epochs=0, progress=False)
    hsmamba.save_pretrained(network, folder / "model", split=split)
    hsmamba.save_pretrained(network, folder / "without a split")
    return folder


@pytest.fixture
def shell(run, tmp_path, models):
    return Shell(run, tmp_path, models)


def split(shell):
    """The split of a model, as a file."""
    return next((shell.models / "model").glob("split*"))


def scene_by_name(shell, *args):
    return ("classify", "indian_pines", "-m", shell.models / "model", "-o", shell.folder / "a.npy", *args)


def option(text, name):
    """An option, as the text names it."""
    return re.search(rf"(--{name})\b", text)[1]


def interrupted(shell):
    """An earlier run of which the checkpoint was removed."""
    shell(*shell.finetune())
    (shell.folder / "run" / "checkpoint.pt").unlink()
    return shell.finetune("--resume")


def ran(shell, *args):
    shell(*shell.finetune())
    return shell.finetune(*args)


def tuned(shell, *args, **options):
    shell(*shell.finetune(*args, **options))
    return (shell.folder / options.get("out", "run") / "model" / "config.json").is_file()


def toy_weight(shell):
    return hsmamba.save_pretrained(toys.make(), shell.folder / "weight")


def suffixes(text):
    pytest.importorskip("matplotlib", reason="needs the demo extra")
    return [end for end in re.search(r"choose (.*)", text)[1].split(", ") if end not in (".tif", ".tiff")]


def pair(shell, *args, ms="ms.npy", guide="pan.npy"):
    """Fine-tune a fusion network on a pair of images."""
    for name, image in zip(("ms", "pan", "cut"), (*PAIR, PAIR[1][:90]), strict=True):
        np.save(shell.folder / f"{name}.npy", image.astype(np.float32))
    images = [x for name, at in (("--ms", ms), ("--guide", guide)) if at for x in (name, shell.folder / at)]
    sizes = ("--epochs", 1, "--steps", 1, "--json", "--maximum", 2047)
    return ("finetune", *images, *args, "-o", shell.folder / "run", *sizes)


def sharpens(shell, *args, **options):
    shell(*pair(shell, *args, **options))
    return (shell.folder / "run" / "model" / "config.json").is_file()


def fuse(shell, ms, guide, *args, model="GSA"):
    """Sharpen by a classical method, or a weight."""
    for name, image in zip(("ms", "pan"), PAIR, strict=True):
        np.save(shell.folder / f"{name}.npy", image.astype(np.float32))
    images = (name if name == "-" else shell.folder / name for name in (ms, guide))
    return ("fuse", *images, "-m", model, "-o", shell.folder / "sharp.npy", *args)


def fused(shell, *args, **options):
    shell(*fuse(shell, *args, **options))
    return (shell.folder / "sharp.npy").is_file()


PAIR = toys.images(32, 32)
RSANET = ("-m", "rsanet")
CASES = {
    "there is no folder {}; give the one that holds the data": (
        lambda shell: ("data", "check", "muufl_crop", shell.folder / "nothing"),
        lambda shell, text: "WRONG" not in shell("data", "check", "muufl_crop", shell.folder),
    ),
    "give a fusion network with --model: {}, or a weight": (
        lambda shell: pair(shell),
        (
            lambda shell, text: sharpens(shell, option(text, "model"), re.search(r"(rsanet)\b", text)[1]),
            lambda shell, text: sharpens(shell, option(text, "model"), toy_weight(shell)),
        ),
    ),
    "a whole number: crop both to the same ground, or swap them": (
        lambda shell: pair(shell, *RSANET, guide="cut.npy"),
        lambda shell, text: sharpens(shell, *RSANET),
    ),
    "two or more times as many rows and columns, a whole number: {} or swap them": (
        lambda shell: pair(shell, *RSANET, ms="pan.npy", guide="ms.npy"),
        lambda shell, text: sharpens(shell, *RSANET, ms="ms.npy", guide="pan.npy"),
    ),
    "give a labelled SCENE, or --ms and --guide, the coarse image and the sharp one of a pair": (
        lambda shell: ("finetune", "-o", shell.folder / "run"),
        (lambda shell, text: tuned(shell), lambda shell, text: sharpens(shell, *RSANET)),
    ),
    "the coarse image comes first, the sharp one second, as in Python {}; swap them": (
        lambda shell: fuse(shell, "pan.npy", "ms.npy"), lambda shell, text: fused(shell, "ms.npy", "pan.npy")
    ),
    "is a classical method and has no use for {}; leave that out": (
        lambda shell: fuse(shell, "ms.npy", "pan.npy", "--tile", 8),
        lambda shell, text: fused(shell, "ms.npy", "pan.npy"),
    ),
    "is a classical method; give the coarse image on its own grid as MS": (
        lambda shell: fuse(shell, "-", "pan.npy"), lambda shell, text: fused(shell, "ms.npy", "pan.npy")
    ),
    "--sensor is for classical methods, a network brings its own; leave it out": (
        lambda shell: (*fuse(shell, "ms.npy", "pan.npy", model=toy_weight(shell)), "--sensor", "QB"),
        lambda shell, text: fused(shell, "ms.npy", "pan.npy", model=toy_weight(shell)),
    ),
    "a pair has a coarse image and a sharp one; give {} too": (
        lambda shell: pair(shell, *RSANET, guide=None),
        lambda shell, text: sharpens(
            shell, *RSANET, re.search(r"give (--\w+) too", text)[1], shell.folder / "pan.npy", guide=None
        ),
    ),
    "which is none here ({}); leave it out for the CPU": (
        lambda shell: shell.finetune("--device", "abacus"), lambda shell, text: tuned(shell)
    ),
    "is the name of a scene, which has all it needs; leave {} out": (
        lambda shell: scene_by_name(shell, "--variable", "x"),
        lambda shell, text: "has all it needs" not in shell.call(*scene_by_name(shell))[2],
    ),
    "carries no split; give one with --split, or --all for every labelled pixel": (
        lambda shell: shell.evaluate(),
        (
            lambda shell, text: "oa" in shell(*shell.evaluate(option(text, "split"), split(shell))),
            lambda shell, text: "oa" in shell(*shell.evaluate(option(text, "all"))),
        ),
    ),
    "cannot write {}; choose {}": (
        lambda shell: shell.classify("map.doc"),
        lambda shell, text: all(shell.saved(f"map{end}") for end in suffixes(text)),
    ),
    "cannot write {}; choose another folder": (
        lambda shell: shell.classify("/proc/nothing/map.npy"), lambda shell, text: shell.saved("other/map.npy")
    ),
    "it is a folder; name a file in it": (
        lambda shell: ((shell.folder / "map.npy").mkdir(), shell.classify("map.npy"))[1],
        lambda shell, text: shell.saved("map.npy/map.npy"),
    ),
    "it is there, and no Zarr group replaces another; move it away, or name another": (
        lambda shell: ((shell.folder / "map.zarr").mkdir(), shell.classify("map.zarr"))[1],
        (
            lambda shell, text: (moved(shell, "map.zarr"), shell.saved("map.zarr"))[1],
            lambda shell, text: shell.saved("map.npz"),
        ),
    ),
    "is an input and would be lost; name another file for the output": (
        lambda shell: shell.classify("scene.npz"), lambda shell, text: shell.saved("map.npz")
    ),
    "two of the outputs are one file (map.tif also writes map_confidence.tif); rename one": (
        lambda shell: shell.classify("map.npy", "map.npy"), lambda shell, text: shell.saved("map.npy", "map2.npy")
    ),
    "give one of --fraction (0.05 is 5 % of each class), --count (pixels of each class) and --split (a file)": (
        lambda shell: shell.finetune(count=()),
        (
            lambda shell, text: tuned(shell, count=(option(text, "split"), split(shell))),
            lambda shell, text: tuned(shell, count=(*re.findall(r"(--fraction) \(([\d.]+)", text)[0],)),
            lambda shell, text: tuned(shell, count=(option(text, "count"), 20)),
        ),
    ),
    "has no labels; give a label image with --labels": (
        lambda shell: shell.finetune(scene="bare.npz"),
        lambda shell, text: tuned(shell, option(text, "labels"), shell.folder / "labels.npy", scene="bare.npz"),
    ),
    "--resume continues the run that --overwrite replaces; give one of them": (
        lambda shell: ran(shell, "--resume", "--overwrite"),
        (lambda shell, text: tuned(shell, "--resume"), lambda shell, text: tuned(shell, "--overwrite")),
    ),
    "holds an earlier run without its checkpoint.pt; replace it with --overwrite": (
        interrupted, lambda shell, text: tuned(shell, option(text, "overwrite"))
    ),
    "continue it with --resume, replace it with --overwrite, or choose another folder": (
        ran,
        (
            lambda shell, text: tuned(shell, option(text, "resume")),
            lambda shell, text: tuned(shell, option(text, "overwrite")),
            lambda shell, text: tuned(shell, out="other"),
        ),
    ),
    "no {} is named {}; name '*' to see all": (
        lambda shell: ("list", "nothing"),
        lambda shell, text: "rsanet" in shell("list", re.search(r"name '(.)'", text)[1]),
    ),
    "name a recipe (hsmamba train --list shows them), or a .toml file": (
        lambda shell: ("train",),
        lambda shell, text: "mim.indian_pines_tuned" in shell("train", option(text, "list")).split(),
    ),
    "name a model (hsmamba list shows them), or ask for --backends": (
        lambda shell: ("info",),
        (
            lambda shell, text: "parameters" in shell("info", shell(re.search(r"hsmamba (\w+)", text)[1]).split()[0]),
            lambda shell, text: "reference" in shell("info", option(text, "backends")),
        ),
    ),
}  # fmt: skip


@pytest.mark.parametrize(("words", "command", "mended"), alternatives(CASES))
def test_what_an_error_says_works(words, command, mended, shell):
    assert mended(shell, says(shell.fails(*command(shell)), words))


def test_what_is_tuned_is_not_resumed(shell):
    ms, guide = toys.images(32, 32)
    np.save(shell.folder / "ms.npy", ms.astype(np.float32))
    np.save(shell.folder / "pan.npy", guide.astype(np.float32))
    model = hsmamba.save_pretrained(toys.make("rsanet", depth=1, recursions=1), shell.folder / "rsanet")
    files = (shell.folder / "ms.npy", shell.folder / "pan.npy", "-m", model, "-o", shell.folder / "fused.npy")
    call = ("fuse", *files, "--maximum", 2047)
    says(shell.fails(*call, "--adapt", 1, "--resume"), "leave one out")
    shell(*call, "--resume")


def test_a_map_of_a_large_scene_is_no_picture(shell, monkeypatch):
    pytest.importorskip("matplotlib")
    pytest.importorskip("rasterio")
    monkeypatch.setattr("hsmamba.cli.classify._MOST_DRAWN", 100)
    says(shell.fails(*shell.classify("map.png")), "write .tif instead of .png")
    assert shell.saved("map.tif")
