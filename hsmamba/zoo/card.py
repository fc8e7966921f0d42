"""Model cards: what is known of a trained model as Markdown, with the YAML front matter that the Hub reads."""

from __future__ import annotations

import html
import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

from hsmamba.zoo.records import ModelFacts, sizes_in_words

_PIPELINE_TAGS = {"classification": "image-segmentation", "fusion": "image-to-image"}  # the Hub's vocabulary

_PAGE = """---
{front_matter}
---

# {title}

{better}{summary}

Weights for hsmamba (`pip install hsmamba`), a zoo of remote-sensing models that runs on any CPU.

## Model

{model}

## Data

{data}

## Results

{results}

## Training

{recipe}

## How to load it

```python
import hsmamba

{load}
```

The weights are verified by their SHA-256; the fitted transform comes with them as `model.transform`.{check}

## Licence

The weights: {license}. The data has its own terms, see above.

## Citation

{citation}
"""


def model_card(
    architecture: str, model: ModelFacts, *, name: str | None = None, repo_id: str | None = None, check: bool = False
) -> str:
    """Write the model card of a trained model.

    Args:
        architecture: Name of its architecture.
        model: What is known of it: a record of the manifest or a model folder.
        name: Name of the weight, "architecture.tag"; None for a model of one's own.
        repo_id: The Hub repository that the card belongs to, `owner/repo`; None where there is none yet.
        check: Whether `check.safetensors` lies beside.

    Returns:
        Markdown that opens with YAML front matter: licence, library, tags, pipeline tag, datasets and metrics.
    """
    from hsmamba.models import ModelCfg, registry

    entry = registry().get(architecture)
    cfg = entry.cfg if entry else ModelCfg()  # an architecture of the user's own may not be registered here
    dataset = str(model.data.get("name", "")) or None
    facts = {
        "Architecture": _code(architecture),
        "Sizes": sizes_in_words(model.model_args) or None,
        "Parameters": f"{model.params:,}",
        "Arguments": _code(json.dumps(dict(model.model_args))),
        "Bands of a scene": "not recorded" if model.bands is None else model.bands,
        "Wavelengths": f"{min(model.wavelengths):g} to {max(model.wavelengths):g} nm" if model.wavelengths else None,
        "Classes": _plain(", ".join(model.classes)) or None,
        "Date": _plain(model.date),
    }
    baselines = model.data.get("baselines")
    figures = {**model.metrics, **(baselines if isinstance(baselines, Mapping) else {})}
    return _PAGE.format(
        front_matter=_front_matter(architecture, model, cfg.task, dataset),
        title=_plain(f"{architecture}, trained on {dataset}" if dataset else architecture),
        better=_better(model.metrics, baselines, cfg.task) if isinstance(baselines, Mapping) else "",
        summary=cfg.summary or f"A model of the architecture {_code(architecture)}.",
        model="\n".join(f"- {key}: {value}" for key, value in facts.items() if value is not None),
        data=_bullets({key: value for key, value in model.data.items() if key != "baselines"}) or "Not recorded.",
        # What other methods gave on the same images stands below, and not among the results that the Hub indexes.
        results=metrics_table(figures) or "Not recorded.",
        recipe=_training(model.recipe),
        load="\n".join(_load_lines(name, repo_id)),
        check=_check_line(repo_id) if check else "",
        license=_plain(model.license),
        citation=cfg.citation or "hsmamba: a zoo of remote-sensing models with pretrained weights",
    )


def _better(metrics: Mapping[str, Any], baselines: Mapping[str, Any], task: str) -> str:
    """Name the classical methods that are better than the weight on its own test data, by its headline metrics."""
    found = []
    for protocol, own in metrics.items():
        end = f", {protocol}"
        others = {key.removesuffix(end): row for key, row in baselines.items() if key.endswith(end)}
        for metric, sign in _headlines(own) if isinstance(own, Mapping) else ():
            known = {name: number for name, row in others.items() if (number := _number(row, metric)) is not None}
            mine = _number(own, metric)
            best = max(known, key=lambda name: sign * known[name], default=None)
            if best is not None and mine is not None and sign * known[best] > sign * mine:
                figures = f"{'OA' if metric == 'oa' else metric} {_cell(known[best])}, this weight {_cell(mine)}"
                found.append(f"{_plain(best)} {figures} ({_plain(protocol)})")
    what = "pixels" if task == "classification" else "images"
    return f"On its own test {what} a classical method is better: {'; '.join(found)}.\n\n" if found else ""


def _headlines(row: Mapping[str, Any]) -> Iterator[tuple[str, int]]:
    """Give the metrics that a task's papers compare where the truth is known: 1 where more is better, else -1."""
    first = "Q2n" if "Q2n" in row else "PSNR"  # which guides of several channels have instead
    yield from ((metric, sign) for metric, sign in (("oa", 1), ("SAM", -1), ("ERGAS", -1), (first, 1)) if metric in row)


def _number(row: Any, metric: str) -> float | None:
    """Return a metric of a row; of several runs the mean."""
    value = row.get(metric) if isinstance(row, Mapping) else None
    value = value.get("mean") if isinstance(value, Mapping) else value
    return float(value) if isinstance(value, (int, float)) else None


def _training(recipe: str | Mapping[str, Any] | None) -> str:
    if isinstance(recipe, Mapping):
        return _bullets(recipe)
    return (
        f"The recipe {_code(recipe)}; {_code(f'hsmamba train {recipe}')} runs it again." if recipe else "Not recorded."
    )


def metrics_table(metrics: Mapping[str, Any]) -> str:
    """Write metrics as a Markdown table, a row a protocol and a column a metric.

    Args:
        metrics: `{metric: value}` or `{protocol: {metric: value}}`; a value is a number, `{"mean": m, "std": s}`, a
            list, a text, or None for what could not be measured.

    Returns:
        The table; empty for no metrics.
    """
    rows = _protocols(metrics)
    columns = list(dict.fromkeys(metric for row in rows.values() for metric in row))
    if not columns:
        return ""
    lines = [["protocol", *columns], ["---"] * (1 + len(columns))]
    lines += [[name, *(row.get(metric, "") for metric in columns)] for name, row in rows.items()]
    skip = 1 if list(rows) == [""] else 0  # one row without a name needs no column of names
    return "\n".join(f"| {' | '.join(map(_cell, line[skip:]))} |" for line in lines)


def _protocols(metrics: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Group metrics by protocol; those of none stand under the empty name."""
    rows: dict[str, dict[str, Any]] = {}
    for name, value in metrics.items():
        if isinstance(value, Mapping) and "mean" not in value:
            rows[name] = dict(value)
        else:
            rows.setdefault("", {})[name] = value
    return rows


def _numbers(metrics: Mapping[str, Any]) -> Iterator[tuple[str, str, float]]:
    """Give protocol, metric and value of whatever is one number; of several runs the mean."""
    for protocol, row in _protocols(metrics).items():
        for metric in row:
            if (number := _number(row, metric)) is not None:
                yield protocol, metric, number


def _cell(value: Any) -> str:
    """Format one value: four digits, mean ± standard deviation, lists by comma."""
    if isinstance(value, Mapping) and "mean" in value:
        return " ± ".join(_cell(value[key]) for key in ("mean", "std") if value.get(key) is not None)
    if isinstance(value, Mapping):
        return ", ".join(f"{_plain(key)} {_cell(part)}" for key, part in value.items())
    if isinstance(value, (list, tuple)):
        return ", ".join(_cell(part) for part in value)
    if value is None:
        return "n/a"
    return f"{value:.4g}" if isinstance(value, float) else _plain(value)


def _plain(text: object) -> str:
    """Write a text of one line that Markdown shows as it is: it opens no block, no link and no HTML."""
    one_line = html.escape(" ".join(str(text).split()), quote=False)
    return re.sub(r"([\\`*\[\]|])", r"\\\1", one_line)


def _code(text: object) -> str:
    """Write a text of one line as code, whose end no backtick in it can be."""
    return f"`{' '.join(str(text).split()).replace('`', chr(39))}`"


def _bullets(facts: Mapping[str, Any]) -> str:
    return "\n".join(f"- {_plain(key)}: {_cell(value)}" for key, value in facts.items() if value is not None)


def _load_lines(name: str | None, repo_id: str | None) -> Iterator[str]:
    """Give the Python lines that load the model by each of its names, in which no line can end their block."""
    name, repo_id = (text and _code(text).strip("`").replace('"', "") for text in (name, repo_id))
    if name is not None:
        yield f'model = hsmamba.create_model("{name}", pretrained=True)'
    if name is None or repo_id is not None:
        yield f'model = hsmamba.create_model("hf-hub:{repo_id or "owner/repo"}")  # from the Hub'
    yield 'model = hsmamba.create_model("local-dir:path/to/this/folder")  # from a copy of this folder'


def _check_line(repo_id: str | None) -> str:
    place = f"hf-hub:{repo_id}" if repo_id else "path/to/this/folder"
    return (
        f"\n{_code(f'hsmamba verify {place}')} compares what your machine computes with `check.safetensors`: small "
        "inputs as the network takes them, and what it gave for them."
    )


def _front_matter(architecture: str, model: ModelFacts, task: str, dataset: str | None) -> str:
    from huggingface_hub import EvalResult, ModelCardData

    pipeline_tag = _PIPELINE_TAGS[task]
    results = [
        EvalResult(
            task_type=pipeline_tag,
            dataset_type=_slug(dataset),
            dataset_name=dataset,
            dataset_config=protocol or None,
            metric_type=_slug(metric),
            metric_name=metric,
            metric_value=value,
        )
        for protocol, metric, value in _numbers(model.metrics)
        if dataset
    ]
    known = re.fullmatch(r"[A-Za-z0-9.+-]+", model.license) is not None  # an identifier, not terms in words
    card = ModelCardData(
        license=model.license.lower() if known else "other",
        license_name=None if known else _slug(model.license),
        library_name="hsmamba",
        tags=["hsmamba", "remote-sensing", task, architecture],
        pipeline_tag=pipeline_tag,
        datasets=[_slug(dataset)] if dataset else None,
        metrics=list(dict.fromkeys(_slug(metric) for _, metric, _ in _numbers(model.metrics))) or None,
        model_name=architecture,
        eval_results=results or None,
    )
    return str(card.to_yaml()).strip()


def _slug(text: str) -> str:
    """Write a name as the Hub writes identifiers: lower case, hyphens."""
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")
