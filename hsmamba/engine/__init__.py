"""What a user does with a model: classify a scene, fuse images, fine-tune, evaluate, train by a recipe."""

from hsmamba.engine.classify import Classification, classify
from hsmamba.engine.evaluate import evaluate
from hsmamba.engine.finetune import FinetuneResult, FinetuneSettings, default_transform, finetune
from hsmamba.engine.fuse import fuse
from hsmamba.engine.fusion_evaluate import FusionReport
from hsmamba.engine.fusion_finetune import FusionResult, FusionSettings

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
