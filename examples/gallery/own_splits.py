"""
Splits that say something about unseen ground
=============================================

Pixels drawn at random lie beside those that a model is tested on, mostly in the same patch. Blocks do not.
"""

import numpy as np
from matplotlib.figure import Figure

import hsmamba

scene = hsmamba.load_scene("muufl_crop")
side = 9
splits = {
    "random": hsmamba.data.random_split(scene.labels, fraction=0.05, seed=0),
    "blocks": hsmamba.data.block_split(scene.labels, patch_size=side, fraction=0.05, seed=0, strict=False),
}

# %%
# How many test pixels lie inside a training patch, and what that does to the figures:

for name, split in splits.items():
    model = hsmamba.create_model("lda", num_classes=scene.num_classes)
    hsmamba.finetune(model, scene, split, progress=False)
    report = hsmamba.evaluate(model, scene, split)
    share = hsmamba.data.leakage(split, side).share
    print(f"{name}: {100 * share:.0f} % of the test pixels in a training patch, OA {100 * report.oa:.1f} %")

# %%
# Where the pixels lie: training orange, test blue.

figure = Figure(figsize=(8, 4.2), layout="constrained")
for axes, (name, split) in zip(figure.subplots(1, 2), splits.items(), strict=True):
    picture = np.zeros((*scene.shape, 3))
    picture.reshape(-1, 3)[split.test] = (0.35, 0.55, 0.85)
    picture.reshape(-1, 3)[split.train] = (1.0, 0.6, 0.1)
    axes.imshow(picture, interpolation="nearest")
    axes.set_title(name)
    axes.set_axis_off()

# %%
# A split of your own is two lists of flat indices, row * columns + column. It is saved with its hash.

pixels = np.flatnonzero(np.asarray(scene.labels))
left = pixels % scene.shape[1] < 45
mine = hsmamba.data.Split(pixels[left], pixels[~left], np.empty(0, int), scene.shape, "left and right")
print(mine.describe(scene.labels, scene.class_names))
