"""Methods of DataArrays, once this module is imported: `da.hsmamba.classify(model)`, `ms.hsmamba.sharpen(pan, model)`.

Arrays that dask holds give lazy results (`docs/cluster.md`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from torch import nn

from hsmamba._optional import optional_import
from hsmamba.engine import classify, fuse
from hsmamba.zoo.factory import create_model

if TYPE_CHECKING:
    import xarray as xr

__all__ = ["Accessor"]

_xarray = optional_import("xarray", "to give DataArrays these methods")


class Accessor:
    """What `array.hsmamba` is.

    Args:
        array: The image, dims (y, x, band) or (band, y, x); of a coarse image to be sharpened (y, x), too.
    """

    def __init__(self, array: xr.DataArray) -> None:
        self._array = array

    def classify(self, model: nn.Module | str, **options: Any) -> xr.Dataset:
        """Classify every pixel.

        Args:
            model: A classifier, or the name of a weight.
            **options: Those of `hsmamba.classify`.

        Returns:
            `label` (y, x), classes 1..K or 0, whose attributes `flag_values` and `flag_meanings` name the classes as
            the CF conventions have it, and `confidence` (y, x), on the grid of the image. Of an image that dask holds
            both come of one computation.

        Raises:
            Exception: As `hsmamba.classify`, and `hsmamba.create_model` where a name is given.
        """
        network: Any = _network(model)
        labels, confidence = classify(network, self._array, **options)
        if names := getattr(network, "class_names", ()):
            labels.attrs["flag_values"] = list(range(1, len(names) + 1))
            labels.attrs["flag_meanings"] = " ".join("_".join(name.split()) for name in names)
        found: xr.Dataset = _xarray.Dataset({"label": labels, "confidence": confidence})
        return found

    def sharpen(self, guide: Any, model: nn.Module | str, **options: Any) -> xr.DataArray:
        """Sharpen this coarse image.

        Args:
            guide: The sharp image of the same ground, a DataArray (y, x[, band]) or (band, y, x).
            model: A fusion network, or the name of a weight.
            **options: Those of `hsmamba.fuse`.

        Returns:
            The sharp image on the guide's grid, with the bands, the units and the order of dims of this one.

        Raises:
            Exception: As `hsmamba.fuse`, and `hsmamba.create_model` where a name is given.
        """
        sharp: Any = fuse(_network(model), self._array, guide, **options)
        found: xr.DataArray = sharp
        return found


def _network(model: nn.Module | str) -> nn.Module:
    return create_model(model, pretrained=True) if isinstance(model, str) else model


_xarray.register_dataarray_accessor("hsmamba")(Accessor)
