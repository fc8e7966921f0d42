"""The exceptions of the package: one base, and one class for each kind of thing that a caller can mend."""

from __future__ import annotations


class HsmambaError(Exception):
    """Base of every error that hsmamba raises on purpose; its text says what was got, what was expected, what to do."""


class UnknownModelError(HsmambaError, ValueError):
    """A model or weight name that no registry entry and no manifest record has."""


class WeightsError(HsmambaError, RuntimeError):
    """Weights that cannot be found, fetched, verified or fitted to the model."""


class HashMismatchError(WeightsError):
    """A file whose SHA-256 is not the one on record."""


class ManifestError(HsmambaError, ValueError):
    """A manifest or model configuration that this version cannot read."""


class SceneError(HsmambaError, ValueError):
    """A scene, file or array whose content does not fit: shapes, bands, labels, non-finite pixels."""


class DataNotFoundError(SceneError, FileNotFoundError):
    """Data of a set that are not at hand: no folder of data is named, or it does not hold them."""


class SplitError(HsmambaError, ValueError):
    """A split that cannot be made, or that does not belong to the scene."""


class TrainingError(HsmambaError, RuntimeError):
    """A training run that cannot go on: figures that are not finite, a folder in use, a state that cannot be kept."""


class MissingExtraError(HsmambaError, ImportError):
    """An optional dependency that is not installed; the text names the extra to install."""


class HsmambaWarning(UserWarning):
    """Something that hsmamba goes on with, and that the caller had better look at."""
