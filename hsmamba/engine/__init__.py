"""What a user does with a model: classify a scene, fine-tune, evaluate, train by a recipe."""

from hsmamba.engine.classify import Classification, classify
from hsmamba.engine.evaluate import evaluate
from hsmamba.engine.finetune import FinetuneResult, FinetuneSettings, default_transform, finetune

__all__ = [
    "Classification",
    "FinetuneResult",
    "FinetuneSettings",
    "classify",
    "default_transform",
    "evaluate",
    "finetune",
]
