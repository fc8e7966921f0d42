"""Pictures: maps, errors, spectra, confusion matrices, training curves, intervals, swipes, sharpened images.

Every function returns a `matplotlib.figure.Figure` in one style: save it with `figure.savefig(path)`, also as `.svg` or
`.pdf`, where text stays text. None touches pyplot's state, and a notebook shows it as it is. `style` is for pictures
of your own: `with matplotlib.rc_context(viz.style()):`.
"""

from hsmamba.data.composites import composite
from hsmamba.viz.curves import confusion, interval_panels, intervals, training_curves
from hsmamba.viz.fusion import fusion_comparison, swipe
from hsmamba.viz.maps import classification_map, error_map, label_map
from hsmamba.viz.scenes import overview, spectra
from hsmamba.viz.style import style

__all__ = [
    "classification_map",
    "composite",
    "confusion",
    "error_map",
    "fusion_comparison",
    "interval_panels",
    "intervals",
    "label_map",
    "overview",
    "spectra",
    "style",
    "swipe",
    "training_curves",
]
