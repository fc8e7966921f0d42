"""Small files in exactly the layouts in which published data sets are distributed; names of files and arrays by hand.

Each `make` of a set writes it below a folder of data, as its readers expect it, and returns that folder.
"""

import json

import numpy as np
import pytest
from scipy.io import savemat

GRID = (24, 20)


def labels(classes, grid=GRID, codes=None, seed=0):
    """A map with every class in it, in blocks, and unlabelled pixels between them."""
    rng = np.random.default_rng(seed)
    blocks = rng.integers(0, classes + 1, (grid[0] // 2, grid[1] // 2))
    blocks.ravel()[: classes + 1] = np.arange(classes + 1)
    values = np.kron(blocks, np.ones((2, 2), int))
    return (values if codes is None else np.array([0, *codes])[values]).astype(np.uint8)


def cube(bands, grid=GRID, seed=0, high=4000, dtype=np.uint16):
    """A cube whose classes differ, with noise."""
    rng = np.random.default_rng(seed)
    base = rng.integers(high // 4, high // 2, (1, 1, bands)) + 40 * labels(16, grid)[..., None]
    return (base + rng.integers(0, high // 8, (*grid, bands))).astype(dtype)


def put(path, **arrays):
    path.parent.mkdir(parents=True, exist_ok=True)
    savemat(path, arrays)


def halves(truth, seed=0):
    """A training and a test map: of each class at least one pixel in either."""
    train, test = np.zeros_like(truth), np.zeros_like(truth)
    rng = np.random.default_rng(seed)
    for k in range(1, int(truth.max()) + 1):
        pixels = rng.permutation(np.flatnonzero(truth == k))
        part = pixels[: max(len(pixels) // 2, 1)]
        train.ravel()[part], test.ravel()[pixels[len(part) :]] = k, k
    return train, test


def ehu(folder, name, file, variable, truth, truth_variable, bands, classes, codes=None, grid=GRID):
    put(folder / name / f"{file}.mat", **{variable: cube(bands, grid)})
    put(folder / name / f"{truth}.mat", **{truth_variable: labels(classes, grid, codes)})
    return folder


def indian_pines(folder):
    files = ("Indian_pines_corrected", "indian_pines_corrected", "Indian_pines_gt", "indian_pines_gt")
    return ehu(folder, "indian_pines", *files, 200, 16)


def pavia_university(folder):
    return ehu(folder, "pavia_university", "PaviaU", "paviaU", "PaviaU_gt", "paviaU_gt", 103, 9)


def pavia_university_fixed(folder):
    put(folder / "pavia_university" / "PaviaU.mat", paviaU=cube(103))
    train, test = halves(labels(9))
    put(folder / "splits" / "PU" / "TRAIN_GT.mat", TR=train)
    put(folder / "splits" / "PU" / "TEST_GT.mat", TE=test)
    return folder


def pavia_centre(folder):
    return ehu(folder, "pavia_centre", "Pavia", "pavia", "Pavia_gt", "pavia_gt", 102, 9)


def salinas(folder):
    files = ("Salinas_corrected", "salinas_corrected", "Salinas_gt", "salinas_gt")
    return ehu(folder, "salinas", *files, 204, 16)


def salinas_a(folder):
    files = ("SalinasA_corrected", "salinasA_corrected", "SalinasA_gt", "salinasA_gt")
    return ehu(folder, "salinas_a", *files, 204, 6, codes=(1, 10, 11, 12, 13, 14))


def botswana(folder):
    return ehu(folder, "botswana", "Botswana", "Botswana", "Botswana_gt", "Botswana_gt", 145, 14)


def ksc(folder):
    return ehu(folder, "ksc", "KSC", "KSC", "KSC_gt", "KSC_gt", 176, 13)


def whu_hi(folder, name, file, bands, classes):
    ehu(folder, name, file, file, f"{file}_gt", f"{file}_gt", bands, classes)
    train, test = halves(labels(classes))
    put(folder / name / "Training samples and test samples" / "Train100.mat", train100=train)
    put(folder / name / "Training samples and test samples" / "Test100.mat", test100=test)
    return folder


def whu_hi_longkou(folder):
    return whu_hi(folder, "whu_hi_longkou", "WHU_Hi_LongKou", 270, 9)


def whu_hi_hanchuan(folder):
    return whu_hi(folder, "whu_hi_hanchuan", "WHU_Hi_HanChuan", 274, 16)


def whu_hi_honghu(folder):
    return whu_hi(folder, "whu_hi_honghu", "WHU_Hi_HongHu", 270, 22)


def whu_hi_longkou_envi(folder):
    """The same scene as ENVI files, band-sequential."""
    where = folder / "whu_hi_longkou"
    where.mkdir(parents=True)
    for name, array in (("WHU-Hi-LongKou", cube(270, dtype=np.float32)), ("WHU-Hi-LongKou_gt", labels(9)[..., None])):
        kind = {"float32": 4, "uint8": 1}[array.dtype.name]
        array.transpose(2, 0, 1).tofile(where / f"{name}.bsq")
        lines = ["ENVI", f"samples = {GRID[1]}", f"lines = {GRID[0]}", f"bands = {array.shape[2]}", "header offset = 0"]
        lines += [f"data type = {kind}", "interleave = bsq", "byte order = 0"]
        (where / f"{name}.hdr").write_text("\n".join(lines) + "\n")
    return folder


def ouc(folder, name, place, other, bands, classes, channels, dtype=np.uint16):
    """MSFMamba's copies: a file a source, and places of pixels (row, column) from 0."""
    truth = labels(classes)
    where = folder / name
    put(where / f"{place}_hsi.mat", **{f"{place}_hsi": cube(bands, dtype=dtype)})
    source = np.random.default_rng(1).normal(size=(*GRID, channels)) + truth[..., None]
    source = source[..., 0].astype(np.float32) if channels == 1 else source
    put(where / f"{place}_{other}.mat", **{f"{place}_{other}": source})
    put(where / f"{place}_gt.mat", **{f"{place}_gt": truth})
    places = [np.argwhere(part).astype(np.int32) for part in halves(truth)]
    every = np.argwhere(np.ones_like(truth)).astype(np.int32)
    named = dict(zip((f"{place}_train", f"{place}_test", f"{place}_all"), (*places, every), strict=True))
    put(where / f"{place}_index.mat", **named)
    return folder


def houston2013(folder):
    return ouc(folder, "houston2013", "houston", "lidar", 144, 15, 1)


def houston2013_maps(folder):
    """The copy of the Multimodal Remote Sensing Toolkit."""
    truth = labels(15)
    train, test = halves(truth)
    arrays = {"HSI": cube(144), "LiDAR": truth.astype(np.float32), "TRLabel": train, "TSLabel": test, "gt": truth}
    for name, array in arrays.items():
        put(folder / "houston2013" / f"{name}.mat", **{name: array})
    return folder


def houston2013_fixed(folder):
    """Mamba-in-Mamba's cube, and maps with rows and columns exchanged."""
    put(folder / "houston2013" / "Houston.mat", Houston=cube(144))
    train, test = halves(labels(15))
    put(folder / "splits" / "HU2013" / "TRAIN_GT.mat", TR=train.T)
    put(folder / "splits" / "HU2013" / "TEST_GT.mat", TE=test.T)
    return folder


def houston2018(folder):
    return ouc(folder, "houston2018", "houston", "lidar", 50, 20, 1)


def augsburg(folder):
    return ouc(folder, "augsburg", "augsburg", "sar", 180, 7, 4)


def augsburg_s2fl(folder):
    truth = labels(7)
    train, test = halves(truth)
    noise = np.random.default_rng(1).normal(size=(*GRID, 4))
    arrays = {"data_HS_LR": cube(180, dtype=np.float64), "data_SAR_HR": noise, "data_DSM": noise[..., 0]}
    for name, array in {**arrays, "TrainImage": train, "TestImage": test}.items():
        put(folder / "augsburg" / "HS-SAR-DSM Augsburg" / f"{name}.mat", **{name: array})
    return folder


def berlin(folder):
    return ouc(folder, "berlin", "berlin", "sar", 244, 8, 4, dtype=np.float64)


def trento(folder):
    truth = labels(6)
    for name, array in (("Italy_hsi", cube(63)), ("Italy_lidar", np.stack([truth, truth], -1).astype(np.float64))):
        put(folder / "trento" / f"{name}.mat", data=array)
    put(folder / "trento" / "allgrd.mat", mask_test=truth)
    return folder


def trento_maps(folder):
    truth = labels(6)
    train, test = halves(truth)
    for name, array in (("HSI", cube(63)), ("LiDAR", truth.astype(np.float32)), ("TRLabel", train), ("TSLabel", test)):
        put(folder / "trento" / f"{name}.mat", **{name: array})
    return folder


def muufl_gulfport(folder):
    """One structure that holds structures and cells, and -1 for pixels without a label."""
    truth = labels(11).astype(np.int16)
    lidar = np.empty(2, object)
    for flight in range(2):
        lidar[flight] = {"x": 0.0, "z": np.random.default_rng(flight).normal(size=(*GRID, 2)), "info": "a flight"}
    scene = {
        "info": {"wavelength": np.linspace(405.8, 1005.3, 64)},
        "Data": cube(64).astype(np.float64) / 4000,
        "Lidar": lidar,
        "sceneLabels": {"labels": np.where(truth == 0, -1, truth)},
    }
    file = "muufl_gulfport_campus_1_hsi_220_label.mat"
    put(folder / "muufl_gulfport" / "MUUFLGulfportSceneLabels" / file, hsi=scene)
    return folder


SCENES = {
    "indian_pines": (indian_pines,),
    "pavia_university": (pavia_university,),
    "pavia_university_fixed": (pavia_university_fixed,),
    "pavia_centre": (pavia_centre,),
    "salinas": (salinas,),
    "salinas_a": (salinas_a,),
    "botswana": (botswana,),
    "ksc": (ksc,),
    "whu_hi_longkou": (whu_hi_longkou, whu_hi_longkou_envi),
    "whu_hi_hanchuan": (whu_hi_hanchuan,),
    "whu_hi_honghu": (whu_hi_honghu,),
    "houston2013": (houston2013, houston2013_maps),
    "houston2013_fixed": (houston2013_fixed,),
    "houston2018": (houston2018,),
    "augsburg": (augsburg, augsburg_s2fl),
    "berlin": (berlin,),
    "trento": (trento, trento_maps),
    "muufl_gulfport": (muufl_gulfport,),
}


def h5(path, **arrays):
    h5py = pytest.importorskip("h5py", reason="needs the geo extra")
    path.parent.mkdir(parents=True, exist_ok=True)
    with h5py.File(path, "w") as file:
        for name, array in arrays.items():
            file[name] = array


def images(count, bands, side, ratio, guides, high, seed=0):
    """Smooth images (N, C, H, W), the same coarse, the same repeated, guides; as float64, as the files have them."""
    rng = np.random.default_rng(seed)
    small = rng.uniform(0.1, 0.8, (count, bands, side // 8, side // 8))
    fine = np.kron(small, np.ones((1, 1, 8, 8))) + rng.uniform(0, 0.1, (count, bands, side, side))
    ms = fine.reshape(count, bands, side // ratio, ratio, side // ratio, ratio).mean((3, 5))
    guide = np.stack([fine[:, i::guides].mean(1) for i in range(guides)], 1)
    return [high * array for array in (fine, ms, np.kron(ms, np.ones((1, 1, ratio, ratio))), guide)]


def pancollection(folder, name, bands, high=2047, train=64, test=64):
    where = folder / "pancollection" / name
    for file, count, side, seed in (("train", 6, train, 0), ("valid", 2, train, 1), ("test", 2, test, 2)):
        gt, ms, lms, pan = images(count, bands, side, 4, 1, high, seed)
        end = "_multiExm1" if file == "test" else ""
        h5(where / f"{file}_{name}{end}.h5", gt=gt, ms=ms, lms=lms, pan=pan)
    h5(where / "full_examples" / f"test_{name}_OrigScale_multiExm1.h5", ms=ms, lms=lms, pan=pan)
    return folder


def mhif(folder, name, ratio, end="", train=None, test=None):
    """LE-Mamba's copies of CAVE and Harvard."""
    train = train or 16 * ratio
    for file, count, side, seed in (("train", 4, train, 0), ("validation", 1, train, 1), ("test", 1, test or train, 2)):
        gt, ms, up, rgb = images(count, 31, side, ratio, 3, 1.0, seed)
        path = folder / f"{name}_h5_x{ratio}" / f"{file}_{name}(with_up)x{ratio}{end}.h5"
        h5(path, GT=gt.clip(0, 1), LRHSI=ms, HSI_up=up, RGB=rgb)
    return folder


def harvard(folder, count=4, grid=(40, 36)):
    for number in range(count):
        ref = np.random.default_rng(number).uniform(0, 0.3, (*grid, 31))
        put(folder / "harvard" / "CZ_hsdb" / f"img{number}.mat", ref=ref, lbl=np.ones(grid, np.uint8))
    return folder


def tif(path, array):
    """Write bands (C, H, W) as a GeoTIFF of 10 m."""
    rasterio = pytest.importorskip("rasterio", reason="needs the geo extra")
    path.parent.mkdir(parents=True, exist_ok=True)
    profile = {"driver": "GTiff", "width": array.shape[2], "height": array.shape[1], "count": array.shape[0]}
    place = rasterio.transform.from_origin(300000, 5000000, 10, 10)
    with rasterio.open(path, "w", dtype=array.dtype.name, crs="EPSG:32633", transform=place, **profile) as file:
        file.write(array)


def radar(seed, side):
    values = np.random.default_rng(seed).uniform(-28, -3, (2, side, side)).astype(np.float32)
    values[1] -= 6
    return values


def optical(seed, bands, side, dtype=np.uint16):
    return np.random.default_rng(seed).integers(200, 5000, (bands, side, side)).astype(dtype)


def sen12ms(folder, count=5, side=64):
    for number in range(count):
        for sensor, array in (("s1", radar(number, side)), ("s2", optical(number, 13, side))):
            where = folder / "sen12ms" / "ROIs1158_spring" / f"{sensor}_1"
            tif(where / f"ROIs1158_spring_{sensor}_1_p{30 + number}.tif", array)
    return folder


def sen12ms_cr(folder, count=2, side=64):
    for number in range(count):
        for sensor, array in (("s1", radar(number, side)), ("s2", optical(number, 13, side))):
            where = folder / "sen12ms" / f"ROIs1158_spring_{sensor}" / f"{sensor}_1"
            tif(where / f"ROIs1158_spring_{sensor}_1_p{30 + number}.tif", array)
    return folder


def terramesh(folder, count=5, side=64):
    for number in range(count):
        tif(folder / "terramesh" / f"{number}D_1L_S1RTC.tif", radar(number, side).astype(np.float64))
        tif(folder / "terramesh" / f"{number}D_1L_S2L2A.tif", optical(number, 12, side, np.int16))
    return folder


def sen1floods11(folder, count=5, side=64):
    for number in range(count):
        tif(folder / "sen1floods11" / "S1" / f"Spain_{number}_S1Hand.tif", radar(number, side))
        tif(folder / "sen1floods11" / "S2" / f"Spain_{number}_S2Hand.tif", optical(number, 13, side, np.int16))
    return folder


def bigearthnet_s1s2(folder, count=5, side=120):
    for number in range(count):
        one, two = f"S1A_IW_GRDH_1SDV_2017061{number}T165043_33UUP_87_48", f"S2A_MSIL2A_2017061{number}T113321_36_85"
        where = folder / "bigearthnet_s1s2" / "BigEarthNet-S1" / one
        for name, band in zip(("VV", "VH"), radar(number, side), strict=True):
            tif(where / f"{one}_{name}.tif", band[None])
        (where / f"{one}_labels_metadata.json").write_text(json.dumps({"labels": [], "corresponding_s2_patch": two}))
        for band, name in enumerate(("B02", "B03", "B04", "B08")):
            path = folder / "bigearthnet_s1s2" / "BigEarthNet-S2" / two / f"{two}_{name}.tif"
            tif(path, optical(10 * number + band, 1, side))
    return folder


SAR = {
    "sen12ms": (sen12ms, sen12ms_cr),
    "terramesh": (terramesh,),
    "sen1floods11": (sen1floods11,),
    "bigearthnet_s1s2": (bigearthnet_s1s2,),
}
