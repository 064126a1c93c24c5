"""A study on disk: Optuna's journal of trials, and which process works on which of them.

A trial that runs is locked by its process; the system frees the lock of a process that ends in any
way. Whatever is begun without being locked was abandoned, and is taken up again with the same
parameters. Locks hold among machines where their shared disk has them, as NFS from version 4 on.
"""

import contextlib
import os
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import optuna
from optuna.pruners import BasePruner
from optuna.samplers import RandomSampler
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import TrialState, create_trial

from aqcl.errors import TrainingError
from aqcl.file_locks import complete_lines, lock_file
from aqcl.search.plan import ONLY, Method, SearchPlan
from aqcl.search.sampling import copied, distributions, draw, make_pruner, plain
from aqcl.search.standing import Record, Standing, winning_settings
from aqcl.search.widening import widened_plan

JOURNAL: Final = "journal.log"
LOCKS: Final = "locks"
REPEATS: Final = "repeats"
"""Name of the journal's study of the trainings with other seeds, after the method's."""


@dataclass(frozen=True)
class Task:
    """A trial that this process has to run."""

    method: Method
    study: str
    """Name of the round's study in the journal."""
    number: int
    """Of the trial in that study."""
    slot: int
    """Of the trial in its method, from 0."""
    parameters: dict[str, Any]
    """Values by dotted key."""
    is_reference: bool
    """Whether it is the experiment without its auxiliary losses."""
    repeat: int
    """0, or which training with another seed it is."""
    lock: int
    """Descriptor of the locked file."""

    @property
    def title(self) -> str:
        """What a terminal shows of it."""
        method = f"{self.method.name}, " if self.method.name != ONLY else ""
        again = f", repeat {self.repeat}" if self.repeat else ""
        return f"{method}trial {self.slot}{again}"

    def release(self) -> None:
        """Let go of the lock, when the trial has ended."""
        os.close(self.lock)


class Journal:
    """The journal of a study directory, opened by one process.

    Raises:
        StorageError: the disk has no file locks.
    """

    def __init__(self, folder: Path, plan: SearchPlan) -> None:
        optuna.logging.set_verbosity(optuna.logging.ERROR)
        self.folder = folder
        self.plan = plan
        (folder / LOCKS).mkdir(parents=True, exist_ok=True)
        with self.locked():
            self.storage = JournalStorage(JournalFileBackend(str(folder / JOURNAL)))

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """No other process writes to the journal meanwhile."""
        descriptor = lock_file(self.folder / LOCKS / "study", wait=True)
        assert descriptor is not None
        try:
            complete_lines(self.folder / JOURNAL)
            # What a killed process left: nobody else writes now.
            (self.folder / f"{JOURNAL}.lock").unlink(missing_ok=True)
            yield
        finally:
            os.close(descriptor)

    def study(self, name: str, pruner: BasePruner | None = None) -> optuna.Study:
        """A study of the journal, made if it is not there; the caller holds the lock."""
        # `create_study` appends a line even where it loads, and a sealed journal must not grow.
        sampler = RandomSampler(seed=0)  # parameters come from `draw` alone
        with contextlib.suppress(KeyError):
            return optuna.load_study(
                study_name=name, storage=self.storage, sampler=sampler, pruner=pruner
            )
        return optuna.create_study(
            study_name=name,
            storage=self.storage,
            direction="minimize" if self.plan.minimizes else "maximize",
            sampler=sampler,
            pruner=pruner,
        )

    def standing(self) -> Standing:
        """Read where the study stands; the caller holds the lock.

        Rounds follow from the trials, so that a process that is killed anywhere changes nothing.
        """
        plan, notes, number = self.plan, list[str](), 0
        while True:
            target = plan.options.trials + number * plan.options.widen_trials
            records = {method.name: self._records(method, number) for method in plan.methods}
            standing = Standing(
                plan,
                number,
                target,
                records,
                tuple(notes),
                repeats={method.name: self._repeats(method) for method in plan.methods},
                is_settled=number == plan.options.widen,
            )
            tried = all(standing.has_tried(method.name) for method in plan.methods)
            if not tried or standing.is_settled:
                return standing
            winners = {m.name: winning_settings(standing, m) for m in plan.methods}
            wider = widened_plan(plan, winners)
            if wider is None:
                return replace(standing, is_settled=True)
            plan, note = wider
            notes.append(note)
            number += 1
            for method in plan.methods:
                self._carry_over(method, number)

    def claim(self) -> Task | Standing:
        """A trial to run, abandoned or new; without one, where the study stands.

        If the study is not over then, other processes are busy with its last trials.
        """
        with self.locked():
            standing = self.standing()
            for method in standing.plan.methods:
                task = (
                    self._take_up(method, standing)
                    or self._begin(method, standing)
                    or self._repeat(method, standing)
                )
                if task is not None:
                    return task
            return standing

    def trial(self, task: Task) -> optuna.Trial:
        """The handle by which a trial reports and is told its end; the caller holds the lock."""
        study = self.study(task.study, make_pruner(self.plan.options.pruning))
        return optuna.Trial(study, study.trials[task.number]._trial_id)

    def folder_of(self, method: str, slot: int, repeat: int = 0) -> Path:
        """The run directory of a trial, or of its training with another seed."""
        parent = self.folder / "trials"
        return (parent if method == ONLY else parent / method) / _name(slot, repeat)

    def _records(self, method: Method, number: int) -> list[Record]:
        found = []
        if self.plan.has_reference:
            trials = self.study(f"{method.name}/reference").get_trials(deepcopy=False)
            found = [Record(0, trial, {}, is_reference=True) for trial in trials]
        trials = self.study(f"{method.name}/{number}").get_trials(deepcopy=False)
        offset = int(self.plan.has_reference)
        searched = method.space.searched
        return found + [Record(offset + t.number, t, plain(t.params, searched)) for t in trials]

    def _repeats(self, method: Method) -> list[Record]:
        if not self.plan.options.confirm:
            return []
        trials = self.study(f"{method.name}/{REPEATS}").get_trials(deepcopy=False)
        searched = method.space.searched
        return [
            Record(
                slot=t.user_attrs["slot"],
                trial=t,
                parameters=plain(t.params, searched),
                repeat=t.user_attrs["repeat"],
            )
            for t in trials
        ]

    def _carry_over(self, method: Method, number: int) -> None:
        """Copy the trials of the round before, which had a narrower space, unless that was done."""
        before = self.study(f"{method.name}/{number - 1}").get_trials(deepcopy=False)
        study = self.study(f"{method.name}/{number}")
        space = distributions(method.space)
        for trial in before[len(study.get_trials(deepcopy=False)) :]:
            study.add_trial(copied(trial, space))

    def _take_up(self, method: Method, standing: Standing) -> Task | None:
        """A trial that was begun by a process that is gone."""
        for record in standing.trainings(method.name):
            if not record.trial.state.is_finished():
                lock = lock_file(self._lock_file(method, record.slot, record.repeat), wait=False)
                if lock is not None:
                    return self._task(method, standing, record, lock)
        return None

    def _begin(self, method: Method, standing: Standing) -> Task | None:
        records = standing.records[method.name]
        slot = len(records)
        is_reference = self.plan.has_reference and slot == 0
        if slot >= standing.target or (self.plan.has_reference and not _is_ready(records)):
            return None
        lock = lock_file(self._lock_file(method, slot), wait=True)
        assert lock is not None
        space = {} if is_reference else distributions(method.space)
        before = [other.trial for other in records if not other.is_reference]
        values = {} if is_reference else draw(self.plan, space, before)
        # One write, so that a trial is there with its parameters or not at all.
        begun = create_trial(state=TrialState.RUNNING, params=values, distributions=space)
        name = "reference" if is_reference else str(standing.round)
        self.study(f"{method.name}/{name}").add_trial(begun)
        record = Record(slot, begun, plain(values, method.space.searched), is_reference)
        return self._task(method, standing, record, lock)

    def _repeat(self, method: Method, standing: Standing) -> Task | None:
        """A finalist's training with another seed."""
        for record, repeat in standing.left_to_repeat(method.name):
            lock = lock_file(self._lock_file(method, record.slot, repeat), wait=True)
            assert lock is not None
            begun = create_trial(
                state=TrialState.RUNNING,
                params=record.trial.params,
                distributions=record.trial.distributions,
                user_attrs={"slot": record.slot, "repeat": repeat},
            )
            self.study(f"{method.name}/{REPEATS}").add_trial(begun)
            return self._task(method, standing, replace(record, repeat=repeat), lock)
        return None

    def _task(self, method: Method, standing: Standing, record: Record, lock: int) -> Task:
        name = "reference" if record.is_reference else str(standing.round)
        number = record.slot - int(self.plan.has_reference and not record.is_reference)
        if record.repeat:
            name = REPEATS
            known = self._repeats(method)
            number = [(r.slot, r.repeat) for r in known].index((record.slot, record.repeat))
        return Task(
            method=method,
            study=f"{method.name}/{name}",
            number=number,
            slot=record.slot,
            parameters=record.parameters,
            is_reference=record.is_reference,
            repeat=record.repeat,
            lock=lock,
        )

    def _lock_file(self, method: Method, slot: int, repeat: int = 0) -> Path:
        return self.folder / LOCKS / f"{method.name}-{_name(slot, repeat)}"


def _name(slot: int, repeat: int) -> str:
    return f"{slot:04d}-repeat{repeat}" if repeat else f"{slot:04d}"


def _is_ready(records: list[Record]) -> bool:
    """Whether trial 0 does not run any more, so that others can be held against it."""
    if not records or not records[0].trial.state.is_finished():
        return not records
    if records[0].trial.state != TrialState.COMPLETE:
        error = records[0].trial.user_attrs.get("error", "")
        raise TrainingError(f"trial 0, which the others are held against, has failed: {error}")
    return True
