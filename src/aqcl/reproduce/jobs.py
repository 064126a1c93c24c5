"""The training runs behind the cells of tables.

Processes that train import this module and what stands behind it: nothing that draws.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from aqcl.config import as_values
from aqcl.experiment import Experiment
from aqcl.reproduce.cells import Cell
from aqcl.runs import is_finished
from aqcl.runtime import settle_threads
from aqcl.search.plan import with_settings
from aqcl.search.workers import end_with_parent
from aqcl.storage import fingerprint
from aqcl.train import train


@dataclass(frozen=True)
class Job:
    """One training run, finished or not."""

    out: Path
    experiment: Experiment


def job_of(cell: Cell, seed: int) -> Job | None:
    """The run of a cell with one seed; None before its method has been tuned.

    It lies by method, changes and all settings, so that tables share runs and the settings of
    another tuning have a directory of their own.
    """
    winner = cell.study.winner()
    if winner is None:
        return None
    # A setting that is the winner's is no change.
    changes = ",".join(
        f"{key.rpartition('.')[2]}={value}"
        for key, value in cell.settings
        if with_settings(winner, [(key, value)]) != winner
    )
    made = with_settings(winner, [("seed", seed), *cell.settings])
    name = ", ".join(filter(None, [cell.study.method, changes]))
    experiment = replace(made, dataset=str(cell.place.prepared), name=name)
    settings = {**as_values(experiment), "seed": 0, "dataset": "", "name": ""}
    folder = f"{changes or 'tuned'}-{fingerprint(settings)[:8]}"
    out = cell.place.folder / "runs" / cell.study.method / folder / f"seed{seed}"
    return Job(out, experiment)


def jobs_of(cells: Mapping[Cell, int]) -> list[Job]:
    """The runs of cells that have not finished, each once, all seeds of a cell before the next.

    Args:
        cells: with their numbers of seeds.
    """
    found = [job_of(cell, seed + 1) for cell, seeds in cells.items() for seed in range(seeds)]
    jobs = {job.out: job for job in found if job is not None}
    return [job for job in jobs.values() if not is_finished(job.out)]


def train_job(job: Job) -> None:
    """Train or continue a run, as a process of a pool does it."""
    settle_threads(job.experiment.runtime.threads or 1, "passive")
    train(job.experiment, job.out, resume=True, listen=end_with_parent)
