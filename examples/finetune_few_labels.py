"""Train on a dozen labels a class, report metrics and leakage, save the model and load it again.

python examples/finetune_few_labels.py [--count 12] [--epochs 100] [--out my_model]
"""

import argparse
from pathlib import Path

import numpy as np
import torch

import hsmamba
from hsmamba.data import leakage, random_split


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--count", type=int, default=12, help="labels a class")
    parser.add_argument("--epochs", type=int, default=100)
    parser.add_argument("--out", type=Path, default=Path("my_model"))
    args = parser.parse_args()

    scene = hsmamba.load_scene("indian_pines")
    split = random_split(scene.labels, count=args.count, seed=0)
    torch.manual_seed(0)
    model = hsmamba.create_model("md2f_mamba", num_classes=scene.num_classes)
    result = hsmamba.finetune(model, scene, split, epochs=args.epochs)
    report = hsmamba.evaluate(model, scene, split)
    print(report)
    print(leakage(split, model.patch_size))

    hsmamba.save_pretrained(model, args.out, split=result.split, metrics={"oa": 100 * report.oa})
    again = hsmamba.create_model(f"local-dir:{args.out}")
    assert np.array_equal(hsmamba.classify(again, scene).labels, hsmamba.classify(model, scene).labels)


if __name__ == "__main__":
    main()
