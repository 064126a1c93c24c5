"""Growth, large tables and the paper-sized log, each at a size that takes seconds."""

import json
from pathlib import Path
from typing import Any

import pytest
from benchmarks import growth, oncold, optimizers


def test_ratios_of_growth_are_of_the_time_per_row() -> None:
    sizes: dict[str, Any] = {
        "10": {"train": {"microseconds_per_row": 4.0}},
        "100": {"train": {"microseconds_per_row": 6.0}, "evaluate": {"microseconds_per_row": 1.0}},
    }

    assert growth.growth_ratios(sizes) == {"train": {"100": 1.5}}


@pytest.mark.slow
def test_the_paper_sized_log_is_kept_stage_by_stage(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    outcome = oncold.measured(6_000, tmp_path)

    assert list(outcome["stages"]) == ["simulate", "prepare", "train", "evaluate"]
    assert outcome["training"]["rows"] == outcome["counts"]["splits"]["train"]["rows"]
    assert all(stage["peak_rss_mib"] > 10 for stage in outcome["stages"].values())
    assert len(oncold.lines(outcome)) == 4

    def refuse(*arguments: Any) -> Any:
        raise AssertionError("a stage that was done ran again")

    monkeypatch.setattr(oncold, "run_stage", refuse)
    assert oncold.measured(6_000, tmp_path) == outcome


def test_an_interrupted_stage_adds_its_sessions_up(tmp_path: Path) -> None:
    kept = tmp_path / "stage.json"
    earlier = {"wall_seconds": 5.0, "peak_rss_mib": 900.0}
    kept.write_text(json.dumps({"done": False, "usage": earlier}))

    found = oncold.kept(kept, ("-c", "print('{}')"))

    assert found is not None
    assert found["wall_seconds"] > 5.0
    assert found["peak_rss_mib"] == 900.0
    assert json.loads(kept.read_text())["done"]


def test_a_stage_that_found_its_work_done_says_nothing(tmp_path: Path) -> None:
    kept = tmp_path / "simulate.json"
    found = "import json; print(json.dumps({'made': False}))"
    made = "import json; print(json.dumps({'made': True}))"

    assert oncold.kept(kept, ("-c", found)) is None
    assert not kept.exists()
    assert oncold.kept(kept, ("-c", made)) is not None
    assert json.loads(kept.read_text())["done"]


def test_the_paper_sized_log_is_left_to_full_runs(tmp_path: Path) -> None:
    assert "skipped" in oncold.measure(False, tmp_path)
    assert not list(tmp_path.iterdir())


def test_a_step_is_timed_for_each_optimizer_and_size() -> None:
    for name in optimizers.OPTIMIZERS:
        found = optimizers.timed(name, 5_000, 2)
        assert found["step_ms"] > 0
        assert found["steps"] == 2
