"""Rows of a job that outlive it: kept whole, given back bit for bit, and never those of another job."""

import numpy as np
import pytest

from hsmamba.data import spool as spools
from hsmamba.data.spool import finished, spool_path, spooled
from hsmamba.errors import HsmambaWarning, SceneError

ROWS = [((7,), np.dtype(np.uint8)), ((7, 2), np.dtype(np.float32))]
FACTS = {"model": "a", "scene": "b"}


def rows(count, seed=0):
    rng = np.random.default_rng(seed)
    return rng.integers(0, 9, (count, 7), np.uint8), rng.normal(size=(count, 7, 2)).astype(np.float32)


def interrupted(path, *counts, facts=FACTS):
    """Keep rows so many at a time, and stop."""
    whole = rows(sum(counts))
    with pytest.raises(KeyboardInterrupt), spooled(path, facts, ROWS, resume=True) as spool:
        for count in counts:
            spool.write(spool.done, *(part[spool.done : spool.done + count] for part in whole))
        raise KeyboardInterrupt
    return whole


def read(spool):
    tops, parts = zip(*spool.read(), strict=True)
    assert list(tops) == list(np.cumsum([0, *(len(part[0]) for part in parts)])[:-1])
    return [np.concatenate(each) for each in zip(*parts, strict=True)]


def test_rows_come_back_bit_for_bit_and_more_may_follow(tmp_path, monkeypatch):
    monkeypatch.setattr(spools, "_READ_BYTES", 200)
    path = tmp_path / "map.tif"
    whole = interrupted(path, 5, 3)
    with spooled(path, FACTS, ROWS, resume=True) as spool:
        assert spool.done == 8
        spool.write(8, *rows(2, seed=1))
        for kept, first, more in zip(read(spool), whole, rows(2, seed=1), strict=True):
            np.testing.assert_array_equal(kept, np.concatenate([first, more]))
    assert not list(tmp_path.iterdir())


def test_what_a_killed_process_wrote_in_part_is_cut_off(tmp_path):
    path = tmp_path / "map.tif"
    whole = interrupted(path, 5)
    folder = spool_path(path)
    for name in ("0.rows", "1.rows", "done"):
        with (folder / name).open("ab") as file:
            file.write(b"half")
    assert finished(folder) == 5
    with spooled(path, FACTS, ROWS, resume=True) as spool:
        spool.write(5, *rows(1, seed=1))
        assert finished(folder) == 6
        for kept, first in zip(read(spool), whole, strict=True):
            np.testing.assert_array_equal(kept[:5], first)


def test_without_resume_what_is_left_is_removed_and_that_is_said(tmp_path):
    path = tmp_path / "map.tif"
    interrupted(path, 5)
    with (
        pytest.warns(HsmambaWarning, match=r"had finished 5 rows.*begins anew.*--resume"),
        spooled(path, FACTS, ROWS, resume=False) as spool,
    ):
        assert spool.done == 0


def test_what_finished_no_row_leaves_nothing(tmp_path):
    interrupted(tmp_path / "map.tif")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("facts", [{**FACTS, "model": "other"}, {"model": "a"}, {**FACTS, "more": "x" * 99}])
def test_rows_of_another_job_are_refused_and_stay(tmp_path, facts):
    path = tmp_path / "map.tif"
    interrupted(path, 5)
    with (
        pytest.raises(SceneError, match=r"is another job .*there, .* here"),
        spooled(path, facts, ROWS, resume=True),
    ):
        pass
    with spooled(path, FACTS, ROWS, resume=True) as spool:
        assert spool.done == 5


def test_one_process_at_a_time_makes_an_output(tmp_path):
    path = tmp_path / "map.tif"
    with (
        spooled(path, FACTS, ROWS, resume=True),
        pytest.raises(SceneError, match="another process"),
        spooled(path, FACTS, ROWS, resume=True),
    ):
        pass


def test_rows_must_follow_each_other(tmp_path):
    with (
        pytest.raises(ValueError, match="rows from 3 do not follow the 0"),
        spooled(tmp_path / "map.tif", FACTS, ROWS, resume=True) as spool,
    ):
        spool.write(3, *rows(2))
