"""The work behind tables and figures: datasets prepared, studies run, cells trained.

Whatever has finished is found again by its directory and settings, so that the same call continues
after any interruption.
"""

import os
import time
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from multiprocessing import get_context
from typing import Any

from aqcl.config import build
from aqcl.errors import AqclError, TrainingError
from aqcl.prepare.source import prepare_source
from aqcl.reproduce.cells import (
    Cell,
    Job,
    Needs,
    Place,
    Scope,
    job_of,
    prepare_values,
    study_values,
)
from aqcl.reproduce.earlier import Outcome, keep_settings
from aqcl.reproduce.specs import Specs
from aqcl.runs import is_finished
from aqcl.runtime import settle_threads
from aqcl.search.bar import SearchProgress
from aqcl.search.space import SearchOptions
from aqcl.search.work import run_search
from aqcl.storage import MANIFEST
from aqcl.train import train


@dataclass(frozen=True)
class Standing:
    """How far the work has come."""

    what: str
    """What is done now."""
    done: int
    """Trials and runs that were done since the start of the command."""
    total: int
    """Trials and runs that there were to do."""
    seconds: float
    """Since the start of the command."""

    @property
    def seconds_left(self) -> float | None:
        """At the pace so far; None before the first has ended."""
        return self.seconds / self.done * (self.total - self.done) if self.done else None


Listener = Callable[[Standing], None]


@dataclass
class _Count:
    """Counts trials and runs for a listener."""

    listen: Listener
    total: int
    started: float
    done: int = 0

    def tell(self, what: str, more: int = 0) -> None:
        seconds = time.monotonic() - self.started
        self.listen(Standing(what, self.done + more, self.total, seconds))


def do_work(
    specs: Specs,
    scope: Scope,
    needs: Needs,
    workers: int,
    listen: Listener,
    earlier: Mapping[str, Outcome],
) -> dict[str, str]:
    """Prepare, tune and train.

    Args:
        specs: of everything.
        scope: of this command.
        needs: of all tables and figures that are asked for.
        workers: processes; each has one thread.
        listen: told how far the work has come.
        earlier: outcomes whose settings stand in for studies.

    Returns:
        Why a data set could not be had, by key.

    Raises:
        ConfigError: a data set that is prepared needs the file that it was made from, or is of
            other rows than an earlier outcome.
        StorageError: a prepared one was made with other settings or from another file.
        TrainingError: no trial of a study could be trained, or a worker was killed.
    """
    problems: dict[str, str] = {}
    for place in needs.places:
        if place.dataset not in problems:
            try:
                prepare_source(prepare_values(specs, scope, place), place.prepared)
            except AqclError as error:
                if place.is_prepared:
                    raise  # other settings than those it was prepared with: nothing to pass over
                problems[place.dataset] = str(error)
    cells = [cell for cell in needs.cells if cell.place.dataset not in problems]
    keep_settings(specs, scope, needs, earlier)
    studies = {
        key: study_values(specs, scope, *key)
        for key in needs.studies
        if key[0].dataset not in problems and not (key[0].study(key[1]) / MANIFEST).exists()
    }
    pending = {key: values for key, values in studies.items() if values["search"]["methods"]}
    trials = {
        key: _trainings(v["search"]) * len(v["search"]["methods"]) for key, v in pending.items()
    }
    count = _Count(listen, sum(trials.values()) + len(cells) * scope.seeds, time.monotonic())
    for key, values in pending.items():
        _tune(key[0], key[1], values, workers, count)
    jobs = jobs_of(cells, scope.seeds)
    count.total = count.done + len(jobs)
    _train_all(jobs, workers, count)
    return problems


def _tune(place: Place, name: str, values: Mapping[str, Any], workers: int, count: _Count) -> None:
    """Run or continue a study; trials of an earlier command do not count for the pace."""
    folder = place.study(name)
    heard: list[int] = []

    def hear(progress: SearchProgress) -> None:
        if not heard:
            count.total -= progress.done
        heard.append(progress.done)
        running = f": {progress.running}" if progress.running else ""
        count.tell(f"tuning {name} on {place.dataset}{running}", progress.done - heard[0])

    run_search(values, folder, workers=workers, resume=True, listen=hear)
    count.done += heard[-1] - heard[0] if heard else 0


def _trainings(search: Mapping[str, Any]) -> int:
    """Trainings of each method in a study, its finalists' with other seeds included."""
    options = build(SearchOptions, search, "search")
    return options.trials + min(options.confirm, options.trials) * options.confirm_seeds


def jobs_of(cells: Iterable[Cell], seeds: int) -> list[Job]:
    """The runs of cells that have not finished, each once, all seeds of a cell before the next."""
    found = [job_of(cell, seed) for cell in cells for seed in range(1, seeds + 1)]
    jobs = {job.out: job for job in found if job is not None}
    return [job for job in jobs.values() if not is_finished(job.out)]


def _train_all(jobs: list[Job], workers: int, count: _Count) -> None:
    if not jobs:
        return
    # Read when torch is imported, in each of them.
    os.environ["OMP_NUM_THREADS"] = "1"
    os.environ["OMP_WAIT_POLICY"] = "PASSIVE"
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
        futures = {pool.submit(_train, job): job for job in jobs}
        count.tell(f"training {len(jobs)} runs")
        try:
            for future in as_completed(futures):
                future.result()
                count.done += 1
                job = futures[future]
                count.tell(f"trained {job.experiment.name} on {job.out.parents[3].name}")
        except BrokenProcessPool:
            raise TrainingError(
                "a worker was killed, often for want of memory; repeat the command with fewer "
                "--workers: it continues where it stopped"
            ) from None
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def _train(job: Job) -> None:
    settle_threads(job.experiment.runtime.threads or 1, "passive")
    train(job.experiment, job.out, resume=True)
