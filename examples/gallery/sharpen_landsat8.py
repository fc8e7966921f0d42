"""
Sharpen Landsat-8 with its panchromatic band
============================================

Seven bands of 30 m and one of 15 m. A weight of the zoo takes them as they are. Where there is none, as for most
sensors, a network is trained on the scene itself: Wald's protocol reduces both images, and the bands as they are become
the truth.
"""

import tempfile

import numpy as np
from matplotlib.figure import Figure

import hsmamba
from hsmamba import viz
from hsmamba.data import open_image, wald_pairs, write_samples

folder = tempfile.TemporaryDirectory()
*_, ms_file, pan_file = write_samples(folder.name)  # as `hsmamba demo --files` does
ms, pan = open_image(ms_file), open_image(pan_file)
print(ms.shape, pan.shape)

# %%
# The weight was trained on other rows of the image that this sample is cut from:

trained = hsmamba.create_model("ramsf.landsat8", pretrained=True)
print(hsmamba.fuse(trained, ms, pan, progress=False).shape)

# %%
# ``residual`` makes a network the correction of a classical method, so that it begins where that ends: a few seconds of
# training show the way, minutes are where it pays.

pairs = wald_pairs(ms, pan, sensor="generic", ratio=2, name="Landsat-8")
model = hsmamba.create_model("residual", network="rsanet", in_chans=7, scale=2, sensor="generic")
hsmamba.finetune(model, pairs, epochs=3, steps=8, progress=False)
print(hsmamba.evaluate(model, pairs))

# %%
# The scene itself. The result is on the grid of the panchromatic band, in the units of the others.

sharp = hsmamba.fuse(model, ms, pan, progress=False)
print(sharp.shape, sharp.dtype, sharp.rio.crs)

# %%
figure = Figure(figsize=(9, 4.8), layout="constrained")
before, after = figure.subplots(1, 2)
before.imshow(viz.composite(np.asarray(ms), [3, 2, 1]), interpolation="nearest")
before.set_title("30 m")
after.imshow(viz.composite(np.asarray(sharp), [3, 2, 1]), interpolation="nearest")
after.set_title("15 m")
for axes in (before, after):
    axes.set_axis_off()
