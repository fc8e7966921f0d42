"""Scenes of two sources, and how their authors' repositories store them.

Names of files and arrays as the programs of MSFMamba, Mamba-in-Mamba, the Multimodal Remote Sensing Toolkit and S2FL
read them; hashes of files as the package rs-fusion-datasets records them.
"""

from __future__ import annotations

from dataclasses import replace

from hsmamba.data.sets.facts import Copy, Facts, PublishedScene, Stored
from hsmamba.data.sets.muufl_crop import CLASSES as MUUFL

_OUC = "https://github.com/oucailab/MSFMamba"
_S2FL = "https://github.com/danfenghong/ISPRS_S2FL"
_S2FL_CITATION = "Hong, Hu, Yao, Chanussot, Zhu, ISPRS Journal 178, 2021, 68-80"

HOUSTON_2013 = (
    *("Healthy grass", "Stressed grass", "Synthetic grass", "Trees", "Soil", "Water", "Residential", "Commercial"),
    *("Road", "Highway", "Railway", "Parking Lot 1", "Parking Lot 2", "Tennis Court", "Running Track"),
)
_HOUSTON_2018 = (
    *("Healthy grass", "Stressed grass", "Artificial turf", "Evergreen trees", "Deciduous trees", "Bare earth"),
    *("Water", "Residential buildings", "Non-residential buildings", "Roads", "Sidewalks", "Crosswalks"),
    *("Major thoroughfares", "Highways", "Railways", "Paved parking lots", "Unpaved parking lots", "Cars", "Trains"),
    "Stadium seats",
)
_AUGSBURG = (*("Forest", "Residential Area", "Industrial Area", "Low Plants", "Allotment", "Commercial Area", "Water"),)
_BERLIN = ("Forest", "Residential Area", "Industrial Area", "Low Plants", "Soil", *_AUGSBURG[4:])
_TRENTO = ("Apple Trees", "Buildings", "Ground", "Woods", "Vineyard", "Roads")


def _ouc(place: str, other: str) -> Copy:
    """Make the form in which MSFMamba's authors pass a scene on: a file a source, and one of pixels."""
    return Copy(
        Stored((f"{place}_hsi.mat",), (f"{place}_hsi",)),
        Stored((f"{place}_gt.mat",), (f"{place}_gt",)),
        (Stored((f"{place}_{other}.mat",), (f"{place}_{other}",)),),
        index=Stored((f"{place}_index.mat",), (f"{place}_train", f"{place}_test")),
    )


def _maps(hsi: tuple[str, str], aux: tuple[tuple[str, str], ...], train: str, test: str) -> Copy:
    """Make a form with an array a file, and a map of labels for each part of the split."""
    return Copy(
        Stored((f"{hsi[0]}.mat",), (hsi[1],)),
        aux=tuple(Stored((f"{file}.mat",), (variable,)) for file, variable in aux),
        train=Stored((f"{train}.mat",), (train,)),
        test=Stored((f"{test}.mat",), (test,)),
    )


def _sum(*parts: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(map(sum, zip(*parts, strict=True)))


_HOUSTON_TRAIN = (198, 190, 192, 188, 186, 182, 196, 191, 193, 191, 181, 192, 184, 181, 187)
_HOUSTON_TEST = (1053, 1064, 505, 1056, 1056, 143, 1072, 1053, 1059, 1036, 1054, 1041, 285, 247, 473)
_AUGSBURG_TRAIN = (146, 264, 21, 248, 52, 7, 23)
_AUGSBURG_TEST = (13361, 30065, 3830, 26609, 523, 1638, 1507)
_BERLIN_TRAIN = (443, 423, 499, 376, 331, 280, 298, 170)
_BERLIN_TEST = (54511, 268219, 19067, 58906, 17095, 13025, 24526, 6502)

_HOUSTON = PublishedScene(
    "houston2013",
    Facts(
        "Houston 2013",
        page="https://machinelearning.ee.uh.edu/?page_id=459",
        license="research, IEEE GRSS Data Fusion Contest 2013; do not redistribute",
        citation="Debes et al., IEEE JSTARS 7(6), 2014, 2405-2418",
        sensor="ITRES CASI-1500, 380 to 1050 nm, 2.5 m, and LiDAR",
        quantity="radiance, integers, and heights in m",
        shape=(349, 1905, 144),
        aux="LiDAR surface model, 1 band",
        classes=dict(zip(HOUSTON_2013, _sum(_HOUSTON_TRAIN, _HOUSTON_TEST), strict=True)),
        train=_HOUSTON_TRAIN,
        test=_HOUSTON_TEST,
        sha256={
            "HSI.mat": "6a0edba3c224df411623ed5774fc34e91929ab341709859b2f56cc38dbb3c6fd",
            "LiDAR.mat": "7aa956e7c371fd29a495f0cb9bb8f572aaa4065fcfeda2b3e854a5cef74b35ad",
            "TRLabel.mat": "96ce863eaf4dc548c3140a480dee33c812d46194ae5ed345fed6e71a3d72b527",
            "TSLabel.mat": "46bd849d556c80ed67b33f23dd288eafa7ac9f97a847390be373b702b0bf5a45",
        },
        notes="the contest's own regions of interest (.txt, .roi) are not read: take one of the copies with maps",
    ),
    (_ouc("houston", "lidar"), _maps(("HSI", "HSI"), (("LiDAR", "LiDAR"),), "TRLabel", "TSLabel")),
)

SOURCE_SCENES: dict[str, PublishedScene] = {
    "houston2013": _HOUSTON,
    "houston2013_fixed": replace(
        _HOUSTON,
        facts=replace(
            _HOUSTON.facts,
            title="Houston 2013, hyperspectral alone",
            aux="",
            sha256={},
            notes="labels and split are those of the maps TRAIN_GT.mat and TEST_GT.mat of SpectralFormer, in "
            "splits/HU2013; they come with rows and columns exchanged and are turned",
        ),
        copies=(
            Copy(
                Stored(("Houston.mat", "houston_hsi.mat", "HSI.mat"), ("Houston", "houston_hsi", "HSI", "img")),
                train=Stored(("TRAIN_GT.mat",), ("TR",), "splits/HU2013"),
                test=Stored(("TEST_GT.mat",), ("TE",), "splits/HU2013"),
            ),
        ),
    ),
    "houston2018": PublishedScene(
        "houston2018",
        Facts(
            "Houston 2018",
            page=_OUC,
            license="research, IEEE GRSS Data Fusion Contest 2018",
            citation="Xu et al., IEEE JSTARS 12(6), 2019, 1709-1724",
            sensor="ITRES CASI-1500, 380 to 1050 nm, and LiDAR",
            quantity="radiance, integers, and heights in m",
            shape=(1202, 4768, 50),
            aux="LiDAR surface model, 1 band",
            classes=dict.fromkeys(_HOUSTON_2018, 0),
            sha256={
                "houston_gt.mat": "93f268e576fcf149fab8cb71b4a79691b420e9a3f369f0cbc73e2029639f6286",
                "houston_hsi.mat": "35a4a9a2bad193740274c6388f18284fc586a2ef5bde579368796fbeec2a58ea",
                "houston_index.mat": "2d513db197f105b6b82e7039909878862fbe48750a93184017f22ab8f288d0b3",
                "houston_lidar.mat": "a55fa2d99684078dd0d8039b2ca1349190d86766426a25e8dff7fbd5df036d9b",
            },
            notes="MSFMamba's copy, on the grid of the labels; its split has 18750 training and 2000160 test pixels",
        ),
        (_ouc("houston", "lidar"),),
    ),
    "trento": PublishedScene(
        "trento",
        Facts(
            "Trento",
            page="https://github.com/tyust-dayu/Trento",
            license="not stated",
            citation="Rasti, Ghamisi, Gloaguen, IEEE TGRS 55(7), 2017, 3997-4007",
            sensor="AISA Eagle, 402 to 989 nm, 1 m, and Optech ALTM 3100EA LiDAR",
            quantity="radiance, and heights in m",
            shape=(166, 600, 63),
            aux="LiDAR, 1 or 2 bands",
            classes=dict(zip(_TRENTO, (4034, 2903, 479, 9123, 10501, 3174), strict=True)),
            sha256={
                "allgrd.mat": "7e3fb2a2ea22c2661dfc768db3cb93c9643b324e7e64fadedfa57f5edbf1818f",
                "Italy_hsi.mat": "7b965fd405314b5c91451042e547a1923be6f5a38c6da83969032cff79729280",
                "HSI.mat": "44a84b4fe8bab9b2f5ec11af32602436ccc97653b7ae8c3283334da7d221c053",
                "LiDAR.mat": "d99347532e7b18982c9537fd4de43574dd64f9b35ccab251459e7b483ddd43df",
                "TRLabel.mat": "593976a1bef4edf06ec543926811509f997454557aa9313ed6165b3012c26e07",
                "TSLabel.mat": "629ae33464907098cacf58549996711bf7079f036946f9208fde8a67842ab499",
            },
        ),
        (
            _maps(("HSI", "HSI"), (("LiDAR", "LiDAR"),), "TRLabel", "TSLabel"),
            Copy(
                Stored(("Italy_hsi.mat",), ("data",)),
                Stored(("allgrd.mat",), ("mask_test",)),
                (Stored(("Italy_lidar.mat",), ("data",)),),
            ),
        ),
    ),
    "muufl_gulfport": PublishedScene(
        "muufl_gulfport",
        Facts(
            "MUUFL Gulfport",
            page="https://github.com/GatorSense/MUUFLGulfport",
            license="MIT",
            citation="Gader et al., REP-2013-570, University of Florida, 2013; labels: Du, Zare, 20170417, 2017",
            sensor="ITRES CASI-1500, 64 bands, 1 m, and Gemini LiDAR",
            quantity="reflectance, and heights in m",
            shape=(325, 220, 64),
            aux="LiDAR of the first flight, 2 bands",
            classes=dict(zip(MUUFL, (23246, 4270, 6882, 1826, 6687, 466, 2233, 6240, 1385, 183, 269), strict=True)),
            sha256={
                "muufl_gulfport_campus_1_hsi_220_label.mat": (
                    "69420a72866dff4a858ae503e6e2981af46f406a4ad8f4dd642efa43feb59edc"
                )
            },
        ),
        (
            Copy(Stored(("muufl_gulfport_campus_1_hsi_220_label.mat",), ("hsi",)), struct=True),
            Copy(
                Stored(("HSI.mat",), ("HSI",)),
                Stored(("gt.mat",), ("gt",)),
                (Stored(("LiDAR.mat",), ("LiDAR",)),),
            ),
        ),
    ),
    "augsburg": PublishedScene(
        "augsburg",
        Facts(
            "Augsburg",
            page=_S2FL,
            license="research, with citation; from mediaTUM 1657312",
            citation=_S2FL_CITATION,
            sensor="HySpex, 400 to 2500 nm, and Sentinel-1",
            quantity="reflectance, and four components of dual-polarised SAR",
            shape=(332, 485, 180),
            aux="Sentinel-1, 4 bands; a surface model of one more in the copy of S2FL",
            classes=dict(zip(_AUGSBURG, _sum(_AUGSBURG_TRAIN, _AUGSBURG_TEST), strict=True)),
            train=_AUGSBURG_TRAIN,
            test=_AUGSBURG_TEST,
            sha256={
                "augsburg_gt.mat": "065df71257f06c075ff3b37327c0fba75cc9146015a0f095a093fd12b9eaacbe",
                "augsburg_hsi.mat": "2f13839d7840b32f55e0489d6934776dcfded7f678e23a9d8c2c092573946583",
                "augsburg_index.mat": "8bc57037447cb42dbf3a8478d42d4bc217a53a6a0b349c2d67db8c660bef2f43",
                "augsburg_sar.mat": "cd1dbfad2346f47e51d105b05e11aaefc872fe487a94bdc2913f4eaee3f8e82b",
            },
        ),
        (
            _ouc("augsburg", "sar"),
            _maps(
                ("data_HS_LR", "data_HS_LR"),
                (("data_SAR_HR", "data_SAR_HR"), ("data_DSM", "data_DSM")),
                "TrainImage",
                "TestImage",
            ),
        ),
    ),
    "berlin": PublishedScene(
        "berlin",
        Facts(
            "Berlin",
            page=_S2FL,
            license="research, with citation",
            citation=_S2FL_CITATION,
            sensor="simulated EnMAP, 400 to 2500 nm, and Sentinel-1",
            quantity="reflectance, and four components of dual-polarised SAR",
            shape=(1723, 476, 244),
            aux="Sentinel-1, 4 bands",
            classes=dict(zip(_BERLIN, _sum(_BERLIN_TRAIN, _BERLIN_TEST), strict=True)),
            train=_BERLIN_TRAIN,
            test=_BERLIN_TEST,
            sha256={
                "berlin_gt.mat": "dd9286cd565535857721627878de3cbebffa2dacc625b539474d16cba3a7343e",
                "berlin_hsi.mat": "580f397d9f249b4ec3f02b8cc570d910d765afa9f77b17d8a4f4799edee94b1f",
                "berlin_index.mat": "1a66ec454ea95bbf5782525d9fcf9a04412a948b7b3aa6919ed324516d42a8b5",
                "berlin_sar.mat": "a6cf2f86db7f1a02c340e813a7b46f9c6c58e297e1eb9b5fa19ed49244b2b8a7",
            },
            notes="on the grid of the SAR; the 797 x 220 pixels of the hyperspectral image as it was simulated must be "
            "resampled to it first",
        ),
        (
            _ouc("berlin", "sar"),
            _maps(("data_HS_LR", "data_HS_LR"), (("data_SAR_HR", "data_SAR_HR"),), "TrainImage", "TestImage"),
        ),
    ),
}
