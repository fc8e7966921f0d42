"""What holds for every test, and the one place that knows where files outside the package lie."""

import os
from pathlib import Path

import torch

ROOT = Path(__file__).resolve().parents[1]
# Official goldens and real scenes, whose terms keep them out of the repository; tests that want them skip without.
SHARED = Path(os.environ.get("HSMAMBA_SHARED") or ROOT.parent / "shared")
DATA = Path(os.environ.get("HSMAMBA_DATA") or SHARED / "data")

# The tensors of the tests are small: a second thread costs more than it brings, much more on a busy machine.
torch.set_num_threads(1)


def golden_files(pattern):
    """The project's own small goldens, and the official ones where they are at hand."""
    return [
        path for folder in (ROOT / "tests" / "goldens", SHARED / "goldens") for path in sorted(folder.glob(pattern))
    ]
