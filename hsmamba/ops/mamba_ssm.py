"""The CUDA kernel of the mamba-ssm package, where it is really there."""

from __future__ import annotations

import functools
import importlib
from typing import Any

import torch
from torch import Tensor

from hsmamba.ops.inputs import ScanInputs
from hsmamba.ops.reference import scan_reference

KERNEL = "selective_scan_cuda"  # the extension module that the package's function calls
MOST_STATES = 256  # of that kernel


@functools.cache
def _interface() -> Any:
    """mamba-ssm's scan module with a compiled kernel behind it, or the reason why there is none.

    The package alone proves nothing: its plain install builds no kernel of Mamba-1 since version 2.3.2.post1, and
    every import from it then fails for want of the kernel.
    """
    no_kernel = "mamba_ssm is installed without its Mamba-1 kernel; reinstall it with MAMBA_FORCE_BUILD=TRUE set"
    try:
        interface = importlib.import_module("mamba_ssm.ops.selective_scan_interface")
    except Exception as error:  # a broken CUDA package fails in many ways, none of which is the caller's concern
        if getattr(error, "name", None) == KERNEL:
            return no_kernel
        return (
            f"mamba_ssm cannot be imported ({error}); on a machine with a CUDA device and its toolchain: "
            f'pip install "hsmamba[cuda]"'
        )
    return no_kernel if getattr(interface, KERNEL, None) is None else interface


def unavailable() -> str | None:
    """Why the kernel cannot run here; None where it can."""
    interface = _interface()
    if isinstance(interface, str):
        return interface
    return None if torch.cuda.is_available() else "it needs a CUDA device, and torch sees none"


def scan_mamba_ssm(inputs: ScanInputs) -> tuple[Tensor, Tensor]:
    """Scan by mamba-ssm's `selective_scan_fn`.

    Args:
        inputs: Checked arguments on a CUDA device, without an initial state.

    Returns:
        y (b, d, l) and the last state (b, d, n), through which that kernel has no gradient.

    Raises:
        ValueError: More states than the kernel takes.
    """
    if inputs.A.shape[1] > MOST_STATES:
        raise ValueError(
            f"mamba_ssm's kernel takes at most {MOST_STATES} states and A is {tuple(inputs.A.shape)}; "
            f"take another scan backend, triton or torch"
        )
    if inputs.u.numel() == 0:  # of which the kernel knows nothing
        return scan_reference(inputs)
    # The kernel takes one dtype for all that varies with time, and float32 for the rest.
    dtypes = {x.dtype for x in (inputs.u, inputs.delta, inputs.B, inputs.C, inputs.z) if x is not None}
    dtype = inputs.u.dtype if len(dtypes) == 1 else torch.float32
    varying = (inputs.u.shape[0], inputs.u.shape[2])
    B, C = (x.to(dtype) if (x.shape[0], x.shape[3]) == varying else x[0, :, :, 0].float() for x in (inputs.B, inputs.C))
    y, last = _interface().selective_scan_fn(
        inputs.u.to(dtype),
        inputs.delta.to(dtype),
        inputs.A.float(),
        B,
        C,
        None if inputs.D is None else inputs.D.float(),
        None if inputs.z is None else inputs.z.to(dtype),
        None if inputs.delta_bias is None else inputs.delta_bias.float(),
        inputs.delta_softplus,
        return_last_state=True,
    )
    return y.to(inputs.u.dtype), last
