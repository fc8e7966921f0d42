"""The CUDA kernel of the mamba-ssm package, where it is really there."""

from __future__ import annotations

import functools
from typing import Any

from torch import Tensor

from hsmamba.ops.inputs import ScanInputs


@functools.cache
def _interface() -> Any:
    """mamba-ssm's scan module with a compiled kernel behind it, or the reason why there is none.

    The package alone proves nothing: its plain install builds no kernel of Mamba-1 since version 2.3.2.post1.
    """
    try:
        from mamba_ssm.ops import selective_scan_interface as interface
    except Exception as error:  # a broken CUDA package fails in many ways, none of which is the caller's concern
        return f'mamba_ssm cannot be imported ({error}); with a CUDA toolchain: pip install "hsmamba[cuda]"'
    if getattr(interface, "selective_scan_cuda", None) is None:
        return "mamba_ssm was built without its Mamba-1 kernel; reinstall it with MAMBA_FORCE_BUILD=TRUE set"
    return interface


def unavailable() -> str | None:
    """Why the kernel cannot run here; None where it can."""
    interface = _interface()
    return interface if isinstance(interface, str) else None


def scan_mamba_ssm(inputs: ScanInputs) -> tuple[Tensor, Tensor]:
    """Scan by mamba-ssm's `selective_scan_fn`.

    Args:
        inputs: Checked arguments on a CUDA device, without an initial state.

    Returns:
        y (b, d, l) and the last state (b, d, n), through which that kernel has no gradient.
    """
    varying = (inputs.u.shape[0], inputs.u.shape[2])
    B, C = (x if (x.shape[0], x.shape[3]) == varying else x[0, :, :, 0] for x in (inputs.B, inputs.C))
    y, last = _interface().selective_scan_fn(
        inputs.u,
        inputs.delta,
        inputs.A.float(),
        B,
        C,
        None if inputs.D is None else inputs.D.float(),
        inputs.z,
        None if inputs.delta_bias is None else inputs.delta_bias.float(),
        inputs.delta_softplus,
        return_last_state=True,
    )
    return y, last
