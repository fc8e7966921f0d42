"""The closed-form scene of the anchors: MS (1, 4, 128, 128) and PAN (1, 1, 128, 128), digital numbers, float64."""

import torch

_I = torch.arange(128, dtype=torch.float64)[:, None]
_J = torch.arange(128, dtype=torch.float64)
_B = torch.arange(4, dtype=torch.float64)[:, None, None]
_MS = 600 + 200 * torch.sin(0.055 * _I * (_B + 1)) + 150 * torch.cos(0.035 * _J * (_B + 2)) + 40 * _B
MS = (_MS + 60 * torch.sin(0.9 * _I + 0.7 * _J + _B))[None]
PAN = MS.mean(dim=1, keepdim=True) + 50 * torch.cos(1.3 * _I - 0.8 * _J)
FUSED = MS + 15 * torch.sin(0.37 * (_I + 2 * _J) + _B) + 5 * _B
