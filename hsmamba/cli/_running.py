"""What holds while a command runs: which options it has, so that errors name them, and whether it is to be quiet."""

from __future__ import annotations

import re
import sys
from contextvars import ContextVar
from typing import Any

from typer.core import TyperGroup

_options: ContextVar[dict[str, str]] = ContextVar("options")  # "--nan" by the argument's name "nan"
_quiet: ContextVar[bool] = ContextVar("quiet", default=False)

# An argument of Python as errors name it: nan="mask", classes=[10, 20], maximum=(2047, 255), labels=..., test=
_ARGUMENT = r"""(?P<name>\b[a-z_]+)=(?P<value>"[^"]*"|'[^']*'|\.\.\.|\([\d., ]*\)|\[[^\]]*\]|[\w+-]+(?:\.\d+)?)?"""
_TOLD = re.compile(_ARGUMENT + r" \((?P<option>--[^()]*?)(?: on the command line)?\)")
_UNTOLD = re.compile(_ARGUMENT)


class Group(TyperGroup):
    """The commands; it notes which one runs."""

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """Find the command as usual."""
        name, command, rest = super().resolve_command(ctx, args)
        begin({} if command is None else command.params)
        return name, command, rest


def begin(params: Any) -> None:
    """Forget the command before; take the options of this one."""
    longest = {param.name: max(param.opts, key=len) for param in params}
    _options.set({name: option for name, option in longest.items() if name and option.startswith("--")})
    _quiet.set(False)


def be_quiet(given: bool) -> bool:
    """Take the flag `--quiet`."""
    if given:
        _quiet.set(True)
    return given


def is_quiet() -> bool:
    """Whether the running command prints errors and results for programs alone."""
    return _quiet.get()


def note(text: str) -> None:
    """Tell on standard error what goes on, where it takes its time."""
    if not is_quiet():
        print(f"hsmamba: {text}", file=sys.stderr, flush=True)


def in_options(text: str) -> str:
    """Write an error or a warning in the words of the running command: `nan="mask"` is `--nan mask` there."""
    text = _TOLD.sub(lambda found: found["option"], text)
    return _UNTOLD.sub(lambda found: _option(text, found), text)


def _option(text: str, found: re.Match[str]) -> str:
    option = _options.get({}).get(found["name"])
    if option is None or _in_a_call(text[: found.start()]):
        return found[0]
    value = (found["value"] or "").strip("\"'()[]").replace(", ", ",")
    return option if value in ("", "...", "True") else f"{option} {value}"


def _in_a_call(before: str) -> bool:
    """Whether a text ends inside of the parentheses of a call, as `fuse(model, ms, ` does."""
    inside = before.rfind("(")
    return inside > before.rfind(")") and inside > 0 and (before[inside - 1].isalnum() or before[inside - 1] == "_")
