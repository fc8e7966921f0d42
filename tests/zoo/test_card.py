"""Model cards: what is known is told, whatever the names and licences."""

import re

import pytest
import yaml

from hsmamba.models import registry
from hsmamba.zoo import card, save, source
from tests.zoo.samples import METRICS


def front_matter(text):
    return yaml.safe_load(re.match(r"---\n(.*?)\n---\n", text, re.DOTALL)[1])


def test_the_card_tells_what_is_known(tmp_path, tiny):
    data = {"name": "Indian Pines", "source": "AVIRIS", "split": {"name": "random", "id": "r5"}, "seeds": [0, 1, 2]}
    place = save.save_pretrained(tiny(), tmp_path / "saved", metrics=METRICS, data=data, recipe="tiny.toml")
    text = (place / "README.md").read_text(encoding="utf-8")
    front = front_matter(text)
    assert {key: front[key] for key in ("license", "library_name", "pipeline_tag", "datasets", "metrics")} == {
        "license": "apache-2.0",
        "library_name": "hsmamba",
        "pipeline_tag": "image-segmentation",
        "datasets": ["indian-pines"],
        "metrics": ["oa", "kappa"],
    }
    assert {"hsmamba", "remote-sensing", "classification", "tiny"} == set(front["tags"])
    results = front["model-index"][0]["results"]
    values = {(r["dataset"].get("config"), m["name"]): m["value"] for r in results for m in r["metrics"]}
    assert values == {("random", "oa"): 98.7123, ("disjoint", "oa"): 80.25, (None, "kappa"): 0.5}
    for told in (
        "# tiny, trained on Indian Pines",
        "- Parameters: 31",
        "- Classes: corn, oats, wheat, woods",
        "- source: AVIRIS",
        "- split: name random, id r5",
        "- seeds: 0, 1, 2",
        "| random | 98.71 ± 0.1 | n/a |",
        "tiny.toml",
        'create_model("hf-hub:owner/repo")',
        'create_model("local-dir:path/to/this/folder")',
        "The weights: Apache-2.0.",
        "## Citation",
    ):
        assert told in text


def test_the_card_of_a_record_and_of_a_registered_architecture(saved):
    found = source.read_folder(saved)
    record = source.record_of(found, "first")
    assert 'create_model("tiny.first", pretrained=True)' in card.model_card("tiny", record, name=record.name)
    entry = registry()["md2f_mamba"]
    text = card.model_card("md2f_mamba", found)
    assert entry.cfg.summary in text and entry.cfg.citation in text


def test_a_card_survives_odd_names_and_licences(tmp_path, tiny):
    data = {"name": "---\nlicense: mit # |'\"", "source": "{braces}"}
    place = save.save_pretrained(tiny(), tmp_path / "saved", data=data, license="research only, see the site")
    front = front_matter((place / "README.md").read_text(encoding="utf-8"))
    assert (front["license"], front["license_name"]) == ("other", "research-only-see-the-site")
    assert front["datasets"] == ["license-mit"]


def first_line(tmp_path, model, metrics, baselines):
    data = {"name": "Toy", "baselines": baselines}
    place = save.save_pretrained(model, tmp_path / "saved", metrics=metrics, data=data)
    text = (place / "README.md").read_text(encoding="utf-8")
    return text.split("\n# ", 1)[1].split("\n\n")[1]


def test_the_first_line_names_what_is_better_on_the_same_pixels(tmp_path, tiny):
    metrics = {"random": {"oa": 95.0}, "disjoint": {"oa": {"mean": 57.58, "std": 5.5}, "aa": 50.0}}
    baselines = {
        "lda, disjoint": {"oa": {"mean": 57.91, "std": 5.6}},
        "svm, disjoint": {"oa": 40.0, "aa": 99.0},
        "svm, random": {"oa": 94.0},
        "lda, elsewhere": {"oa": 99.0},
    }
    line = first_line(tmp_path, tiny(), metrics, baselines)
    told = "On its own test pixels a classical method is better: lda OA 57.91, this weight 57.58 (disjoint)."
    assert line == told
    del baselines["lda, disjoint"]
    assert "classical" not in first_line(tmp_path, tiny(), metrics, baselines)


def test_of_fusion_the_headline_metrics_count_each_in_its_direction():
    own = {"reduced": {"SAM": 3.7, "ERGAS": 2.0, "Q2n": 0.94, "SSIM": 0.5}, "full": {"HQNR": 0.5}}
    others = {"GSA, reduced": {"SAM": 3.3, "ERGAS": 2.7, "Q2n": 0.95, "SSIM": 0.9}, "GSA, full": {"HQNR": 0.9}}
    assert card._better(own, others, "fusion") == (
        "On its own test images a classical method is better: GSA SAM 3.3, this weight 3.7 (reduced); "
        "GSA Q2n 0.95, this weight 0.94 (reduced).\n\n"
    )
    rgb = {"reduced": {"PSNR": 40.0, "SAM": 3.0}}
    assert "GSA PSNR 41" in card._better(rgb, {"GSA, reduced": {"PSNR": 41.0, "SAM": 3.0}}, "fusion")


@pytest.mark.parametrize(
    ("metrics", "table"),
    [
        ({}, ""),
        ({"oa": 0.5, "n": 3}, "| oa | n |\n| --- | --- |\n| 0.5 | 3 |"),
        (
            {"a|b": {"oa": {"mean": 1.0, "std": None}}, "c": {"aa": [1, 2.5]}},
            "| protocol | oa | aa |\n| --- | --- | --- |\n| a\\|b | 1 |  |\n| c |  | 1, 2.5 |",
        ),
    ],
)
def test_metrics_make_a_table(metrics, table):
    assert card.metrics_table(metrics) == table


HOSTILE = "---\nx: y\n# big\n<script>alert('a')</script> `code` **b** [l](javascript:x) ![i](y) | c \\"


def test_no_field_of_a_card_opens_a_block_a_link_or_html(tmp_path, tiny):
    model = tiny()
    model.class_names = (HOSTILE, "b", "c", "---")
    place = save.save_pretrained(
        model,
        tmp_path / "saved",
        data={"name": HOSTILE, HOSTILE: HOSTILE, "baselines": [HOSTILE], "seeds": {HOSTILE: 1}},
        metrics={HOSTILE: {HOSTILE: 0.5}, "sam": HOSTILE},
        license=HOSTILE,
        recipe=HOSTILE,
        repo_id='a/b"\n```\n<script>',
    )
    text = (place / "README.md").read_text(encoding="utf-8")
    assert front_matter(text)["license"] == "other"
    body = text.split("\n---\n", 1)[1]
    outside = re.sub(r"^```python\n.*?^```$", "", body, flags=re.MULTILINE | re.DOTALL)
    assert outside.count("```") == 0
    shown = re.sub(r"\\.|`[^`\n]*`", "", outside)  # without what is escaped, and code, which shows what is in it
    assert not re.search(r"<\w|\]\(|\*\*|`", shown)
    headings = ["Model", "Data", "Results", "Training", "How to load it", "Licence", "Citation"]
    assert [line[3:] for line in body.splitlines() if line.startswith("## ")] == headings
    assert not [line for line in outside.splitlines() if line.strip() == "---"]
    rows = [re.sub(r"\\.", "", line).count("|") for line in body.splitlines() if line.startswith("|")]
    assert len(rows) >= 3 and len(set(rows)) == 1
