"""
Smooth a map without crossing edges
===================================

``regularise`` lets the probabilities of any model walk between neighbours that look alike. It needs no labels.
"""

import hsmamba
from hsmamba import viz

scene = hsmamba.load_scene("muufl_crop")
split = hsmamba.data.random_split(scene.labels, count=12, seed=1, cap=True)
model = hsmamba.create_model("lda", num_classes=scene.num_classes)
hsmamba.finetune(model, scene, split, progress=False)

# %%
plain, _ = hsmamba.classify(model, scene, progress=False)
smooth, _ = hsmamba.classify(model, scene, regularise="on", progress=False)
for name in ("off", "on"):
    report = hsmamba.evaluate(model, scene, split, regularise=name)
    print(f"regularise={name!r}: OA {100 * report.oa:.1f} %, AA {100 * report.aa:.1f} %")

# %%
before = viz.label_map(plain, scene.class_names, title="as the model says")

# %%
after = viz.label_map(smooth, scene.class_names, title="diffused over the image")
