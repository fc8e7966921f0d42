"""The arguments of an architecture that a state with our own names tells, found by trying what each does to shapes."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from fractions import Fraction
from typing import Any, Literal, TypeAlias, get_args, get_origin

from torch import Tensor

import hsmamba.models as models
from hsmamba.errors import HsmambaError, ManifestError, WeightsError
from hsmamba.zoo.arguments import check_arguments, parameters_of, rehearse

Shapes: TypeAlias = "Mapping[str, tuple[int, ...]]"
_STEPS = (1, 2, 4, 8)  # from one value to another: sides must be odd, widths even, ratios powers of two


def looks_like_ours(architecture: str, state: Mapping[str, Tensor]) -> bool:
    """Whether most of a state's tensors have names that an architecture has at its defaults."""
    try:
        network = rehearse(models.entry(architecture), {}, len(state), architecture)
    except ManifestError:  # one that has no defaults
        return False
    return 2 * len(state.keys() & network.state_dict().keys()) > len(state)


def shared_names(architecture: str, state: Mapping[str, Tensor]) -> tuple[float, float]:
    """Compare the names of a state with those of an architecture at its defaults.

    Returns:
        The share of the state's names that the architecture has, and of all names those that both have.
    """
    try:
        names = rehearse(models.entry(architecture), {}, len(state), architecture).state_dict().keys()
    except ManifestError:
        return 0.0, 0.0
    both = len(state.keys() & names)
    return both / max(len(state), 1), both / max(len(state.keys() | names), 1)


def tell_args(architecture: str, state: Mapping[str, Tensor], given: Mapping[str, Any], *, what: str) -> dict[str, Any]:
    """Find the arguments with which an architecture has the shapes of a state with our own names.

    Args:
        architecture: A registered name.
        state: The state.
        given: Arguments that are known; they are taken as they are.
        what: They belong to, for errors.

    Returns:
        All arguments.

    Raises:
        WeightsError: There are none, or an argument that no tensor tells is not given; the text says what to give.
        ManifestError: An argument that the architecture does not take.
    """
    trial = _Trial(architecture, {key: tuple(value.shape) for key, value in state.items()}, dict(given), what)
    check_arguments(trial.entry, given, what)
    before = None  # an argument's effect may show only when another has its value
    while (left := trial.misfits(trial.args)) and left != before:
        before = left
        for name in trial.open:
            trial.improve(name)
    if left and not trial.open:
        return trial.args  # whoever loads it lists what does not fit
    if left:
        raise WeightsError(
            f"{what} has the names of {architecture}, and its tensors do not tell with which arguments it was made: "
            f"give them as create_model had them, on the command line as --config '{json.dumps(trial.open)}'"
        )
    if untold := [name for name in trial.open if not trial.tells(name)]:
        raise WeightsError(
            f"{what} has the names of {architecture}, and no tensor tells {', '.join(untold)}: give what create_model "
            f"had, on the command line as --config '{json.dumps({name: trial.open[name] for name in untold})}'"
        )
    return trial.args


class _Trial:
    """Arguments on trial against the shapes of a state."""

    def __init__(self, architecture: str, wanted: Shapes, given: dict[str, Any], what: str) -> None:
        self.entry, self.wanted, self.args, self.what = models.entry(architecture), wanted, given, what
        self.seen: dict[str, Shapes | None] = {}
        self.kinds = {name: p.annotation for name, p in parameters_of(self.entry).items() if name not in given}
        defaults = {name: p.default for name, p in parameters_of(self.entry).items() if name in self.kinds}
        self.open = {name: value for name, value in defaults.items() if self._is_tried(name, value)}

    def _is_tried(self, name: str, value: Any) -> bool:
        """Whether other values can be tried: fractions and free texts are given, or have their defaults."""
        if isinstance(value, str):
            return get_origin(self.kinds[name]) is Literal
        return isinstance(value, int | list | tuple)

    def shapes(self, args: Mapping[str, Any]) -> Shapes | None:
        """Return the shapes of the network's tensors; None where it cannot be built."""
        key = repr(sorted(args.items()))
        if key not in self.seen:
            try:
                state = rehearse(self.entry, args, len(self.wanted), self.what).state_dict()
                self.seen[key] = {name: tuple(value.shape) for name, value in state.items()}
            except HsmambaError:
                self.seen[key] = None
        return self.seen[key]

    def misfits(self, args: Mapping[str, Any]) -> int:
        """Count the tensors that are missing, too many or of another shape."""
        shapes = self.shapes(args)
        if shapes is None:
            return len(self.wanted) + 1
        return len(dict(shapes.items() ^ self.wanted.items()))

    def improve(self, name: str) -> None:
        """Give an argument the value under which most tensors fit."""
        trials = [self.args, *({**self.args, name: value} for value in self._candidates(name))]
        self.args = min(trials, key=self.misfits)

    def _candidates(self, name: str) -> set[int]:
        """Solve for a whole number: sizes and numbers of tensors grow with it evenly, or not at all."""
        found: set[int] = set()
        for one, other, step in self._pairs(name):
            value = self.args.get(name, self.open[name])
            measures = [(len(one), len(other), len(self.wanted))]
            for key in one.keys() & other.keys() & self.wanted.keys():
                if len(one[key]) == len(other[key]) == len(self.wanted[key]):
                    measures += zip(one[key], other[key], self.wanted[key], strict=True)
            for here, there, goal in measures:
                if here != there:
                    solved = value + Fraction((goal - here) * step, there - here)
                    found |= {int(solved)} if solved.denominator == 1 and solved >= 0 else set()
        return found

    def _pairs(self, name: str) -> Iterator[tuple[Shapes, Shapes, int]]:
        """Give the shapes at an argument's present value and at another, with the step between; once, or not at all."""
        value = self.args.get(name, self.open[name])
        one = self.shapes({**self.args, name: value})
        if type(value) is not int or one is None:
            return
        for step in _STEPS:
            if (other := self.shapes({**self.args, name: value + step})) is not None:
                yield one, other, step
                return

    def tells(self, name: str) -> bool:
        """Whether another value of an argument gives other shapes."""
        value = self.args.get(name, self.open[name])
        one = self.shapes({**self.args, name: value})
        return any(self.shapes({**self.args, name: other}) not in (one, None) for other in self._others(name, value))

    def _others(self, name: str, value: Any) -> list[Any]:
        if isinstance(value, bool):
            return [not value]
        if isinstance(value, int):
            return [value + step for step in _STEPS]
        if isinstance(value, str):
            return [part for part in get_args(self.kinds[name]) if part != value]
        return [_grown(value, step) for step in _STEPS]


def _grown(value: Any, step: int) -> Any:
    """Add to every whole number of a nested tuple."""
    if isinstance(value, list | tuple):
        return tuple(_grown(item, step) for item in value)
    return value + step if type(value) is int else value
