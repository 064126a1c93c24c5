"""The processes of a search: what each does, and the watch over several.

Each imports this module and what stands behind it, which must be little: nothing that draws.
"""

import logging
import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Final

from aqcl.config import read_toml
from aqcl.dataset import Dataset, open_dataset
from aqcl.errors import AqclError, StorageError
from aqcl.runtime import settle_threads
from aqcl.search.bar import Listener, progress_of
from aqcl.search.files import STUDY
from aqcl.search.plan import SearchPlan, plan_search
from aqcl.search.standing import Standing
from aqcl.search.study import Journal, Task
from aqcl.search.summary import write_summary
from aqcl.search.trials import run_trial
from aqcl.storage import MANIFEST
from aqcl.train import Progress

logger = logging.getLogger(__name__)

POLL_SECONDS: Final = 0.5
"""How often the journal is looked at while other processes work, at least at first."""
LONGEST_POLL_SECONDS: Final = 5.0
"""The same after some minutes: a look reads the whole journal, at the cost of the workers."""


def open_closed(plan: SearchPlan) -> Dataset:
    """The dataset of a search, which has no test rows."""
    return open_dataset(Path(plan.experiment.dataset), closed=("test",))


def run_trials(journal: Journal, dataset: Dataset, listen: Listener) -> None:
    """Run trials until the study is over."""
    while True:
        task = journal.claim()
        if isinstance(task, Standing):
            if task.is_over:
                return
            listen(progress_of(task))
            time.sleep(POLL_SECONDS)  # others train the last trials
            continue
        with journal.locked():
            standing = journal.standing()
        logger.debug("%s: %s", task.title, task.parameters)
        run_trial(task, journal, dataset, _hear(task, standing, listen))
        with journal.locked():
            standing = journal.standing()
            # Another machine may have sealed the study since this trial was told.
            is_sealed = (journal.folder / MANIFEST).exists()
            if standing.has_ended(task.method.name) and not is_sealed:
                write_summary(journal, standing, dataset)
        listen(progress_of(standing))


def _hear(task: Task, standing: Standing, listen: Listener) -> Callable[[Progress], None]:
    """Tells at each evaluation; a worker whose search was killed ends then."""
    listen(progress_of(standing, task.title))

    def hear(progress: Progress) -> None:
        end_with_parent(progress)
        if progress.last.get("step") == progress.number:
            listen(progress_of(standing, f"{task.title}, epoch {progress.epoch + 1}"))

    return hear


def end_with_parent(progress: Progress) -> None:
    """End a worker at its next evaluation if the process that started it was killed."""
    parent = multiprocessing.parent_process()
    evaluated = progress.last.get("step") == progress.number
    if evaluated and parent is not None and not parent.is_alive():
        raise SystemExit(1)


def run_together(journal: Journal, workers: int, listen: Listener) -> None:
    """Start processes, and show what they do until all have ended.

    Raises:
        AqclError: one of them found a mistake, or all were killed.
    """
    # Read when torch is imported, in each of them.
    os.environ["OMP_NUM_THREADS"] = "1"
    os.environ["OMP_WAIT_POLICY"] = "PASSIVE"
    context = multiprocessing.get_context("spawn")
    started: list[tuple[BaseProcess, Connection]] = []
    try:
        for _ in range(workers):
            ours, theirs = context.Pipe(duplex=False)
            process: BaseProcess = context.Process(
                target=_worker,
                args=(journal.folder, journal.plan.experiment.dataset, theirs),
                daemon=True,
            )
            with _unheard_interrupts():
                process.start()
            theirs.close()
            started.append((process, ours))
        begun = time.monotonic()
        while any(process.is_alive() for process, _ in started):
            with journal.locked():
                standing = journal.standing()
            listen(progress_of(standing, f"{sum(p.is_alive() for p, _ in started)} workers"))
            _raise_mistakes(started)
            hundredth = (time.monotonic() - begun) / 100
            time.sleep(min(POLL_SECONDS + hundredth, LONGEST_POLL_SECONDS))
        _raise_mistakes(started)
    finally:
        for process, connection in started:
            process.terminate()
            process.join()
            connection.close()
    with journal.locked():
        standing = journal.standing()
    if not standing.is_over:
        codes = ", ".join(str(process.exitcode) for process, _ in started)
        raise StorageError(
            f"{journal.folder}: all workers have ended before the study (exit codes {codes}; -9 is "
            "often too little memory); continue with --resume and fewer --workers"
        )


@contextmanager
def _unheard_interrupts() -> Iterator[None]:
    """Processes started inside do not hear Ctrl-C, which reaches all: their parent ends them."""
    if threading.current_thread() is not threading.main_thread():
        yield  # only the main thread may say what a signal does
        return
    handler = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, handler)


def _raise_mistakes(started: list[tuple[BaseProcess, Connection]]) -> None:
    for _, connection in started:
        try:
            if connection.poll():
                raise AqclError(connection.recv_bytes().decode())
        except EOFError:
            continue  # it has ended


def _worker(out: Path, dataset: str, connection: Connection) -> None:
    """A process of a search; what it needs to know stands in the study directory."""
    settle_threads(1, "passive")
    # A machine that joined since then may have named another place for the dataset.
    plan = plan_search({**read_toml(out / STUDY), "dataset": dataset})
    try:
        run_trials(Journal(out, plan), open_closed(plan), lambda progress: None)
    except AqclError as error:
        connection.send_bytes(str(error).encode())
