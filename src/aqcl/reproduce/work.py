"""The work behind tables and figures: datasets prepared, studies run, cells trained.

Whatever has finished is found again by its directory and settings, so that the same call continues
after any interruption.
"""

import logging
import os
import time
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from itertools import islice, takewhile
from multiprocessing import get_context
from pathlib import Path
from typing import Any, TypeVar

from aqcl.config import build
from aqcl.errors import AqclError, ConfigError, TrainingError
from aqcl.prepare.source import prepare_source
from aqcl.reproduce.cells import (
    Cell,
    Needs,
    Place,
    Problems,
    Scope,
    Study,
    place_of,
    prepare_values,
    study_values,
)
from aqcl.reproduce.earlier import Outcome, keep_settings
from aqcl.reproduce.jobs import Job, jobs_of, train_job
from aqcl.reproduce.specs import TUNED, Specs
from aqcl.runtime import settle_threads
from aqcl.search.bar import SearchProgress
from aqcl.search.space import SearchOptions
from aqcl.search.work import run_search

T = TypeVar("T")
logger = logging.getLogger(__name__)


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


def do_work(
    specs: Specs,
    scope: Scope,
    needs: Needs,
    workers: int,
    listen: Listener,
    earlier: Mapping[str, Outcome],
) -> Problems:
    """Prepare, tune and train.

    Args:
        specs: of everything.
        scope: of this command.
        needs: of all tables and figures that are asked for.
        workers: processes; each has one thread.
        listen: told how far the work has come.
        earlier: outcomes whose settings stand in for studies.

    Returns:
        What could not be done, and why.

    Raises:
        ConfigError: a data set that is prepared needs the file that it was made from, or is of
            other rows than an earlier outcome or a study here.
        StorageError: a prepared one was made with other settings or from another file.
        TrainingError: a worker was killed.
    """
    problems: dict[Place, str] = {}
    for place in needs.places:
        tuned = place_of(scope, place.dataset, TUNED)
        if tuned in problems:  # it would fail in the same way
            problems[place] = problems[tuned]
            continue
        try:
            prepare_source(prepare_values(specs, scope, place), place.prepared)
        except AqclError as error:
            if place.is_prepared:
                raise  # other settings than those it was prepared with: nothing to pass over
            problems[place] = str(error)
    keep_settings(specs, scope, needs, earlier)
    for study in needs.studies:
        if study.place not in problems:
            _check_rows(study)
    studies = {
        study: study_values(specs, scope, study)
        for study in needs.studies
        if study.place not in problems and study.winner() is None
    }
    cells = {c: seeds for c, seeds in needs.cells.items() if c.place not in problems}
    work = _Work(studies, cells, workers, listen)
    if scope.quick and studies:
        work.tune_side_by_side()
    if work.studies or jobs_of(cells):
        work.do()
    return Problems(problems, work.failures)


def _check_rows(study: Study) -> None:
    """Make sure that what a study has found, if anything, was found on the rows that lie here."""
    known = study.record()
    if known is None:
        return
    found, here = known[1].get("dataset"), study.place.fingerprint
    if found not in (None, here):
        raise ConfigError(
            f"{known[0]}: was tuned on other rows (fingerprint {found[:12]}) than those of "
            f"{study.place.prepared} ({here[:12]}): name the file that it was tuned on, or choose "
            "another --out"
        )


class _Work:
    """Studies, and the runs of cells as soon as their settings are known."""

    def __init__(
        self,
        studies: Mapping[Study, Mapping[str, Any]],
        cells: Mapping[Cell, int],
        workers: int,
        listen: Listener,
    ) -> None:
        self.studies = dict(studies)
        """Those that have not ended, with their settings."""
        self.cells = dict(cells)
        """Those that have not been trained, with their numbers of seeds."""
        self.workers = workers
        self.listen = listen
        self.started = time.monotonic()
        self.done = 0
        self.failures: dict[Path, str] = {}
        """Why a run or a study came to nothing, by its directory."""

    def tune_side_by_side(self) -> None:
        """Run or continue all studies, each in one process.

        Where trials take seconds: it would take longer to start processes for each study.
        """
        left = self._left()
        self._tell(f"tuning, {len(self.studies)} studies side by side", left)

        def end(task: tuple[Study, Mapping[str, Any]], future: "Future[None]") -> None:
            nonlocal left
            study, values = task
            try:
                future.result()
            except TrainingError as error:
                self._give_up(study, error)
            trials = _trainings(values["search"])
            left, self.done = left - trials, self.done + trials
            del self.studies[study]
            self._tell(f"tuned {study.method} on {study.place.dataset}", left)

        self._in_pool(_tune_alone, list(self.studies.items()), end)

    def do(self) -> None:
        """Do everything; a cell waits for no more studies than its own and those before."""
        while self.cells or self.studies:
            tuned = takewhile(lambda item: item[0].study not in self.studies, self.cells.items())
            self._train(dict(tuned))
            waiting = [*(cell.study for cell in self.cells), *self.studies]
            if waiting:
                self._tune(waiting[0])

    def _left(self) -> int:
        """Trials and runs to do; those of cells that wait for a study count as not begun."""
        trials = sum(_trainings(values["search"]) for values in self.studies.values())
        waiting = {cell for cell in self.cells if cell.study in self.studies}
        ready = {cell: seeds for cell, seeds in self.cells.items() if cell not in waiting}
        return trials + sum(self.cells[cell] for cell in waiting) + len(jobs_of(ready))

    def _tell(self, what: str, left: int, more: int = 0) -> None:
        seconds = time.monotonic() - self.started
        self.listen(Standing(what, self.done + more, self.done + left, seconds))

    def _tune(self, study: Study) -> None:
        """Run or continue a study; trials of an earlier command do not count for the pace."""
        left = self._left()
        heard: list[int] = []

        def hear(progress: SearchProgress) -> None:
            heard.append(progress.done)
            running = f": {progress.running}" if progress.running else ""
            what = f"tuning {study.method} on {study.place.dataset}{running}"
            self._tell(what, left - heard[0], progress.done - heard[0])

        values = self.studies[study]
        try:
            run_search(values, study.folder, workers=self.workers, resume=True, listen=hear)
        except TrainingError as error:
            self._give_up(study, error)
        self.done += heard[-1] - heard[0] if heard else 0
        del self.studies[study]

    def _give_up(self, study: Study, error: TrainingError) -> None:
        """Note why a study came to nothing; its cells are not trained, and others do not wait."""
        self.failures[study.folder] = str(error)
        self.cells = {cell: seeds for cell, seeds in self.cells.items() if cell.study != study}
        logger.warning("%s: %s", study.folder, error)

    def _train(self, cells: Mapping[Cell, int]) -> None:
        """Train cells whose settings are known."""
        jobs = jobs_of(cells)
        if jobs:
            self._run(jobs)
        for cell in cells:
            del self.cells[cell]

    def _run(self, jobs: list[Job]) -> None:
        left = self._left()
        self._tell(f"training {len(jobs)} runs", left)

        def end(job: Job, future: "Future[None]") -> None:
            nonlocal left
            left -= 1
            self._end(job, future, left)

        self._in_pool(train_job, jobs, end)

    def _in_pool(
        self,
        work: Callable[[T], None],
        tasks: Iterable[T],
        end: Callable[[T, "Future[None]"], None],
    ) -> None:
        """Do tasks by as many processes as there are workers; `end` hears of each."""
        # Read when torch is imported, in each process.
        os.environ["OMP_NUM_THREADS"] = "1"
        os.environ["OMP_WAIT_POLICY"] = "PASSIVE"
        # Only for these: an idle process costs memory while a study has its own.
        with ProcessPoolExecutor(self.workers, mp_context=get_context("spawn")) as pool:
            waiting, running = iter(tasks), dict[Future[None], T]()
            try:
                while True:
                    # No more than begin at once: what a pool has in store, Ctrl-C does not cancel.
                    for task in islice(waiting, self.workers - len(running)):
                        running[pool.submit(work, task)] = task
                    if not running:
                        return
                    for future in wait(running, return_when=FIRST_COMPLETED).done:
                        end(running.pop(future), future)
            except BrokenProcessPool:
                raise TrainingError(
                    "a worker was killed, often for want of memory; repeat the command with fewer "
                    "--workers: it continues where it stopped"
                ) from None

    def _end(self, job: Job, future: "Future[None]", left: int) -> None:
        """Count a run, or note why it came to nothing: others do not wait for it."""
        self.done += 1
        what = "trained"
        try:
            future.result()
        except TrainingError as error:
            what = "gave up"
            self.failures[job.out] = str(error)
            logger.warning("%s: %s", job.out, error)
        self._tell(f"{what} {job.experiment.name} on {job.out.parents[3].name}", left)


def _trainings(search: Mapping[str, Any]) -> int:
    """Trainings of a study, its finalists' with other seeds included."""
    options = build(SearchOptions, search, "search")
    return options.trials + min(options.confirm, options.trials) * options.confirm_seeds


def _tune_alone(task: tuple[Study, Mapping[str, Any]]) -> None:
    settle_threads(1, "passive")
    study, values = task
    run_search(values, study.folder, resume=True)
