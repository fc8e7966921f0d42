"""
A dozen labels a class
======================

``graph_trees`` looks at all pixels of a scene, without their labels, and is fitted in seconds. It is what to try first
where labels are few; it is saved and used like a network.
"""

import hsmamba
from hsmamba import viz

scene = hsmamba.load_scene("muufl_crop")
split = hsmamba.data.random_split(scene.labels, count=12, seed=0, cap=True)
print(split.describe(scene.labels, scene.class_names))

# %%
model = hsmamba.create_model("graph_trees", num_classes=scene.num_classes)
hsmamba.finetune(model, scene, split, progress=False)
report = hsmamba.evaluate(model, scene, split)
print(report)

# %%
labels, confidence = hsmamba.classify(model, scene, progress=False)
figure = viz.classification_map(scene, labels, confidence)

# %%
# Which classes are taken for which:

matrix = viz.confusion(report)
