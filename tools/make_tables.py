"""Write the tables into README.md and the pages of docs, from the registry, the manifest and docs/results.

And the table of architectures that `hsmamba list` reads, hsmamba/zoo/architectures.json.

Run from the repository's root after a model or a weight has changed: python tools/make_tables.py
A test fails while a page is not up to date.
"""

from __future__ import annotations

import json
import re
from functools import partial
from pathlib import Path
from typing import Any

import hsmamba
from hsmamba._files import write_text
from hsmamba.baselines import BASELINES
from hsmamba.data.sets.catalog import CATALOG
from hsmamba.engine.benchmark import list_suites, load_suite, rows_of, to_markdown
from hsmamba.engine.classification.recipe import summarise_baselines
from hsmamba.engine.multisensor.recipe import by_image
from hsmamba.engine.multisensor.recipe import table as image_table
from hsmamba.engine.recipe import list_recipes, load_recipe
from hsmamba.engine.results import Row, read_results, summarise
from hsmamba.models import registry
from hsmamba.zoo.listing import figure, size_in_words
from hsmamba.zoo.manifest import load_manifest

ROOT = Path(__file__).resolve().parents[1]
ARCHITECTURES = "hsmamba/zoo/architectures.json"
PAGES = {
    "README.md": ("families",),
    "docs/data.md": ("sets",),
    "docs/index.md": ("cards", "fitted"),
    "docs/models.md": ("models", "results", "classical"),
    **{
        f"docs/models/{name}.md": ("weights",)
        for name in ("bandwise", "cf2n", "le_mamba", "md2f_mamba", "mmapp", "ramsf", "rsanet")
    },
    "docs/models/mambahsi.md": ("whole_image",),
    "docs/models/mim.md": ("weights", "fixed"),
    "docs/models/msfmamba.md": ("weights", "idtrees", "muufl"),
    "docs/papers.md": ("papers", "tuned"),
    "docs/training_fusion.md": ("fusion",),
    "docs/fusion.md": ("multisensor", "adapt", "adapt networks"),
    "docs/benchmark_results.md": (
        "few_labels",
        "draws",
        "defaults",
        "disjoint",
        "two_sources",
        "other_ground",
        "pansharpening",
        "cave",
    ),
    "docs/own_ground.md": ("own labels", "own images", "left out", "cave scenes"),
}
FIGURES = {  # of each data set: resolution, metrics
    "worldview2": {"reduced": ("SAM", "ERGAS", "Q2n", "SCC", "PSNR"), "full": ("D_lambda_K", "D_s", "HQNR")},
    "ikonos": {"reduced": ("SAM", "ERGAS", "Q2n", "SCC", "PSNR"), "full": ("D_lambda_K", "D_s", "HQNR")},
    "landsat8": {"reduced": ("SAM", "ERGAS", "Q2n", "SCC", "PSNR"), "full": ("D_lambda_K", "D_s", "HQNR")},
    "sentinel2": {"reduced": ("PSNR", "SSIM", "SAM", "ERGAS"), "full": ("D_lambda_K", "D_s", "HQNR")},
    "cave_x4": {"reduced": ("PSNR", "SSIM", "SAM", "ERGAS")},
    "cave_x8": {"reduced": ("PSNR", "SSIM", "SAM", "ERGAS")},
}

CARDS = {  # the weight that tools/draw_families.py draws, of every family: its title and page
    "md2f_mamba.indian_pines": ("MD2F-Mamba", "md2f_mamba"),
    "mim.indian_pines": ("MiM", "mim"),
    "mim_v3.indian_pines": ("MiM, version 3", "mim"),
    "msfmamba.idtrees2020": ("MSFMamba", "msfmamba"),
    "cf2n.ikonos": ("CF2N", "cf2n"),
    "le_mamba.cave_x4": ("LE-Mamba", "le_mamba"),
    "mmapp.ikonos": ("MMAPP", "mmapp"),
    "ramsf.ikonos": ("RAMSF", "ramsf"),
    "rsanet.ikonos": ("RSANet", "rsanet"),
    "bandwise.open": ("Bandwise", "bandwise"),
}

OWN_LABELS = {  # what a user asks of a dozen labels: suite, data set, split, and the recipe of a network on that split
    "Indian Pines, 5 a class at random": ("few_labels", "indian_pines", "5", ""),
    "Indian Pines, 10 a class at random": ("few_labels", "indian_pines", "10", ""),
    "Indian Pines, 12 a class at random": ("few_labels", "indian_pines", "12", ""),
    "Salinas-A, 12 a class at random": ("few_labels", "salinas_a", "12", ""),
    "MUUFL, 12 a class at random": ("few_labels", "muufl_crop", "12", ""),
    "Houston 2018, 12 a class at random": ("few_labels", "dfc2018_houston_crop", "12", ""),
    "Indian Pines, 5 %, disjoint blocks": ("disjoint", "indian_pines", "blocks", "md2f_mamba.indian_pines, disjoint"),
    "MUUFL with LiDAR, 30 %, blocks": ("two_sources", "muufl_crop", "blocks, 30 %", "msfmamba.muufl, blocks"),
    "IDTReeS with LiDAR, other plots by seed": ("draws", "idtrees2020", "plots", ""),
    "IDTReeS with LiDAR, the usual plots": ("two_sources", "idtrees2020", "usual plots", "msfmamba.idtrees2020, plots"),
    "EnMAP, 5 a class, two other tiles": ("draws", "enmap_potsdam", "5, two other tiles", ""),
    "EnMAP, 12 a class, two other tiles": ("draws", "enmap_potsdam", "12, two other tiles", ""),
    "EnMAP, 25 a class, two other tiles": ("draws", "enmap_potsdam", "25, two other tiles", ""),
    "EnMAP, 12 a class, other tiles by seed": ("few_labels", "enmap_potsdam", "12, other tiles by seed", ""),
}
USUAL = ("forest", "svm")  # what a user has anyway; methods whose names begin so
NETWORKS = ("md2f_mamba", "mim_v3", "ssftt", "msfmamba", "mambahsi")

_CLASSIFY = """split = hsmamba.data.random_split(scene.labels, count=12, cap=True)
model = hsmamba.create_model("{name}", num_classes=scene.num_classes)
hsmamba.finetune(model, scene, split)"""
WITHOUT_WEIGHTS = ("mambahsi", "ssftt", "msdcnn", "pannet")  # networks that papers compare with, a page each
FITTED = {  # what has no weights, since it is fitted on a user's own images: title, how to use it
    "graph_trees": ("Graph trees", _CLASSIFY),
    "graph_lda": ("Graph LDA", _CLASSIFY),
    "linear_trees": ("Linear trees", _CLASSIFY),
    "lda": ("LDA", _CLASSIFY),
    "ensemble": ("Ensemble", "both = hsmamba.ensemble([network, linear], weights=[2, 1])"),
    "residual": (
        "Residual",
        """pairs = hsmamba.data.wald_pairs(ms, pan, ratio=2, sensor="generic")
model = hsmamba.create_model("residual", network="rsanet", in_chans=7, scale=2)
hsmamba.finetune(model, pairs)""",
    ),
}


def fitted_cards() -> str:
    """One card a model without weights: picture, what it is, what `tools/draw_families.py` measured, how to use it."""
    figures = json.loads((ROOT / "docs" / "results" / "fitted.json").read_text(encoding="utf-8"))
    parts = []
    for name, (title, use) in FITTED.items():
        what, _, reached = figures[name].partition(":")
        summary = registry()[name].cfg.summary
        parts.append(
            f""":::{{grid-item-card}} [{title}](models/{name}.md)
:img-top: images/families/{name}.webp
:img-alt: Before and after {name}

{summary[0].upper()}{summary[1:]}.

**{what}:**{reached}

```python
{use.format(name=name)}
```
:::"""
        )
    return "::::{grid} 1 1 2 2\n:gutter: 3\n\n" + "\n\n".join(parts) + "\n::::"


def cards() -> str:
    """One card a family: picture, what it is, the figures of the weight that made the picture, how to use it."""
    records, parts = load_manifest(), []
    for name, (title, page) in CARDS.items():
        record, cfg = records[name], registry()[name.partition(".")[0]].cfg
        use = "sharp = hsmamba.fuse(model, ms, pan)"
        if cfg.task != "fusion":
            use = "labels, confidence = hsmamba.classify(model, scene)"
        elif record.model_args["guide_chans"] > 1:
            use = use.replace("pan", "rgb")
        parts.append(
            f""":::{{grid-item-card}} [{title}](models/{page}.md)
:img-top: images/families/{name}.webp
:img-alt: Before and after {name}

{cfg.summary}.

**{record.data["name"]}:** {figure(record)}

```python
model = hsmamba.create_model("{name}", pretrained=True)
{use}
```
:::"""
        )
    return "::::{grid} 1 1 2 2\n:gutter: 3\n\n" + "\n\n".join(parts) + "\n::::"


def weights_table(page: str) -> str:
    """One row a weight of a page's architectures: its input, its data, figures and terms."""
    rows = ["| weight | input | on the test part of its data | terms |", "|---|---|---|---|"]
    for name, record in sorted(load_manifest().items()):
        args = record.model_args
        if not name.startswith(page):
            continue
        if record.recipe and load_recipe(str(record.recipe)).task == "multisensor":
            size = "any bands, guide and ratio"
        elif "scale" in args:
            size = f"{args['in_chans']} bands, guide of {args['guide_chans']}, ratio {args['scale']}"
        else:
            more = f" and {args['aux_chans']} of a second source" if args.get("aux_chans") else ""
            side = args.get("patch_size")
            size = f"{record.bands} bands{more}, " + (f"patches of {side} x {side}" if side else "whole images")
        rows.append(f"| `{name}` | {size} | {record.data['name']}: {figure(record)} | {record.license} |")
    return "\n".join(rows)


def families_table() -> str:
    """One row an architecture with weights: how to get its default weight, what it is, that weight's figures."""
    rows = ["| | what it is | on the test part of its data |", "|---|---|---|"]
    records = load_manifest()
    for name, known in registry().items():
        if known.cfg.default_tag is None:
            continue
        record = records[f"{name}.{known.cfg.default_tag}"]
        use = f'`create_model("{record.name}", pretrained=True)`'
        rows.append(f"| {use} | {known.cfg.summary} | {record.data['name']}: {figure(record)} |")
    return "\n".join(rows)


def models_table() -> str:
    """One row a registered architecture: name, task, parameters, multiply-adds, weights, what it is."""
    rows = ["| model | task | parameters | multiply-adds | weights | |", "|---|---|---:|---:|---|---|"]
    for name in hsmamba.list_models():
        info = hsmamba.model_info(name)
        tags = ", ".join(f"`{tag}`" for tag in info.tags) or "-"
        shapes = " + ".join(" x ".join(map(str, shape)) for shape in info.inputs.values())
        macs = f"{info.macs / 1e6:,.1f} M at {shapes}"
        rows.append(f"| `{name}` | {info.task} | {size_in_words(info.params)} | {macs} | {tags} | {info.summary} |")
    return "\n".join(rows)


def architectures_table() -> str:
    """The registry as JSON, without the networks."""
    rows = {}
    for name, known in registry().items():
        module = known.module.rpartition(".")[2]
        params = sum(weight.numel() for weight in hsmamba.create_model(name).parameters())
        rows[name] = {"task": known.cfg.task, "module": module, "params": params, "summary": known.cfg.summary}
    return json.dumps(dict(sorted(rows.items())), indent=2, ensure_ascii=False) + "\n"


def results_table(pattern: str = "*.csv", only: str | None = None) -> str:
    """One row a recipe and split (or those of one name) in docs/results: mean and deviation over the seeds, percent.

    Below it stands the classical classifier of the highest OA on the same test pixels.
    """
    rows = ["| recipe | split | seeds | OA | AA | kappa x 100 |", "|---|---|---:|---|---|---|"]
    for path in sorted((ROOT / "docs" / "results").glob(pattern)):
        runs = read_results(path)
        for split, metrics in summarise(row for row in runs if only in (None, row["split"])).items():
            seeds = sum(run["split"] == split for run in runs)
            rows.append(f"| `{path.stem}` | {split} | {seeds} | {_cells(metrics)} |")
            others = classical_of(path.stem, split)
            if others:
                best = max(others, key=lambda method: others[method]["oa"]["mean"])
                rows.append(f"| best classical beside: {best} | {split} | {seeds} | {_cells(others[best])} |")
    return "\n".join(rows)


def _cells(metrics: dict[str, dict[str, float]]) -> str:
    return " | ".join(f"{metrics[key]['mean']:.2f} ± {metrics[key]['std']:.2f}" for key in ("oa", "aa", "kappa"))


def classical_of(recipe: str, split: str) -> dict[str, dict[str, dict[str, float]]]:
    """Figures of the classical classifiers by name, on the test pixels of a recipe's split."""
    rows = read_results(ROOT / "docs" / "results" / "baselines" / f"{recipe}.csv")
    found = summarise_baselines(row for row in rows if row["split"] == split)
    return {method.removesuffix(f", {split}"): metrics for method, metrics in found.items()}


def classical_table() -> str:
    """One row a classical classifier: its OA on the test pixels of each recipe's splits."""
    columns: dict[str, dict[str, dict[str, dict[str, float]]]] = {}
    for path in sorted((ROOT / "docs" / "results" / "baselines").glob("*.csv")):
        for split in dict.fromkeys(row["split"] for row in read_results(path)):
            columns[f"`{path.stem}`, {split}"] = classical_of(path.stem, split)
    names = dict.fromkeys(name for column in columns.values() for name in column)
    rows = [f"| OA beside | {' | '.join(columns)} |", "|---|" + "---|" * len(columns)]
    for name in names:
        figures = [column[name]["oa"] if name in column else None for column in columns.values()]
        cells = [f"{oa['mean']:.2f} ± {oa['std']:.2f}" if oa else "" for oa in figures]
        rows.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(rows)


def fusion_table() -> str:
    """One table a data set: the weights' figures below those of the classical methods, means over the test images."""
    parts = []
    for tag, resolutions in FIGURES.items():
        figures: dict[str, dict[str, dict[str, float]]] = {}
        paths = sorted((ROOT / "docs" / "results" / "fusion").glob(f"*.{tag}.csv"))
        for path in paths:
            for row in read_results(path):
                method = f"`{path.stem}`" if row["method"] == path.stem.partition(".")[0] else row["method"]
                for metric in resolutions.get(row["resolution"], ()):
                    images = figures.setdefault(method, {}).setdefault(metric, {})
                    images[row["image"]] = row[metric]
        columns = [metric for metrics in resolutions.values() for metric in metrics]
        names = sorted(figures, key=lambda name: name.startswith("`"))
        rows = [f"| {tag} | {' | '.join(columns)} |", "|---|" + "---:|" * len(columns)]
        for name in names:
            means = [sum(figures[name][metric].values()) / len(figures[name][metric]) for metric in columns]
            rows.append(f"| {name} | {' | '.join(f'{mean:.3f}' for mean in means)} |")
        if paths:
            parts.append("\n".join(rows))
    return "\n\n".join(parts)


def sets_table() -> str:
    """One row a data set: how to load it, what it is, its terms, what the folder of data holds."""
    doors = {"scene": "load_scene", "plots": "load_scenes", "pairs": "load_pairs"}
    rows = ["| call | what you get | terms | in the folder of data |", "|---|---|---|---|"]
    for name, entry in CATALOG.items():
        facts = entry.facts
        size = " x ".join(map(str, facts.shape))
        parts = [f"[{facts.title}]({facts.page})" if facts.page.startswith("http") else facts.title, size]
        parts += [f"{len(facts.classes)} classes" if facts.classes else "", facts.aux]
        what = "; ".join(part for part in parts if part)
        call, where = f'{doors[entry.kind]}("{name}")', f"`{entry.path}`" if entry.path else "-"
        rows.append(f"| `{call}` | {what} | {facts.license} | {where} |")
    return "\n".join(rows)


def papers_table() -> str:
    """One row a published experiment: its data, its setting, the paper's figures."""
    rows = ["| recipe | data | setting | the paper's figures | paper |", "|---|---|---|---|---|"]
    for name in list_recipes():
        recipe = load_recipe(name)
        if recipe.paper is None or name.endswith("_tuned"):
            continue
        how = recipe.finetune
        rate = f"{how.get('optimizer', 'adamw')} {how['lr']:g}, {how.get('schedule', 'cosine')}"
        size = "whole images"
        if "batch_size" in how:
            side = (
                f"crops of {how['crop']}"
                if recipe.task == "fusion"
                else f"patches of {recipe.model_args['patch_size']}"
            )
            size = f"batches of {how['batch_size']}, {side}"
        setting = f"{how['epochs']} epochs, {rate}, {size}"
        figures = "; ".join(
            f"{part}: " + ", ".join(f"{metric} {_spread(spread)}" for metric, spread in metrics.items())
            for part, metrics in recipe.paper.figures.items()
        )
        data = recipe.scene if recipe.task == "classification" else recipe.dataset
        rows.append(f"| `{name}` | `{data}` | {setting} | {figures or '-'} | {recipe.paper.citation} |")
    return "\n".join(rows)


def tuned_table() -> str:
    """One row an architecture: its tuned recipes, and what they set otherwise than the paper's."""
    rows, names = ["| recipes | otherwise than `_paper` |", "|---|---|"], {}
    for name in list_recipes():
        if name.endswith("_tuned"):
            names.setdefault(name.partition(".")[0], []).append(name)
    for architecture, tuned in names.items():
        said = {}
        for name in tuned:
            ours, theirs = load_recipe(name), load_recipe(name.removesuffix("_tuned") + "_paper")
            for table, paper in ((ours.finetune, theirs.finetune), (ours.model_args, theirs.model_args)):
                said |= {key: value for key, value in table.items() if paper.get(key, ...) != value}
            if ours.task == "classification":
                said |= {key: getattr(ours, key) for key in ("holdout", "tta") if getattr(ours, key)}
                said |= {"seeds": len(ours.seeds)} if ours.seeds != theirs.seeds else {}
                if ours.transform != theirs.transform:
                    said["transform"] = ", ".join(step["kind"] for step in ours.transform)
        tags = ", ".join(name.partition(".")[2].removesuffix("_tuned") for name in tuned)
        rows.append(f"| `{architecture}.{{{tags}}}_tuned` | {', '.join(f'{k} {_word(v)}' for k, v in said.items())} |")
    return "\n".join(rows)


def _word(value: object) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value).lower()


def _spread(spread: tuple[float, float]) -> str:
    mean, deviation = spread
    return f"{mean:g}" + (f" ± {deviation:g}" if deviation == deviation else "")


def adapt_table() -> str:
    """What `tools/adapt_pairs.py` measured without training: one row a pair and ground, SAM / ERGAS / Q2n."""
    rows = read_results(ROOT / "docs" / "results" / "adapt" / "pairs.csv")
    lines = ["| pair | tuned on | used | it | best classical by each |", "|---|---|---|---:|---:|"]
    for (pair, ground), here in _by_ground(rows).items():
        mine = next(row for row in here if row["method"] == "adapted")
        cells = (_three(found) for found in (mine, _best_classical(here)))
        lines.append(f"| {pair} | {ground} | {mine['used']} | {' | '.join(cells)} |")
    return "\n".join(lines)


def adapt_networks_table() -> str:
    """The same with training: a column a network, one row a pair and ground."""
    rows = read_results(ROOT / "docs" / "results" / "adapt" / "networks.csv")
    networks = list(dict.fromkeys(str(row["network"]) for row in rows))
    lines = [f"| pair | tuned on | {' | '.join(networks)} | best classical by each |", "|---|---|" + "---:|" * 5]
    for (pair, ground), here in _by_ground(rows).items():
        adapted = {row["network"]: row for row in here if row["method"] == "adapted"}
        cells = [_three(adapted[name]) if name in adapted else "-" for name in networks]
        lines.append(f"| {pair} | {ground} | {' | '.join(cells)} | {_three(_best_classical(here))} |")
    return "\n".join(lines)


def own_labels_table() -> str:
    """One row a task of `OWN_LABELS`: OA / AA of the best forest or SVM, the best network, and the best of all."""
    head = ["task", "seeds", "best forest or SVM", "best network", "best of all", "CPU seconds", "`hsmamba benchmark`"]
    lines = [f"| {' | '.join(head)} |", "|---|---:|---|---|---|---:|---|"]
    for task, (name, data, split, recipe) in OWN_LABELS.items():
        suite = load_suite(name)
        rows = rows_of(suite, read_results(ROOT / "docs" / "results" / "benchmark" / f"{name}.csv"))
        found: dict[str, list[Row]] = {}
        for row in rows:
            if (row["data"], row["split"]) == (data, split):
                found.setdefault(str(row["method"]), []).append(row)
        if recipe:
            stem, _, part = recipe.partition(", ")
            runs = read_results(ROOT / "docs" / "results" / f"{stem}.csv")
            found[stem] = [row for row in runs if row["split"] == part]
        most = max(map(len, found.values()))
        cells = []
        for begins in (USUAL, NETWORKS, ("",)):
            group = {method: here for method, here in found.items() if method.startswith(begins)}
            # What was not run on every seed stands beside the others only where nothing was.
            whole = {method: here for method, here in group.items() if len(here) == most} or group
            best = max(whole, key=lambda method, group=group: _mean(group[method], "oa"), default="")
            few = f" ({len(group[best])} of them)" if best and len(group[best]) != most else ""
            cells.append(f"{best}: {_oa_aa(group[best])}{few}" if best else "not run")
        is_recipe = best not in suite.methods
        seconds = sum(_mean(found[best], key) for key in ("train_seconds", "test_seconds")) if not is_recipe else 0
        command = f"`hsmamba train {best}`" if is_recipe else f'`{name} -m "{best}"`'
        lines.append(f"| {task} | {most} | {' | '.join(cells)} | {seconds:.0f} | {command} |")
    return "\n".join(lines)


def _mean(rows: list[Row], key: str) -> float:
    return sum(float(row[key]) for row in rows) / len(rows)


def _oa_aa(rows: list[Row]) -> str:
    metrics = summarise({**row, "split": ""} for row in rows)[""]
    oa, aa = (metrics[key] for key in ("oa", "aa"))
    return f"{oa['mean']:.1f} ± {oa['std']:.1f} / {aa['mean']:.1f}"


def own_images_table() -> str:
    """One row a pair and ground: the best classical figures, and how many tuned networks beat each of them."""
    rows = read_results(ROOT / "docs" / "results" / "adapt" / "networks.csv")
    head = ["pair", "tuned on", "best classical by each", "the network in the middle", "networks better", "seconds"]
    lines = [f"| {' | '.join(head)} |", "|---|---|---:|---:|---:|---:|"]
    for (pair, ground), here in _by_ground(rows).items():
        best, mine = _best_classical(here), [row for row in here if row["method"] == "adapted"]
        middle = sorted(mine, key=lambda row: row["ERGAS"])[len(mine) // 2]
        better = sum(
            row["SAM"] < best["SAM"] and row["ERGAS"] < best["ERGAS"] and row["Q2n"] > best["Q2n"] for row in mine
        )
        count, seconds = f"{better} of {len(mine)}", max(row["seconds"] for row in mine)
        cells = [_three(best), f"{middle['network']}: {_three(middle)}", count, f"{seconds:.0f}"]
        lines.append(f"| {pair} | {ground} | {' | '.join(cells)} |")
    return "\n".join(lines)


def left_out_table() -> str:
    """One row an image that a network of several images has not seen: SAM / ERGAS / Q2n beside the best classical."""
    lines = ["| image | weight's recipe | trained on | best classical by each | it |", "|---|---|---|---:|---:|"]
    for path in sorted((ROOT / "docs" / "results" / "multisensor").glob("*.csv")):
        rows, model = read_results(path), path.stem.partition(".")[0]
        for image in dict.fromkeys(row["image"] for row in rows):
            here = [row for row in rows if row["image"] == image]
            mine = next(row for row in here if row["method"] == model)
            others = _best_classical([row for row in here if not str(row["method"]).startswith(model)])
            names = f"`{path.stem}` | {str(mine['trained_on']).replace(' ', ', ')}"
            lines.append(f"| {image} | {names} | {_three(others)} | {_three(mine)} |")
    return "\n".join(lines)


def cave_scenes_table() -> str:
    """One row a weight of CAVE: PSNR / SAM / ERGAS over the test scenes beside the best classical method by PSNR."""
    lines = ["| weight | scenes | best classical by PSNR | it |", "|---|---:|---|---:|"]
    for path in sorted((ROOT / "docs" / "results" / "fusion").glob("*.cave_x*.csv")):
        rows, model = read_results(path), path.stem.partition(".")[0]
        methods: dict[str, list[Row]] = {}
        for row in rows:
            methods.setdefault(str(row["method"]), []).append(row)
        others = [method for method in methods if method != model]
        best = max(others, key=lambda method: _mean(methods[method], "PSNR"))
        three = [
            " / ".join(f"{_mean(methods[method], key):.4g}" for key in ("PSNR", "SAM", "ERGAS"))
            for method in (best, model)
        ]
        lines.append(f"| `{path.stem}` | {len(methods[model])} | {best}: {three[0]} | {three[1]} |")
    return "\n".join(lines)


def _by_ground(rows: list[Row]) -> dict[tuple[Any, Any], list[Row]]:
    """Rows by pair and by what was tuned on."""
    found: dict[tuple[Any, Any], list[Row]] = {}
    for row in rows:
        found.setdefault((row["pair"], row["tuned_on"]), []).append(row)
    return found


def _best_classical(rows: list[Row]) -> Row:
    """The best figure of any classical method as its paper has it, figure by figure."""
    theirs = [row for row in rows if row["method"] in BASELINES]
    return {key: (max if key == "Q2n" else min)(row[key] for row in theirs) for key in ("SAM", "ERGAS", "Q2n")}


def _three(row: Row) -> str:
    return " / ".join(f"{row[key]:.4g}" if row[key] != "" else "-" for key in ("SAM", "ERGAS", "Q2n"))


def multisensor_table() -> str:
    """What recipes of several images gave: one row an image, SAM / ERGAS / Q2n, by networks that have not seen it."""
    parts = []
    for path in sorted((ROOT / "docs" / "results" / "multisensor").glob("*.csv")):
        model = path.stem.partition(".")[0]
        made = image_table(by_image(read_results(path)), model)
        parts.append(made.replace(f"| {model} |", f"| `{path.stem}` |", 1))
    return "\n\n".join(parts)


def benchmark_tables(name: str) -> str:
    """Make the tables of a suite from its file in docs/results/benchmark, as `hsmamba benchmark` writes them."""
    suite = load_suite(name)
    rows = rows_of(suite, read_results(ROOT / "docs" / "results" / "benchmark" / f"{name}.csv"))
    return to_markdown(suite, rows, level=2) if rows else f"## {suite.title}\n\nNot run yet.\n"


def updated(page: str, text: str) -> str:
    """Return a page with its tables made anew; a table stands between `<!-- name -->` and `<!-- /name -->`."""
    tables = {
        "families": families_table,
        "cards": cards,
        "fitted": fitted_cards,
        "weights": partial(weights_table, Path(page).stem),
        "models": models_table,
        "results": results_table,
        "classical": classical_table,
        "fixed": lambda: results_table(only="fixed"),
        "idtrees": lambda: results_table("*.idtrees2020*.csv"),
        "muufl": lambda: results_table("*.muufl.csv"),
        "fusion": fusion_table,
        "sets": sets_table,
        "papers": papers_table,
        "tuned": tuned_table,
        "adapt": adapt_table,
        "adapt networks": adapt_networks_table,
        "own labels": own_labels_table,
        "own images": own_images_table,
        "left out": left_out_table,
        "cave scenes": cave_scenes_table,
        "multisensor": multisensor_table,
        **{name: partial(benchmark_tables, name) for name in list_suites()},
    }
    for name in PAGES[page]:
        pattern = re.compile(rf"(<!-- {name} -->\n).*?(<!-- /{name} -->)", re.DOTALL)
        table = tables[name]()
        text = pattern.sub(lambda found, table=table: f"{found[1]}{table}\n{found[2]}", text)
    return text


if __name__ == "__main__":
    write_text(ROOT / ARCHITECTURES, architectures_table())
    for page in PAGES:
        path = ROOT / page
        write_text(path, updated(page, path.read_text(encoding="utf-8")))
