"""
A new architecture
==================

A network needs its sizes and a ``forward``; it is then trained, evaluated, saved and found by name like those of the
zoo.
"""

import tempfile
from pathlib import Path

import torch
from torch import Tensor, nn

import hsmamba
from hsmamba.models import ModelCfg


class SpectralMlp(nn.Module):
    """The mean spectrum of a patch beside that of its centre, two layers."""

    def __init__(self, in_chans: int = 30, num_classes: int = 16, patch_size: int = 5, *, dim: int = 64) -> None:
        super().__init__()
        self.in_chans, self.aux_chans, self.num_classes, self.patch_size = in_chans, 0, num_classes, patch_size
        self.body = nn.Sequential(nn.Linear(2 * in_chans, dim), nn.GELU(), nn.LayerNorm(dim))
        self.head = nn.Linear(dim, num_classes)

    def forward(self, hsi: Tensor, aux: Tensor | None = None) -> Tensor:
        """Classify patches (B, in_chans, P, P): (B, num_classes)."""
        middle = self.patch_size // 2
        return self.head(self.body(torch.cat([hsi.mean((2, 3)), hsi[:, :, middle, middle]], dim=1)))


@hsmamba.register_model(cfg=ModelCfg(summary="two layers on two spectra"))
def spectral_mlp(**kwargs: int) -> SpectralMlp:
    return SpectralMlp(**kwargs)


# %%
# From here on the name works everywhere.

torch.manual_seed(0)
scene = hsmamba.load_scene("muufl_crop")
split = hsmamba.data.random_split(scene.labels, count=25, seed=0, cap=True)
model = hsmamba.create_model("spectral_mlp", num_classes=scene.num_classes, in_chans=20)
result = hsmamba.finetune(model, scene, split, epochs=30, lr=3e-3, progress=False)
print(hsmamba.evaluate(model, scene, split))

# %%
figure = hsmamba.viz.training_curves(result.history)

# %%
# A model folder keeps its tensors, arguments, transform and split.

with tempfile.TemporaryDirectory() as folder:
    hsmamba.save_pretrained(model, Path(folder) / "mine", split=result.split)
    again = hsmamba.create_model(f"local-dir:{folder}/mine")
print(type(again).__name__, again.in_chans, again.num_classes)
