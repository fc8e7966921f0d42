"""Draw guide, coarse image, fused image, truth and error of a fusion weight's test images.

python tools/draw_fusion.py RECIPE DATA OUT [--model MODEL]: pictures go to the folder OUT, one for each image, at
reduced and at full resolution. Mind the terms of the data before you show them.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import hsmamba
from hsmamba import viz
from hsmamba.data import load_pairs
from hsmamba.engine.fusion.evaluate import predict
from hsmamba.engine.recipe import load_recipe
from hsmamba.errors import ManifestError


def main() -> None:
    """Draw."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("recipe", help="name or .toml file")
    parser.add_argument("data", type=Path, help="folder of the data, as for `hsmamba train --data`")
    parser.add_argument("out", type=Path)
    parser.add_argument("--model", help="local-dir:FOLDER; default the weight of the recipe's name")
    args = parser.parse_args()
    recipe = load_recipe(args.recipe)
    if recipe.task != "fusion":
        raise ManifestError(f"{args.recipe} is no recipe of a fusion weight")
    model = hsmamba.create_model(args.model or recipe.name, pretrained=True).eval()
    pairs = load_pairs(recipe.dataset, args.data, **recipe.pairs)
    args.out.mkdir(parents=True, exist_ok=True)
    for pair in (*pairs.test, *pairs.full):
        figure = viz.fusion_comparison(pair, predict(model, pair), title=f"{recipe.name}: {pair.name}")
        path = args.out / f"{recipe.name}.{pair.name.replace(', ', '-').replace(' ', '-')}.png"
        figure.savefig(path, dpi=150)
        print(path)


if __name__ == "__main__":
    main()
