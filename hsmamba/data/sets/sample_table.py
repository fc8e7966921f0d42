"""What is known of the sets whose readers have a file of their own."""

from __future__ import annotations

from dataclasses import replace

from hsmamba.data.sets.facts import Facts
from hsmamba.data.sets.scene_table import INDIAN_PINES_FILES
from hsmamba.data.sets.source_table import SOURCE_SCENES

_NAPLES = "http://www.grip.unina.it"

INDIAN_PINES_FIXED = replace(
    INDIAN_PINES_FILES.facts,
    title="Indian Pines, fixed split",
    classes=dict(
        zip(
            INDIAN_PINES_FILES.facts.classes,
            (56, 1447, 847, 245, 507, 759, 28, 489, 20, 975, 2487, 634, 212, 1302, 395, 102),
            strict=True,
        )
    ),
    train=(15, 50, 50, 50, 50, 50, 15, 50, 15, 50, 50, 50, 50, 50, 50, 50),
    test=(39, 1384, 784, 184, 447, 697, 11, 439, 5, 918, 2418, 564, 162, 1244, 330, 45),
    notes="the cube of indian_pines with the labels of the literature's fixed split, which come with this package",
)
DFC2018_CROP = Facts(
    "Houston 2018, a crop",
    page="https://machinelearning.ee.uh.edu",
    license="research, IEEE GRSS Data Fusion Contest 2018",
    citation=SOURCE_SCENES["houston2018"].facts.citation,
    sensor="ITRES CASI-1500 and a colour camera",
    shape=(128, 128, 48),
    aux="colour image of a quarter of the pixel size, 48 bands",
    values=(188, 19534),
    files=("houston_dataset.mat: hyprImg, rgbImg, clasLabs",),
)
MUUFL_CROP = replace(
    SOURCE_SCENES["muufl_gulfport"].facts,
    title="MUUFL Gulfport, a crop",
    shape=(90, 90, 64),
    aux="LiDAR: height in m and intensity",
    classes=dict(
        zip(
            SOURCE_SCENES["muufl_gulfport"].facts.classes,
            (2332, 798, 283, 0, 1055, 0, 655, 1684, 117, 46, 0),
            strict=True,
        )
    ),
    values=(0, 1),
    sha256={},
    notes="comes with this package",
)
ENMAP_POTSDAM = Facts(
    "EnMAP, Potsdam",
    page="https://www.enmap.org",
    license="labels dl-de/by-2-0; image (c) DLR 2022",
    citation="EnMAP, (c) DLR 2022; labels GeoBasis-DE/LGB",
    sensor="EnMAP, 224 bands, 30 m",
    quantity="reflectance x 10000",
    values=(-496, 10439),
    classes={"roof": 450, "pavement": 807, "low vegetation": 1379, "tree": 1946, "soil": 71, "water": 359},
    files=("images/*.tif, labels/*.tif: 16 tiles of 32 x 32 pixels", "split.csv"),
)
IDTREES = Facts(
    "IDTReeS 2020",
    page="https://zenodo.org/records/3934932",
    license="CC BY 4.0",
    citation="Graves et al., Data for the IDTReeS 2020 Competition, Zenodo 3934932, 2020",
    sensor="NEON imaging spectrometer, 369 bands, 1 m, and LiDAR",
    quantity="reflectance x 10000, and heights in m",
    values=(0, 7590),
    classes=dict(
        zip(
            ("PIPA2", "QURU", "ACRU", "QUAL", "QUCO2", "QULA2", "AMLA", "NYSY"),
            (3536, 2547, 2050, 1590, 804, 801, 574, 467),
            strict=True,
        )
    ),
    files=("hsi/*.tif, chm/*.tif: 70 plots of 20 x 20 pixels", "crowns/train_*.shp", "field/train_data.csv"),
)
CAVE = Facts(
    "CAVE",
    page="https://www.cs.columbia.edu/CAVE/databases/multispectral/",
    license="research, with citation",
    citation="Yasuma, Mitsunaga, Iso, Nayar, IEEE TIP 19(9), 2010, 2241-2253",
    sensor="31 bands, 400 to 700 nm",
    quantity="reflectance from 0 to 1",
    shape=(512, 512, 31),
    values=(0.0, 1.0),
    files=("SCENE_ms/SCENE_ms_01.png to _31.png: 16 bits", "or SCENE.train.xz, SCENE.test.xz"),
)
WORLDVIEW2 = Facts(
    "WorldView-2, a sample of GRIP-UNINA, Naples",
    page=_NAPLES,
    license="non-profit use with reference; do not redistribute",
    citation="Scarpa, Vitale, Cozzolino, IEEE TGRS 56(9), 2018, 5443-5457",
    sensor="WorldView-2",
    quantity="digital numbers of 11 bits",
    shape=(320, 320, 8),
    values=(0, 2047),
    files=("imgWV2.mat: I_MS (320, 320, 8), I_PAN (1280, 1280)",),
)
IKONOS = replace(
    WORLDVIEW2,
    title="IKONOS, a sample of GRIP-UNINA, Naples",
    sensor="IKONOS",
    shape=(320, 320, 4),
    files=("imgIK.mat: I_MS (320, 320, 4), I_PAN (1280, 1280)",),
)
QUICKBIRD = Facts(
    "QuickBird, Toulouse, a sample of the Orfeo ToolBox",
    page="https://www.orfeo-toolbox.org",
    license="sample of DigitalGlobe",
    citation="Grizonnet et al., Open Geospatial Data, Software and Standards 2, 2017, 15",
    sensor="QuickBird",
    quantity="digital numbers of 11 bits",
    values=(0, 2047),
    files=("QB_Toulouse_Ortho_XS.tif, QB_Toulouse_Ortho_PAN.tif",),
)
LANDSAT8 = Facts(
    "Landsat-8, a crop",
    page="https://www.usgs.gov/landsat-missions",
    license="public domain",
    citation="U.S. Geological Survey, Landsat-8",
    sensor="OLI: bands 1 to 7 of 30 m and PAN of 15 m",
    quantity="digital numbers of 16 bits",
    values=(0, 65535),
    files=("l8_B1.tif to l8_B8.tif",),
)
SENTINEL2 = Facts(
    "Sentinel-2, a crop",
    page="https://dataspace.copernicus.eu",
    license="free with attribution",
    citation="contains modified Copernicus Sentinel data",
    sensor="Sentinel-2A L1C",
    quantity="reflectance x 10000",
    files=("s2_B02.tif to s2_B12.tif",),
)
EO1 = Facts(
    "EO-1, Paris",
    page="https://www.usgs.gov",
    license="public domain",
    citation="USGS and NASA, EO-1",
    sensor="Hyperion, 128 bands of 30 m, and the PAN of ALI, 10 m",
    shape=(72, 58, 128),
    files=("paris_data_hs_pan.mat: HSim (72, 58, 128), PCim (216, 174), non_del_bands",),
)
CROPS = {
    title: Facts(
        f"{title}, a crop",
        page="made with MultiSpec",
        license="samples, research",
        citation=f"{title}, {sensor}; a crop of 48 x 48 pixels made with MultiSpec",
        sensor=sensor,
        shape=(48, 48, bands),
        files=(f"one .tif of {bands} bands",),
    )
    for title, sensor, bands in (
        ("Chikusei", "Headwall Hyperspec", 128),
        ("Washington DC Mall", "HYDICE", 191),
        ("Beltsville", "SpecTIR", 360),
        ("Cuprite", "SpecTIR", 357),
    )
}
