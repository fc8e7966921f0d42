"""Writers of small products in the layout of their documentation; each returns the path and what was stored."""

import json
from pathlib import Path

import numpy as np
import pytest

HEIGHT, WIDTH = 12, 10


def stored(bands, dtype=np.int16, height=HEIGHT, width=WIDTH):
    """Numbers (height, width, bands) that all differ from what products take for "no data"."""
    return np.random.default_rng(0).integers(1, 9000, (height, width, bands)).astype(dtype)


def write_raster(path, array, *, pixel=30, driver="GTiff", nodata=None, tags=(), **options):
    rasterio = pytest.importorskip("rasterio", reason="needs the geo extra")
    pytest.importorskip("rioxarray", reason="needs the geo extra")
    array = array[..., None] if array.ndim == 2 else array
    height, width, bands = array.shape
    profile = {"count": bands, "height": height, "width": width, "dtype": array.dtype, "nodata": nodata}
    profile |= {"crs": "EPSG:32633", "transform": rasterio.transform.from_origin(366000, 5810000, pixel, pixel)}
    with rasterio.open(path, "w", driver=driver, **profile | options) as file:
        file.write(array.transpose(2, 0, 1))


ENMAP = "ENMAP01-____L2A-DT0000001867_20220724T104526Z_008_V010302_20230628T165614Z"
ENMAP_BANDS = (  # number, centre and width in nm; 3 and 4 are of the two detectors where they overlap
    (1, 418.24, 6.99),
    (2, 650.0, 8.2),
    (3, 904.79, 9.1),
    (4, 911.57, 10.8),
    (5, 1390.5, 11.2),
    (6, 2445.3, 7.4),
)


def enmap_xml(image=f"{ENMAP}-SPECTRAL_IMAGE.TIF", level="L2A", bands=ENMAP_BANDS, vnir="1,2,3", swir="4,5,6"):
    each = "".join(
        f"""<bandID number="{number}"><wavelengthCenterOfBand>{centre}</wavelengthCenterOfBand>
        <FWHMOfBand>{width}</FWHMOfBand><GainOfBand>0.0001</GainOfBand><OffsetOfBand>0</OffsetOfBand></bandID>"""
        for number, centre, width in bands
    )
    return f"""<?xml version="1.0" encoding="UTF-8"?>
    <level_X xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance">
      <metadata><name>{ENMAP}-METADATA.XML</name></metadata>
      <base><level>{level}</level></base>
      <specific>
        <backgroundValue>-32768</backgroundValue>
        <bandCharacterisation>{each}</bandCharacterisation>
        <vnirProductQuality><expectedChannelsList>{vnir}</expectedChannelsList></vnirProductQuality>
        <swirProductQuality><expectedChannelsList>{swir}</expectedChannelsList></swirProductQuality>
      </specific>
      <product>
        <image><merge><name>{image}</name></merge></image>
        <quicklook><vnir><name>{ENMAP}-QL_VNIR.TIF</name></vnir></quicklook>
      </product>
    </level_X>"""


def write_enmap(folder, *, xml=None, mask=True, suffix=""):
    """Band 5 has no data, as EnMAP's water bands; pixel (0, 1) is background, (2, 3) defective in band 2."""
    folder = Path(folder) / ENMAP
    folder.mkdir()
    values = stored(len(ENMAP_BANDS))
    values[..., 4] = -32768
    values[0, 1] = -32768
    defective = np.zeros(values.shape, np.uint8)
    defective[0, 1] = 255
    defective[2, 3, 1] = 1
    write_raster(folder / f"{ENMAP}-SPECTRAL_IMAGE{suffix}.TIF", values, nodata=-32768)
    if mask:
        write_raster(folder / f"{ENMAP}-QL_PIXELMASK{suffix}.TIF", defective)
    (folder / f"{ENMAP}-METADATA.XML").write_text(xml or enmap_xml(), encoding="utf-8")
    return folder, values


PRISMA = "PRS_L2D_STD_20200813103056_20200813103100_0001.he5"
PRISMA_FIELDS = "HDFEOS/SWATHS/PRS_L2D_HCO/Data Fields"
PRISMA_DETECTORS = {  # centres and widths in nm, descending as in the file; the first and last band are not acquired
    "Vnir": ((0.0, 972.65, 951.38, 551.0, 402.45), (0.0, 12.91, 13.52, 9.5, 11.41)),
    "Swir": ((2496.88, 1600.5, 959.53, 942.96, 0.0), (9.53, 12.1, 12.05, 10.92, 0.0)),
}


def write_prisma(folder, attributes=()):
    """Pixel (0, 1) lies outside the swath; (2, 3) has in the file's second bands: invalid, (2, 4): negative."""
    h5py = pytest.importorskip("h5py", reason="needs the geo extra")
    pytest.importorskip("rioxarray", reason="needs the geo extra")
    path, cubes = Path(folder) / PRISMA, {}
    with h5py.File(path, "w") as file:
        fields = file.create_group(PRISMA_FIELDS)
        for detector, (centres, widths) in PRISMA_DETECTORS.items():
            cube = stored(5, np.uint16) + (1000 if detector == "Swir" else 0)
            cube[0, 1] = 0
            cube[2, 4, 1] = 0
            errors = np.zeros(cube.shape, np.uint8)
            errors[2, 3, 1], errors[2, 4, 1], errors[2, 5, 1] = 1, 2, 3
            fields[f"{detector.upper()}_Cube"] = cube.transpose(0, 2, 1)
            fields[f"{detector.upper()}_PIXEL_L2_ERR_MATRIX"] = errors.transpose(0, 2, 1)
            file.attrs[f"List_Cw_{detector}"] = np.array(centres, np.float32)
            file.attrs[f"List_Fwhm_{detector}"] = np.array(widths, np.float32)
            file.attrs[f"List_Cw_{detector}_Flags"] = np.array([centre > 0 for centre in centres], np.uint8)
            cubes[detector] = cube
        file.attrs.update(Processing_Level=np.bytes_("2D"), Epsg_Code=np.int32(32633))
        file.attrs.update(L2ScaleVnirMin=np.float32(0), L2ScaleVnirMax=np.float32(1.25))
        file.attrs.update(L2ScaleSwirMin=np.float32(0), L2ScaleSwirMax=np.float32(0.75))
        for corner in ("UL", "UR", "LL", "LR"):
            east, north = 366000 + (270 if "R" in corner else 0), 5810000 - (330 if corner[0] == "L" else 0)
            file.attrs[f"Product_{corner}corner_easting"] = np.float64(east)
            file.attrs[f"Product_{corner}corner_northing"] = np.float64(north)
        for name, value in dict(attributes).items():
            file.attrs[name] = value
    return path, cubes


EMIT = "EMIT_L2A_RFL_001_20230316T045211_2307503_006.nc"
EMIT_BANDS = ((381.0, 8.4, 1), (388.4, 8.4, 1), (1340.0, 8.7, 0), (2492.9, 8.8, 1))  # centre, width in nm, good


def write_emit(folder, *, chunks=None, lookup=None, **extra):
    """20 lines and 14 samples of the sensor, turned by a quarter on the map; line 3, sample 5 has no data."""
    h5py = pytest.importorskip("h5py", reason="needs the geo extra")
    pytest.importorskip("rioxarray", reason="needs the geo extra")
    path = Path(folder) / EMIT
    image = stored(len(EMIT_BANDS), np.float32, 20, 14) / np.float32(10000)
    image[3, 5] = -9999
    if lookup is None:  # map row = sample, map column = line, with a margin of one pixel
        samples, lines = np.zeros((16, 22), np.int32), np.zeros((16, 22), np.int32)
        samples[1:15, 1:21] = np.arange(1, 15)[:, None]
        lines[1:15, 1:21] = np.arange(1, 21)
    else:
        samples, lines = lookup
    with h5py.File(path, "w") as file:
        file.create_dataset("reflectance", data=image, chunks=chunks).attrs["_FillValue"] = np.array(
            [-9999], np.float32
        )
        parameters, location = file.create_group("sensor_band_parameters"), file.create_group("location")
        for index, (name, kind) in enumerate((("wavelengths", "f4"), ("fwhm", "f4"), ("good_wavelengths", "u1"))):
            parameters[name] = np.array([band[index] for band in EMIT_BANDS], kind)
        location["glt_x"], location["glt_y"] = samples, lines
        location["lat"] = np.zeros(image.shape[:2])
        file.attrs["geotransform"] = np.array([11.25, 0.000542, 0.0, 48.5, 0.0, -0.000542])
        file.attrs["spatial_ref"] = WGS84
        file.attrs["title"] = "EMIT L2A Surface Reflectance 60 m V001"
        for name, value in extra.items():
            file.attrs[name] = value
    return path, image


WGS84 = (
    'GEOGCS["WGS 84",DATUM["WGS_1984",SPHEROID["WGS 84",6378137,298.257223563]],PRIMEM["Greenwich",0],'
    'UNIT["degree",0.0174532925199433],AUTHORITY["EPSG","4326"]]'
)


SAFE = "S2B_MSIL2A_20240513T103031_N0510_R108_T32UPE_20240513T163053"
SENTINEL2_BANDS = {  # centre and width in nm, metres; by their number in the product
    "B1": (442.3, 21, 60),
    "B2": (492.1, 66, 20),
    "B3": (559.0, 36, 20),
    "B4": (665.0, 31, 20),
    "B5": (703.8, 16, 20),
    "B6": (739.1, 15, 20),
    "B7": (779.7, 20, 20),
    "B8": (833.0, 106, 10),
    "B8A": (864.0, 22, 20),
    "B9": (943.2, 21, 60),
    "B10": (1376.9, 30, 60),
    "B11": (1610.4, 94, 20),
    "B12": (2185.7, 185, 20),
}
SENTINEL2_OUT = ("B01", "B02", "B03", "B04", "B05", "B06", "B07", "B8A", "B09", "B11", "B12")


def sentinel2_name(band, metres):
    return f"GRANULE/L2A_T32UPE_A037527_20240513T103028/IMG_DATA/R{metres}m/T32UPE_20240513T103031_{band}_{metres}m"


def sentinel2_xml(offsets=True, granules=1, files=None, response=True, special="NODATA"):
    if files is None:
        files = [sentinel2_name(band, 60 if band in ("B01", "B09") else 20) for band in (*SENTINEL2_OUT, "SCL", "TCI")]
        files += [sentinel2_name(band, 10) for band in ("B02", "B03", "B04", "B08")] + [sentinel2_name("B02", 60)]
    images = "".join(f"<IMAGE_FILE>{name}</IMAGE_FILE>" for name in files)
    spectral = "".join(
        f"""<Spectral_Information bandId="{number}" physicalBand="{band}"><RESOLUTION>{metres}</RESOLUTION>
        <Wavelength><MIN unit="nm">{centre - width}</MIN><MAX unit="nm">{centre + width}</MAX>
        <CENTRAL unit="nm">{centre}</CENTRAL></Wavelength>"""
        + f"""<Spectral_Response><STEP unit="nm">1</STEP><VALUES>0.1 0.4 {"0.9 " * width}0.3</VALUES>
        </Spectral_Response>"""
        * response
        + "</Spectral_Information>"
        for number, (band, (centre, width, metres)) in enumerate(SENTINEL2_BANDS.items())
    )
    adds = "".join(f'<BOA_ADD_OFFSET band_id="{number}">-1000</BOA_ADD_OFFSET>' for number in range(13))
    return f"""<?xml version="1.0" encoding="UTF-8" standalone="no"?>
    <n1:Level-2A_User_Product xmlns:n1="https://psd-15.sentinel2.eo.esa.int/PSD/User_Product_Level-2A.xsd">
      <n1:General_Info>
        <Product_Info><PRODUCT_URI>{SAFE}.SAFE</PRODUCT_URI><PROCESSING_LEVEL>Level-2A</PROCESSING_LEVEL>
          <Product_Organisation><Granule_List>{"<Granule imageFormat='JPEG2000'>" + images + "</Granule>"}
          {"<Granule/>" * (granules - 1)}</Granule_List></Product_Organisation></Product_Info>
        <Product_Image_Characteristics>
          <Special_Values><SPECIAL_VALUE_TEXT>{special}</SPECIAL_VALUE_TEXT>
            <SPECIAL_VALUE_INDEX>0</SPECIAL_VALUE_INDEX></Special_Values>
          <Special_Values><SPECIAL_VALUE_TEXT>SATURATED</SPECIAL_VALUE_TEXT>
            <SPECIAL_VALUE_INDEX>65535</SPECIAL_VALUE_INDEX></Special_Values>
          <QUANTIFICATION_VALUES_LIST>
            <BOA_QUANTIFICATION_VALUE unit="none">10000</BOA_QUANTIFICATION_VALUE></QUANTIFICATION_VALUES_LIST>
          {"<BOA_ADD_OFFSET_VALUES_LIST>" + adds + "</BOA_ADD_OFFSET_VALUES_LIST>" if offsets else ""}
          <Spectral_Information_List>{spectral}</Spectral_Information_List>
        </Product_Image_Characteristics>
      </n1:General_Info>
    </n1:Level-2A_User_Product>"""


def write_jp2(path, array, metres):
    rasterio = pytest.importorskip("rasterio", reason="needs the geo extra")
    with rasterio.Env() as env:
        if "JP2OpenJPEG" not in env.drivers():
            pytest.skip("this rasterio lacks the driver JP2OpenJPEG")
    path.parent.mkdir(parents=True, exist_ok=True)
    write_raster(path, array, pixel=metres, driver="JP2OpenJPEG", QUALITY=100, REVERSIBLE="YES")


def write_sentinel2(folder, *, xml=None, classes=True):
    """36 x 30 pixels of 20 m: by class (0, 1) no data, (2, 3) defective; in B02 (4, 5) no data, (4, 6) saturated."""
    folder = Path(folder) / f"{SAFE}.SAFE"
    folder.mkdir(exist_ok=True)
    (folder / "MTD_MSIL2A.xml").write_text(xml or sentinel2_xml(), encoding="utf-8")
    values = {}
    for number, band in enumerate(SENTINEL2_OUT):
        metres = 60 if band in ("B01", "B09") else 20
        shape = (36 * 20 // metres, 30 * 20 // metres)
        values[band] = np.random.default_rng(number).integers(1, 12000, shape).astype(np.uint16)
        if band == "B02":
            values[band][4, 5:7] = 0, 65535
        write_jp2(folder / f"{sentinel2_name(band, metres)}.jp2", values[band], metres)
    scene = np.full((36, 30), 4, np.uint8)
    scene[0, 1], scene[2, 3], scene[3, 3] = 0, 1, 9  # the last is cloud
    if classes:
        write_jp2(folder / f"{sentinel2_name('SCL', 20)}.jp2", scene, 20)
    return folder, values


LANDSAT = {"L2SP": "LC08_L2SP_193024_20220724_20220802_02_T1", "L1TP": "LC09_L1TP_193024_20220724_20230406_02_T1"}
LANDSAT |= {"L2SP_TM": "LT05_L2SP_193024_20090724_20200827_02_T1"}
OLI = ((1, 442.96), (2, 482.04), (3, 561.41), (4, 654.59), (5, 864.67), (9, 1373.43), (6, 1608.86), (7, 2200.73))


def landsat_groups(kind="L2SP", **changes):
    """Groups of the metadata; changes replace or, as None, remove values of any group."""
    product, level, is_tm = LANDSAT[kind], kind[:4], kind.endswith("TM")
    bands = (1, 2, 3, 4, 5, 7) if is_tm else (1, 2, 3, 4, 5, 6, 7) if level == "L2SP" else tuple(range(1, 12))
    names = {f"FILE_NAME_BAND_{n}": f"{product}{'_SR' if level == 'L2SP' else ''}_B{n}.TIF" for n in bands}
    groups = {
        "PRODUCT_CONTENTS": {
            "LANDSAT_PRODUCT_ID": product,
            "PROCESSING_LEVEL": level,
            "COLLECTION_NUMBER": "02",
            **names,
            "FILE_NAME_QUALITY_L1_PIXEL": f"{product}_QA_PIXEL.TIF",
            "FILE_NAME_QUALITY_L1_RADIOMETRIC_SATURATION": f"{product}_QA_RADSAT.TIF",
        },
        "IMAGE_ATTRIBUTES": {
            "SPACECRAFT_ID": "LANDSAT_5" if is_tm else "LANDSAT_8",
            "SENSOR_ID": "TM" if is_tm else "OLI_TIRS",
            "SUN_ELEVATION": "30.00000000",
        },
        "LEVEL2_SURFACE_REFLECTANCE_PARAMETERS": {
            f"REFLECTANCE_{term}_BAND_{n}": value
            for n in bands
            for term, value in (("MULT", "2.75e-05"), ("ADD", "-0.2"))
        },
        "LEVEL1_RADIOMETRIC_RESCALING": {
            f"REFLECTANCE_{term}_BAND_{n}": value
            for n in range(1, 10)
            for term, value in (("MULT", "2.0000E-05"), ("ADD", "-0.100000"))
        },
    }
    if level == "L1TP":
        del groups["LEVEL2_SURFACE_REFLECTANCE_PARAMETERS"]
    for group in groups.values():
        group.update({key: value for key, value in changes.items() if key in group})
    return {name: {k: v for k, v in group.items() if v is not None} for name, group in groups.items()}


def landsat_text(groups, form="txt"):
    if form == "json":
        return json.dumps({"LANDSAT_METADATA_FILE": groups})
    if form == "xml":
        each = (f"<{g}>{''.join(f'<{k}>{v}</{k}>' for k, v in items.items())}</{g}>" for g, items in groups.items())
        return f'<?xml version="1.0" encoding="UTF-8"?><LANDSAT_METADATA_FILE>{"".join(each)}</LANDSAT_METADATA_FILE>'
    lines = ["GROUP = LANDSAT_METADATA_FILE"]
    for name, items in groups.items():
        quoted = [
            f'    {k} = "{v}"' if k.startswith(("FILE", "LANDSAT")) else f"    {k} = {v}" for k, v in items.items()
        ]
        lines += [f"  GROUP = {name}", *quoted, f"  END_GROUP = {name}"]
    return "\n".join([*lines, "END_GROUP = LANDSAT_METADATA_FILE", "END", ""])


def write_landsat(folder, kind="L2SP", form="txt", masks=True, groups=None):
    """Pixel (0, 1) is fill; (2, 3) saturated in bands 2 and 5; (2, 4) has bit 9, dropped for TM; (3, 3) is cloud."""
    groups = groups or landsat_groups(kind)
    product = LANDSAT[kind]
    folder = Path(folder) / product
    folder.mkdir()
    (folder / f"{product}_MTL.{form}").write_text(landsat_text(groups, form), encoding="utf-8")
    values = {}
    for key, name in groups["PRODUCT_CONTENTS"].items():
        if key.startswith("FILE_NAME_BAND_"):
            number = int(key.rpartition("_")[2])
            values[number] = stored(1, np.uint16)[..., 0] + np.uint16(1000 * number)
            values[number][0, 1] = 0
            if "/" not in name:
                write_raster(folder / name, values[number], pixel=15 if number == 8 else 30)
    pixel, saturated = np.full((HEIGHT, WIDTH), 21824, np.uint16), np.zeros((HEIGHT, WIDTH), np.uint16)
    pixel[0, 1], pixel[3, 3] = 1, 22280
    saturated[2, 3], saturated[2, 4] = 0b10010, 1 << 9
    if masks:
        write_raster(folder / f"{product}_QA_PIXEL.TIF", pixel)
        write_raster(folder / f"{product}_QA_RADSAT.TIF", saturated)
    return folder, values


DESIS = "DESIS-HSI-L2A-DT0485529167_001-20220712T223540-V0220"
DESIS_BANDS = ((401.43, 3.5), (551.1, 3.6), (750.2, 3.4), (999.5, 3.7))  # centre and width in nm


def desis_xml(bands=DESIS_BANDS):
    each = "".join(
        f"""<band><bandNumber>{number}</bandNumber><wavelengthCenterOfBand>{centre}</wavelengthCenterOfBand>
        <wavelengthWidthOfBand>{width}</wavelengthWidthOfBand><response>0.1,0.9,0.1</response>
        <wavelengths>{centre - 3},{centre},{centre + 3}</wavelengths>
        <gainOfBand>0.0001</gainOfBand><offsetOfBand>0</offsetOfBand></band>"""
        for number, (centre, width) in enumerate(bands, start=1)
    )
    return f"""<?xml version="1.0" encoding="UTF-8"?>
    <hsi_doc xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance"><metadata/><base/>
      <specific><bandCharacterisation>{each}</bandCharacterisation>
        <interiorOrientation><band><bandNumber>1</bandNumber></band></interiorOrientation></specific></hsi_doc>"""


def write_desis(folder, *, xml=None):
    """Pixel (0, 1) has no data."""
    folder = Path(folder) / DESIS
    folder.mkdir()
    values = stored(len(DESIS_BANDS))
    values[0, 1] = -32768
    write_raster(folder / f"{DESIS}-SPECTRAL_IMAGE.tif", values, interleave="pixel")
    (folder / f"{DESIS}-METADATA.xml").write_text(xml or desis_xml(), encoding="utf-8")
    return folder, values
