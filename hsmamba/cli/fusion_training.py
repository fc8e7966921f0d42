"""What `hsmamba train` does with a recipe of a fusion weight."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import TYPE_CHECKING

from hsmamba.cli._common import say

if TYPE_CHECKING:
    from hsmamba.engine.fusion.recipe import FusionRecipe


def train_fusion(
    recipe: FusionRecipe,
    folder: Path,
    *,
    data: Path | None,
    minutes: float | None,
    publish: Path | None,
    device: str | None,
    as_json: bool,
) -> None:
    """Run a fusion recipe, or what is left of it, and print the field's tables."""
    from hsmamba.engine.fusion.recipe import publish_fusion, run_fusion_recipe

    report = run_fusion_recipe(recipe, folder, data, minutes=minutes, device=device, progress=not as_json)
    if publish is not None:
        publish_fusion(recipe, folder, publish)
    if as_json:
        say(json.dumps(dataclasses.asdict(report)))
        return
    say(f"{recipe.name}\n\n{report}\n\nresults in {folder / 'results.csv'}, the model in {folder / 'model'}")
