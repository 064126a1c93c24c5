"""The time of a quick look at the paper's tables, without taking it."""

from pathlib import Path
from typing import Any

import pytest
from benchmarks import reproduction
from benchmarks.stages import Usage


def test_it_begins_from_nothing_and_counts_what_has_finished(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    left = tmp_path / "reproduction" / "left"
    left.mkdir(parents=True)

    def run(arguments: list[Any]) -> tuple[Any, Usage]:
        assert arguments[2:5] == ["reproduce", "all", "--quick"]
        assert arguments[5:] == ["--out", tmp_path / "reproduction", "--json"]
        assert not left.exists()
        cells = {"DIN": "finished", "AQCL": "not run: no data"}
        return {"table2": {"comparisons": [{"cells": cells}] * 3}}, Usage(wall_seconds=90.0)

    monkeypatch.setattr(reproduction, "run_stage", run)
    found = reproduction.measure(True, tmp_path)

    assert found["wall_seconds"] == 90.0
    assert (found["cells"], found["finished"]) == (6, 3)
    assert "1.5 min" in reproduction.lines(found)[0]
    assert "3 of 6 cells" in reproduction.lines(found)[0]


def test_a_quick_look_at_the_benchmarks_leaves_it_out(tmp_path: Path) -> None:
    assert reproduction.measure(False, tmp_path).keys() == {"skipped"}
