"""What a user does with a model: classify a scene, fuse images, fine-tune, evaluate, train by a recipe."""

from hsmamba.engine.classification.evaluate import evaluate
from hsmamba.engine.classification.job import Classification, classify
from hsmamba.engine.classification.train import FinetuneResult, FinetuneSettings, default_transform, finetune
from hsmamba.engine.fusion.evaluate import FusionReport
from hsmamba.engine.fusion.job import fuse
from hsmamba.engine.fusion.train import FusionResult, FusionSettings

__all__ = [
    "Classification",
    "FinetuneResult",
    "FinetuneSettings",
    "FusionReport",
    "FusionResult",
    "FusionSettings",
    "classify",
    "default_transform",
    "evaluate",
    "finetune",
    "fuse",
]
