"""Row programs: what stands between two products, as an expression that a compiled kernel computes in one pass.

    gated = RowProgram("y = x + silu(q) * (first + second)", "y")
    y = gated(x=x, q=q, first=first, second=second)

A chain of torch operations goes through memory once for each of them; the kernel keeps blocks of rows in the first
cache. In training the gradients are a row program, too, which is derived from the first one and starts from its inputs:
nothing else is kept. Where the kernel may not run, the same expression is computed in torch operations.
"""

from __future__ import annotations

import ast
import ctypes
import math
import re
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from hsmamba.ops import cpu, inference

_MOST_PLANS = 256
_TASK_BLOCKS = 8  # of rows that a thread takes at once
_BLOCK_FLOATS = 1024  # of a register: all registers of a program fit the first cache
_int = ctypes.c_int64
_Shape = tuple[int, int, int]

# In the order of the numbers in csrc/rows.h.
_NAMES = (
    *("load", "store", "total", "add", "subtract", "multiply", "divide", "add_value", "multiply_value", "silu", "tanh"),
    *("softplus", "sigmoid", "relu", "gelu", "sqrt", "exp", "sum", "most", "norm", "rms"),
    *("positive", "gelu_slope", "equal", "norm_slope", "rms_slope", "linear", "dot", "multiply_add", "spread"),
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
# Of gradients: what is done to the gradient g of y = f(a) or y = f(a, b); `halved root`: 0 where the root is 0.
_SLOPES: dict[str, tuple[str, ...]] = {
    "add": ("{g}", "{g}"),
    "subtract": ("{g}", "{g} * -1.0"),
    "multiply": ("{g} * {b}", "{g} * {a}"),
    "divide": ("{g} / {b}", "{g} * -1.0 * {y} / {b}"),
    "add_value": ("{g}",),
    "multiply_value": ("{g} * {value}",),
    "silu": ("{g} * sigmoid({a}) * ({a} - {a} * sigmoid({a}) + 1.0)",),
    "tanh": ("{g} - {g} * {y} * {y}",),
    "softplus": ("{g} * sigmoid({a})",),
    "sigmoid": ("{g} * ({y} - {y} * {y})",),
    "relu": ("{g} * positive({a})",),
    "gelu": ("{g} * gelu_slope({a})",),
    "sqrt": ("{g} * ({y} / ({y} * {y} + 1e-37) * 0.5)",),
    "exp": ("{g} * {y}",),
    "sum": ("{g}",),
    "most": ("{g} * (equal({a}, {y}) / sum(equal({a}, {y})))",),
    "norm": ("norm_slope({a}, {g}, {value})",),
    "rms": ("rms_slope({a}, {g}, {value})",),
    "total": ("{g}",),
}


_OF_ONE = (
    *("silu", "tanh", "softplus", "sigmoid", "relu", "gelu", "sqrt", "exp", "sum", "most", "total"),
    *("positive", "gelu_slope"),
)
_OF_TWO = ("norm_slope", "rms_slope")  # and a value
_VALUED = ("add_value", "multiply_value", "norm", "affine_norm", "rms", "norm_slope", "rms_slope")
_OF_ROWS = ("sum", "most", "dot", "norm", "rms", "norm_slope", "rms_slope", "total", "linear")  # not of numbers
_RESULT, _A, _B, _C = 1, 2, 4, 8  # the flags of csrc/rows.h
_SIGNS = {"add": "+", "subtract": "-", "multiply": "*", "divide": "/", "add_value": "+", "multiply_value": "*"}


class _Step(ctypes.Structure):
    _fields_ = [
        *((name, ctypes.c_int32) for name in ("op", "to", "a", "b", "c", "one")),
        ("value", ctypes.c_float),
        ("width", ctypes.c_int32),
    ]


_Rows = _int * 13  # of csrc/rows.h, whose fields have 64 bits each


class _Node(NamedTuple):
    """One value: an input (`op` "load", by its name) or an operation on earlier values (a product by its name, too)."""

    op: str
    args: tuple[int, ...] = ()
    value: float = 0.0
    name: str = ""
    one: bool = False  # one number a row


class _Plan(NamedTuple):
    """What a run needs beside addresses."""

    size: int
    sizes: tuple[int, ...]  # the first fields of csrc/rows.h
    floats: int  # of a thread's scratch memory
    shapes: list[tuple[int, ...]]  # of the results
    operands: Any  # of csrc/rows.h, inputs and new results, but for their addresses
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
        self._derived: dict[Any, tuple[RowProgram | None, list[str]]] = {}
        self._ways: dict[Any, tuple[RowProgram | None, list[str], list[_Shape]]] = {}  # the same by shapes, with them

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
            case ast.Call(func=ast.Name(id="equal"), args=[first, second]):
                made = self._operation("equal", (self._node(first), self._node(second)))
            case ast.Call(func=ast.Name(id=name), args=[first, second, ast.Constant(value=value)]) if name in _OF_TWO:
                made = self._operation(name, (self._node(first), self._node(second)), float(value))
            case ast.Call(func=ast.Name(id="norm"), args=[*three, ast.Constant(value=value)]) if len(three) == 3:
                made = self._operation("affine_norm", tuple(map(self._node, three)), float(value))
            case _:
                raise ValueError(f"{ast.unparse(expression)!r} is nothing that a row program computes")
        if made not in self._nodes:
            self._nodes.append(made)
        return self._nodes.index(made)

    def _operation(self, op: str, args: tuple[int, ...], value: float = 0.0) -> _Node:
        if op in ("sum", "most") and self._nodes[args[0]].one:
            raise ValueError(f"{op} is of the columns of a row, and what it is given is one number a row; leave it out")
        one = op in ("sum", "most") or all(self._nodes[arg].one for arg in args)
        return _Node(op, args, value, one=one)

    def _operations(self) -> list[tuple[int, str, tuple[int, ...], float]]:
        """List what is done for which value, with what follows a product of two at once joined to it."""
        uses = [arg for node in self._nodes for arg in node.args] + [self._named[name] for name in self.results]

        def joined(arg: int) -> bool:
            return self._nodes[arg].op == "multiply" and uses.count(arg) == 1

        made: list[tuple[int, str, tuple[int, ...], float]] = []
        within: set[int] = set()
        for at, node in enumerate(self._nodes):
            op, args = node.op, node.args
            first = next((arg for arg in args if joined(arg)), None) if op in ("sum", "add") else None
            if op == "affine_norm":
                made.append((at, "norm", args[:1], node.value))
                op, args = "multiply_add", (at, *args[1:])
            elif first is not None:
                within.add(first)
                op = "dot" if op == "sum" else "multiply_add"
                args = (*self._nodes[first].args, *(args[1 - args.index(first)] for _ in args[1:]))
            made.append((at, op, args, node.value))
        return [operation for operation in made if operation[0] not in within]

    def _compiled(self) -> tuple[list[tuple[int, str, int, tuple[int, ...], tuple[int, ...], float]], int]:
        """Give each value a register while it is needed.

        Returns:
            The steps, each with the number of the value that it is for, and those of what it reads; how many registers
            there are.
        """
        stored: dict[int, list[int]] = {}
        for i, name in enumerate(self.results):
            stored.setdefault(self._named[name], []).append(len(self.inputs) + i)
        operations = self._operations()
        last = {arg: i for i, (at, _, args, _) in enumerate(operations) for arg in args if arg != at}
        steps: list[tuple[int, str, int, tuple[int, ...], tuple[int, ...], float]] = []
        place: dict[int, int] = {}
        free: list[int] = []
        registers = 0
        for i, (at, op, args, value) in enumerate(operations):
            from_ = tuple(place[arg] for arg in args if arg in place)
            if op == "total":
                steps += [(at, "total", to, from_, args, 0.0) for to in stored[at]]
                continue
            ended = [place[arg] for arg in dict.fromkeys(args) if last.get(arg) == i]
            if op != "linear":  # which reads the rows of a product again for other outputs
                free += ended
            if at not in place:
                if not free:
                    free.append(registers)
                    registers += 1
                place[at] = free.pop()
            if op == "linear":
                free += ended
            to = place[at]
            if op == "load":
                from_ = (self.inputs.index(self._nodes[at].name),)
            elif op == "linear":
                from_ = (*from_, int(value))
            steps.append((at, op, to, from_, args, value))
            if any(later == at for later, *_ in operations[i + 1 :]):  # the steps of a norm
                continue
            steps += [(at, "store", operand, (to,), (at,), 0.0) for operand in stored.get(at, ())]
            if at not in last:
                free.append(to)
        return steps, registers

    def _placed(self, narrow: set[str], widths: Sequence[int]) -> tuple[int, Any]:
        """Write the steps for the kernel, and count them.

        Args:
            narrow: The inputs of one number a row.
            widths: Columns of each value.
        """
        whole = {arg for _, op, _, _, args, _ in self._steps if op in _OF_ROWS for arg in args}  # read as rows
        ones: dict[int, bool] = {}
        made: list[_Step] = []
        for at, op, to, from_, read, value in self._steps:
            registers, args = list(from_), list(read)
            if op == "load":
                one = self._nodes[at].name in narrow and at not in whole
            elif op in _OF_ROWS:
                one = op in ("sum", "most", "dot")
            else:
                one = all(ones[arg] for arg in args)
            if op == "multiply_add" and ones[args[0]] and not ones[args[1]]:
                registers[:2], args[:2] = registers[1::-1], args[1::-1]
            kinds = sum(flag for flag, arg in zip((_A, _B, _C), args, strict=False) if ones[arg])
            a, b, c = (*registers, 0, 0, 0)[:3]
            made.append(_Step(_NUMBERS[op], to, a, b, c, kinds + _RESULT * one, value, widths[at]))
            if op not in ("store", "total"):
                ones[at] = one
                if one and at in whole:
                    made.append(_Step(_NUMBERS["spread"], to, 0, 0, 0, 0, 0.0, widths[at]))
                    ones[at] = False
        return len(made), (_Step * len(made))(*made)

    def __call__(self, *, out: dict[str, Tensor] | None = None, **inputs: Tensor) -> Any:
        """Compute.

        Args:
            out: Where results go, by name: views whose columns are neighbours in memory; default new tensors.
            **inputs: By name.

        Returns:
            The result, or a tuple of several in their order.
        """
        given = tuple(inputs[name] for name in self.inputs)
        if inference.takes(*given):
            made = self._run(given, out or {})
        elif out is None and inference.trains(*given):
            made = _Trained.apply(self, *given)
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

    def _run(
        self, inputs: tuple[Tensor, ...], out: dict[str, Tensor], products: int = 0, outputs: tuple[int, ...] = ()
    ) -> tuple[Tensor, ...]:
        """Compute by the kernel; a chain has the address of its products and their numbers of outputs."""
        plan = self._plans.get(key := (outputs, *((x.shape, x.stride()) for x in inputs)))
        if plan is None:
            plan = self._planned(inputs, outputs)
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
        operands = type(plan.operands).from_buffer_copy(plan.operands)
        for at, x in enumerate((*inputs, *made)):
            operands[4 * at] = x.data_ptr()
        for name, x in out.items():
            at = 4 * (len(inputs) + self.results.index(name))
            operands[at + 1 : at + 4] = _strides(x)
        threads = torch.get_num_threads() if plan.size > cpu.SMALL else 1
        scratch = torch.empty(threads * plan.floats + cpu.WIDEST, dtype=torch.float32)
        start = -(-scratch.data_ptr() // 64) * 64
        pointers = ctypes.addressof(plan.steps), ctypes.addressof(operands), products, start, plan.floats, 0, 0
        cpu.run_team(cpu.kernel("rows"), _Rows(*plan.sizes, *pointers), threads, (inputs, made, operands, scratch))
        return tuple(made)

    def _gradients(
        self, inputs: tuple[Tensor, ...], grads: tuple[Tensor | None, ...], needed: tuple[bool, ...]
    ) -> list[Tensor | None]:
        """Compute the gradients of the inputs that need one from those of the results; None is zero."""
        way = needed, tuple(x.shape for x in inputs), tuple(grad is not None for grad in grads)
        if (derived := self._ways.get(way)) is None:
            shapes = [_flat_shape(x) for x in inputs]
            kinds = tuple(_kind(x, _broadcast(shapes)) if need else "" for x, need in zip(shapes, needed, strict=True))
            if (key := (kinds, way[2])) not in self._derived:
                self._derived[key] = self._derivative(*key)
            derived = *self._derived[key], shapes
            if len(self._ways) < _MOST_PLANS:
                self._ways[way] = derived
        program, names, shapes = derived
        values = {f"_d{name}": x for name, x in zip(self.results, grads, strict=True) if x is not None}
        if program is not None:
            given = dict(zip(self.inputs, inputs, strict=True)) | values
            found = program._run(tuple(given[name] for name in program.inputs), {})
            values |= dict(zip(program.results, found, strict=True))
        return [
            _summed(values[name], shape, x.shape) if name else None
            for x, shape, name in zip(inputs, shapes, names, strict=True)
        ]

    def _derivative(self, kinds: tuple[str, ...], given: tuple[bool, ...]) -> tuple[RowProgram | None, list[str]]:
        """Derive the program of gradients, from the last value to the first, and the names of the inputs' gradients.

        Args:
            kinds: What the gradient of each input is summed over (`_kind`); "" where there is none to compute.
            given: Which results have a gradient.
        """
        values = [node.name or f"_v{at}" for at, node in enumerate(self._nodes)]
        terms: dict[int, list[str]] = {}
        starts = {f"_d{name}": self._named[name] for name, has in zip(self.results, given, strict=True) if has}
        for name, at in starts.items():
            terms.setdefault(at, []).append(name)
        wanted = {name: kind for name, kind in zip(self.inputs, kinds, strict=True) if kind}
        leads = [node.name in wanted for node in self._nodes]
        for at, node in enumerate(self._nodes):
            leads[at] = leads[at] or any(leads[arg] for arg in node.args)
        lines: list[str] = []
        names: dict[str, str] = {}  # of inputs' gradients, by what they are: equal ones are one
        found: dict[str, str] = {}
        for at, node in reversed(list(enumerate(self._nodes))):
            if at not in terms or not leads[at]:
                continue
            made = " + ".join(f"({term})" for term in terms[at]) if len(terms[at]) > 1 else terms[at][0]
            if node.op == "load":
                made = {"all": "{}", "columns": "sum({})", "rows": "total({})"}[wanted[node.name]].format(made)
                passed = made in starts  # what came in goes out as it is
                found[node.name] = made if passed else names.setdefault(made, f"_i{at}")
                continue
            if not made.isidentifier():
                lines.append(f"_g{at} = {made}")
                made = f"_g{at}"
            slopes = self._slopes(node, made, values[at], values)
            if node.op == "multiply" and node.args[0] == node.args[1]:
                slopes = [f"{made} * 2.0 * {values[node.args[0]]}"]
            for arg, slope in zip(node.args, slopes, strict=False):
                if leads[arg]:
                    one = self._nodes[arg].one and not node.one
                    terms.setdefault(arg, []).append(f"sum({slope})" if one else slope)
        lines += [f"{name} = {made}" for made, name in names.items()]
        program = RowProgram("; ".join([*self._statements(values, lines), *lines]), *names.values()) if lines else None
        return program, [found.get(name, "") for name in self.inputs]

    def _slopes(self, node: _Node, g: str, y: str, values: list[str]) -> list[str]:
        """Give the gradients of a node's arguments, as expressions of its own, `g`, of its value and of the others."""
        if node.op == "affine_norm":
            x, weight, _ = (values[arg] for arg in node.args)
            value = repr(node.value)
            return [f"norm_slope({x}, {g} * {weight}, {value})", f"{g} * norm({x}, {value})", g]
        a, b = (*(values[arg] for arg in node.args), "")[:2]
        known = {"g": g, "y": y, "a": a, "b": b, "value": repr(node.value)}
        return [slope.format(**known) for slope in _SLOPES[node.op]]

    def _statements(self, values: list[str], lines: list[str]) -> list[str]:
        """Compute again those values that the lines read."""
        statements: list[str] = []
        text = "; ".join(lines)
        for at, node in reversed(list(enumerate(self._nodes))):
            if node.op == "load" or not re.search(rf"\b{values[at]}\b", text):
                continue
            args = [*(values[arg] for arg in node.args), *([repr(node.value)] if node.op in _VALUED else [])]
            if node.op in _SIGNS:
                made = f" {_SIGNS[node.op]} ".join(args)
            else:
                made = f"{node.op.removeprefix('affine_')}({', '.join(args)})"
            statements.append(f"{values[at]} = {made}")
            text = f"{text}; {made}"
        return statements[::-1]

    def _planned(self, inputs: tuple[Tensor, ...], outputs: tuple[int, ...]) -> _Plan:
        """Work out what depends on the shapes and strides of the inputs, and the outputs of products, alone."""
        rows = max((tuple(x.shape[1:-1]) for x in inputs if x.ndim > 2), key=math.prod, default=None)
        copied = {i for i, x in enumerate(inputs) if (x.shape[-1] > 1 and x.stride(-1) != 1) or not _flattens(x)}
        flat = [_flat(x.contiguous() if i in copied else x) for i, x in enumerate(inputs)]
        outer, inner = torch.broadcast_shapes(*(x.shape[:2] for x in flat))  # type: ignore[no-untyped-call]
        widths = self._widths([x.shape[2] for x in flat], outputs)
        axes = (outer, *((inner,) if rows is None else rows))
        shapes = []
        for name in self.results:
            node, width = self._nodes[self._named[name]], widths[self._named[name]]
            shapes.append((*((outer, 1) if node.op == "total" else axes), 1 if node.one else width))
        width = max(widths)
        pitch = -(-width // cpu.WIDEST) * cpu.WIDEST
        block = max(1, min(inner, self._block(pitch)))
        task = inner if any(node.op == "total" for node in self._nodes) else min(inner, _TASK_BLOCKS * block)
        narrow = {name for name, x in zip(self.inputs, flat, strict=True) if x.shape[2] == 1}
        count, steps = self._placed(narrow, widths)
        sizes = outer, inner, count, block, max(task, 1), pitch
        floats = self._registers * block * pitch
        strides = *map(_strides, flat), *map(_strides_of, shapes)
        operands = (_int * (4 * len(strides)))(*(n for three in strides for n in (0, *three)))
        return _Plan(outer * inner * width, sizes, floats, shapes, operands, copied, steps)

    def _widths(self, columns: list[int], outputs: tuple[int, ...]) -> list[int]:
        """Give the columns of each value: here all have those of the widest input."""
        return [min(columns) and max(columns)] * len(self._nodes)

    def _block(self, pitch: int) -> int:
        """Rows at a time, of registers of so many floats a row."""
        return _BLOCK_FLOATS // pitch


class _Trained(torch.autograd.Function):
    """A program with gradients by the program that is derived from it."""

    @staticmethod
    def forward(ctx: Any, program: RowProgram, *inputs: Tensor) -> tuple[Tensor, ...]:
        ctx.program = program
        ctx.save_for_backward(*inputs)
        ctx.set_materialize_grads(False)
        return program._run(inputs, {})

    @staticmethod
    def backward(ctx: Any, *grads: Tensor | None) -> tuple[Tensor | None, ...]:
        inputs, needed = ctx.saved_tensors, ctx.needs_input_grad[1:]
        if not torch.is_grad_enabled():
            return None, *ctx.program._gradients(inputs, grads, needed)
        # They are to be differentiated in their turn: those of torch operations can be.
        made = zip(ctx.program._plain(inputs, {}), grads, strict=True)
        results, slopes = zip(*((x, grad) for x, grad in made if grad is not None), strict=True)
        asked = [x for x, need in zip(inputs, needed, strict=True) if need]
        found = iter(torch.autograd.grad(results, asked, slopes, create_graph=True, allow_unused=True))
        return None, *(next(found) if need else None for need in needed)


def _kind(shape: _Shape, full: _Shape) -> str:
    """Say what the gradient of an operand is summed over: "columns", "rows" of a sample, or nothing before "all"."""
    if shape[2] == 1 < full[2]:
        return "columns"
    return "rows" if shape[1] == 1 < full[1] else "all"


def _broadcast(shapes: Sequence[_Shape]) -> _Shape:
    """Give the shape that several come to together, of each axis the one that is not 1."""
    outer, inner, columns = (next((n for n in axis if n != 1), 1) for axis in zip(*shapes, strict=True))
    return outer, inner, columns


def _summed(grad: Tensor, shape: _Shape, result: torch.Size) -> Tensor:
    """Sum a gradient over the axes that its operand (B, R, W) has one number for, and repeat it along the others.

    Args:
        grad: What comes in has no more numbers than the rows together.
        shape: Of the operand as (B, R, W).
        result: Its own shape.
    """
    if grad.shape == result:
        return grad
    grad = _flat(grad)
    axes = [axis for axis, n in enumerate(shape) if n == 1 < grad.shape[axis]]
    return (grad.sum(axes, keepdim=True) if axes else grad).expand(shape).reshape(result)


def _flattens(x: Tensor) -> bool:
    """Whether the rows of each sample follow each other at one distance."""
    return x.ndim != 4 or x.shape[1] == 1 or x.shape[2] == 1 or x.stride(1) == x.shape[2] * x.stride(2)


def _flat_shape(x: Tensor) -> _Shape:
    """Give the shape that an operand has as (B, R, W)."""
    return (x.shape[0] if x.ndim > 2 else 1, math.prod(x.shape[1:-1]), x.shape[-1])


def _flat(x: Tensor) -> Tensor:
    """View an operand as (B, R, W)."""
    return x if x.ndim == 3 else x.flatten(1, 2) if x.ndim == 4 else x.view(1, 1, -1)


def _strides(x: Tensor) -> tuple[int, int, int]:
    """Give the strides of an operand, 0 along an axis that it has one number for."""
    x = _flat(x)
    (outer, inner, columns), (sample, row, _) = x.shape, x.stride()
    return sample if outer > 1 else 0, row if inner > 1 else 0, int(columns > 1)


def _strides_of(shape: tuple[int, ...]) -> tuple[int, int, int]:
    """Give the same of a new tensor."""
    outer, *rows, columns = shape
    inner = math.prod(rows)
    return inner * columns if outer > 1 else 0, columns if inner > 1 else 0, int(columns > 1)
