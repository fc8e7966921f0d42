"""`hsmamba train` of a recipe that is like a paper's: figures beside the paper's, and nothing twice."""

import pytest

from tests.data.sets import layouts


@pytest.mark.slow
def test_a_recipe_like_a_papers_trains_goes_on_and_compares(run, tmp_path):
    path = tmp_path / "mine.toml"
    path.write_text(
        'like = "rsanet.qb_paper"\nname = "rsanet.mine"\n\n[model_args]\ndim = 8\ndepth = 1\n\n'
        "[finetune]\nepochs = 2\nbatch_size = 3\n"
    )
    data = layouts.pancollection(tmp_path / "data", "qb", 4)
    command = ["train", path, "--data", data, "-o", tmp_path / "runs"]
    code, out, err = run(*command, "--minutes", 0)
    assert code == 0, err
    assert "beside Liu, Wei, Zhang, Feng, Xiang, RSANet" in out and "full, HQNR" in out and "differs: " in out
    folder = tmp_path / "runs" / "rsanet.mine"
    assert len((folder / "history.csv").read_text().splitlines()) == 2
    code, out, err = run(*command)
    assert code == 0 and len((folder / "history.csv").read_text().splitlines()) == 3, err
    rows = (folder / "paper.csv").read_text().splitlines()
    assert rows[0] == "part,metric,ours,ours_std,paper,paper_std,difference,beyond" and len(rows) == 3
    assert all(row.split(",")[7] in ("yes", "no") for row in rows[1:])
    assert run(*command)[1] == out
