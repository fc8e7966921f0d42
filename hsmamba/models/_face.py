"""What a network answers to by the names of the Hub's mixin, and what it shows in notebooks.

The zoo lies floors above; the public face of the package is asked for it when a method is called, without an import.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from hsmamba._html import table, titled

if TYPE_CHECKING:
    from typing_extensions import Self


class Face:
    """Names that other libraries gave their models: each delegates to the function of this package."""

    if TYPE_CHECKING:
        architecture: str
        record: Mapping[str, Any] | None
        class_names: tuple[str, ...]
        transform: Any
        sizes: Any

    @classmethod
    def from_pretrained(cls, name: str, *, revision: str | None = None, **options: Any) -> Self:
        """Load a trained model, by the Hub mixin's name; `hsmamba.create_model` does it and has the words.

        Args:
            name: "architecture.tag", "owner/repo" on the Hub, or a model folder; with or without the prefixes
                "hf-hub:" and "local-dir:".
            revision: Branch, tag or commit on the Hub.
            **options: Of `hsmamba.create_model`.

        Returns:
            The network, in evaluation mode.

        Raises:
            TypeError: The model is of another class than this one.
        """
        face: Any = sys.modules["hsmamba"]  # which knows the floors above
        if (Path(name) / "config.json").is_file():
            name = f"local-dir:{name}"
        elif "/" in name and not name.startswith(("hf-hub:", "local-dir:")):
            name = f"hf-hub:{name}"
        model = face.create_model(name + (f"@{revision}" if revision else ""), pretrained=True, **options)
        if not isinstance(model, cls):
            kind = type(model).__name__
            raise TypeError(f"{name} is a {kind}, and {cls.__name__} was asked; call {kind}.from_pretrained")
        return model

    def save_pretrained(self, folder: Any, **facts: Any) -> Any:
        """Write a model folder; `hsmamba.save_pretrained(model, folder, ...)` does it and has the words."""
        face: Any = sys.modules["hsmamba"]
        return face.save_pretrained(self, folder, **facts)

    def push_to_hub(self, repo_id: str, **options: Any) -> str:
        """Upload to the Hub; `hsmamba.push_to_hub(model, repo_id, ...)` does it and has the words."""
        face: Any = sys.modules["hsmamba"]
        return str(face.push_to_hub(self, repo_id, **options))

    def _repr_html_(self) -> str:
        """Show what it is, takes and was trained on, in notebooks; `print` has the layers."""
        params = sum(weight.numel() for weight in cast(Any, self).parameters())
        data = (self.record or {}).get("data") or {}
        rows = [
            ("parameters", f"{params:,}"),
            *self.sizes.items(),
            ("classes", ", ".join(self.class_names)),
            ("weight", (self.record or {}).get("source") or data.get("base_model")),
            ("trained on", data.get("name")),
            ("licence", (self.record or {}).get("license")),
        ]
        shown = table([row for row in rows if row[1] not in (None, "", 0)])
        inner = getattr(self.transform, "_repr_html_", str)() if self.transform is not None else ""
        return titled(self.architecture or type(self).__name__, shown, inner)
