"""A network made by hand, with the attributes that the factory sets."""

import torch
from torch import nn


class Tiny(nn.Module):
    def __init__(self, seed=0, num_classes=4):
        super().__init__()
        torch.manual_seed(seed)
        self.body = nn.Linear(3, 3)
        self.twin = nn.Linear(3, 3)
        self.twin.weight = self.body.weight  # tied: safetensors refuses shared memory
        self.head = nn.Linear(3, num_classes)
        self.register_buffer("window", torch.arange(12.0).reshape(3, 4)[:, 1])  # a view that is not contiguous
        self.num_classes, self.in_chans = num_classes, 3
        self.architecture = "tiny"
        self.model_args = {"num_classes": num_classes, "kernel_sizes": (3, 5)}
        self.transform = None
        self.class_names = ("corn", "oats", "wheat", "woods")[:num_classes]

    def forward(self, x):
        return self.head(self.twin(self.body(x)) * self.window)
