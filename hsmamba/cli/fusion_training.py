"""What `hsmamba train` does with a recipe of a fusion weight."""

from __future__ import annotations

import dataclasses
import json
import os
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
    """Run a fusion recipe, or what is left of it, and print the field's tables.

    Raises:
        ValueError: It is not said where the data are.
    """
    from hsmamba.data.catalog import DATA_VARIABLE
    from hsmamba.engine.fusion.recipe import publish_fusion, run_fusion_recipe

    root = data or os.environ.get(DATA_VARIABLE)
    if root is None:
        raise ValueError(
            f"{recipe.name} trains on data that come with no package; name their folder with --data or in "
            f"{DATA_VARIABLE} (its layout is in hsmamba.data.fusion_sets)"
        )
    report = run_fusion_recipe(recipe, folder, root, minutes=minutes, device=device, progress=not as_json)
    if publish is not None:
        publish_fusion(recipe, folder, publish)
    if as_json:
        say(json.dumps(dataclasses.asdict(report)))
        return
    say(f"{recipe.name}\n\n{report}\n\nresults in {folder / 'results.csv'}, the model in {folder / 'model'}")
