"""One operator, the selective scan, with its reference and its backends."""

from __future__ import annotations

from hsmamba.ops.backends import BackendUnavailableError, available_backends, scan_backend
from hsmamba.ops.scan import decompositions, selective_scan

__all__ = ["BackendUnavailableError", "available_backends", "decompositions", "scan_backend", "selective_scan"]
