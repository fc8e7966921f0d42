"""Train a classifier in a loop of one's own: plain PyTorch, accelerate or Lightning.

python examples/own_training_loop.py [--loop pytorch|accelerate|lightning] [--epochs 20] [--freeze] [--out my_model]

With --freeze the head alone learns, of a network that was trained on Indian Pines.
"""

import argparse
from pathlib import Path

import torch
import torch.nn.functional as F
from timm.optim import create_optimizer_v2
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils.data import DataLoader, Subset

import hsmamba
from hsmamba.data import PatchDataset, random_split
from hsmamba.engine import default_transform


def make_data(count: int, in_chans: int, patch_size: int):
    """The bundled scene, its split, and loaders of training and test patches."""
    scene = hsmamba.load_scene("muufl_crop")
    scene.aux = None
    split = random_split(scene.labels, count=count, cap=True)
    dataset = PatchDataset(scene, default_transform(scene, split, in_chans), patch_size)
    train = DataLoader(Subset(dataset, split.train.tolist()), batch_size=32, shuffle=True)
    return scene, split, dataset, train


def freeze(model: nn.Module) -> None:
    """Let the head alone learn."""
    model.requires_grad_(False)
    model.head.requires_grad_(True)


def train_mode(model: nn.Module) -> None:
    """Put a model in training mode, but batch norms whose weights are frozen: their statistics would go on changing."""
    model.train()
    for module in model.modules():
        if isinstance(module, _BatchNorm) and not any(weight.requires_grad for weight in module.parameters()):
            module.eval()


def loss_of(model: nn.Module, batch) -> torch.Tensor:
    *inputs, target = batch  # hsi, aux where the scene has it, and classes 0..K - 1
    output = model(*inputs)
    # A few networks give more than logits in training, and bring their loss.
    return F.cross_entropy(output, target) if isinstance(output, torch.Tensor) else output.loss(target)


def make_optimizer(model: nn.Module) -> torch.optim.Optimizer:
    """AdamW with a rate that falls by 0.8 from layer to layer, from the head down to the input."""
    return create_optimizer_v2(model, opt="adamw", lr=3e-3, weight_decay=0.05, layer_decay=0.8)


def plain_pytorch(model: nn.Module, train: DataLoader, epochs: int) -> None:
    optimizer = make_optimizer(model)
    for _ in range(epochs):
        train_mode(model)
        for batch in train:
            optimizer.zero_grad()
            loss_of(model, batch).backward()
            optimizer.step()


def with_accelerate(model: nn.Module, train: DataLoader, epochs: int) -> None:
    """The same on whatever `accelerate launch` was told: several GPUs, mixed precision."""
    from accelerate import Accelerator

    accelerator = Accelerator()
    wrapped, optimizer, train = accelerator.prepare(model, make_optimizer(model), train)
    for _ in range(epochs):
        train_mode(wrapped)
        for batch in train:
            optimizer.zero_grad()
            accelerator.backward(loss_of(wrapped, batch))
            optimizer.step()
    accelerator.wait_for_everyone()
    accelerator.unwrap_model(wrapped).cpu()


def with_lightning(model: nn.Module, train: DataLoader, epochs: int) -> None:
    import lightning

    class Task(lightning.LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.model = model

        def on_train_epoch_start(self) -> None:
            train_mode(self.model)  # Lightning puts the whole module in training mode before

        def training_step(self, batch, index: int) -> torch.Tensor:
            return loss_of(self.model, batch)

        def configure_optimizers(self) -> torch.optim.Optimizer:
            return make_optimizer(self.model)

    options = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False}
    lightning.Trainer(max_epochs=epochs, accelerator="auto", devices=1, **options).fit(Task(), train)
    model.cpu()


LOOPS = {"pytorch": plain_pytorch, "accelerate": with_accelerate, "lightning": with_lightning}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--loop", choices=LOOPS, default="pytorch")
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--count", type=int, default=12, help="labels a class")
    parser.add_argument("--freeze", action="store_true", help="start from Indian Pines and train the head alone")
    parser.add_argument("--out", type=Path, default=Path("my_model"))
    args = parser.parse_args()

    torch.manual_seed(0)
    if args.freeze:
        model = hsmamba.create_model("md2f_mamba.indian_pines", pretrained=True, num_classes=11)
        freeze(model)
    else:
        model = hsmamba.create_model("md2f_mamba", num_classes=11, in_chans=20, patch_size=9)
    scene, split, dataset, train = make_data(args.count, model.in_chans, model.patch_size)

    LOOPS[args.loop](model, train, args.epochs)

    model.eval()
    # What a model needs to classify scenes and to be saved, and `finetune` would have hung on it:
    model.transform, model.class_names = dataset.transform, dataset.class_names
    print(hsmamba.evaluate(model, scene, split))
    hsmamba.save_pretrained(model, args.out, split=split)


if __name__ == "__main__":
    main()
