"""Classify a scene with a pretrained weight, and draw the map.

python examples/classify_scene.py [SCENE] [--model NAME] [--out map.png]
"""

import argparse
from pathlib import Path

import hsmamba
from hsmamba import viz


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("scene", nargs="?", default="indian_pines", help="a file, or a scene that load_scene knows")
    parser.add_argument("--model", default="md2f_mamba.indian_pines")
    parser.add_argument("--out", type=Path, default=Path("map.png"))
    args = parser.parse_args()

    model = hsmamba.create_model(args.model, pretrained=True)
    scene = hsmamba.open_scene(args.scene) if Path(args.scene).exists() else hsmamba.load_scene(args.scene)
    labels, confidence = hsmamba.classify(model, scene)
    scene.class_names = model.class_names
    viz.classification_map(scene, labels, confidence).savefig(args.out, dpi=150)
    print(f"wrote {args.out}; mean confidence {float(confidence.mean()):.3f}")


if __name__ == "__main__":
    main()
