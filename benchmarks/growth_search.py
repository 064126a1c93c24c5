"""The search of growth.py: two trials of few steps each, over all rows of a log."""

import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from aqcl.dataset import Split
    from aqcl.search.plan import SearchPlan
    from aqcl.shuffling import Int32s, Int64s
    from aqcl.train import Progress

TRIALS = 2
SPACE = {"train.lr": {"low": 5e-4, "high": 2e-3, "log": True}}
"""A setting on which the time of a step does not depend."""


class FewRows:
    """A split whose epochs are the first rows of its shuffled order; all else is the split's."""

    def __init__(self, split: "Split", n_rows: int) -> None:
        self.split = split
        self.n_rows = min(n_rows, len(split))

    def __len__(self) -> int:
        return self.n_rows

    def __getattr__(self, name: str) -> Any:
        return getattr(self.split, name)

    def order(self, seed: int, epoch: int) -> "Int32s | Int64s":
        """Shuffled over all rows, as in a whole epoch, so that it takes its time and memory."""
        return self.split.order(seed, epoch)[: self.n_rows]


class Clock:
    """Seconds of the steps of each trial."""

    def __init__(self) -> None:
        self.trials: list[list[float]] = []
        self.first_waits: list[float] = []

    def listen(self, progress: "Progress") -> None:
        """Called after each step."""
        if progress.number == 1:
            self.trials.append([0.0])
            self.first_waits.append(progress.wait_seconds)
        self.trials[-1].append(progress.step_seconds)


def search(path: Path, warm_up: int, n_steps: int, folder: Path) -> dict[str, Any]:
    """Search a dataset, and compute from it what trials over whole epochs take.

    What is outside the steps is done in full: planning, scoring and measuring the validation rows,
    writing, the summary and its figures. Steps are timed once warmed up.

    Args:
        path: the dataset directory.
        warm_up: steps of a trial that are not timed.
        n_steps: those that are.
        folder: where the study is made, and removed again.
    """
    from aqcl.dataset import steps_per_epoch
    from aqcl.experiment import TrainOptions
    from aqcl.search.workers import open_closed

    started = time.perf_counter()
    batch_size = TrainOptions().batch_size
    wanted = (warm_up + n_steps) * batch_size
    clock = Clock()
    with tempfile.TemporaryDirectory(dir=folder) as study:
        dataset = open_closed(plan_of(path, epochs=1))
        whole = dataset.train
        few = FewRows(whole, wanted)
        # Enough steps in a log of few rows, too.
        epochs = -(-wanted // len(few))
        # A cached property: what is there already is not read.
        vars(dataset)["train"] = few
        run_trials(plan_of(path, epochs), dataset, Path(study) / "study", clock.listen)
    wall = time.perf_counter() - started
    steps = epochs * steps_per_epoch(len(whole), batch_size)
    timed = [(trial[warm_up + n_steps] - trial[warm_up]) / n_steps for trial in clock.trials]
    outside = wall - sum(trial[-1] for trial in clock.trials)
    return {
        # Each time that a row is trained on, in any trial.
        "rows": TRIALS * epochs * len(whole),
        "seconds": outside + sum(timed) * steps + sum(clock.first_waits),
        "seconds_of_stage": wall,
        "seconds_outside_steps": outside,
        "step_ms": sum(timed) / len(timed) * 1e3,
        "trials": len(clock.trials),
        "epochs": epochs,
        "steps_of_trial": len(clock.trials[0]) - 1,
    }


def plan_of(path: Path, epochs: int) -> "SearchPlan":
    """Trials that are all trained to their end, with one evaluation in each epoch."""
    from aqcl.search.plan import plan_search

    train = {"epochs": epochs, "evaluations_per_epoch": 1, "patience": epochs}
    return plan_search(
        {
            "dataset": str(path),
            "regularizer": {"aqcl": {}},
            "train": {"optimizer": "lazy_adam", **train},
            "search": {"trials": TRIALS, "space": SPACE},
        }
    )


def run_trials(
    plan: "SearchPlan", dataset: Any, out: Path, listen: "Callable[[Progress], None]"
) -> None:
    """What `aqcl search` does with one worker; it hears of every step."""
    from aqcl.search.conclusion import conclude
    from aqcl.search.study import Journal, Task
    from aqcl.search.trials import run_trial
    from aqcl.search.work import start_study

    start_study(out, plan, resume=False)
    journal = Journal(out, plan)
    while isinstance(task := journal.claim(), Task):
        run_trial(task, journal, dataset, listen)
    with journal.locked():
        conclude(journal, journal.standing(), dataset)
