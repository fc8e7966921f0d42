"""The figures of papers beside one's own; recipes that are like another; schedules of the learning rate."""

import csv

import numpy as np
import pytest
import torch

from hsmamba.engine import ClassificationSettings, FusionSettings
from hsmamba.engine import recipe as recipes
from hsmamba.engine.paper import Paper, mean_and_deviation
from hsmamba.engine.schedule import SCHEDULES, make_schedule
from hsmamba.errors import ManifestError

TABLE = {
    "citation": "A paper",
    "source": "its table",
    "differs": ["another sea"],
    "figures": {"random": {"oa": [90.0, 0.5], "aa": 80.0}, "full": {"HQNR": 0.9}},
}


def test_figures_stand_beside_the_papers_and_what_differs_is_said(tmp_path):
    paper = Paper.of(TABLE, "x.toml")
    ours = {"random": {"oa": (91.0, 0.2), "aa": (79.9, 0.2), "kappa": (1.0, 1.0)}}
    rows = {row["metric"]: row for row in paper.rows(ours)}
    assert [rows[key]["beyond"] for key in ("oa", "aa", "HQNR")] == ["yes", "no", ""]
    assert (rows["oa"]["difference"], rows["oa"]["paper_std"], rows["HQNR"]["ours"]) == (1.0, 0.5, "")
    text = paper.beside(ours, tmp_path)
    assert "random, oa" in text and "91.0 ± 0.2" in text and "more than the spread" in text
    assert "figures of the paper: its table" in text and "differs: another sea" in text
    written = list(csv.DictReader((tmp_path / "paper.csv").open()))
    assert [row["beyond"] for row in written] == ["yes", "no", ""]
    single = paper.rows({"random": {"aa": (70.0, float("nan"))}})
    assert single[1]["beyond"] == "" and single[1]["difference"] == -10.0
    assert "no figures of the paper are known" in Paper("A paper", {}).beside({}, tmp_path)
    assert mean_and_deviation([1.0, 3.0]) == (2.0, pytest.approx(2**0.5))
    assert np.isnan(mean_and_deviation([1.0])[1])


@pytest.mark.parametrize(
    "table",
    [{"figures": {}}, {**TABLE, "page": 3}, {**TABLE, "figures": {"a": {"oa": [1, 2, 3]}}}, {"figures": {"a": 1}}],
)
def test_a_table_that_is_none_of_a_paper_is_refused(table):
    with pytest.raises(ManifestError, match=r"x\.toml: \[paper\] cannot be read"):
        Paper.of(table, "x.toml")


def test_a_recipe_is_like_another_but_for_what_it_says(tmp_path):
    base = recipes.load_recipe("msfmamba.houston2013_paper")
    other = recipes.load_recipe("msfmamba.berlin_paper")
    assert other.finetune == base.finetune and other.transform == base.transform
    assert other.model_args == {**base.model_args, "aux_chans": 4, "num_classes": 8, "depth": 2}
    assert other.splits == {"distributed": {"kind": "distributed", "name": "berlin"}}
    assert base.finetune["clip_grad"] is None and "Berlin" in other.data["name"] and "S2FL" in other.data["source"]
    for name, like in (("a", "b"), ("b", "a")):
        (tmp_path / f"{name}.toml").write_text(f'like = "{tmp_path / like}.toml"\nname = "x.{name}"\n')
    with pytest.raises(ManifestError, match="like one another in a circle"):
        recipes.load_recipe(tmp_path / "a.toml")
    (tmp_path / "c.toml").write_text('like = "md2f_mamba.pavia_university_paper"\nfit = "some"\n')
    with pytest.raises(ManifestError, match="field fit is 'some'; it is 'training' or 'all'"):
        recipes.load_recipe(tmp_path / "c.toml")


def rates(steps=2, **settings):
    given = FusionSettings(**{"epochs": 12, "lr": 1.0, "warmup_epochs": 0, **settings})
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    schedule = make_schedule(optimizer, given, steps)
    found = []
    for step in range(given.epochs * steps):
        schedule.step_update(step)
        found.append(optimizer.param_groups[0]["lr"])
    return np.array(found)


def test_schedules_of_the_rate():
    assert (rates(schedule="constant") == 1).all()
    assert rates(schedule="step", decay_epochs=3, decay_rate=0.9).tolist() == [1] * 6 + [0.9] * 18
    cosine = rates()
    assert cosine[0] == 1 and (np.diff(cosine) < 0).all() and 0.01 < cosine[-1] < 0.02
    restarts = rates(schedule="restarts", decay_epochs=2, decay_rate=0.9, lr_floor=0.08)
    assert restarts[[0, 4, 12]].tolist() == pytest.approx([1, 0.9, 0.81])
    assert restarts.min() >= 0.08 and (np.diff(restarts) > 0).sum() == 2
    assert rates(schedule="constant", warmup_epochs=2)[:5].tolist() == pytest.approx([0.01, 0.2575, 0.505, 0.7525, 1])


def test_a_cosine_of_one_step_is_a_constant_without_a_word(caplog):
    assert rates(steps=1, epochs=1).tolist() == [1]
    assert not caplog.records


def test_unknown_schedules_and_optimizers_are_refused():
    with pytest.raises(ValueError, match=f"schedule is 'fast'; it is one of {', '.join(SCHEDULES)}"):
        ClassificationSettings(schedule="fast")
    with pytest.raises(ValueError, match="optimizer is 'sgd'; it is one of adamw, adam"):
        ClassificationSettings(optimizer="sgd")
