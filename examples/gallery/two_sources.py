"""
Two sources: spectra and heights
================================

The MUUFL crop has a second image on its grid, LiDAR height and intensity, as ``scene.aux``. A model that is made with
``aux_chans`` takes both.
"""

from matplotlib.figure import Figure

import hsmamba
from hsmamba import viz

scene = hsmamba.load_scene("muufl_crop")
print(scene.hsi.shape, scene.aux.shape)
figure = Figure(figsize=(8, 4.2), layout="constrained")
left, right = figure.subplots(1, 2)
left.imshow(viz.composite(scene.hsi, wavelengths=scene.wavelengths))
left.set_title("spectra")
right.imshow(scene.aux[:, :, 0], cmap="viridis")
right.set_title("height")
for axes in (left, right):
    axes.set_axis_off()

# %%
# Training pixels in blocks, apart from the test pixels:

split = hsmamba.data.block_split(scene.labels, patch_size=5, fraction=0.1, seed=0, strict=False)

# %%
# The same model without and with the second source:

for channels in (0, scene.aux.shape[2]):
    model = hsmamba.create_model("lda", num_classes=scene.num_classes, aux_chans=channels)
    hsmamba.finetune(model, scene, split, progress=False)
    report = hsmamba.evaluate(model, scene, split)
    print(f"{channels} channels of LiDAR: OA {100 * report.oa:.1f} %, AA {100 * report.aa:.1f} %")

# %%
# A network of two streams takes them in the same way. Three epochs show the way, not what it can do.

model = hsmamba.create_model(
    "msfmamba", num_classes=scene.num_classes, in_chans=10, aux_chans=2, patch_size=7, d_state=4
)
result = hsmamba.finetune(model, scene, split, epochs=3, progress=False)
for record in result.history:
    print({key: round(record[key], 3) for key in ("epoch", "loss", "train_oa")})
