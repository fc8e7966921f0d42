"""
A training loop of your own
===========================

Models are plain ``torch.nn.Module``, data sets are torch's. Nothing here needs ``hsmamba.finetune``.
"""

import torch
from matplotlib.figure import Figure
from torch.utils.data import DataLoader, Subset

import hsmamba

torch.manual_seed(0)
scene = hsmamba.load_scene("muufl_crop")
split = hsmamba.data.random_split(scene.labels, count=25, seed=0, cap=True)
model = hsmamba.create_model("md2f_mamba", num_classes=scene.num_classes, in_chans=20, patch_size=9)

# %%
# The transform is fitted on training pixels, and belongs to the model from then on. The data set holds every pixel of
# the scene as a patch; the indices of a split are its items.

model.transform = hsmamba.engine.default_transform(scene, split, 20)
data = hsmamba.data.PatchDataset(scene, model.transform, model.patch_size)
train = DataLoader(Subset(data, split.train.tolist()), batch_size=32, shuffle=True)

# %%
# Layers at which weight decay does harm name themselves.

kept = model.no_weight_decay()
decayed = [p for name, p in model.named_parameters() if p.ndim > 1 and name not in kept]
others = [p for name, p in model.named_parameters() if p.ndim <= 1 or name in kept]
optimiser = torch.optim.AdamW(
    [{"params": decayed, "weight_decay": 0.05}, {"params": others, "weight_decay": 0.0}], 2e-3
)
schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, 2e-3, total_steps=8 * len(train))

losses = []
for epoch in range(8):
    model.train()
    total = 0.0
    for hsi, *_aux, target in train:
        loss = torch.nn.functional.cross_entropy(model(hsi), target)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        schedule.step()
        total += loss.item() * len(target)
    losses.append(total / split.train.size)
    print(f"epoch {epoch + 1}: loss {losses[-1]:.3f}")
figure = Figure(figsize=(5, 3), layout="constrained")
axes = figure.subplots()
axes.plot(range(1, 9), losses, marker="o")
axes.set(xlabel="epoch", ylabel="loss")

# %%
# What was trained by hand is evaluated, used and saved like everything else.

model.eval()
print(hsmamba.evaluate(model, scene, split))
