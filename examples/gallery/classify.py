"""
Classify a scene with a weight of the zoo
=========================================

A weight brings its preprocessing and its classes along. Here it maps the scene that it was trained on a part of.
"""

import numpy as np

import hsmamba
from hsmamba import viz
from hsmamba.metrics import ClassificationReport

model = hsmamba.create_model("md2f_mamba.indian_pines", pretrained=True)
scene = hsmamba.load_scene("indian_pines")
labels, confidence = hsmamba.classify(model, scene, progress=False)
print(labels.shape, labels.dtype, f"mean confidence {confidence.mean():.2f}")

# %%
# Composite, truth, map and how sure the network is:

figure = viz.classification_map(scene, labels, confidence)

# %%
# The split that trained the weight is on record, so the pixels that it has never seen are known.

split = hsmamba.data.random_split(scene.labels, fraction=0.05, seed=model.record["data"]["seed"])
print(model.record["data"]["split"]["sha256"] == split.sha256)
truth = np.asarray(scene.labels).ravel()[split.test]
print(ClassificationReport.from_labels(truth, labels.ravel()[split.test], scene.class_names))
