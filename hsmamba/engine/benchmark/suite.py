"""Suites: which methods run on which data, splits and seeds, as a TOML file that anyone can run again."""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Mapping
from dataclasses import MISSING, asdict, dataclass, field, fields
from importlib import resources
from pathlib import Path
from typing import Any, TypeAlias, TypeVar

from hsmamba.baselines import BASELINES, CLASSIFIERS
from hsmamba.data.sets.catalog import CATALOG, Kind, list_data
from hsmamba.errors import ManifestError
from hsmamba.metrics.report import HEADLINES
from hsmamba.models import registry

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

Values: TypeAlias = "Mapping[str, Any]"
Entry = TypeVar("Entry", "Method", "DataEntry")

# What a suite of each task may name.
KINDS: Mapping[str, tuple[Kind, ...]] = {"classification": ("scene", "plots"), "fusion": ("pairs",)}
METRICS = {"classification": HEADLINES, "fusion": ("PSNR", "SSIM", "SAM", "ERGAS", "SCC", "Q2n")}
LOWER_IS_BETTER = ("SAM", "ERGAS")
SPLITS: Mapping[str, Mapping[str, frozenset[str]]] = {
    "classification": {
        "random": frozenset({"count", "fraction", "cap"}),
        "block": frozenset({"patch_size", "fraction", "block_size", "strict"}),
        "stored": frozenset({"name", "count"}),
        "plots": frozenset({"test", "count", "within"}),
        "pixels": frozenset({"fraction", "of"}),
    },
    "fusion": {
        "own": frozenset({"val", "test", "guard", "axis"}),
        "whole": frozenset({"train"}),
    },
}
_OF_ONE_SCENE = ("random", "block")


@dataclass(frozen=True)
class Method:
    """A method of a suite.

    Attributes:
        name: Under which it stands in tables.
        model: A classical method of `hsmamba.baselines` ("lda-mnf", "GSA", or "bicubic"); an architecture
            ("md2f_mamba"), which is trained in each cell; or a published weight ("ramsf.worldview2", "hf-hub:...",
            "local-dir:..."), which is taken as it is, or trained further where there is `finetune`.
        args: Arguments of `create_model`; bands, channels, classes and ratio that are not given come from the data.
            `in_chans` is at most the number of good bands.
        transform: Steps, `{kind, arguments...}` each; by default what `hsmamba.finetune` fits.
        finetune: Settings of `hsmamba.finetune`; by default its own.
        classify: Further arguments of `hsmamba.classify`, such as `tta` or `regularise`.
        adapt: Seconds that `hsmamba.fuse` tunes a fusion network on the test pair without its truth, or a table of
            what `hsmamba.engine.Adapt` takes (`{ steps = 100 }`); an architecture is then not trained before, unless
            there is `finetune`.
        aux: Whether a classifier is given the second source.
        data: Data sets of the suite that it runs on; all where empty.
    """

    name: str
    model: str
    args: Values = field(default_factory=dict)
    transform: tuple[Values, ...] = ()
    finetune: Values | None = None
    classify: Values = field(default_factory=dict)
    adapt: float | Values | None = None
    aux: bool = False
    data: tuple[str, ...] = ()

    @property
    def is_classical(self) -> bool:
        """Whether it is a baseline and no network."""
        return self.model in (*CLASSIFIERS, *BASELINES, "bicubic")

    @property
    def is_weight(self) -> bool:
        """Whether it begins with trained weights."""
        return "." in self.model or ":" in self.model

    @property
    def is_trained(self) -> bool:
        """Whether a cell trains a network on the data of its split."""
        as_it_is = self.is_weight or self.adapt is not None
        return not self.is_classical and (self.finetune is not None or not as_it_is)


@dataclass(frozen=True)
class DataEntry:
    """A data set of a suite.

    Attributes:
        name: Under which it stands in tables.
        set: Name in the catalogue of data sets; by default the same.
        splits: Splits of the suite that it runs on; all where empty.
        block: Side of the blocks of ground, in pixels, that differences are resampled by; 0 for whole scenes (plots,
            images).
        options: Arguments of the reader of pairs; and `bands`, the indices from 0 of those to take.
    """

    name: str
    set: str = ""
    splits: tuple[str, ...] = ()
    block: int = 0
    options: Values = field(default_factory=dict)


@dataclass(frozen=True)
class Cell:
    """One run of a suite: a method on the split of a data set that a seed makes."""

    task: str
    data: DataEntry
    split: str
    split_spec: Values
    seed: int
    method: Method

    @property
    def place(self) -> tuple[str, str, int, str]:
        """Where it stands in the tables."""
        return self.data.name, self.split, self.seed, self.method.name

    @property
    def sha256(self) -> str:
        """Hash of all that decides its figures; names under which things stand in tables do not."""
        data, method = self.data, self.method
        decides = {
            "task": self.task,
            "data": [data.set, data.block, data.options],
            "split": self.split_spec,
            "seed": self.seed,
            "method": {
                key: value
                for key, value in asdict(method).items()
                if key not in ("name", "data") and value not in (None, False, (), {})
            },
        }
        return hashlib.sha256(json.dumps(decides, sort_keys=True).encode()).hexdigest()


@dataclass(frozen=True)
class Suite:
    """A benchmark.

    Attributes:
        name: Of its files.
        task: "classification" or "fusion".
        title: Heading of its page.
        seeds: Of splits, initial weights and training.
        metrics: Those of the tables; the first one decides the ranks.
        reference: Name of the method that all others are compared with.
        methods: By name.
        data: By name.
        splits: By name, `{kind, arguments...}`.
    """

    name: str
    task: str
    title: str
    seeds: tuple[int, ...]
    metrics: tuple[str, ...]
    reference: str
    methods: Mapping[str, Method]
    data: Mapping[str, DataEntry]
    splits: Mapping[str, Values]

    def cells(self) -> list[Cell]:
        """List the cells in the order of the tables.

        What a seed does not change runs for the first one alone: a fusion method that nothing is trained for.
        """
        return [
            Cell(self.task, data, split, self._spec(split, data), seed, method)
            for data in self.data.values()
            for split in data.splits or self.splits
            for seed in self.seeds
            for method in self.methods.values()
            if not method.data or data.name in method.data
            if self.task == "classification" or method.is_trained or method.adapt is not None or seed == self.seeds[0]
        ]

    def _spec(self, split: str, data: DataEntry) -> Values:
        """Put the sets and options of other data in the place of their names, and leave out the image itself."""
        spec = dict(self.splits[split])
        others = [self.data[name] for name in spec.get("train", ())]
        return spec | {"train": [[one.set, one.options] for one in others if one.set != data.set]} if others else spec


def list_suites() -> list[str]:
    """List the suites that come with the package."""
    folder = resources.files("hsmamba") / "suites"
    return sorted(path.name.removesuffix(".toml") for path in folder.iterdir() if path.name.endswith(".toml"))


def load_suite(name: str | Path) -> Suite:
    """Read a suite.

    Args:
        name: A suite of the package ("few_labels"), or the path of a TOML file.

    Raises:
        ManifestError: No such suite, not TOML, or content that is none; the text says where.
    """
    path: Any = Path(name)
    if path.suffix != ".toml":
        path = resources.files("hsmamba") / "suites" / f"{name}.toml"
    if not path.is_file():
        raise ManifestError(f"no suite {str(name)!r}; there are: {', '.join(list_suites())}, or give a .toml file")
    try:
        values: dict[str, Any] = tomllib.loads(path.read_text(encoding="utf-8"))
    except tomllib.TOMLDecodeError as error:
        raise ManifestError(f"{path} is not TOML: {error}") from error
    try:
        return _parse({"name": path.name.removesuffix(".toml"), **values})
    except ManifestError as error:
        raise ManifestError(f"{path}: {error}") from None


def _parse(values: dict[str, Any]) -> Suite:
    _check_fields(Suite, values, "the suite")
    task = values["task"]
    if task not in KINDS:
        raise ManifestError(f"no task {task!r}; there are {', '.join(KINDS)}")
    suite = Suite(
        **{
            **values,
            "seeds": tuple(values["seeds"]),
            "metrics": tuple(values["metrics"]),
            "methods": {name: _entry(Method, name, entry) for name, entry in values["methods"].items()},
            "data": {name: _entry(DataEntry, name, {"set": name, **entry}) for name, entry in values["data"].items()},
        }
    )
    _check(suite)
    return suite


def _entry(kind: type[Entry], name: str, values: Values) -> Entry:
    _check_fields(kind, {"name": name, **values}, f"{kind.__name__} {name!r}")
    lists: dict[str, Any] = {key: tuple(value) if isinstance(value, list) else value for key, value in values.items()}
    return kind(name=name, **lists)


def _check_fields(kind: type[Any], values: Values, what: str) -> None:
    known = {f.name: f.default is MISSING and f.default_factory is MISSING for f in fields(kind)}
    missing = [name for name, needed in known.items() if needed and name not in values]
    if missing or (unknown := sorted(values.keys() - known.keys())):
        raise ManifestError(
            f"{what} lacks {', '.join(missing)}"
            if missing
            else f"{what} has the unknown {', '.join(unknown)}; known are {', '.join(known)}"
        )


def _check(suite: Suite) -> None:
    """Hold the parts of a suite against each other and against what there is."""
    task = suite.task
    if not suite.seeds or any(type(seed) is not int or seed < 0 for seed in suite.seeds):
        raise ManifestError(f"seeds is {list(suite.seeds)}; expected whole numbers, none below 0")
    if not suite.metrics or set(suite.metrics) - set(METRICS[task]):
        raise ManifestError(f"metrics is {list(suite.metrics)}; expected some of {', '.join(METRICS[task])}")
    if suite.reference not in suite.methods:
        raise ManifestError(f"reference is {suite.reference!r}; expected one of {', '.join(suite.methods)}")
    for name, spec in suite.splits.items():
        _check_split(task, name, spec, suite.data)
    for data in suite.data.values():
        _check_data(suite, data)
    for method in suite.methods.values():
        _check_method(suite, method)


def _check_split(task: str, name: str, spec: Values, data: Values) -> None:
    kind = str(spec.get("kind"))
    if kind not in SPLITS[task]:
        raise ManifestError(f"split {name!r} is of kind {kind!r}; the kinds of {task} are {', '.join(SPLITS[task])}")
    if unknown := sorted(spec.keys() - SPLITS[task][kind] - {"kind"}):
        raise ManifestError(
            f"split {name!r} has the unknown {', '.join(unknown)}; {kind!r} takes "
            f"{', '.join(sorted(SPLITS[task][kind]))}"
        )
    if bad := [one for one in spec.get("train", ()) if one not in data]:
        raise ManifestError(f"split {name!r} trains on {', '.join(bad)}; the data of the suite are {', '.join(data)}")


def _check_data(suite: Suite, data: DataEntry) -> None:
    sets = list_data(*KINDS[suite.task])
    if data.set not in sets:
        raise ManifestError(f"data {data.name!r} is the set {data.set!r}; of {suite.task} there are {', '.join(sets)}")
    if unknown := [split for split in data.splits if split not in suite.splits]:
        raise ManifestError(
            f"data {data.name!r} has no split {', '.join(unknown)}; there are {', '.join(suite.splits)}"
        )
    if type(data.block) is not int or data.block < 0:
        raise ManifestError(
            f"block of data {data.name!r} is {data.block!r}; expected a whole number, 0 for whole scenes"
        )
    for split in data.splits or suite.splits:
        kind = suite.splits[split]["kind"]
        if CATALOG[data.set].kind == "plots" and kind in _OF_ONE_SCENE:
            raise ManifestError(
                f"split {split!r} of kind {kind!r} is of one scene, and data {data.name!r} has several; give 'plots' "
                f"or 'stored', or list the splits of {data.name!r} without it"
            )


def _check_method(suite: Suite, method: Method) -> None:
    known = (*CLASSIFIERS,) if suite.task == "classification" else (*BASELINES, "bicubic")
    architectures = [name for name, entry in registry().items() if entry.cfg.task == suite.task]
    if not method.is_weight and method.model not in (*known, *architectures):
        raise ManifestError(
            f"method {method.name!r} is the model {method.model!r}; of {suite.task} there are the classical "
            f"{', '.join(known)} and the networks {', '.join(architectures)}, and weights as architecture.tag"
        )
    if unknown := [name for name in method.data if name not in suite.data]:
        raise ManifestError(
            f"method {method.name!r} has no data {', '.join(unknown)}; there are {', '.join(suite.data)}"
        )
    if method.is_classical and (method.args or method.transform or method.finetune):
        raise ManifestError(
            f"method {method.name!r} is classical and takes no args, transform or finetune; leave them out"
        )
    if method.adapt is not None and (suite.task != "fusion" or method.is_classical):
        raise ManifestError(f"method {method.name!r} is no fusion network, and takes no adapt; leave it out")
    if suite.task == "fusion" and (method.aux or method.classify or method.transform):
        raise ManifestError(f"method {method.name!r} fuses, and takes no aux, classify or transform; leave them out")
    side = max(CLASSIFIERS[method.model].windows) if method.model in CLASSIFIERS else method.args.get("patch_size", 1)
    for split, spec in suite.splits.items():
        if spec["kind"] == "block" and side > spec.get("patch_size", 0):
            raise ManifestError(
                f"method {method.name!r} looks at patches of {side} x {side}, and split {split!r} keeps only those of "
                f"{spec.get('patch_size')} apart; raise its patch_size"
            )
