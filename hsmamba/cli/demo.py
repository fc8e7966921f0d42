"""`hsmamba demo`: classify the Indian Pines scene and draw the map, or write files to try the commands on."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated

import typer

from hsmamba.cli._common import (
    JsonFlag,
    QuietFlag,
    app,
    check_writable,
    load_model,
    say,
    shows_progress,
    split_of,
    tell,
)


@app.command()
def demo(
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder for the picture and the arrays.")] = Path("."),
    files: Annotated[
        bool, typer.Option("--files", help="Write a scene, labels and a pair of images instead, to try things on.")
    ] = False,
    quiet: QuietFlag = False,
    as_json: JsonFlag = False,
) -> None:
    """Classify the Indian Pines scene with the weights that come with the package, and draw the map."""
    if files:
        _write_files(out, as_json)
        return
    start = time.perf_counter()
    name = "md2f_mamba.indian_pines"
    picture, arrays = out / "indian_pines_map.png", out / "indian_pines_map.npz"
    check_writable(picture)
    import numpy as np

    from hsmamba import classify, load_scene, viz
    from hsmamba._files import atomic_path
    from hsmamba.metrics import ClassificationReport

    scene = load_scene("indian_pines")
    model = load_model(name)
    split = split_of(name)
    ready = time.perf_counter()
    labels, confidence = classify(model, scene, progress=shows_progress(as_json))
    classified = time.perf_counter()
    truth = np.asarray(scene.labels).ravel()[split.test]
    report = ClassificationReport.from_labels(truth, labels.ravel()[split.test], scene.class_names)
    title = f"Indian Pines, {name}: OA {100 * report.oa:.2f} % on {split.test.size} test pixels"
    figure = viz.classification_map(scene, labels, confidence, title=title)
    with atomic_path(picture) as temporary:
        figure.savefig(temporary, dpi=150)
    with atomic_path(arrays) as temporary:
        np.savez_compressed(temporary, labels=labels, confidence=confidence)
    seconds = {"load": ready - start, "classify": classified - ready, "total": time.perf_counter() - start}
    if as_json:
        tell({**report.to_dict(), "seconds": seconds, "files": [str(picture), str(arrays)]})
        return
    say(f"{name} on the {split.test.size} test pixels of its own split ({split.id})\n\n{report}\n")
    say(f"wrote {picture} and {arrays}")
    pixels = labels.size / seconds["classify"]
    say(f"took {seconds['total']:.1f} s; {seconds['classify']:.1f} s to classify, {pixels:,.0f} pixels a second")


def _write_files(folder: Path, as_json: bool) -> None:
    from hsmamba.data.sets.samples import sample_paths, write_samples

    for path in sample_paths(folder):
        check_writable(path)
    paths = write_samples(folder)
    if as_json:
        tell({"files": [str(path) for path in paths]})
        return
    scene, labels, lidar, ms, pan = paths
    say(f"wrote {', '.join(map(str, paths))}\n\nto try, for example:")
    say(f"  hsmamba finetune {scene} --labels {labels} --count 12 --cap -m lda -o {folder / 'run'}")
    say(f"  hsmamba classify {scene} -m {folder / 'run'} -o {folder / 'map.png'}")
    say(f"  hsmamba classify {scene} --aux {lidar} -m msfmamba.muufl -o {folder / 'two_sources.png'}")
    say(f"  hsmamba fuse {ms} {pan} -m ramsf.landsat8 -o {folder / 'sharp'}{ms.suffix}")
