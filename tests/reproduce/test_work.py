"""The processes that train the cells of tables and figures."""

import multiprocessing
from pathlib import Path

import pytest

from aqcl.reproduce.cells import Job
from aqcl.reproduce.work import _train_job
from aqcl.runs import CHECKPOINT, is_finished
from tests.tiny_runs import tiny_dataset, tiny_experiment


class Parent:
    def __init__(self, *, alive: bool) -> None:
        self.alive = alive

    def is_alive(self) -> bool:
        return self.alive


def test_a_worker_whose_command_was_killed_ends_at_its_next_evaluation(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = Job(tmp_path / "run", tiny_experiment(tiny_dataset(tmp_path)))
    parent = Parent(alive=False)
    monkeypatch.setattr(multiprocessing, "parent_process", lambda: parent)

    with pytest.raises(SystemExit):
        _train_job(job)
    assert (job.out / CHECKPOINT).exists()
    assert not is_finished(job.out)

    parent.alive = True
    _train_job(job)
    assert is_finished(job.out)
