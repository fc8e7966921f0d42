"""
Fuse a hyperspectral image with RGB
===================================

The weights of CAVE sharpen 31 bands from 400 to 700 nm with a colour image. Here the bundled MUUFL crop stands in for
the camera: its bands are brought to those 31, the colour image is what a Nikon D700 would have seen, and the coarse
image is blurred and has every fourth pixel. So the truth is known.
"""

import numpy as np
import torch
from matplotlib.figure import Figure

import hsmamba
from hsmamba import viz
from hsmamba.data import degrade_ms, nikon_d700, simulate_bands

scene = hsmamba.load_scene("muufl_crop")
nm = np.arange(400, 701, 10)
cube = np.asarray(scene.hsi, np.float32)[:88, :88]
spectra = [np.interp(nm, scene.wavelengths, spectrum) for spectrum in cube.reshape(-1, cube.shape[2])]
truth = torch.from_numpy(np.array(spectra, np.float32).reshape(88, 88, 31).transpose(2, 0, 1))[None]
truth /= truth.max()
rgb = simulate_bands(truth, nikon_d700())
coarse = degrade_ms(truth.double(), ratio=4, sensor="generic").float()

# %%
model = hsmamba.create_model("rsanet.cave_x4", pretrained=True)


def image(tensor: torch.Tensor) -> np.ndarray:
    return tensor[0].permute(1, 2, 0).numpy()


sharp = hsmamba.fuse(model, image(coarse), image(rgb), progress=False)
blocks = image(coarse).repeat(4, axis=0).repeat(4, axis=1)
for name, made in (("coarse", blocks), ("fused", sharp)):
    print(f"{name}: root mean square error {np.sqrt(np.mean((made - image(truth)) ** 2)):.4f}")

# %%
figure = Figure(figsize=(10, 3.6), layout="constrained")
pictures = {"coarse": blocks, "colour image": image(rgb), "fused": sharp, "truth": image(truth)}
for axes, (name, made) in zip(figure.subplots(1, 4), pictures.items(), strict=True):
    axes.imshow(viz.composite(made, [25, 15, 5] if made.shape[2] == 31 else [0, 1, 2]), interpolation="nearest")
    axes.set_title(name)
    axes.set_axis_off()
