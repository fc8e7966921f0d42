"""What a person does with a scene: open it, look at it, label it, learn, correct, take the results away."""

from __future__ import annotations

import threading
import warnings
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from hsmamba.app import exports, pictures
from hsmamba.app.labels import LabelSheet, patches
from hsmamba.app.learning import Request, Result, held_out, kept_aside, learn
from hsmamba.app.suggestions import Places, least_sure, most_different
from hsmamba.app.work import Teller, Work
from hsmamba.data import Scene, load_scene, open_image, open_scene, random_split
from hsmamba.data.colours import class_colours
from hsmamba.data.composites import rgb_bands
from hsmamba.data.files.vectors import is_vector
from hsmamba.data.georeference import Georeference
from hsmamba.data.image import is_dataarray, pixel_mask
from hsmamba.errors import HsmambaWarning

BUNDLED: dict[str, str | None] = {"muufl_crop": None, "indian_pines": "tensorly"}  # and the package that carries them
_HELD = 2**28  # bytes of a cube that is read once and kept
_CLIP = 2.0  # percent of the pixels beyond each end of the stretch

Export = Literal["map.tif", "confidence.tif", "labels.gpkg", "labels.tif", "model.zip", "make_map.py", "all.zip"]
EXPORTS: dict[Export, str] = {
    "map.tif": "class map with colours and names",
    "confidence.tif": "confidence of the map",
    "labels.gpkg": "labels as polygons",
    "labels.tif": "labels as an image",
    "model.zip": "model folder",
    "make_map.py": "program that makes the map again",
    "all.zip": "all of these",
}


class Session:
    """A scene, its labels and what was learnt of them.

    Attributes:
        uploads: Folder of files that came through the page, which other programs find by their name alone.
        scene: The scene, without labels; None before one is open.
        own: Labels that came with the scene, and the names of their classes; None where there are none.
        sheet: The labels.
        result: The latest result; None before there is one.
        work: What runs.
        notes: What the library warned of when a file was read.
    """

    def __init__(self) -> None:
        self.work = Work()
        self.uploads: Path | None = None
        self.version = 0
        self._turn = threading.RLock()
        self._forget()

    def _forget(self) -> None:
        self.scene: Scene | None = None
        self.own: tuple[NDArray[Any], tuple[str, ...]] | None = None
        self.sheet = LabelSheet((0, 0))
        self.result: Result | None = None
        self.notes: list[str] = []
        self.opening = ""
        self._aside: tuple[NDArray[Any], NDArray[Any]] | None = None  # labels kept to check with, and their places
        self._overview: Any = None  # the cube as far as it is shown
        self._path: str | None = None
        self._variable: str | None = None

    # ------------------------------------------------------------------ the scene

    def open(self, path: str, *, variable: str | None = None) -> None:
        """Open a file, a product's folder, or a data set by its name; what was done before is forgotten.

        Args:
            path: As for `hsmamba.open_scene`, or a name for `hsmamba.load_scene`.
            variable: Name of the cube in a file with several arrays.

        Raises:
            HsmambaError: What the library says of the file.
            ValueError: There is no path, or work goes on.
        """
        path = path.strip()
        if not path:
            raise ValueError("there is no path; type where the scene lies, or choose a file")
        self._refuse_while_working()
        named = not Path(path).suffix and not Path(path).expanduser().exists() and "://" not in path
        where = path if "://" in path else str(Path(path).expanduser())
        passing = self.uploads is not None and Path(where).is_relative_to(self.uploads)
        told_as = Path(where).name if passing else where
        arguments = f"{told_as!r}" + (f", variable={variable!r}" if variable else "")
        with warnings.catch_warnings(record=True) as told:
            warnings.simplefilter("always", HsmambaWarning)
            scene = load_scene(path) if named else open_scene(where, variable=variable or None)
            scene = _held(scene)
            overview = _overview(scene)
        with self._turn:
            self._forget()
            self._overview = overview
            if scene.labels is not None and np.asarray(scene.labels).any():
                self.own = np.asarray(scene.labels), scene.class_names
            self.scene = replace(scene, labels=None, class_names=(), classes=None)
            self.sheet = LabelSheet(scene.shape)
            self.opening = f"hsmamba.load_scene({path!r})" if named else f"hsmamba.open_scene({arguments})"
            self._path, self._variable = None if named else where, variable or None
            self.notes = _texts(told)
            self.version += 1

    def composite(self, bands: Sequence[int] | None = None, clip: float = _CLIP) -> bytes:
        """Draw three bands as a PNG.

        Args:
            bands: Red, green and blue; default as `hsmamba.data.composites.composite` chooses.
            clip: Percent of the pixels that are darkest, and that are brightest, beyond the ends of the stretch.

        Raises:
            ValueError: Bands that are none, or a clip out of range.
        """
        scene = self._open()
        if not 0 <= clip < 50:
            raise ValueError(f"the stretch leaves {clip} % out at each end; expected 0 to 49")
        image = pictures.three_bands(self._overview, bands, scene.wavelengths)
        return pictures.picture(image, *pictures.limits(image, clip))

    def spectrum(self, row: int, column: int) -> dict[str, Any]:
        """Return the numbers of a pixel: `values` (B,) with None where there is none, `label` and, if mapped, `found`.

        Raises:
            ValueError: The pixel is outside the scene.
        """
        scene = self._open()
        if not (0 <= row < scene.shape[0] and 0 <= column < scene.shape[1]):
            raise ValueError(f"the scene has no pixel at row {row}, column {column}")
        values = np.asarray(scene.hsi[row, column], np.float64)
        bad = ~np.isfinite(values) | (np.abs(values) >= 1e30)
        if scene.bad_bands is not None:
            bad |= scene.bad_bands
        found: dict[str, Any] = {
            "row": row, "column": column, "values": [None if b else float(v) for v, b in zip(values, bad, strict=True)],
            "label": int(self.sheet.labels[row, column]), "found": None, "confidence": None,
        }  # fmt: skip
        if self.result is not None:
            found["found"] = int(self.result.labels[row, column])
            sure = float(self.result.confidence[row, column])
            found["confidence"] = sure if np.isfinite(sure) else None
        return found

    # ------------------------------------------------------------------ the labels

    def change_labels(self, change: Callable[[LabelSheet], Any]) -> None:
        """Change the labels, one change at a time."""
        self._open()
        with self._turn:
            change(self.sheet)

    def load_labels(
        self, path: str | None, *, field: str | None = None, layer: str | None = None, count: int | None = None
    ) -> int:
        """Take labels of a file on the grid of the scene, of polygons or points, or those that came with the scene.

        Args:
            path: The file; None for the scene's own.
            field: Field of polygons and points that holds their class.
            layer: Layer of a GeoPackage, or array of a file with several.
            count: Train on so many pixels of each class, drawn by chance, and keep the others aside to check the map;
                None takes them all.

        Returns:
            Labelled pixels that were taken.

        Raises:
            HsmambaError: What the library says of the file.
            ValueError: The scene came without labels, or nothing is labelled.
        """
        scene = self._open()
        with warnings.catch_warnings(record=True) as told:
            warnings.simplefilter("always", HsmambaWarning)
            if path is None:
                if self.own is None:
                    raise ValueError("the scene came without labels; load a file of labels, or click some")
                labels, names = self.own
            else:
                labels, names = self._read_labels(scene, path, field or None, layer or None)
        if not labels.any():
            raise ValueError(f"{path or 'the scene'} labels no pixel of this scene")
        taken = labels
        if count:
            trains = pixel_mask(random_split(labels, count=count, cap=True).train, labels.shape)
            taken = np.where(trains, labels, 0)
        with self._turn:
            numbers = self.sheet.load(taken, names)
            # Of every class one pixel trains at least, so that each has a number here.
            self._aside = (numbers[np.where(trains, 0, labels)], patches(labels)) if count else None
            self.notes = _texts(told)
        return int(np.count_nonzero(taken))

    def _read_labels(
        self, scene: Scene, path: str, field: str | None, layer: str | None
    ) -> tuple[NDArray[Any], tuple[str, ...]]:
        where = str(Path(path.strip()).expanduser())
        if self._path is not None:  # which reads the names of an ENVI classification, too
            options: dict[str, Any] = {"labels": where, "labels_field": field, "labels_variable": layer}
            found = open_scene(self._path, variable=self._variable, **options)
        elif is_vector(where):
            from hsmamba.data.drawing import draw_labels

            labels, names = draw_labels(Path(where), scene.hsi, field=field, layer=layer)
            found = replace(scene, labels=labels, class_names=names)
        else:
            image = open_image(where, variable=layer)
            found = replace(scene, labels=image if is_dataarray(scene.hsi) else np.asarray(image))
        return np.asarray(found.labels), found.class_names

    # ------------------------------------------------------------------ learning

    def train(self, request: Request) -> None:
        """Begin to learn from the labels; `work` tells how far it is, and `result` is there before its accuracy.

        Raises:
            ValueError: Nothing is open or labelled, or work goes on.
        """
        scene = self._open()
        with self._turn:
            labels, places, names = self.sheet.labels.copy(), self.sheet.groups.copy(), tuple(self.sheet.names)
            aside = self._aside
        if not labels.any():
            raise ValueError("nothing is labelled; add classes and click some pixels of each, or load labels")
        labelled = replace(scene, labels=labels, class_names=names, classes=None)

        def run(tell: Teller) -> None:
            result = learn(labelled, request, tell)
            self._publish(scene, result)
            accuracy = None if aside is None else kept_aside(result, *aside)
            accuracy = accuracy or held_out(labelled, places, result, tell)
            tell("done", 1.0)
            self._publish(scene, replace(result, accuracy=accuracy))

        self.work.start("training", run)

    def _publish(self, scene: Scene, result: Result) -> None:
        with self._turn:
            if self.scene is scene:
                self.result = result
                self.version += 1

    def suggest(self, kind: Literal["unsure", "different"]) -> Places:
        """Say where the next label tells most, as (row, column): `least_sure` or `most_different`.

        Raises:
            ValueError: There is no map yet to be unsure of.
        """
        scene = self._open()
        if kind == "different":
            return most_different(scene, self.sheet.labels)
        if self.result is None:
            raise ValueError("there is no map yet; train first, or ask for what is most different")
        return least_sure(self.result.confidence, self.sheet.labels)

    # ------------------------------------------------------------------ pictures and files

    def labels_picture(self) -> bytes:
        """Draw the labels as a PNG, clear where there are none."""
        self._open()
        return pictures.class_picture(self.sheet.labels, class_colours(len(self.sheet.names)), sparse=True)

    def map_picture(self) -> bytes:
        """Draw the map as a PNG."""
        result = self._result()
        return pictures.class_picture(result.labels, class_colours(len(result.names)))

    def confidence_picture(self) -> bytes:
        """Draw the confidence as a PNG, dark where it is low."""
        return pictures.confidence_picture(self._result().confidence)

    def export(self, what: str, folder: Path) -> Path:
        """Write one of `EXPORTS` into a folder.

        Returns:
            The file.

        Raises:
            MissingExtraError: A package is not installed.
            OSError: The file cannot be written.
            ValueError: There is no such export, or nothing to write yet.
        """
        scene, path = self._open(), Path(folder) / what
        if what not in EXPORTS:
            raise ValueError(f"there is no export {what!r}; choose {', '.join(EXPORTS)}")
        labels, names = self.sheet.labels, self.sheet.names
        if what.startswith("labels"):
            exports.write_labels(path, scene, labels, names)
            return path
        result = self._result()
        if what == "map.tif":
            exports.write_map(path, scene, result)
        elif what == "confidence.tif":
            exports.write_map(path.with_name("map.tif"), scene, result)
            path.with_name("map_confidence.tif").replace(path)
        elif what == "make_map.py":
            exports.write_script(path, self.opening, result)
        elif what == "model.zip":
            exports.write_model(path.with_suffix(""), scene, result)
            exports.zip_folder(path.with_suffix(""), path)
        else:
            exports.write_all(path, scene, labels, names, result, self.opening)
        return path

    def state(self) -> dict[str, Any]:
        """Tell everything that a page shows, as plain values."""
        with self._turn:
            scene, sheet = self.scene, self.sheet
            colours = ["#" + bytes(tone).hex() for tone in _bytes(class_colours(len(sheet.names)))[1:]]
            classes = [
                {"name": name, "colour": colour, "count": count}
                for name, colour, count in zip(sheet.names, colours, sheet.counts, strict=True)
            ]
            return {
                "version": self.version, "scene": None if scene is None else _facts(scene, self.own),
                "classes": classes, "labels_version": sheet.version, "can_undo": sheet.can_undo, "notes": self.notes,
                "result": None if self.result is None else _figures(self.result),
            }  # fmt: skip

    def _open(self) -> Scene:
        if self.scene is None:
            raise ValueError("no scene is open; open one first")
        return self.scene

    def _result(self) -> Result:
        if self.result is None:
            raise ValueError("there is no map yet; train first")
        return self.result

    def _refuse_while_working(self) -> None:
        if self.work.status()["state"] == "running":
            raise ValueError("training goes on; wait for it, or cancel it, before another scene is opened")


def _held(scene: Scene) -> Scene:
    """Read a cube into memory that is not large."""
    size = int(np.prod(scene.hsi.shape)) * np.dtype(scene.hsi.dtype).itemsize
    if size > _HELD:
        return scene
    cube: Any = scene.hsi
    return replace(scene, hsi=cube.load() if is_dataarray(cube) else np.array(cube), classes=None)


def _overview(scene: Scene) -> Any:
    """Read a large cube as far as it is shown, once for all choices of bands, if that fits into memory."""
    step = pictures.step_of(scene.shape)
    part: Any = scene.hsi[::step, ::step]
    size = int(np.prod(part.shape)) * np.dtype(part.dtype).itemsize
    return np.asarray(part) if step > 1 and size <= _HELD else scene.hsi


def _texts(told: Sequence[warnings.WarningMessage]) -> list[str]:
    return list(dict.fromkeys(str(one.message) for one in told if issubclass(one.category, HsmambaWarning)))


def _bytes(colours: NDArray[np.float64]) -> NDArray[np.uint8]:
    return np.rint(255 * colours).astype(np.uint8)


def _facts(scene: Scene, own: tuple[NDArray[Any], tuple[str, ...]] | None) -> dict[str, Any]:
    known = scene.wavelengths is not None and np.isfinite(scene.wavelengths).all()
    place = Georeference.of(scene.hsi)
    return {
        "name": scene.name, "source": scene.source, "rows": scene.shape[0], "columns": scene.shape[1],
        "bands": scene.num_bands, "dtype": str(np.dtype(scene.hsi.dtype)),
        "wavelengths": [float(nm) for nm in scene.wavelengths] if known and scene.wavelengths is not None else None,
        "band_names": list(scene.band_names), "place": place is not None,
        "aux": 0 if scene.aux is None else int(scene.aux.shape[2]),
        "own_labels": 0 if own is None else int(np.count_nonzero(own[0])),
        "rgb": rgb_bands(scene.num_bands, None, scene.wavelengths),
    }  # fmt: skip


def _figures(result: Result) -> dict[str, Any]:
    found: dict[str, Any] = {
        "model": result.request.model, "seconds": result.seconds, "labels": int(result.split.train.size),
        "pixels": [int(n) for n in np.bincount(result.labels.ravel(), minlength=len(result.names) + 1)[1:]],
        "names": list(result.names), "accuracy": None,
    }  # fmt: skip
    if result.accuracy is not None:
        low, high = result.accuracy.interval
        found["accuracy"] = {
            "share": result.accuracy.share, "low": low, "high": high, "kind": result.accuracy.kind,
            "right": list(result.accuracy.right), "total": list(result.accuracy.total),
            "places": result.accuracy.places,
        }  # fmt: skip
    return found
