"""Tables: splits side by side, differences, ranks, what is missing; Markdown and LaTeX of the same rows."""

from hsmamba.engine.benchmark import difference_label, differences, load_suite, to_latex, to_markdown
from hsmamba.engine.benchmark.units import write_counts
from tests.engine.benchmark.suites import CLASSIFICATION, write

TWO = ("count = 5", 'count = 5\n\n[splits.blocks]\nkind = "block"\nfraction = 0.1\npatch_size = 3')


def row(split, seed, method, right):
    counts = {unit: {1: (right, 10)} for unit in range(4)}
    return {
        "data": "muufl_crop", "split": split, "seed": seed, "method": method, "oa": 10.0 * right, "aa": 10.0 * right,
        "train_seconds": 1.0, "test_seconds": 0.5, "version": "1.2.3", "date": f"2026-11-2{seed} 10:00",
        "machine": "a CPU, 1 thread", "units": write_counts(counts),
    }  # fmt: skip


ROWS = [
    row(split, seed, method, right + seed)
    for split, shift in (("random", 2), ("blocks", 0))
    for method, right in (("small", 5 + shift), ("other", 6 + shift))
    for seed in (0, 1)
]


def test_markdown_has_the_splits_side_by_side(tmp_path):
    suite = load_suite(write(tmp_path, CLASSIFICATION, TWO))
    text = to_markdown(suite, ROWS)
    assert text.startswith(
        "# Trial\n\nMean ± standard deviation over the seeds 0, 1; behind OA (the higher the better)"
    )
    assert "with hsmamba 1.2.3 on 2026-11-20 to 2026-11-21; machine: a CPU, 1 thread." in text
    assert "## muufl_crop (interval over blocks of 30 x 30 pixels)" in text
    lines = text.splitlines()
    head = "| method | random: OA | less small | random: AA | blocks: OA | less small | blocks: AA | CPU seconds |"
    start = lines.index(head)
    assert lines[start + 1] == "|---|---:|---:|---:|---:|---:|---:|---:|"
    assert lines[start + 2] == ("| small | 75.00 ± 7.07 |  | 75.00 ± 7.07 | 55.00 ± 7.07 |  | 55.00 ± 7.07 | 1.5 |")
    assert lines[start + 3] == (
        "| other | 85.00 ± 7.07 | +10.00 [+10.00, +10.00] | 85.00 ± 7.07 | 65.00 ± 7.07 | +10.00 [+10.00, +10.00] "
        "| 65.00 ± 7.07 | 1.5 |"
    )
    assert text.endswith("| method | mean rank |\n|---|---:|\n| other | 1.00 |\n| small | 2.00 |\n")
    assert "have not been run" not in text


def test_cells_that_are_missing_are_said(tmp_path):
    suite = load_suite(write(tmp_path, CLASSIFICATION, TWO))
    text = to_markdown(suite, ROWS[:3])
    assert "5 of 8 cells have not been run." in text and "blocks: OA" not in text
    assert "| other | 80.00 | +10.00 [+10.00, +10.00] | 80.00 | 1.5 |" in text


def test_latex_has_the_same_figures(tmp_path):
    suite = load_suite(write(tmp_path, CLASSIFICATION, TWO))
    text = to_latex(suite, ROWS)
    assert r"\begin{tabular}{lrrrrrrr}" in text and text.count(r"\end{tabular}") == 2
    assert r"other & 85.00 $\pm$ 7.07 & +10.00 [+10.00, +10.00] & 85.00 $\pm$ 7.07" in text
    assert r"% muufl_crop (interval over" in text


def test_what_is_drawn_are_the_differences_of_the_tables(tmp_path):
    suite = load_suite(write(tmp_path, CLASSIFICATION, TWO))
    panels = differences(suite, ROWS)
    assert list(panels) == ["muufl_crop, random", "muufl_crop, blocks"]
    assert panels["muufl_crop, blocks"] == {"other": (10.0, 10.0, 10.0)}
    assert difference_label(suite) == "OA less that of small, with 95% interval (higher is better)"
    assert differences(suite, [one for one in ROWS if one["method"] == "small"]) == {}
