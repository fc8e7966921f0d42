"""What is known of a model: `model_info`."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

import hsmamba.models as models
from hsmamba.ops import inference
from hsmamba.zoo import manifest
from hsmamba.zoo.factory import create_model


@dataclass(frozen=True)
class ModelInfo:
    """What is known of a model; `str()` is a readable page, `to_json()` the same for programs.

    Attributes:
        name: The name asked for.
        architecture: Its architecture.
        task: "classification" or "fusion".
        summary: One line.
        params: Number of parameters.
        macs: Multiply-adds of one sample at the default input.
        inputs: Shape (without batch) of each input.
        num_classes: Classes, None for fusion.
        classes: Names of the classes, if the name has a weight.
        bands: Bands that the weight's scene has, as its record says.
        sensor: Sensor of the weight's scene.
        license: Licence of the weight, else of the code.
        citation: The paper.
        tags: Metrics on record for each weight of the architecture.
    """

    name: str
    architecture: str
    task: str
    summary: str
    params: int
    macs: int
    inputs: dict[str, tuple[int, ...]]
    num_classes: int | None
    classes: tuple[str, ...]
    bands: int | None
    sensor: str | None
    license: str
    citation: str
    tags: dict[str, Mapping[str, Any]]

    def to_json(self) -> str:
        """Return all fields as JSON."""
        return json.dumps(asdict(self), indent=2)

    def __str__(self) -> str:
        inputs = ", ".join(f"{key} (B, {', '.join(map(str, shape))})" for key, shape in self.inputs.items())
        lines = [
            f"{self.name}: {self.summary}",
            f"  task          {self.task}",
            f"  inputs        {inputs}",
            f"  parameters    {self.params:,}",
            f"  multiply-adds {self.macs / 1e6:,.2f} M a sample",
            f"  classes       {self.num_classes}" + (f": {', '.join(self.classes)}" if self.classes else "")
            if self.num_classes is not None
            else "",
            f"  scene         {self.bands} bands, {self.sensor}" if self.bands else "",
            f"  licence       {self.license}",
            f"  citation      {self.citation}",
            *(f"  weight        {tag}: {_metrics_line(metrics)}" for tag, metrics in self.tags.items()),
        ]
        return "\n".join(line for line in lines if line)


def _metrics_line(metrics: Mapping[str, Any]) -> str:
    """Write nested metrics on one line: {"random": {"oa": [98.9, 0.2]}} -> "random: oa 98.90 ± 0.20"."""
    parts = []
    for key, value in metrics.items():
        if isinstance(value, Mapping) and {"mean", "std"} <= value.keys():
            parts.append(f"{key} {value['mean']:.2f} ± {value['std']:.2f}")
        elif isinstance(value, Mapping):
            parts.append(f"[{key}] {_metrics_line(value)}")
        elif isinstance(value, (int, float)):
            parts.append(f"{key} {value:.2f}" if isinstance(value, float) else f"{key} {value}")
    return " ".join(parts)


def count_macs(model: nn.Module, inputs: tuple[Tensor, ...]) -> int:
    """Count the multiply-adds of one forward pass.

    Args:
        model: The network; its mode is kept.
        inputs: Its inputs; a batch of one gives the multiply-adds of a sample.

    Returns:
        Half of the floating-point operations of convolutions and matrix products as torch counts them.
    """
    training = model.training
    # Compiled kernels would hide products that they make on the way.
    with FlopCounterMode(display=False) as counter, torch.enable_grad(), inference.plain():
        model.eval()(*inputs)
    model.train(training)
    return int(counter.get_total_flops()) // 2


def model_info(name: str, **model_args: Any) -> ModelInfo:
    """Tell what is known of a model.

    Args:
        name: As for `create_model`; "hf-hub:" and "local-dir:" names load the model they name.
        **model_args: As for `create_model`.

    Returns:
        The figures, counted on the model itself.

    Raises:
        UnknownModelError: No such name.
    """
    model = create_model(name, **model_args)
    entry = models.entry(model.architecture)
    inputs = models.example_inputs(model, 1)
    names = ("ms", "guide") if entry.cfg.task == "fusion" else ("hsi", "aux")
    records = {r.tag: r for r in manifest.load_manifest().values() if r.architecture == entry.name}
    record = records.get(name.partition(".")[2])
    return ModelInfo(
        name=name,
        architecture=entry.name,
        task=entry.cfg.task,
        summary=entry.cfg.summary,
        params=sum(p.numel() for p in model.parameters()),
        macs=count_macs(model, inputs),
        inputs={key: tuple(x.shape[1:]) for key, x in zip(names, inputs, strict=False)},
        num_classes=getattr(model, "num_classes", None),
        classes=record.classes if record else model.class_names,
        bands=record.bands if record else None,
        sensor=record.data.get("sensor") if record else None,
        license=record.license if record else "Apache-2.0 (code)",
        citation=entry.cfg.citation,
        tags={tag: r.metrics for tag, r in records.items()},
    )
