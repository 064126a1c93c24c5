"""Where a study stands: its trials so far, what is left of it, and which trial is the best."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from optuna.trial import FrozenTrial, TrialState

from aqcl.search.plan import Method, SearchPlan


@dataclass(frozen=True)
class Record:
    """A trial as the journal has it."""

    slot: int
    trial: FrozenTrial
    parameters: dict[str, Any]
    is_reference: bool = False
    repeat: int = 0
    """0, or which training with another seed it is."""

    @property
    def is_candidate(self) -> bool:
        """Whether it may win: trained to its end, and within the constraint if there is one."""
        complete = self.trial.state == TrialState.COMPLETE
        return complete and all(value <= 0 for value in self.trial.constraints.values())


@dataclass(frozen=True)
class Standing:
    """Where a study stands, from its journal alone."""

    plan: SearchPlan
    """With the ranges as they are now."""
    round: int
    target: int
    """Trials of each method, those of the rounds so far."""
    records: dict[str, list[Record]]
    """Of each method, in the order in which they began."""
    notes: tuple[str, ...]
    """Which ranges were widened and why."""
    repeats: dict[str, list[Record]]
    """Trainings of the finalists of each method with other seeds."""
    is_settled: bool
    """Whether no range will be widened any more."""

    @property
    def is_over(self) -> bool:
        """Whether all trials have ended, the finalists' repeats too, and no range is widened."""
        return self.is_settled and all(self.has_ended(name) for name in self.records)

    def has_ended(self, method: str) -> bool:
        """Whether all trials of a method have ended, in this round, and its finalists' repeats."""
        return (
            self.has_tried(method)
            and not self.left_to_repeat(method)
            and all_ended(self.repeats[method])
        )

    def has_tried(self, method: str) -> bool:
        """Whether all trials of a method have ended, in this round."""
        return len(self.records[method]) == self.target and all_ended(self.records[method])

    def trainings(self, method: str) -> list[Record]:
        """The trials of a method, and then their repeats."""
        return [*self.records[method], *self.repeats[method]]

    def finalists(self, method: str) -> list[Record]:
        """The best settings of a method, which are trained with other seeds; none before its last.

        Of trials with the same settings it is the earliest: one seed gives all the same value.
        """
        if not (self.is_settled and self.has_tried(method)):
            return []
        return _distinct(self._ranking(method))[: self.plan.options.confirm]

    def left_to_repeat(self, method: str) -> list[tuple[Record, int]]:
        """Finalists and repeats that have not begun, all finalists once before any twice."""
        begun = {(record.slot, record.repeat) for record in self.repeats[method]}
        finalists = self.finalists(method)
        return [
            (record, repeat)
            for repeat in range(1, self.plan.options.confirm_seeds + 1)
            for record in finalists
            if (record.slot, repeat) not in begun
        ]

    def values(self, method: str, record: Record) -> list[float | None]:
        """The value of a trial and then those of its repeats; None where one has failed."""
        repeats = sorted(
            (other for other in self.repeats[method] if other.slot == record.slot),
            key=lambda other: other.repeat,
        )
        return [r.trial.value if r.is_candidate else None for r in (record, *repeats)]

    def best(self, method: str) -> Record | None:
        """The best trial of a method so far; the earlier of equal ones.

        Once its finalists have been repeated, the one with the best mean of all its seeds. A
        finalist that fails with another seed is out; where all are, it is the best of the others.
        """
        ranking = _distinct(self._ranking(method))
        if not self.repeats[method] or not self.has_ended(method):
            return next(iter(ranking), None)
        finalists = self.finalists(method)
        means = [(record, self.mean(method, record)) for record in finalists]
        known = [(self._sign * mean, record) for record, mean in means if mean is not None]
        if known:
            return min(known, key=lambda pair: pair[0])[1]
        return next(iter(ranking[len(finalists) :]), None)

    def mean(self, method: str, record: Record) -> float | None:
        """The mean value of a finalist over all its seeds; None unless all have succeeded."""
        values = [value for value in self.values(method, record) if value is not None]
        complete = len(values) == 1 + self.plan.options.confirm_seeds
        return sum(values) / len(values) if complete else None

    @property
    def total(self) -> int:
        """Trials and repeats of all methods, as far as is known."""
        options = self.plan.options
        finalists = sum(
            len(self.finalists(name))
            if self.is_settled and self.has_tried(name)
            else options.confirm
            for name in self.records
        )
        return self.target * len(self.records) + finalists * options.confirm_seeds

    @property
    def _sign(self) -> int:
        return 1 if self.plan.minimizes else -1

    def _ranking(self, method: str) -> list[Record]:
        candidates = [record for record in self.records[method] if record.is_candidate]
        return sorted(candidates, key=lambda r: self._sign * float(r.trial.value or 0.0))


def _distinct(records: Iterable[Record]) -> list[Record]:
    """The first of those that have the same settings."""
    found: list[Record] = []
    for record in records:
        if all(record.parameters != other.parameters for other in found):
            found.append(record)
    return found


def all_ended(records: Iterable[Record]) -> bool:
    """Whether none of them has still to be trained."""
    return all(record.trial.state.is_finished() for record in records)


def winning_settings(standing: Standing, method: Method) -> dict[str, Any]:
    """The searched settings of a method's best trial; of the experiment where trial 0 is best."""
    best = standing.best(method.name)
    return dict(best.parameters) if best is not None else {}
