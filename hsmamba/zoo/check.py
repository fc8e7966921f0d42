"""Checks: what a network gave for small inputs where it was published, to compare with what it gives elsewhere.

Hashes say that the bytes are the same; a check says that this machine computes the same from them.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from hsmamba.errors import WeightsError

if TYPE_CHECKING:  # torch is imported where it is used: to look into folders and to fetch files takes none
    from torch import Tensor, nn

TOLERANCE = 1e-3  # of the largest number of the output: other processors and libraries round elsewhere
_SIDE = 8  # coarse pixels of an image pair, so that the file stays small


def make_check(model: nn.Module) -> dict[str, Tensor]:
    """Run a network on small inputs of white noise, the same for every network of its sizes.

    Args:
        model: A network made by the factory, in evaluation mode.

    Returns:
        The tensors of `check.safetensors`, float32: "input0" and, of two sources or an image and its guide, "input1",
        as the network takes them (numbers that half precision holds exactly), and "output".
    """
    import torch

    from hsmamba.models import example_inputs

    inputs = example_inputs(model, 1)
    if hasattr(model, "guide_chans"):
        sides = (_SIDE, inputs[1].shape[-1] * _SIDE // inputs[0].shape[-1])
        inputs = tuple(x[..., :side, :side] for x, side in zip(inputs, sides, strict=True))
    given = {f"input{place}": x.half().float().contiguous() for place, x in enumerate(inputs)}
    with torch.no_grad():
        return {**given, "output": model(*given.values()).float().cpu().contiguous()}


def compare_check(model: nn.Module, check: Mapping[str, Tensor], *, name: str) -> float:
    """Run a network on the inputs of a check and compare.

    Args:
        model: The network, in float32 and evaluation mode.
        check: The tensors of its `check.safetensors`.
        name: Of the model, for the error.

    Returns:
        The largest difference, as a share of the output's largest number.

    Raises:
        WeightsError: The check is none of this network, or the difference is more than `TOLERANCE`.
    """
    import torch

    inputs = [check[key] for key in sorted(check) if key.startswith("input")]
    try:
        with torch.no_grad():
            given = model(*inputs)
        wanted = check["output"]
        found = float((given - wanted).abs().max() / wanted.abs().max())
    except (KeyError, TypeError, RuntimeError, ValueError) as error:
        raise WeightsError(
            f"{name}: its check cannot be run ({' '.join(str(error).split())}); fetch it again, or save it without one"
        ) from error
    if not found <= TOLERANCE:
        raise WeightsError(
            f"{name}: its output here differs from the recorded one by {found:.2g} of the largest number, "
            f"{TOLERANCE:g} is the most that rounding explains; compare the backends of the scan with: "
            "hsmamba info --backends"
        )
    return found
