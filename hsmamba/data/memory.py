"""How much memory there is, for what cannot be done in parts."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

_CONTROL_GROUP = Path("/sys/fs/cgroup")  # version 2, as containers have it


def available_bytes() -> int | None:
    """Return the memory that can be had: on Linux what is free or can be freed, within the limit of a container.

    Elsewhere that of the machine; None where the system does not tell.
    """
    found = []
    with suppress(OSError, ValueError, IndexError):
        told = Path("/proc/meminfo").read_text().split("MemAvailable:")[1].split()[0]
        found.append(int(told) * 1024)
    with suppress(OSError, ValueError):
        limit, used = (int((_CONTROL_GROUP / f"memory.{name}").read_text()) for name in ("max", "current"))
        found.append(limit - used)
    if not found:
        with suppress(AttributeError, OSError, ValueError):
            found.append(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"))
    return min(found, default=None)
