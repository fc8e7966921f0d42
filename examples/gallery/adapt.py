"""
Adapt to the images at hand
===========================

A weight was trained on other ground. ``adapt=`` fits filters on the images themselves, trains the network on what these
leave over, compares everything with the classical methods on held-out tiles, and uses what is best there.
"""

import tempfile

import numpy as np
from matplotlib.figure import Figure

import hsmamba
from hsmamba import viz
from hsmamba.data import open_image, write_samples
from hsmamba.engine import Adapt
from hsmamba.engine.fusion.job import prepare_fusion

folder = tempfile.TemporaryDirectory()
*_, ms_file, pan_file = write_samples(folder.name)  # as `hsmamba demo --files` does
ms, pan = open_image(ms_file), open_image(pan_file)
model = hsmamba.create_model("rsanet", in_chans=7, scale=2, dim=8)

# %%
# ``adapt=60`` is a minute; a number of steps gives the same result on every machine. ``maximum`` says what is 1 to a
# network without weights.

job = prepare_fusion(model, ms, pan, adapt=Adapt(steps=4), maximum=32767, progress=False)
print(job.adaptation.report)

# %%
# The job sharpens; ``hsmamba.fuse(model, ms, pan, adapt=60)`` does all of it at once.

rows = np.empty(job.shape, job.dtype)


def write(first: int, block: np.ndarray) -> None:
    rows[first : first + len(block)] = block


job.run(write)
print(rows.shape, rows.dtype)
figure = Figure(figsize=(8, 4.2), layout="constrained")
for axes, (name, image) in zip(figure.subplots(1, 2), {"30 m": np.asarray(ms), "adapted": rows}.items(), strict=True):
    rows_shown, columns_shown = (slice(side // 2, side) for side in image.shape[:2])
    axes.imshow(viz.composite(image[rows_shown, columns_shown], [3, 2, 1]), interpolation="nearest")
    axes.set_title(name)
    axes.set_axis_off()
