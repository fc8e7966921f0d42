"""Pairs for fusion that others distribute as HDF5 files, and the sets of SAR beside optical images.

Names of files and arrays as PanCollection and the programs of LE-Mamba have them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from hsmamba.data.sets.facts import Facts

_PAN = "https://github.com/liangjiandeng/PanCollection"
_MIF = "https://github.com/294coder/Efficient-MIF"
_CAVE_PAGE = "https://www.cs.columbia.edu/CAVE/databases/multispectral/"
_HARVARD_PAGE = "https://vision.seas.harvard.edu/hyperspec/"
_HARVARD = "Chakrabarti, Zickler, CVPR 2011, 193-200"
_CAVE = "Yasuma, Mitsunaga, Iso, Nayar, IEEE TIP 19(9), 2010, 2241-2253"
_COPERNICUS = "contains modified Copernicus Sentinel data; free with attribution"


@dataclass(frozen=True)
class PairSet:
    """A set of HDF5 files of images (N, C, H, W), one file for each part.

    Attributes:
        folder: Of the folder of data, where the files lie, however deep.
        facts: What is known of it.
        files: Names of the file of "train", "val", "test" and "full", the usual one first.
        ratio: Scale ratio.
        sensor: Of the MTF.
        maximum: Number that is 1.
        cut: Border that the figures leave out.
    """

    folder: str
    facts: Facts
    files: Mapping[str, tuple[str, ...]]
    ratio: int
    sensor: str
    maximum: float
    cut: int


# Arrays of these files: the truth, the coarse image, the same on the guide's grid, the guide.
ARRAYS: Mapping[str, tuple[str, ...]] = {
    "gt": ("gt", "GT"),
    "ms": ("ms", "LRHSI", "MS"),
    "ms_up": ("lms", "HSI_up", "LMS"),
    "guide": ("pan", "RGB", "PAN"),
}


def _collection(name: str, title: str, sensor: str, bands: int, maximum: float, counts: str) -> PairSet:
    return PairSet(
        f"pancollection/{name}",
        Facts(
            f"PanCollection {title}",
            page=_PAN,
            license="research, with citation",
            citation="Deng et al., Machine Learning in Pansharpening, IEEE GRSM 10(3), 2022, 279-315",
            sensor=title,
            quantity=f"digital numbers up to {maximum:g}",
            values=(0, maximum),
            files=(
                f"train_{name}.h5: gt, lms (N, {bands}, 64, 64), ms (N, {bands}, 16, 16), pan (N, 1, 64, 64){counts}",
                f"valid_{name}.h5: likewise",
                f"test_{name}_multiExm1.h5: 20 images, gt (20, {bands}, 256, 256)",
                f"test_{name}_OrigScale_multiExm1.h5: 20 images without gt, pan (20, 1, 512, 512)",
            ),
        ),
        {
            "train": (f"train_{name}.h5",),
            "val": (f"valid_{name}.h5", f"validation_{name}.h5"),
            "test": (f"test_{name}_multiExm1.h5",),
            "full": (f"test_{name}_OrigScale_multiExm1.h5",),
        },
        4,
        sensor,
        maximum,
        21,
    )


def _copies(name: str, title: str, ratio: int, page: str, citation: str, side: int, tests: str) -> PairSet:
    end = f"{name}(with_up)x{ratio}"
    small = side // ratio
    return PairSet(
        f"{name}_h5_x{ratio}",
        Facts(
            f"{title}, ratio {ratio}, copies of LE-Mamba's authors",
            page=_MIF,
            license="research, with citation",
            citation=f"{citation} ({page}); copies: Cao, Wu, Deng, Zhong, ACM MM 2024, 1235-1244",
            sensor="31 bands and RGB",
            quantity="reflectance from 0 to 1",
            values=(0.0, 1.0),
            files=(
                f"train_{end}.h5: GT, HSI_up (N, 31, {side}, {side}), LRHSI (N, 31, {small}, {small}), RGB (N, 3, ..)",
                f"validation_{end}.h5: likewise",
                f"test_{end}.h5: {tests}",
            ),
        ),
        {
            "train": (f"train_{end}.h5", f"train_{end}_rgb.h5", f"train_{end}_rgb_16.h5"),
            "val": (f"validation_{end}.h5", f"validation_{end}_rgb.h5", f"validation_{end}_rgb_16.h5"),
            "test": (f"test_{end}.h5", f"test_{end}_rgb.h5", f"test_{end}_rgb200.h5"),
        },
        ratio,
        "generic",
        1.0,
        0,
    )


_CAVE_TESTS, _HARVARD_TESTS = "11 images of 512 x 512 pixels", "10 images of 1000 x 1000 pixels"

PAIR_SETS: dict[str, PairSet] = {
    "pancollection_wv3": _collection("wv3", "WorldView-3", "WV3", 8, 2047, ", N = 9714"),
    "pancollection_wv2": _collection("wv2", "WorldView-2", "WV2", 8, 2047, ""),
    "pancollection_qb": _collection("qb", "QuickBird", "QB", 4, 2047, ""),
    "pancollection_gf2": _collection("gf2", "GaoFen-2", "GF2", 4, 1023, ", N = 19809"),
    "cave_h5_x4": _copies("cave", "CAVE", 4, _CAVE_PAGE, _CAVE, 64, _CAVE_TESTS),
    "cave_h5_x8": _copies("cave", "CAVE", 8, _CAVE_PAGE, _CAVE, 128, _CAVE_TESTS),
    "harvard_h5_x4": _copies("harvard", "Harvard", 4, _HARVARD_PAGE, _HARVARD, 64, _HARVARD_TESTS),
    "harvard_h5_x8": _copies("harvard", "Harvard", 8, _HARVARD_PAGE, _HARVARD, 128, _HARVARD_TESTS),
}

HARVARD = Facts(
    "Harvard",
    page=_HARVARD_PAGE,
    license="research, with citation",
    citation=_HARVARD,
    sensor="Nuance FX, 31 bands, 420 to 720 nm",
    quantity="intensity",
    shape=(1040, 1392, 31),
    files=("img*.mat: ref (1040, 1392, 31), lbl (1040, 1392)",),
    notes="the sorted files are halved into training and test images; each is divided by its own largest number. The "
    "guide is simulated by the response of a Nikon D700 on the bands from 420 nm on",
)
_SAR = "SAR in dB, reflectance x 10000"
SEN12MS = Facts(
    "SEN12MS",
    page="https://mediatum.ub.tum.de/1474000",
    license="CC BY 4.0",
    citation="Schmitt, Hughes, Qiu, Zhu, ISPRS Annals IV-2/W7, 2019, 153-160",
    sensor="Sentinel-1 (VV, VH) and Sentinel-2 L1C (13 bands), 10 m",
    quantity=_SAR,
    shape=(256, 256, 13),
    files=("ROIs*/s1_*/ROIs*_s1_*_p*.tif: 2 bands, and the same name with s2 for s1: 13 bands",),
    notes="SEN12MS-CR is laid out likewise; its cloudy images are not read",
)
BIGEARTHNET = Facts(
    "BigEarthNet, Sentinel-1 and -2",
    page="https://bigearth.net",
    license="CDLA-Permissive-1.0",
    citation="Sumbul et al., IEEE GRSM 9(3), 2021, 174-180",
    sensor="Sentinel-1 (VV, VH) and Sentinel-2 L2A, 10 m",
    quantity=_SAR,
    shape=(120, 120, 4),
    files=("S1*/S1*_VV.tif, _VH.tif, _labels_metadata.json", "S2*/S2*_B02.tif, _B03.tif, _B04.tif, _B08.tif"),
    notes="the four bands of 10 m; the metadata of the SAR name the optical patch",
)
TERRAMESH = Facts(
    "TerraMesh",
    page="https://huggingface.co/datasets/ibm-esa-geospatial/TerraMesh",
    license="CC BY-SA 4.0",
    citation="Blumenstiel et al., TerraMesh, arXiv 2504.11172, 2025",
    sensor="Sentinel-1 RTC (VV, VH) and Sentinel-2 L2A (12 bands), 10 m",
    quantity=_SAR,
    shape=(224, 224, 12),
    files=("*_S1RTC.tif: 2 bands", "*_S2L2A.tif: 12 bands"),
)
SEN1FLOODS11 = Facts(
    "Sen1Floods11",
    page="https://github.com/cloudtostreet/Sen1Floods11",
    license=_COPERNICUS,
    citation="Bonafilia, Tellman, Anderson, Issenberg, CVPR Workshops 2020, 210-211",
    sensor="Sentinel-1 (VV, VH) and Sentinel-2 L1C (13 bands), 10 m",
    quantity=_SAR,
    shape=(512, 512, 13),
    files=("S1/*_S1Hand.tif: 2 bands", "S2/*_S2Hand.tif: 13 bands"),
)
