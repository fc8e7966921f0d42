"""`tools/plan_country.py`: its arithmetic and its measured rate."""

import importlib.util
import sys

import pytest

from tests.conftest import ROOT

spec = importlib.util.spec_from_file_location("plan_country", ROOT / "tools" / "plan_country.py")
plan_country = importlib.util.module_from_spec(spec)
sys.modules["plan_country"] = plan_country
spec.loader.exec_module(plan_country)


def test_hours_and_cost_follow_from_tiles_and_rate():
    archive = plan_country.Archive("toy", 1000, 30.0, 448, "")
    found = plan_country.plan(archive, 90_000, rate=1000, workers=10, looks=2, efficiency=0.5, price=3)
    assert found.tiles == 140  # 100 inside, 40 on the border
    assert found.pixels == 280e6 and found.read == 280e6 * 448
    assert found.hours == pytest.approx(280e6 / 1000 / 3600 / 10 / 0.5)
    assert found.worker_hours == pytest.approx(10 * found.hours)
    assert found.cost == pytest.approx(3 * found.worker_hours)
    assert plan_country.plan(archive, 90_000, rate=1000).cost is None


@pytest.mark.parametrize("wrong", [{"area": 0}, {"rate": -1}, {"workers": 0}, {"efficiency": 2}])
def test_numbers_that_plan_nothing_are_refused(wrong):
    archive = plan_country.ARCHIVES["enmap"]
    with pytest.raises(ValueError, match=next(iter(wrong))):
        plan_country.plan(archive, **{"area": 1000, "rate": 10} | wrong)


@pytest.mark.parametrize("name", ["md2f_mamba.indian_pines", "ramsf.ikonos"])
def test_a_rate_is_measured_for_either_task(name):
    assert plan_country.measured_rate(name, least=0.0) > 0
