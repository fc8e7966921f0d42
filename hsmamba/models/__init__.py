"""One file an architecture. Importing this package registers all of them, here and in timm."""

from hsmamba.models import cf2n, ensemble, graph_lda, lda, le_mamba, md2f_mamba, mim, mmapp, msfmamba, ramsf, rsanet
from hsmamba.models._base import (
    Classifier,
    FusionNetwork,
    Network,
    TrainingImages,
    TrainingLogits,
    Transform,
    as_classifier,
    as_fusion_network,
    as_network,
    numbers_of,
)
from hsmamba.models._registry import ModelCfg, RegistryEntry, entry, example_inputs, register_model, registry

__all__ = [
    "Classifier",
    "FusionNetwork",
    "ModelCfg",
    "Network",
    "RegistryEntry",
    "TrainingImages",
    "TrainingLogits",
    "Transform",
    "as_classifier",
    "as_fusion_network",
    "as_network",
    "cf2n",
    "ensemble",
    "entry",
    "example_inputs",
    "graph_lda",
    "lda",
    "le_mamba",
    "md2f_mamba",
    "mim",
    "mmapp",
    "msfmamba",
    "numbers_of",
    "ramsf",
    "register_model",
    "registry",
    "rsanet",
]
