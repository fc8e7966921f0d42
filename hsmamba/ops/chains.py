"""Chains: row programs with linear layers in them, whose intermediate results never leave the cache.

    mlp = RowChain("y = x + linear(gelu(linear(norm(x, weight, bias, 1e-6), up)), down)", "y")
    products = {"up": (up.weight, up.bias), "down": (down.weight, down.bias)}
    y = mlp(products, {"x": x, "weight": norm.weight, "bias": norm.bias})

A linear layer of few inputs is bound by memory, not by its products: what it writes, the next step reads again. A chain
does all steps for some rows before it goes on to the next ones. For inference; elsewhere it is torch operations.
"""

from __future__ import annotations

import ast
import ctypes
from collections.abc import Mapping
from typing import Any, TypeAlias

import torch.nn.functional as F
from torch import Tensor

from hsmamba.ops import inference
from hsmamba.ops.linear import packed
from hsmamba.ops.rows import _TORCH, _VALUED, RowProgram, _Node

# Weight (N, K) and bias (N,) of a layer, and which of its outputs are meant where it is not all of them.
Product: TypeAlias = "tuple[Tensor, Tensor | None] | tuple[Tensor, Tensor | None, slice]"

_BLOCK_FLOATS = 16384  # of all registers together, which are seldom full: what the first cache holds
_ROW_TILE = 8  # rows that a product has in registers


class _Product(ctypes.Structure):
    _fields_ = [("inputs", ctypes.c_int64), ("weights", ctypes.c_void_p), ("bias", ctypes.c_void_p)]


class RowChain(RowProgram):
    """A row program whose values may differ in width: `linear(x, name)` takes rows of K numbers to rows of N.

    Args:
        text: See `RowProgram`; `linear`'s second argument names a product of the call.
        results: See `RowProgram`.

    Shape:
        As `RowProgram`, but what meets has the same width; where an input has one number a row it is torch operations.

    Raises:
        ValueError: The text is no such program.
    """

    def __init__(self, text: str, *results: str) -> None:
        self.products: list[str] = []
        super().__init__(text, *results)

    def _node(self, expression: ast.expr) -> int:
        match expression:
            case ast.Call(func=ast.Name(id="linear"), args=[first, ast.Name(id=name)]):
                made = _Node("linear", (self._node(first),), float(self._number(name)), name)
            case _:
                return super()._node(expression)
        if made not in self._nodes:
            self._nodes.append(made)
        return self._nodes.index(made)

    def _number(self, name: str) -> int:
        """Number a product."""
        if name not in self.products:
            self.products.append(name)
        return self.products.index(name)

    def __call__(  # type: ignore[override]
        self, products: Mapping[str, Product], inputs: Mapping[str, Tensor], *, out: dict[str, Tensor] | None = None
    ) -> Any:
        """Compute.

        Args:
            products: Weight (N, K) and bias (N,) by name, and maybe a slice of the outputs.
            inputs: By name.
            out: See `RowProgram`.

        Returns:
            See `RowProgram`.
        """
        given = tuple(inputs[name] for name in self.inputs)
        chosen = [products[name] for name in self.products]
        weights = (x for product in chosen for x in product[:2] if x is not None)
        wide = all(x.shape[-1] > 1 for x in given)  # the kernel takes one number a row for that of all columns
        if wide and inference.takes(*given, *weights):
            made = self._chained(given, chosen, out or {})
        else:
            made = self._plain_chain(given, chosen, out or {})
        return made[0] if len(made) == 1 else made

    def _chained(
        self, inputs: tuple[Tensor, ...], products: list[Product], out: dict[str, Tensor]
    ) -> tuple[Tensor, ...]:
        found = [inference.prepared(_panels, *product[:2], **_bounds(product)) for product in products]
        table = (_Product * len(found))(*(_Product(x.shape[1], x.data_ptr(), bias.data_ptr()) for _, x, bias in found))
        made = self._run(inputs, out, ctypes.addressof(table), tuple(outputs for outputs, _, _ in found))
        del table, found  # which the kernel reads until here
        return made

    def _plain_chain(
        self, inputs: tuple[Tensor, ...], products: list[Product], out: dict[str, Tensor]
    ) -> tuple[Tensor, ...]:
        values: list[Tensor] = []
        for node in self._nodes:
            args = [values[arg] for arg in node.args]
            if node.op == "load":
                values.append(inputs[self.inputs.index(node.name)])
            elif node.op == "linear":
                weight, bias, *part = products[self.products.index(node.name)]
                cut = part[0] if part else slice(None)
                values.append(F.linear(args[0], weight[cut], None if bias is None else bias[cut]))
            else:
                values.append(_TORCH[node.op](*args, *((node.value,) if node.op in _VALUED else ())))
        made = {name: values[self._named[name]] for name in self.results}
        return tuple(out[name].copy_(x) if name in out else x for name, x in made.items())

    def _widths(self, columns: list[int], outputs: tuple[int, ...]) -> list[int]:
        widths: list[int] = []
        for node in self._nodes:
            if node.op == "load":
                widths.append(columns[self.inputs.index(node.name)])
            elif node.op == "linear":
                widths.append(outputs[self.products.index(node.name)])
            elif len(met := {widths[arg] for arg in node.args}) == 1:
                widths += met
            else:
                raise ValueError(
                    f"{node.op} meets rows of {' and '.join(map(str, sorted(met)))} numbers; make them alike"
                )
        return widths

    def _block(self, pitch: int) -> int:
        return max(_ROW_TILE, _BLOCK_FLOATS // (pitch * self._registers) // _ROW_TILE * _ROW_TILE)


def _bounds(product: Product) -> dict[str, int]:
    """First output of a product, and the one after the last."""
    first, end, _ = (product[2] if len(product) == 3 else slice(None)).indices(len(product[0]))
    return {"first": first, "end": end}


def _panels(weight: Tensor, bias: Tensor | None, *, first: int, end: int) -> tuple[int, Tensor, Tensor]:
    """Pack some outputs of a layer as the kernel of linear layers has them."""
    part = None if bias is None else bias[first:end]
    outputs, panels, shift, _ = packed(weight[first:end], part, parts=((end - first, ""),))
    return outputs, panels, shift
