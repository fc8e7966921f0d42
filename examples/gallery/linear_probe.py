"""
Linear probe and layer-wise learning rates
==========================================

Two ways to use a weight on new classes: train a new head alone on frozen features, or train all layers, those near the
input more slowly. The weight was trained on pixels of this very scene, so the figures only say that both ways work.
"""

import torch
from matplotlib.figure import Figure
from timm.models import group_parameters
from torch import nn

import hsmamba

scene = hsmamba.load_scene("indian_pines")
crops = [2, 3, 5, 10, 11]  # all other codes become unlabelled
scene = hsmamba.Scene(scene.hsi, scene.labels, wavelengths=scene.wavelengths, classes=crops)
split = hsmamba.data.random_split(scene.labels, count=10, seed=0)
model = hsmamba.create_model("md2f_mamba.indian_pines", pretrained=True, num_classes=len(crops))
data = hsmamba.data.PatchDataset(scene, model.transform, model.patch_size)
hsi, _, target = data.batch(split.train)

# %%
# Frozen means that batch norm stands still, too: the network stays in evaluation mode, only the head has gradients.

model.eval().requires_grad_(False)
with torch.inference_mode():
    features = model.forward_head(model.forward_features(hsi), pre_logits=True)
head = nn.Linear(features.shape[1], len(crops))
optimiser = torch.optim.AdamW(head.parameters(), 1e-2)
for _ in range(200):
    loss = nn.functional.cross_entropy(head(features.clone()), target)
    optimiser.zero_grad()
    loss.backward()
    optimiser.step()
model.get_classifier().load_state_dict(head.state_dict())
hsi_test, _, target_test = data.batch(split.test[::40])


def accuracy() -> float:
    with torch.inference_mode():
        return float((model.eval()(hsi_test).argmax(1) == target_test).float().mean())


print(f"linear probe: {100 * accuracy():.1f} % of {len(target_test)} test pixels")

# %%
# ``group_matcher`` names the layers from the input to the output, as timm has it: each group learns at 0.6 times the
# rate of the next one.

model.requires_grad_(True)
groups = group_parameters(model, model.group_matcher())
last = max(groups)
named = dict(model.named_parameters())
optimiser = torch.optim.AdamW(
    [{"params": [named[name] for name in names], "lr": 1e-3 * 0.6 ** (last - depth)} for depth, names in groups.items()]
)
for group in optimiser.param_groups:
    print(f"{len(group['params']):3} tensors at {group['lr']:.5f}")
figure = Figure(figsize=(5, 3), layout="constrained")
axes = figure.subplots()
axes.bar([str(depth) for depth in groups], [group["lr"] for group in optimiser.param_groups])
axes.set(xlabel="group, from input to output", ylabel="learning rate")
for _ in range(10):
    model.train()
    loss = nn.functional.cross_entropy(model(hsi), target)
    optimiser.zero_grad()
    loss.backward()
    optimiser.step()
print(f"all layers: {100 * accuracy():.1f} %")
