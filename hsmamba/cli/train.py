"""`hsmamba train`: run the recipe of a weight again."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from hsmamba.cli._common import DeviceOption, JsonFlag, QuietFlag, app, check_writable, say, shows_progress, tell


@app.command()
def train(
    recipe: Annotated[str | None, typer.Argument(help="A recipe of the package, or a .toml file.")] = None,
    list_them: Annotated[bool, typer.Option("--list", help="List the recipes of the package.")] = False,
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder of the runs; default runs/RECIPE.")] = Path("runs"),
    split: Annotated[list[str] | None, typer.Option(help="Only these splits, of a classifier.")] = None,
    seed: Annotated[list[int] | None, typer.Option(help="Only these seeds, of a classifier.")] = None,
    publish: Annotated[Path | None, typer.Option(help="Write the model folder of the finished recipe here.")] = None,
    data: Annotated[Path | None, typer.Option(help="Folder of data that come with no package.")] = None,
    minutes: Annotated[
        float | None, typer.Option(help="Stop a fusion recipe after about so long, to go on later.")
    ] = None,
    device: DeviceOption = None,
    quiet: QuietFlag = False,
    as_json: JsonFlag = False,
) -> None:
    """Train a weight of the zoo again, by its recipe; continues where an earlier call stopped.

    Recipes that end in _paper are the experiments of the papers in their settings, those in _tuned the same in ours.
    """
    from hsmamba.engine import recipe as recipes

    if list_them:
        names = recipes.list_recipes()
        tell(names if as_json else "\n".join(names))
        return
    if recipe is None:
        raise ValueError("name a recipe (hsmamba train --list shows them), or a .toml file")
    chosen = recipes.load_recipe(recipe)
    folder = out / chosen.name
    check_writable(folder / "results.csv")
    outcome = recipes.run(
        chosen, folder, data=data, device=device, progress=shows_progress(as_json),
        splits=split or None, seeds=seed or None, minutes=minutes,
    )  # fmt: skip
    if publish is not None:
        recipes.publish(chosen, folder, publish)
    if as_json:
        tell(outcome.record)
        return
    say(outcome.text)
