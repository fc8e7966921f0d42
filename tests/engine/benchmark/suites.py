"""Small suites as text, to be changed by the tests."""

CLASSIFICATION = """
task = "classification"
title = "Trial"
seeds = [0, 1]
metrics = ["oa", "aa"]
reference = "small"

[methods.small]
model = "md2f_mamba"
args = { in_chans = 4, patch_size = 3, dim = 4, d_state = 1, filters = 1, expand = 1.0 }
finetune = { epochs = 1, batch_size = 512, val_fraction = 0.0 }

[methods.other]
model = "md2f_mamba"
args = { in_chans = 4, patch_size = 3, dim = 4, d_state = 1, filters = 1, expand = 1.0 }
finetune = { epochs = 1, batch_size = 512, lr = 1e-2, val_fraction = 0.0 }

[data.muufl_crop]
block = 30

[splits.random]
kind = "random"
count = 5
"""

FUSION = """
task = "fusion"
title = "Trial"
seeds = [0, 1]
metrics = ["SAM", "Q2n"]
reference = "GSA"

[methods.GSA]
model = "GSA"

[methods.rsanet]
model = "rsanet"
finetune = { epochs = 1, steps = 1, batch_size = 1, crop = 32 }

[data.ikonos]
block = 8

[data.bgrn]
set = "worldview2"
options = { bands = [1, 2, 4, 6] }
splits = ["others"]

[splits.own]
kind = "own"
test = 0.5

[splits.others]
kind = "whole"
train = ["ikonos", "bgrn"]
"""


def write(folder, text=CLASSIFICATION, *changes):
    """Write a suite with some texts replaced, and return its path."""
    for old, new in changes:
        assert old in text
        text = text.replace(old, new)
    path = folder / "trial.toml"
    path.write_text(text)
    return path
