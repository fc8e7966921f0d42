"""Indian Pines, out of the folder of data or the package tensorly: the usual labels, and those of the fixed split."""

from __future__ import annotations

import importlib.util
from dataclasses import replace
from importlib import resources
from pathlib import Path

import numpy as np

from hsmamba._optional import optional_import
from hsmamba.data.arrays import read_arrays
from hsmamba.data.files.readers import open_file
from hsmamba.data.scene import PathLike, Scene
from hsmamba.data.sets.scene_files import SCENES, find_copy, locate, read_scene
from hsmamba.errors import SceneError

_NAME = "indian_pines"

# Band centres of AVIRIS in 1992 in nm, of the spectral calibration that comes with the scene (92AV3C.spc).
# fmt: off
_AVIRIS = np.array([
    400.02, 409.82, 419.62, 429.43, 439.25, 449.07, 458.9, 468.73, 478.57, 488.41, 498.26, 508.12, 517.98, 527.85,
    537.72, 547.6, 557.49, 567.38, 577.28, 587.18, 597.09, 607.01, 616.93, 626.85, 636.78, 646.72, 656.67, 666.61,
    676.57, 686.53, 696.5, 686.91, 696.55, 706.19, 715.83, 725.47, 735.11, 744.74, 754.38, 764.01, 773.64, 783.27,
    792.91, 802.53, 812.16, 821.79, 831.41, 841.04, 850.66, 860.28, 869.91, 879.53, 889.14, 898.76, 908.38, 917.99,
    927.61, 937.22, 946.83, 956.45, 966.06, 975.66, 985.27, 994.88, 1004.48, 1014.09, 1023.69, 1033.29, 1042.89,
    1052.49, 1062.09, 1071.69, 1081.29, 1090.88, 1100.48, 1110.07, 1119.66, 1129.25, 1138.84, 1148.43, 1158.02,
    1167.61, 1177.19, 1186.77, 1196.36, 1205.94, 1215.52, 1225.1, 1234.68, 1244.26, 1253.83, 1263.41, 1272.98, 1282.55,
    1273, 1282.96, 1292.93, 1302.89, 1312.85, 1322.81, 1332.77, 1342.73, 1352.68, 1362.64, 1372.59, 1382.54, 1392.49,
    1402.44, 1412.39, 1422.34, 1432.28, 1442.23, 1452.17, 1462.11, 1472.05, 1481.99, 1491.92, 1501.86, 1511.79,
    1521.73, 1531.66, 1541.59, 1551.52, 1561.44, 1571.37, 1581.3, 1591.22, 1601.14, 1611.06, 1620.98, 1630.9, 1640.81,
    1650.73, 1660.64, 1670.56, 1680.47, 1690.38, 1700.28, 1710.19, 1720.1, 1730, 1739.9, 1749.81, 1759.71, 1769.6,
    1779.5, 1789.4, 1799.29, 1809.19, 1819.08, 1828.97, 1838.86, 1848.75, 1858.63, 1868.52, 1878.4, 1888.28, 1883.24,
    1893.25, 1903.26, 1913.26, 1923.27, 1933.27, 1943.27, 1953.26, 1963.25, 1973.24, 1983.23, 1993.22, 2003.2, 2013.18,
    2023.16, 2033.13, 2043.1, 2053.07, 2063.04, 2073, 2082.97, 2092.92, 2102.88, 2112.83, 2122.78, 2132.73, 2142.68,
    2152.62, 2162.56, 2172.5, 2182.43, 2192.37, 2202.3, 2212.22, 2222.15, 2232.07, 2241.99, 2251.9, 2261.82, 2271.73,
    2281.64, 2291.54, 2301.45, 2311.35, 2321.25, 2331.14, 2341.03, 2350.92, 2360.81, 2370.7, 2380.58, 2390.46, 2400.33,
    2410.21, 2420.08, 2429.95, 2439.81, 2449.68, 2459.54, 2469.4, 2479.25, 2489.11, 2498.96,
])
# fmt: on
# What "corrected" leaves out, as the scene is distributed: bands 104 to 108, 150 to 163 and 220, counted from 1.
_LEFT_OUT = (*range(103, 108), *range(149, 163), 219)


def load_indian_pines(root: PathLike | None = None) -> Scene:
    """Load the scene with its usual labels, from the files of its distributor where `root` holds them."""
    folder = Path(root or "", _NAME)
    if root is not None and all(locate(part, folder, Path(root)) for part in SCENES[_NAME].copies[0].parts):
        scene = read_scene(find_copy(_NAME, folder, Path(root)))
        return replace(scene, wavelengths=np.delete(_AVIRIS, _LEFT_OUT))
    spec = importlib.util.find_spec("tensorly")  # finds the folder; to import tensorly would take seconds
    if spec is None or not spec.submodule_search_locations:
        optional_import("tensorly", "to load the Indian Pines scene")
        raise SceneError("tensorly has no folder to look for the Indian Pines arrays in; install it anew")
    folder = Path(spec.submodule_search_locations[0], "datasets", "data")
    cube, truth = (
        open_file(folder / f"Indian_pines_{part}.npy", masked=False).variables[""] for part in ("corrected", "gt")
    )
    if cube.shape != (145, 145, 200) or truth.shape != (145, 145):
        raise SceneError(
            f"the arrays in {str(folder)!r} have the shapes {cube.shape} and {truth.shape}; expected (145, 145, 200) "
            'and (145, 145): install another release of tensorly: pip install "tensorly>=0.8"'
        )
    return Scene(
        hsi=np.ascontiguousarray(cube.read()),
        labels=np.ascontiguousarray(truth.read()),
        class_names=tuple(SCENES[_NAME].facts.classes),
        wavelengths=np.delete(_AVIRIS, _LEFT_OUT),
        name="indian_pines",
        source="AVIRIS, Indian Pines test site 3, June 1992; Purdue University; as bundled with tensorly",
        license="CC0-1.0 on its best known Hub copy",
    )


def load_indian_pines_fixed(root: PathLike | None = None) -> Scene:
    """Load the scene with the labels of the fixed split; see `load_scene`."""
    scene = load_indian_pines(root)
    with resources.as_file(resources.files("hsmamba") / "splits" / "indian_pines_fixed.labels") as path:
        arrays, _config = read_arrays(path, kind="labels")
    labels = np.array(scene.labels)
    labels.ravel()[arrays["pixels"]] = arrays["labels"]
    return replace(scene, labels=labels, name="indian_pines_fixed")
