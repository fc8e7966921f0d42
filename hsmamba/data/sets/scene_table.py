"""Scenes of the hyperspectral computing group (EHU) and of Wuhan University: what they are and how they are stored.

Files, arrays and sizes as their distributors have them; pixels a class as the maps have them and papers print them.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from hsmamba.data.sets.facts import Copy, Facts, PublishedScene, Stored

_EHU = "https://www.ehu.eus/ccwintco/index.php/Hyperspectral_Remote_Sensing_Scenes"
_WHU = "http://rsidea.whu.edu.cn/resource_WHUHi_sharing.htm"
_FIXED = "https://github.com/danfenghong/IEEE_TGRS_SpectralFormer"
_AVIRIS: dict[str, Any] = {
    "license": "not stated",
    "sensor": "AVIRIS",
    "quantity": "calibrated radiance, integers",
    "page": _EHU,
}
_ROSIS: dict[str, Any] = {
    "license": "not stated",
    "sensor": "ROSIS, 430 to 860 nm",
    "quantity": "digital numbers",
    "page": _EHU,
    "citation": "Telecommunications and Remote Sensing Laboratory, Pavia University (P. Gamba)",
}
_WHU_HI: dict[str, Any] = {
    "page": _WHU,
    "license": "research, with citation",
    "sensor": "Headwall Nano-Hyperspec on a drone, 400 to 1000 nm",
    "quantity": "reflectance",
    "citation": "Zhong, Hu, Luo, Wang, Zhao, Zhang, Remote Sensing of Environment 250, 2020, 112012",
    "notes": "training and test maps of 25, 50, 100, 150, 200 and 300 pixels a class: load_split(..., samples=100)",
}


def _ehu(cube: str, variable: str, truth: str, truth_variable: str) -> tuple[Copy, ...]:
    return (Copy(Stored((f"{cube}.mat",), (variable,)), Stored((f"{truth}.mat",), (truth_variable,))),)


def _whu(name: str) -> tuple[Copy, ...]:
    """Make the two forms of a WHU-Hi scene; `{samples}` in a file's name is filled in when a split is asked for."""
    envi = name.replace("_", "-")
    maps: dict[str, Any] = {"train": Stored(("Train{samples}.mat",)), "test": Stored(("Test{samples}.mat",))}
    return (
        Copy(Stored((f"{name}.mat",), (name,)), Stored((f"{name}_gt.mat",), (f"{name}_gt",)), **maps),
        Copy(Stored((f"{envi}.hdr", f"{envi}.bsq.hdr")), Stored((f"{envi}_gt.hdr",)), **maps),
    )


def _counted(names: tuple[str, ...], *pixels: int) -> dict[str, int]:
    return dict(zip(names, pixels or (0,) * len(names), strict=True))


_INDIAN_PINES = (
    *("Alfalfa", "Corn-notill", "Corn-mintill", "Corn", "Grass-pasture", "Grass-trees", "Grass-pasture-mowed"),
    *("Hay-windrowed", "Oats", "Soybean-notill", "Soybean-mintill", "Soybean-clean", "Wheat", "Woods"),
    *("Buildings-Grass-Trees-Drives", "Stone-Steel-Towers"),
)
_PAVIA_UNIVERSITY = (
    *("Asphalt", "Meadows", "Gravel", "Trees", "Painted metal sheets", "Bare Soil", "Bitumen"),
    *("Self-Blocking Bricks", "Shadows"),
)
_SALINAS = (
    *("Brocoli_green_weeds_1", "Brocoli_green_weeds_2", "Fallow", "Fallow_rough_plow", "Fallow_smooth", "Stubble"),
    *("Celery", "Grapes_untrained", "Soil_vinyard_develop", "Corn_senesced_green_weeds", "Lettuce_romaine_4wk"),
    *("Lettuce_romaine_5wk", "Lettuce_romaine_6wk", "Lettuce_romaine_7wk", "Vinyard_untrained"),
    "Vinyard_vertical_trellis",
)
_BOTSWANA = (
    *("Water", "Hippo grass", "Floodplain grasses 1", "Floodplain grasses 2", "Reeds", "Riparian", "Firescar"),
    *("Island interior", "Acacia woodlands", "Acacia shrublands", "Acacia grasslands", "Short mopane"),
    *("Mixed mopane", "Exposed soils"),
)
_KSC = (
    *("Scrub", "Willow swamp", "Cabbage palm hammock", "Cabbage palm/oak hammock", "Slash pine"),
    *("Oak/broadleaf hammock", "Hardwood swamp", "Graminoid marsh", "Spartina marsh", "Cattail marsh", "Salt marsh"),
    *("Mud flats", "Water"),
)
_LONGKOU = (
    *("Corn", "Cotton", "Sesame", "Broad-leaf soybean", "Narrow-leaf soybean", "Rice", "Water"),
    *("Roads and houses", "Mixed weed"),
)
_HANCHUAN = (
    *("Strawberry", "Cowpea", "Soybean", "Sorghum", "Water spinach", "Watermelon", "Greens", "Trees", "Grass"),
    *("Red roof", "Gray roof", "Plastic", "Bare soil", "Road", "Bright object", "Water"),
)
_HONGHU = (
    *("Red roof", "Road", "Bare soil", "Cotton", "Cotton firewood", "Rape", "Chinese cabbage", "Pakchoi", "Cabbage"),
    *("Tuber mustard", "Brassica parachinensis", "Brassica chinensis", "Small Brassica chinensis", "Lactuca sativa"),
    *("Celtuce", "Film covered lettuce", "Romaine lettuce", "Carrot", "White radish", "Garlic sprout", "Broad bean"),
    "Tree",
)

INDIAN_PINES_FILES = PublishedScene(
    "indian_pines",
    Facts(
        "Indian Pines",
        citation="Baumgardner, Biehl, Landgrebe, 220 Band AVIRIS Hyperspectral Image Data Set, Purdue University, 2015",
        shape=(145, 145, 200),
        values=(955, 9604),
        classes=_counted(_INDIAN_PINES, 46, 1428, 830, 237, 483, 730, 28, 478, 20, 972, 2455, 593, 205, 1265, 386, 93),
        notes="read from these files where the folder of data has them, else from the package tensorly",
        **{**_AVIRIS, "license": "CC0-1.0 on its best known copy on the Hub; the original states no licence"},
    ),
    _ehu("Indian_pines_corrected", "indian_pines_corrected", "Indian_pines_gt", "indian_pines_gt"),
)
_PAVIA_UNIVERSITY_SCENE = PublishedScene(
    "pavia_university",
    Facts(
        "Pavia University",
        shape=(610, 340, 103),
        values=(0, 8000),
        classes=_counted(_PAVIA_UNIVERSITY, 6631, 18649, 2099, 3064, 1345, 5029, 1330, 3682, 947),
        **_ROSIS,
    ),
    _ehu("PaviaU", "paviaU", "PaviaU_gt", "paviaU_gt"),
)

EHU_SCENES: dict[str, PublishedScene] = {
    "pavia_university": _PAVIA_UNIVERSITY_SCENE,
    "pavia_university_fixed": replace(
        _PAVIA_UNIVERSITY_SCENE,
        facts=replace(
            _PAVIA_UNIVERSITY_SCENE.facts,
            title="Pavia University, fixed split",
            classes=_counted(_PAVIA_UNIVERSITY, 6852, 18686, 2207, 3436, 1378, 5104, 1356, 3878, 1026),
            train=(548, 540, 392, 524, 265, 532, 375, 514, 231),
            test=(6304, 18146, 1815, 2912, 1113, 4572, 981, 3364, 795),
            notes=f"labels and split are those of the maps TRAIN_GT.mat and TEST_GT.mat of {_FIXED}, in splits/PU",
        ),
        copies=(
            Copy(
                Stored(("PaviaU.mat",), ("paviaU",)),
                train=Stored(("TRAIN_GT.mat",), ("TR",), "splits/PU"),
                test=Stored(("TEST_GT.mat",), ("TE",), "splits/PU"),
            ),
        ),
    ),
    "pavia_centre": PublishedScene(
        "pavia_centre",
        Facts(
            "Pavia Centre",
            shape=(1096, 715, 102),
            values=(0, 8000),
            classes=_counted(
                (
                    "Water",
                    "Trees",
                    "Meadows",
                    "Self-Blocking Bricks",
                    "Bare Soil",
                    "Asphalt",
                    "Bitumen",
                    "Tiles",
                    "Shadows",
                ),
                65971,
                7598,
                3090,
                2685,
                6584,
                9248,
                7287,
                42826,
                2863,
            ),
            notes="classes in the order of the papers' tables; the page of the scene names the same ones in another "
            "order, which programs for it have taken over",
            **_ROSIS,
        ),
        _ehu("Pavia", "pavia", "Pavia_gt", "pavia_gt"),
    ),
    "salinas": PublishedScene(
        "salinas",
        Facts(
            "Salinas",
            citation="NASA/JPL AVIRIS, 1998; prepared by the hyperspectral computing group, UPV/EHU",
            shape=(512, 217, 204),
            classes=_counted(
                _SALINAS, 2009, 3726, 1976, 1394, 2678, 3959, 3579, 11271, 6203, 3278, 1068, 1927, 916, 1070, 7268, 1807
            ),
            **_AVIRIS,
        ),
        _ehu("Salinas_corrected", "salinas_corrected", "Salinas_gt", "salinas_gt"),
    ),
    "salinas_a": PublishedScene(
        "salinas_a",
        Facts(
            "Salinas-A",
            citation="NASA/JPL AVIRIS, 1998; prepared by the hyperspectral computing group, UPV/EHU",
            shape=(83, 86, 204),
            classes=_counted((_SALINAS[0], *_SALINAS[9:14]), 391, 1343, 616, 1525, 674, 799),
            codes=(1, 10, 11, 12, 13, 14),  # of the map of the whole valley
            values=(-9, 8373),
            sha256={
                "SalinasA_corrected.mat": "d75684ed3ab71a1024cee0f9db9061f50a3523a92ff5edfbbb1eed976b9f1721",
                "SalinasA_gt.mat": "17814c1d3296c0e29b27f320f2c4174d2a68adb87e376abe78f02923e2c2e454",
            },
            **_AVIRIS,
        ),
        _ehu("SalinasA_corrected", "salinasA_corrected", "SalinasA_gt", "salinasA_gt"),
    ),
    "botswana": PublishedScene(
        "botswana",
        Facts(
            "Botswana",
            page=_EHU,
            license="not stated",
            citation="Hyperion on EO-1, Okavango Delta, 2001; Ham, Chen, Crawford, Ghosh, IEEE TGRS 43(3), 2005",
            sensor="Hyperion",
            quantity="calibrated radiance",
            shape=(1476, 256, 145),
            classes=_counted(_BOTSWANA, 270, 101, 251, 215, 269, 269, 259, 203, 314, 248, 305, 181, 268, 95),
        ),
        _ehu("Botswana", "Botswana", "Botswana_gt", "Botswana_gt"),
    ),
    "ksc": PublishedScene(
        "ksc",
        Facts(
            "Kennedy Space Center",
            citation="NASA AVIRIS, 1996; Ham, Chen, Crawford, Ghosh, IEEE TGRS 43(3), 2005",
            shape=(512, 614, 176),
            classes=_counted(_KSC, 761, 243, 256, 252, 161, 229, 105, 431, 520, 404, 419, 503, 927),
            **_AVIRIS,
        ),
        _ehu("KSC", "KSC", "KSC_gt", "KSC_gt"),
    ),
}

WHU_SCENES: dict[str, PublishedScene] = {
    "whu_hi_longkou": PublishedScene(
        "whu_hi_longkou",
        Facts(
            "WHU-Hi-LongKou",
            shape=(550, 400, 270),
            classes=_counted(_LONGKOU, 34511, 8374, 3031, 63212, 4151, 11854, 67056, 7124, 5229),
            **_WHU_HI,
        ),
        _whu("WHU_Hi_LongKou"),
    ),
    "whu_hi_hanchuan": PublishedScene(
        "whu_hi_hanchuan",
        Facts(
            "WHU-Hi-HanChuan",
            shape=(1217, 303, 274),
            classes=_counted(
                _HANCHUAN,
                44735,
                22753,
                10287,
                5353,
                1200,
                4533,
                5903,
                17978,
                9469,
                10516,
                16911,
                3679,
                9116,
                18560,
                1136,
                75401,
            ),
            **_WHU_HI,
        ),
        _whu("WHU_Hi_HanChuan"),
    ),
    "whu_hi_honghu": PublishedScene(
        "whu_hi_honghu",
        Facts(
            "WHU-Hi-HongHu",
            shape=(940, 475, 270),
            classes=_counted(
                _HONGHU,
                14041,
                3512,
                21821,
                163285,
                6218,
                44557,
                24103,
                4054,
                10819,
                12394,
                11015,
                8954,
                22507,
                7356,
                1002,
                7262,
                3010,
                3217,
                8712,
                3486,
                1328,
                4040,
            ),
            **_WHU_HI,
        ),
        _whu("WHU_Hi_HongHu"),
    ),
}
