"""Score the random forest that a user would try first, on the plots of IDTReeS 2020 and the split of its recipe.

Run from the repository's root: python tools/forest_baseline.py DATA, where DATA holds `idtrees2020/`. It needs
scikit-learn, and writes docs/results/random_forest.idtrees2020.csv: 30 principal components of the reflectance, alone
or with the canopy height, fitted on the training and validation plots together, five seeds each.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from sklearn.ensemble import RandomForestClassifier

from hsmamba.data import PCA, Compose, Standardise, load_scenes, load_split
from hsmamba.engine.results import Row, write_results
from hsmamba.metrics import ClassificationReport

OUT = Path(__file__).resolve().parents[1] / "docs" / "results" / "random_forest.idtrees2020.csv"


def main() -> None:
    """Score it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path)
    args = parser.parse_args()
    plots, split = load_scenes("idtrees2020", args.data), load_split("idtrees2020")
    pixels = {
        key: np.concatenate([np.asarray(getattr(plot, key)).reshape(len(np.asarray(plot.labels).ravel()), -1)
                             for plot in plots])
        for key in ("hsi", "aux", "labels")
    }  # fmt: skip
    labels = pixels["labels"].ravel()
    train = np.union1d(split.train, split.val)
    components = Compose([Standardise(), PCA(30)]).fit(pixels["hsi"][train])(pixels["hsi"])
    inputs = {"reflectance": components, "reflectance and height": np.hstack([components, pixels["aux"]])}
    rows: list[Row] = []
    for name, features in inputs.items():
        for seed in range(5):
            forest = RandomForestClassifier(300, random_state=seed).fit(features[train], labels[train])
            predicted = forest.predict(features[split.test])
            report = ClassificationReport.from_labels(labels[split.test], predicted, plots[0].class_names)
            rows.append({"split": name, "seed": seed, "split_sha256": split.sha256, **report.percent()})
    write_results(OUT, rows)
    print(f"wrote {OUT}")


if __name__ == "__main__":
    main()
