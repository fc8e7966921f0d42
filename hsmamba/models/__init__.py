"""One file an architecture. Importing this package registers all of them, here and in timm."""

from hsmamba.models import cf2n, le_mamba, md2f_mamba, mim, mmapp, msfmamba, ramsf, rsanet
from hsmamba.models._registry import ModelCfg, RegistryEntry, entry, example_inputs, register_model, registry

__all__ = [
    "ModelCfg",
    "RegistryEntry",
    "cf2n",
    "entry",
    "example_inputs",
    "le_mamba",
    "md2f_mamba",
    "mim",
    "mmapp",
    "msfmamba",
    "ramsf",
    "register_model",
    "registry",
    "rsanet",
]
