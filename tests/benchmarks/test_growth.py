"""Growth and large tables, each at a size that takes seconds."""

from pathlib import Path
from typing import Any

import pytest
from benchmarks import check, growth, optimizers
from benchmarks.growth_search import FewRows, search
from benchmarks.stages import Usage

from aqcl.dataset import open_dataset
from tests.tiny_runs import tiny_dataset


def test_ratios_of_growth_are_of_the_time_per_row() -> None:
    sizes: dict[str, Any] = {
        "10": {"train": {"microseconds_per_row": 4.0}},
        "100": {"train": {"microseconds_per_row": 6.0}, "evaluate": {"microseconds_per_row": 1.0}},
    }

    assert growth.growth_ratios(sizes) == {"train": {"100": 1.5}}


def test_a_search_takes_the_first_rows_of_the_shuffled_order(tmp_path: Path) -> None:
    split = open_dataset(tiny_dataset(tmp_path)).train
    few = FewRows(split, 7)

    assert len(few) == 7
    assert few.order(3, 1).tolist() == split.order(3, 1)[:7].tolist()
    assert few.columns is split.columns
    assert len(FewRows(split, 10**6)) == len(split)


def test_a_search_is_two_trials_of_the_steps_asked_for(tmp_path: Path) -> None:
    growth.prepare_log(4_000, 0, tmp_path)
    path = tmp_path / "growth-4000" / "dataset"
    n_rows = len(open_dataset(path).train)

    found = search(path, 1, 2, tmp_path)

    # Two epochs of three batches: one has fewer rows than the batches asked for.
    assert (found["trials"], found["epochs"], found["steps_of_trial"]) == (2, 2, 6)
    assert found["rows"] == 2 * 2 * n_rows
    assert 0 < found["seconds_outside_steps"] < found["seconds_of_stage"]
    # Two epochs of three steps in each trial, and what came between them.
    computed = found["seconds_outside_steps"] + 2 * 2 * 3 * found["step_ms"] / 1e3
    assert found["seconds"] >= computed
    assert not list(tmp_path.glob("tmp*"))


def test_a_log_that_was_there_is_not_timed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = {"seconds": 1.0, "made": False}
    monkeypatch.setattr(growth, "run_stage", lambda arguments: (dict(made), Usage()))
    assert growth.simulated(100, tmp_path) is None

    made["made"] = True
    first = growth.simulated(100, tmp_path)
    assert first is not None
    assert first["microseconds_per_row"] == 1e4
    made["seconds"] = 2.0
    assert growth.simulated(100, tmp_path) == first


def test_the_search_is_compared_by_a_check() -> None:
    def outcome(per_row: float) -> dict[str, Any]:
        ratios = {stage: {"10000000": 1.0} for stage in growth.STAGES[1:]}
        return {"ratios": {**ratios, "search": {"10000000": per_row}}}

    slower = [f for f in check.compare(outcome(1.0), outcome(1.3), growth.RATIOS) if f.slower]

    assert [check.line(found) for found in slower] == [
        "ratios.search.10000000: 1 before, 1.3 now (30% slower)"
    ]


def test_a_step_is_timed_for_each_optimizer_and_size(tmp_path: Path) -> None:
    for name in optimizers.OPTIMIZERS:
        found = optimizers.timed(name, 5_000, 2, tmp_path)
        assert found["step_ms"] > 0
        assert found["held_anon_mib"] > 50
        assert found["steps"] == 2
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_memory_of_an_optimizer_is_that_of_its_process(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(optimizers, "OPTIMIZERS", ("rowwise_adagrad",))
    outcome = optimizers.measured((1_000, 1_000_000), 2, 1, tmp_path)

    few, many = outcome["optimizers"]["rowwise_adagrad"].values()
    assert few["peak_file_mib"] > 10
    # A table of 61 MiB, of which a checkpoint makes no copy.
    assert many["held_anon_mib"] > few["held_anon_mib"] + 50
    assert many["peak_anon_mib"] < many["held_anon_mib"] + 50
    assert len(optimizers.lines(outcome)) == 2
