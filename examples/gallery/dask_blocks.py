"""
A scene in blocks, by dask
==========================

A DataArray that dask holds goes in, and a lazy map comes out: nothing is computed before somebody asks, and then block
by block, on the threads of this machine or on the workers of a cluster. Each block is read with half a patch around it,
so that the map is that of the whole scene.
"""

import tempfile
from pathlib import Path

import numpy as np
import xarray
from dask.distributed import Client
from matplotlib.figure import Figure

import hsmamba
import hsmamba.xarray  # gives DataArrays their methods
from hsmamba import viz

scene = hsmamba.load_scene("indian_pines")
hsi = scene.hsi[:80, :80]
folder = tempfile.TemporaryDirectory()
store = Path(folder.name) / "scene.zarr"
xarray.DataArray(hsi, dims=("y", "x", "band"), name="cube").to_dataset().to_zarr(store, consolidated=False)

# %%
# Blocks of 40 x 40 pixels with all bands in one; of a large scene 512 x 512 are a good size.

cube = xarray.open_zarr(store, consolidated=False)["cube"].chunk(y=40, x=40, band=-1)
model = hsmamba.create_model("md2f_mamba.indian_pines", pretrained=True)
found = cube.hsmamba.classify(model, progress=False)
print(found["label"].data)

# %%
# Two workers, threads of this machine; ``Client("tcp://...")`` or a ``SLURMCluster`` takes those of others, without
# another change. The map goes from Zarr to Zarr, and is never whole in memory.

with Client(n_workers=2, threads_per_worker=1, processes=False, dashboard_address=None) as client:
    print(len(client.scheduler_info()["workers"]), "workers")
    found.to_zarr(Path(folder.name) / "map.zarr", consolidated=False)

# %%
# Block by block or at once, it is the same map:

written = xarray.open_zarr(Path(folder.name) / "map.zarr", consolidated=False).load()
labels, confidence = hsmamba.classify(model, hsi, progress=False)
print("the same labels:", np.array_equal(written["label"], labels))
print("confidence differs by", float(np.abs(written["confidence"] - confidence).max()))

# %%
figure = Figure(figsize=(8, 4.2), layout="constrained")
left, right = figure.subplots(1, 2)
left.imshow(viz.composite(hsi, wavelengths=scene.wavelengths), interpolation="nearest")
left.set_title("blocks")
right.imshow(written["confidence"], cmap="viridis", vmin=0, vmax=1, interpolation="nearest")
right.set_title("confidence")
for axes in (left, right):
    axes.set_axis_off()
    axes.axhline(39.5, color="white", lw=1)
    axes.axvline(39.5, color="white", lw=1)
