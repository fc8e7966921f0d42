import json
import warnings

import numpy as np
import pytest

from hsmamba.data.georeference import Georeference, check_same_ground
from hsmamba.errors import HsmambaWarning, SceneError

xr = pytest.importorskip("xarray", reason="needs the geo extra")
pytest.importorskip("rioxarray", reason="needs the geo extra")  # which gives arrays `.rio`
CRS = pytest.importorskip("rasterio.crs", reason="needs the geo extra").CRS
GroundControlPoint = pytest.importorskip("rasterio.control", reason="needs the geo extra").GroundControlPoint

NAMES = ("ms", "the guide")


def placed(shape, step=10.0, west=4e5, north=5.8e6, crs="EPSG:32633", down=-1):
    height, width = shape
    coords = {"y": north + down * step * (np.arange(height) + 0.5), "x": west + step * (np.arange(width) + 0.5)}
    array = xr.DataArray(np.zeros((height, width, 1)), dims=("y", "x", "band"), coords=coords)
    return array.rio.write_crs(crs) if crs else array


def affine_only(shape, geotransform, crs="EPSG:32633"):
    attrs = {"crs_wkt": CRS.from_user_input(crs).to_wkt(), "GeoTransform": " ".join(map(str, geotransform))}
    return xr.DataArray(np.zeros((*shape, 1)), dims=("y", "x", "band")).assign_coords(
        spatial_ref=xr.DataArray(0, attrs=attrs)
    )


def quiet(one, other, tolerance=0.5):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        check_same_ground(one, other, NAMES, tolerance=tolerance)


def test_the_same_ground_at_two_resolutions_passes():
    quiet(placed((6, 5)), placed((24, 20), step=2.5))


@pytest.mark.parametrize("down", [-1, 1])
def test_crops_are_seen(down):
    coarse = placed((6, 5), down=down)
    with pytest.raises(SceneError, match=r"1.00 \(rows\) and 0.00 \(columns\) pixels of ms apart"):
        quiet(coarse[1:], placed((20, 20), step=2.5, down=down))


def test_south_up_and_north_up_of_one_ground_differ():
    with pytest.raises(SceneError, match="apart"):
        quiet(placed((6, 5)), placed((6, 5), north=5.8e6 - 60, down=1))


def test_another_system_is_refused_and_another_spelling_is_not():
    with pytest.raises(SceneError, match="other coordinate reference systems"):
        quiet(placed((6, 5)), placed((6, 5), crs="EPSG:32632"))
    spelled = placed((6, 5))
    spelled.coords["spatial_ref"].attrs = {"crs_wkt": CRS.from_epsg(32633).to_wkt(version="WKT2_2019")}
    quiet(placed((6, 5)), spelled)


def test_an_image_without_place_is_told():
    with pytest.warns(HsmambaWarning, match="ms does not say where it lies, the guide does"):
        check_same_ground(np.zeros((6, 5, 1)), placed((24, 20), step=2.5), NAMES, tolerance=0.5)
    counted = xr.DataArray(
        np.zeros((6, 5, 1)), dims=("y", "x", "band"), coords={"y": np.arange(6) + 0.5, "x": np.arange(5) + 0.5}
    )
    assert Georeference.of(counted) is None
    quiet(np.zeros((6, 5, 1)), counted)


def test_coordinates_without_a_system_are_compared():
    with pytest.raises(SceneError, match="apart"):
        quiet(placed((6, 5), crs=None), placed((6, 5), west=4.1e5, crs=None))


def test_rotated_images_are_compared_by_their_affine():
    turn = np.deg2rad(20)
    c, s = 10 * np.cos(turn), 10 * np.sin(turn)
    coarse = affine_only((6, 5), (4e5, c, s, 5.8e6, s, -c))
    fine = affine_only((24, 20), (4e5, c / 4, s / 4, 5.8e6, s / 4, -c / 4))
    quiet(coarse, fine)
    with pytest.raises(SceneError, match=r"2.00 \(rows\) and 0.00"):
        quiet(affine_only((6, 5), (4e5 + 2 * s, c, s, 5.8e6 - 2 * c, s, -c)), fine)


def with_points(shape, step, west=4e5):
    rows, columns = np.meshgrid([0, shape[0]], [0, shape[1]], indexing="ij")
    points = [
        GroundControlPoint(row=float(r), col=float(c), x=float(west + step * c), y=float(5.8e6 - step * r))
        for r, c in zip(rows.ravel(), columns.ravel(), strict=True)
    ]
    array = xr.DataArray(
        np.zeros((*shape, 1)),
        dims=("y", "x", "band"),
        coords={"y": np.arange(shape[0]) + 0.5, "x": np.arange(shape[1]) + 0.5},
    )
    return array.rio.write_gcps(points, "EPSG:32633")


def test_ground_control_points_are_compared_and_follow_a_crop():
    quiet(with_points((6, 5), 10), with_points((24, 20), 2.5))
    quiet(with_points((6, 5), 10), placed((24, 20), step=2.5))
    quiet(with_points((8, 5), 10)[2:], placed((24, 20), step=2.5, north=5.8e6 - 20))
    with pytest.raises(SceneError, match="apart"):
        quiet(with_points((6, 5), 10), with_points((24, 20), 2.5, west=4.01e5))


@pytest.mark.parametrize("centres", [False, True])
def test_a_rotated_image_follows_a_crop_and_a_stride(centres):
    a, b, c, d, e, f = six = (20.0, 5.0, 366000.0, 5.0, -20.0, 5810000.0)
    whole = affine_only((12, 10), (c, a, b, f, d, e))
    x, y = np.meshgrid(np.arange(10) + 0.5, np.arange(12) + 0.5)
    if centres:
        whole = whole.assign_coords(xc=(("y", "x"), a * x + b * y + c), yc=(("y", "x"), d * x + e * y + f))
    else:
        whole = whole.assign_coords(x=x[0], y=y[:, 0])
    assert Georeference.of(whole).affine == six
    cut = Georeference.of(whole[3:, 2::2])
    assert cut.affine == pytest.approx((2 * a, b, c + 1.5 * a + 3 * b, 2 * d, e, f + 1.5 * d + 3 * e))


def test_polynomials_follow_a_crop():
    array = placed((6, 5))[..., 0]
    attrs = {"line_off": 3, "line_scale": 3, "samp_off": 2, "samp_scale": 2}
    array.spatial_ref.attrs |= {"rpcs": json.dumps(attrs), "GeoTransform": "400000 10 0 5800000 0 -10"}
    assert json.loads(Georeference.of(array).rpcs) == attrs
    assert json.loads(Georeference.of(array[2:, 1:]).rpcs) == attrs | {"line_off": 1, "samp_off": 1}
    assert json.loads(Georeference.of(array[::2]).rpcs) == attrs | {"line_off": 1.5, "line_scale": 1.5}


def test_the_crs_may_stand_in_a_coordinate_of_another_name():
    array = placed((6, 5), crs=None).rio.write_crs("EPSG:32633", grid_mapping_name="utm")
    assert "spatial_ref" not in array.coords and "UTM zone 33N" in Georeference.of(array).crs


def test_polynomials_that_cannot_be_compared_are_told():
    def rpc(offset):
        array = xr.DataArray(np.zeros((6, 5, 1)), dims=("y", "x", "band"))
        return array.assign_coords(spatial_ref=xr.DataArray(0, attrs={"rpcs": json.dumps({"line_off": offset})}))

    quiet(rpc(3), rpc(3))
    with pytest.warns(HsmambaWarning, match="cannot be compared"):
        check_same_ground(rpc(3), rpc(4), NAMES, tolerance=0.5)
