"""Row programs: what stands between two products, as an expression that a compiled kernel computes in one pass.

    gated = RowProgram("y = x + silu(q) * (first + second)", "y")
    y = gated(x=x, q=q, first=first, second=second)

A chain of torch operations goes through memory once for each of them; the kernel keeps blocks of rows in the first
cache. Where it may not run, the same expression is computed in torch operations, with gradients.
"""

from __future__ import annotations

import ast
import ctypes
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from hsmamba.ops import cpu, inference

_MOST_PLANS = 256
_BLOCK_FLOATS = 1024  # of a register: all registers of a program fit the first cache
_int = ctypes.c_int64

# In the order of the numbers in csrc/rows.h.
_NAMES = (
    *("load", "store", "total", "add", "subtract", "multiply", "divide", "add_value", "multiply_value", "silu", "tanh"),
    *("softplus", "sigmoid", "relu", "gelu", "sqrt", "exp", "sum", "most", "norm", "rms"),
)
_NUMBERS = {name: number for number, name in enumerate(_NAMES)}
_BINARY: dict[type[ast.operator], str] = {
    ast.Add: "add",
    ast.Sub: "subtract",
    ast.Mult: "multiply",
    ast.Div: "divide",
}
_TORCH: dict[str, Callable[..., Tensor]] = {
    "add": torch.add,
    "subtract": torch.sub,
    "multiply": torch.mul,
    "divide": torch.div,
    "add_value": torch.add,
    "multiply_value": torch.mul,
    "silu": F.silu,
    "tanh": torch.tanh,
    "softplus": F.softplus,
    "sigmoid": torch.sigmoid,
    "relu": F.relu,
    "gelu": F.gelu,
    "sqrt": torch.sqrt,
    "exp": torch.exp,
    "sum": lambda x: x.sum(-1, keepdim=True),
    "most": lambda x: x.amax(-1, keepdim=True),
    "norm": lambda x, eps: F.layer_norm(x, x.shape[-1:], eps=eps),
    "affine_norm": lambda x, weight, bias, eps: F.layer_norm(x, x.shape[-1:], weight, bias, eps),
    "rms": lambda x, eps: x * torch.rsqrt(x.square().mean(-1, keepdim=True) + eps),
    "total": lambda x: x.sum(-2, keepdim=True),
}


_OF_ONE = ("silu", "tanh", "softplus", "sigmoid", "relu", "gelu", "sqrt", "exp", "sum", "most", "total")
_VALUED = ("add_value", "multiply_value", "norm", "affine_norm", "rms")


class _Step(ctypes.Structure):
    _fields_ = [*((name, ctypes.c_int32) for name in ("op", "to", "a", "b", "one")), ("value", ctypes.c_float)]


_Rows = _int * 12  # of csrc/rows.h, whose fields have 64 bits each


class _Node(NamedTuple):
    """One value: an input (`op` "load", by its name) or an operation on earlier values."""

    op: str
    args: tuple[int, ...] = ()
    value: float = 0.0
    name: str = ""
    one: bool = False  # one number a row


def _kernel() -> Any:
    """The function at this machine's level; None without a library, or in one that was compiled before there was it."""
    return getattr(cpu.load(), f"hsmamba_rows_{cpu.level()}", None)


class _Plan(NamedTuple):
    """What a run needs beside addresses."""

    size: int
    sizes: tuple[int, ...]  # the first fields of csrc/rows.h
    floats: int  # of a thread's scratch memory
    shapes: list[tuple[int, ...]]  # of the results
    strides: list[tuple[int, int, int]]  # of the inputs
    copied: set[int]  # inputs that the kernel cannot read as they lie
    steps: Any  # of csrc/rows.h


class RowProgram:
    """Assignments over rows of numbers, computed at once.

    Operators are +, -, *, / of rows and numbers. Functions of a row's numbers are silu, tanh, softplus, sigmoid, relu,
    gelu, sqrt and exp; of a row sum(x) and most(x), one number each, norm(x, eps), with mean 0 and variance 1,
    norm(x, weight, bias, eps), a layer norm, and rms(x, eps), x over its root mean square. total(x), as the whole right
    side, is the sum over the rows of a sample.

    Args:
        text: Assignments, divided by semicolons or lines; what is no result of an earlier one is an input.
        results: The names that are results.

    Shape:
        Inputs (B, R, W), or 1 in place of any of them, or (W,); results (B, R, W), (B, R, 1) of one number a row,
        (B, 1, W) of a total; float. In place of R there may be two axes H, W' in all inputs of more than one axis.

    Raises:
        ValueError: The text is no such program.
    """

    def __init__(self, text: str, *results: str) -> None:
        self.text, self.results = text, results
        self._nodes: list[_Node] = []
        self._named: dict[str, int] = {}
        for statement in ast.parse(text.strip()).body:
            if not isinstance(statement, ast.Assign) or not isinstance(statement.targets[0], ast.Name):
                raise ValueError(f"a row program consists of assignments to names, not {ast.unparse(statement)!r}")
            self._named[statement.targets[0].id] = self._node(statement.value)
        self.inputs = [node.name for node in self._nodes if node.op == "load"]
        self._steps, self._registers = self._compiled()
        self._plans: dict[Any, _Plan] = {}

    def _node(self, expression: ast.expr) -> int:
        """Number the value of an expression; equal ones are one."""
        match expression:
            case ast.Name(id=name):
                made = self._nodes[self._named[name]] if name in self._named else _Node("load", name=name)
            case ast.BinOp(left=left, op=op, right=ast.Constant() | ast.UnaryOp() as right) if type(op) in _BINARY:
                value = float(ast.literal_eval(right))
                if isinstance(op, (ast.Add, ast.Sub)):
                    made = self._operation(
                        "add_value", (self._node(left),), value if isinstance(op, ast.Add) else -value
                    )
                else:
                    by = value if isinstance(op, ast.Mult) else 1 / value
                    made = self._operation("multiply_value", (self._node(left),), by)
            case ast.BinOp(left=left, op=op, right=right) if type(op) in _BINARY:
                made = self._operation(_BINARY[type(op)], (self._node(left), self._node(right)))
            case ast.Call(func=ast.Name(id=name), args=[first]) if name in _OF_ONE:
                made = self._operation(name, (self._node(first),))
            case ast.Call(func=ast.Name(id=name), args=[first, ast.Constant(value=value)]) if name in ("norm", "rms"):
                made = self._operation(name, (self._node(first),), float(value))
            case ast.Call(func=ast.Name(id="norm"), args=[*three, ast.Constant(value=value)]) if len(three) == 3:
                made = self._operation("affine_norm", tuple(map(self._node, three)), float(value))
            case _:
                raise ValueError(f"{ast.unparse(expression)!r} is nothing that a row program computes")
        if made not in self._nodes:
            self._nodes.append(made)
        return self._nodes.index(made)

    def _operation(self, op: str, args: tuple[int, ...], value: float = 0.0) -> _Node:
        one = op in ("sum", "most") or all(self._nodes[arg].one for arg in args)
        return _Node(op, args, value, one=one)

    def _compiled(self) -> tuple[list[tuple[int, tuple[Any, ...]]], int]:
        """Give each value a register while it is needed.

        Returns:
            The steps, each with the number of the value that it is for; how many registers there are.
        """
        stored = {self._named[name]: len(self.inputs) + i for i, name in enumerate(self.results)}
        last = {arg: at for at, node in enumerate(self._nodes) for arg in node.args}
        steps: list[tuple[int, tuple[Any, ...]]] = []
        place: dict[int, int] = {}
        free: list[int] = []
        registers = 0
        for at, node in enumerate(self._nodes):
            a, b, c = (*(place[arg] for arg in node.args), 0, 0, 0)[:3]
            if node.op == "total":
                steps.append((at, ("total", stored[at], a, 0, 0.0)))
                continue
            # what a step writes may be what it reads, but weight and bias of a norm are read in later steps
            read_at_once = node.args[:1] if node.op == "affine_norm" else node.args
            ended = [place[arg] for arg in dict.fromkeys(node.args) if last[arg] == at]
            free += [x for x in ended if x in {place[arg] for arg in read_at_once}]
            if not free:
                free.append(registers)
                registers += 1
            to = place[at] = free.pop()
            free += [x for x in ended if x not in {place[arg] for arg in read_at_once}]
            if node.op == "affine_norm":
                parts = ("norm", to, a, 0, node.value), ("multiply", to, to, b, 0.0), ("add", to, to, c, 0.0)
                steps += [(at, part) for part in parts]
            else:
                steps.append((at, (node.op, to, self.inputs.index(node.name) if node.name else a, b, node.value)))
            if at in stored:
                steps.append((at, ("store", stored[at], to, 0, 0.0)))
            if at not in last:
                free.append(to)
        return steps, registers

    def _placed(self, narrow: set[str]) -> Any:
        """Write the steps for the kernel; `narrow` names the inputs of one number a row."""
        ones: list[bool] = []
        for node in self._nodes:
            inner = bool(node.args) and node.op != "affine_norm" and all(ones[arg] for arg in node.args)
            ones.append(node.name in narrow if node.op == "load" else node.op in ("sum", "most") or inner)
        steps = [_Step(_NUMBERS[op], to, a, b, ones[at], value) for at, (op, to, a, b, value) in self._steps]
        return (_Step * len(steps))(*steps)

    def __call__(self, *, out: dict[str, Tensor] | None = None, **inputs: Tensor) -> Any:
        """Compute.

        Args:
            out: Where results go, by name: views whose columns are neighbours in memory; default new tensors.
            **inputs: By name.

        Returns:
            The result, or a tuple of several in their order.
        """
        given = tuple(inputs[name] for name in self.inputs)
        if inference.takes(*given) and _kernel() is not None:
            made = self._run(given, out or {})
        else:
            made = self._plain(given, out or {})
        return made[0] if len(made) == 1 else made

    def _plain(self, inputs: tuple[Tensor, ...], out: dict[str, Tensor]) -> tuple[Tensor, ...]:
        values: list[Tensor] = []
        for node in self._nodes:
            if node.op == "load":
                values.append(inputs[self.inputs.index(node.name)])
                continue
            more = (node.value,) if node.op in _VALUED else ()
            values.append(_TORCH[node.op](*(values[arg] for arg in node.args), *more))
        made = {name: values[self._named[name]] for name in self.results}
        return tuple(out[name].copy_(x) if name in out else x for name, x in made.items())

    def _run(self, inputs: tuple[Tensor, ...], out: dict[str, Tensor]) -> tuple[Tensor, ...]:
        plan = self._plans.get(key := tuple((x.shape, x.stride()) for x in inputs))
        if plan is None:
            plan = self._planned(inputs)
            if len(self._plans) < _MOST_PLANS:
                self._plans[key] = plan
        if not plan.size:
            return tuple(inputs[0].new_zeros(shape) for shape in plan.shapes)
        if plan.copied:
            inputs = tuple(x.contiguous() if i in plan.copied else x for i, x in enumerate(inputs))
        made = [
            out[name] if name in out else inputs[0].new_empty(shape)
            for name, shape in zip(self.results, plan.shapes, strict=True)
        ]
        numbers: list[int] = []
        for x, strides in zip(inputs, plan.strides, strict=True):
            numbers += (x.data_ptr(), *strides)
        for x in made:
            numbers += (x.data_ptr(), *(_strides(x) if out else _strides_of(x.shape)))
        operands = (_int * len(numbers))(*numbers)
        threads = torch.get_num_threads() if plan.size > cpu.SMALL else 1
        scratch = torch.empty(threads * plan.floats + cpu.WIDEST, dtype=torch.float32)
        start = -(-scratch.data_ptr() // 64) * 64
        pointers = ctypes.addressof(plan.steps), ctypes.addressof(operands), start, plan.floats, 0, 0
        cpu.run_team(_kernel(), _Rows(*plan.sizes, *pointers), threads, (inputs, made, operands, scratch))
        return tuple(made)

    def _planned(self, inputs: tuple[Tensor, ...]) -> _Plan:
        """Work out what depends on the shapes and strides of the inputs alone."""
        rows = max((tuple(x.shape[1:-1]) for x in inputs if x.ndim > 2), key=math.prod, default=None)
        copied = {i for i, x in enumerate(inputs) if (x.shape[-1] > 1 and x.stride(-1) != 1) or not _flattens(x)}
        flat = [_flat(x.contiguous() if i in copied else x) for i, x in enumerate(inputs)]
        outer, inner, width = torch.broadcast_shapes(*(x.shape for x in flat))  # type: ignore[no-untyped-call]
        axes = (outer, *((inner,) if rows is None else rows))
        shapes = []
        for name in self.results:
            node = self._nodes[self._named[name]]
            shapes.append((*((outer, 1) if node.op == "total" else axes), 1 if node.one else width))
        pitch = -(-width // cpu.WIDEST) * cpu.WIDEST
        block = max(1, min(inner, _BLOCK_FLOATS // pitch))
        sizes = outer, inner, width, len(self._steps), block, pitch
        floats = self._registers * block * pitch
        narrow = {name for name, x in zip(self.inputs, flat, strict=True) if x.shape[2] == 1}
        steps = self._placed(narrow)
        return _Plan(outer * inner * width, sizes, floats, shapes, [_strides(x) for x in flat], copied, steps)


def _flattens(x: Tensor) -> bool:
    """Whether the rows of each sample follow each other at one distance."""
    return x.ndim != 4 or x.shape[1] == 1 or x.shape[2] == 1 or x.stride(1) == x.shape[2] * x.stride(2)


def _flat(x: Tensor) -> Tensor:
    """View an operand as (B, R, W)."""
    return x if x.ndim == 3 else x.flatten(1, 2) if x.ndim == 4 else x.view(1, 1, -1)


def _strides(x: Tensor) -> tuple[int, int, int]:
    """Give the strides of an operand, 0 along an axis that it has one number for."""
    x = _flat(x)
    (outer, inner, columns), (sample, row, _) = x.shape, x.stride()
    return sample if outer > 1 else 0, row if inner > 1 else 0, int(columns > 1)


def _strides_of(shape: torch.Size) -> tuple[int, int, int]:
    """Give the same of a new tensor."""
    outer, *rows, columns = shape
    inner = math.prod(rows)
    return inner * columns if outer > 1 else 0, columns if inner > 1 else 0, int(columns > 1)
