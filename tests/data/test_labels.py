"""Label maps as people have them: what is unlabelled, where classes begin, codes and their legend."""

import warnings
from functools import partial

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from hsmamba.data import Scene, open_scene
from hsmamba.data.labels import clean_labels
from hsmamba.errors import HsmambaWarning, SceneError
from tests.conftest import DATA
from tests.data.files.samples import cube, truth, write_tif
from tests.data.samples import raster
from tests.refusals import refused

SOME = truth(np.int64)  # 0..3


def quietly(*args, **kwargs):
    with warnings.catch_warnings():
        warnings.simplefilter("error", HsmambaWarning)
        return clean_labels(*args, **kwargs)


@pytest.mark.parametrize(
    ("labels", "nodata"),
    [
        (SOME, None),
        (SOME, 0),
        (SOME.astype(">i4"), 0),
        (SOME.astype(float), None),
        (SOME == 1, None),
        (SOME[..., None], None),
        (np.where(SOME, SOME, 255), 255),
        (np.where(SOME, SOME, -9999).astype(np.float32), -9999),
        (np.where(SOME, SOME, np.nan), None),
        (np.where(SOME, SOME, np.inf), None),
        (np.where(SOME, SOME, np.float32(-3.4028235e38)), None),
        (np.where(SOME, SOME, 1e300), None),
        (np.where(SOME, SOME, -3.40282e38).astype(np.float32), -3.40282306e38),
        (np.ma.masked_equal(np.where(SOME, SOME, 7), 7), None),
    ],
)
def test_what_is_plain_is_done_without_a_word(labels, nodata):
    cleaned, names = quietly(labels, nodata=nodata)
    assert np.array_equal(cleaned, SOME == 1 if labels.dtype == bool else SOME) and names == ()
    assert cleaned.dtype.kind in "iu" and cleaned.dtype.isnative and type(cleaned) is np.ndarray


@pytest.mark.parametrize(
    ("labels", "told"),
    [
        (np.where(SOME, SOME, 255), "255 is taken as unlabelled, 8 pixels$"),
        (np.where(SOME, SOME, 65535).astype(np.uint16), "65535 is taken"),
        (np.where(SOME, SOME, -1), "-1 is taken as unlabelled, 8 pixels$"),
        (np.where(SOME, SOME, -9999), "-9999 is taken"),
        (
            np.where(np.arange(30).reshape(6, 5) < 1, 255, SOME),
            r"255 .* 1 pixels, and 0, too;.* classes=\[0, 1, 2, 3\]",
        ),
        (np.where(np.arange(30).reshape(6, 5) < 1, np.nan, SOME), r"no data .* and 0, too"),
    ],
)
def test_undeclared_values_are_unlabelled_and_said_once(labels, told):
    with pytest.warns(HsmambaWarning, match=told) as caught:
        scene = Scene(cube(), labels)
    assert len(caught) == 1 and np.array_equal(scene.labels, SOME) and scene.num_classes == 3
    again, _ = quietly(scene.labels)
    assert again is scene.labels


@pytest.mark.parametrize("dtype", [np.int8, np.int16, np.float32])
@pytest.mark.parametrize("nodata", [None, -1])
def test_beside_minus_one_0_is_a_class(dtype, nodata):
    from_0 = (SOME - 1).astype(dtype)
    with pytest.warns(
        HsmambaWarning, match=r"0 is a class, and 0, 1, 2 become the classes 1, 2, 3.*classes=\[0, 1, 2\]"
    ):
        cleaned, names = clean_labels(from_0, nodata=nodata)
    assert np.array_equal(cleaned, SOME) and names == ("0", "1", "2")
    for advised, want in (([0, 1, 2], SOME), ([1, 2], np.maximum(SOME, 1) - 1)):
        assert np.array_equal(quietly(from_0, classes=advised, nodata=nodata)[0], want)
    # A tile of the data set without a pixel of -1 agrees by the same legend.
    assert quietly(np.full((2, 2), 1), classes=[0, 1, 2])[0].tolist() == [[2, 2], [2, 2]]


def test_names_say_whether_0_is_a_class():
    beside = np.array([[-1, 0, 1, 2]])
    with pytest.warns(HsmambaWarning, match="0 is a class"):
        assert clean_labels(beside, ("a", "b", "c"))[0].tolist() == [[0, 1, 2, 3]]
    with pytest.warns(HsmambaWarning, match="-1 is taken as unlabelled"):
        assert clean_labels(beside, ("a", "b"))[0].tolist() == [[0, 0, 1, 2]]
    assert quietly(beside, nodata=0, classes=[1, 2])[0].tolist() == [[0, 0, 1, 2]]


def test_numbers_with_gaps_are_kept_and_a_legend_numbers_them_anew():
    codes = np.array([0, 10, 20, 30])[SOME]
    assert quietly(codes)[0] is codes and Scene(cube(), codes).num_classes == 30
    scene = Scene(cube(), codes, classes=[10, 20, 30])
    assert np.array_equal(scene.labels, SOME) and scene.class_names == ("10", "20", "30")
    scene = Scene(cube(), codes, classes={30: "rye", 10: "corn", 20: "oats"})
    assert scene.class_names == ("rye", "corn", "oats") and np.array_equal(scene.labels, np.array([0, 2, 3, 1])[SOME])
    assert Scene(cube(), codes, classes=[10, 20, 30], class_names=("a", "b", "c")).class_names == ("a", "b", "c")
    with pytest.warns(HsmambaWarning, match=r"the codes 30, which classes= does not name: 7 pixels"):
        assert Scene(cube(), codes, classes=[10, 20]).labels.max() == 2
    assert np.array_equal(Scene(cube(), 1000 * codes, classes=[10_000, 20_000, 30_000]).labels, SOME)
    assert Scene(cube(), 1000 * codes, class_names=[str(k) for k in range(30_000)]).num_classes == 30_000


test_labels_that_leave_a_doubt_are_refused = refused(
    (partial(clean_labels, np.array([[1001, 2002]])), SceneError, ["2 codes up to 2002", "classes=[1001, 2002]"]),
    (partial(clean_labels, np.array([[0.5, 1]])), SceneError, ["0.5", "whole numbers"]),
    (partial(clean_labels, np.ones((4, 5, 3))), SceneError, ["(4, 5, 3)", "several bands"]),
    (partial(clean_labels, np.array([[4]]), ("a", "b")), SceneError, ["up to 4", "2 class names", "0..2"]),
    (partial(clean_labels, SOME, classes=[1, 1]), SceneError, ["[1, 1]", "once"]),
    (partial(clean_labels, SOME, classes=[]), SceneError, ["code of every class"]),
    (partial(clean_labels, SOME, classes=[1.5]), SceneError, ["integers"]),
    (partial(clean_labels, SOME, ("a",), classes=[1, 2]), SceneError, ["1 class names for 2 codes"]),
)


@given(arrays.arrays(np.int16, (3, 4), elements=st.integers(-2, 300)), st.sampled_from([None, -1, 0, 255]))
def test_cleaned_maps_stay_as_they_are(labels, nodata):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", HsmambaWarning)
        try:
            cleaned, names = clean_labels(labels, nodata=nodata)
        except SceneError as error:
            assert "classes=[" in str(error)
            return
    assert cleaned.min() >= 0 and (names == () or len(names) >= cleaned.max())
    again, same = quietly(cleaned, names)
    assert np.array_equal(again, cleaned) and same == names
    assert not (cleaned[labels == nodata]).any()


def test_rasters_declare_themselves():
    declared = raster(np.where(SOME, SOME, 9), ("y", "x")).assign_attrs(_FillValue=9)
    cleaned, _ = quietly(declared)
    assert np.array_equal(cleaned, SOME) and "_FillValue" not in cleaned.attrs and cleaned.dims == ("y", "x")
    assert "spatial_ref" in cleaned.coords
    masked = raster(np.where(SOME, SOME - 1.0, np.nan), ("y", "x"))
    masked.encoding["_FillValue"] = -1.0  # as open_rasterio(masked=True) has it
    with pytest.warns(HsmambaWarning, match="0 is a class"):
        assert np.array_equal(clean_labels(masked)[0], SOME)
    valid = raster(SOME, ("y", "x")).assign_coords(valid=(("y", "x"), np.arange(30).reshape(6, 5) > 1))
    cleaned, _ = clean_labels(valid)
    assert (
        np.array_equal(cleaned, np.where(np.arange(30).reshape(6, 5) > 1, SOME, 0)) and quietly(cleaned)[0] is cleaned
    )
    banded = raster(SOME, ("y", "x")).expand_dims(band=[1])
    assert np.array_equal(quietly(banded)[0], SOME)


def test_label_images_of_every_kind_open(tmp_path):
    rasterio = pytest.importorskip("rasterio", reason="needs the geo extra")
    write_tif(tmp_path / "a.tif", cube())

    def labels_of(values, **kwargs):
        path = write_tif(tmp_path / "labels.tif", values if values.ndim == 3 else values[..., None], **kwargs)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", HsmambaWarning)
            return open_scene(tmp_path / "a.tif", labels=path).labels

    for values, nodata in [
        (np.where(SOME, SOME, np.nan).astype(np.float32), np.nan),
        (np.where(SOME, SOME, -9999).astype(np.float32), -9999),
        (np.where(SOME, SOME, 255).astype(np.uint8), None),
        (SOME.astype(np.int16) - 1, -1),
        (SOME.astype(np.int16) - 1, None),
    ]:
        assert np.array_equal(labels_of(values, nodata=nodata), SOME)
    with pytest.raises(SceneError, match=r"labels\.tif' has the shape \(6, 5, 3\), several bands.*no label map"):
        labels_of(np.stack([truth()] * 3, -1))
    palette = write_tif(tmp_path / "palette.tif", truth()[..., None])
    with rasterio.open(palette, "r+") as file:
        file.write_colormap(1, {1: (255, 0, 0, 255), 2: (0, 255, 0, 255), 3: (0, 0, 255, 255)})
    assert np.array_equal(open_scene(tmp_path / "a.tif", labels=palette).labels, SOME)


@pytest.mark.skipif(not DATA.is_dir(), reason="the shared data are not here")
def test_the_codes_of_salinas_become_six_classes():
    path = DATA / "salinas_a" / "SalinasA_corrected.mat"
    scene = open_scene(path, labels=DATA / "salinas_a" / "SalinasA_gt.mat", classes=[1, *range(10, 15)])
    assert np.bincount(scene.labels.ravel())[1:].tolist() == [391, 1343, 616, 1525, 674, 799]
    assert scene.class_names == ("1", "10", "11", "12", "13", "14")
