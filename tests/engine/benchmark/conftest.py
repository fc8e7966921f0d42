"""A weight and images to hold methods against."""

import numpy as np
import pytest
from scipy.io import savemat

import hsmamba
from hsmamba.data import Scene, load_scene, random_split


@pytest.fixture
def weight(tmp_path, make_model):
    """A model folder that was trained on a split of the MUUFL crop, which it carries."""
    scene = load_scene("muufl_crop")
    model = make_model(num_classes=11)
    split = random_split(scene.labels, count=5, seed=7)
    hsmamba.finetune(model, Scene(scene.hsi, scene.labels, class_names=scene.class_names), split, epochs=1,
                     batch_size=512, progress=False, val_fraction=0.0)  # fmt: skip
    hsmamba.save_pretrained(model, tmp_path / "weight", split=split)
    return f"local-dir:{tmp_path / 'weight'}"


@pytest.fixture
def images(tmp_path):
    rng = np.random.default_rng(0)
    folder = tmp_path / "data" / "worldview2_ikonos"
    folder.mkdir(parents=True)
    for name, bands in (("imgWV2", 8), ("imgIK", 4)):
        ms = rng.uniform(100, 900, (128, 96, bands))
        pan = np.kron(ms.mean(2), np.ones((4, 4))) + rng.uniform(0, 90, (512, 384))
        savemat(folder / f"{name}.mat", {"I_MS": ms.astype(np.uint16), "I_PAN": pan.astype(np.uint16)})
    return str(tmp_path / "data")
