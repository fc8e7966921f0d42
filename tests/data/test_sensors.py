"""Sensors: gains, names, bands, what is refused."""

import pytest

from hsmamba.data.sensors import SENSORS, Sensor, band_gains, get_sensor
from hsmamba.errors import SceneError
from tests.refusals import refused


def test_sensor_table():
    assert band_gains("WV2", 8) == (0.35,) * 7 + (0.27,)
    assert band_gains("GeoEye1", 4) == band_gains("WV4", 4) == (0.23,) * 4
    assert band_gains("IKONOS", 4) == (0.26, 0.28, 0.29, 0.28)
    assert band_gains("GF2", 4) == band_gains("generic", 4) == (0.3,) * 4
    maxima = {name: SENSORS[name].maximum for name in ("WV2", "WV3", "QB", "GF2")}
    assert maxima == {"WV2": 2047, "WV3": 2047, "QB": 2047, "GF2": 1023}


@pytest.mark.parametrize(("name", "sensor"), [("wv3", "WV3"), ("WorldView-3", "WV3"), ("quickbird", "QB")])
def test_sensor_names_never_fall_back(name, sensor):
    assert get_sensor(name) is SENSORS[sensor]


test_sensor_errors = refused(
    (lambda: get_sensor("landsat"), ValueError, r"'landsat'.*WV3.*'generic'"),
    (lambda: band_gains("wv3", 4), SceneError, r"4 bands, WV3 has 8 \(coastal, blue"),
    (lambda: Sensor("mine", (0.3, 1.0), 0.15), ValueError, "between 0 and 1"),
    (lambda: Sensor("mine", (0.3,), 0.15, ("red", "green")), ValueError, "2 band names for 1"),
)
