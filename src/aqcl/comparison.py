"""Configurations compared in pairs, on the same rows.

All runs share the resampled users, so that what is common to them cancels.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final, Literal

import numpy as np
import numpy.typing as npt

from aqcl import metrics
from aqcl.bootstrap import (
    affordable,
    interval,
    one_training,
    resample_seeds,
    resample_users,
)
from aqcl.config import choose
from aqcl.errors import DataError
from aqcl.evaluate import N_REPLICATES, Counts, Mask, count_rows, defined, group_masks, pair, plain
from aqcl.predictions import ROW_COLUMNS, Predictions
from aqcl.significance import SIGNIFICANCE, holm, p_value, seed_freedom

Floats = npt.NDArray[np.float64]
Intervals = Literal["widened", "restated"]
"""Whether what few seeds do not say of their scatter was made up for when they were resampled, or
afterwards, from the AUC of each, by results whose predictions are gone."""
Verdict = Literal["base", "better", "worse", "no difference shown", "too little to tell"]

TOO_LITTLE: Final = "too little to tell"
"""The verdict on a difference whose interval is too wide to say anything."""
ONE_SEED_EACH: Final = "one seed each"
"""Behind the verdict on two trainings, which is none on what was trained."""
_SEED: Final = 0
"""Of the resampling: the same for all, so that what is common cancels."""
_FEWEST_USERS, _FEWEST_OF_A_LABEL = 100, 50


@dataclass(frozen=True)
class ComparisonRow:
    """One configuration on one group, beside the base; None where it is not defined."""

    configuration: str
    group: str
    rows: int
    users: int
    positives: int
    seeds: int
    auc: float | None
    """Mean over the seeds."""
    auc_low: float | None
    auc_high: float | None
    auc_sd: float | None
    """Standard deviation over the seeds; None for a single one."""
    difference: float | None
    """AUC minus the base's."""
    difference_low: float | None
    difference_high: float | None
    rela_impr: float | None
    """In percent, from the AUCs averaged over seeds."""
    rela_impr_low: float | None
    """None also where a resample puts the base at or below chance."""
    rela_impr_high: float | None
    verdict: Verdict
    p_value: float | None = None
    """Two-sided, that the difference is zero."""
    holm: float | None = None
    """The same after Holm's correction for all trained configurations and groups compared that
    have enough users to tell; that of an untrained configuration for all untrained ones."""
    single: bool = False
    """Whether one training stands against one, so that nothing is known of how they scatter."""

    @property
    def finding(self) -> str:
        """The verdict, and what it does not hold for."""
        return finding(self.verdict, self.holm, single=self.single)


@dataclass(frozen=True)
class Comparison:
    """Configurations on the same rows."""

    rows: tuple[ComparisonRow, ...]
    base: str
    thresholds: tuple[int, int] | None
    replicates: int
    seed: int
    intervals: Intervals = "widened"

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return plain(self)

    @staticmethod
    def from_json(values: Mapping[str, Any]) -> "Comparison":
        """The inverse of `to_json`."""
        rows = tuple(ComparisonRow(**row) for row in values["rows"])
        return Comparison(**{**values, "rows": rows, "thresholds": pair(values["thresholds"])})


def finding(verdict: str, holm: float | None, *, single: bool = False) -> str:
    """A verdict, and whether it is one of single trainings or of too many comparisons only.

    Args:
        verdict: on a difference.
        holm: its p-value, corrected; None if it was not.
        single: one training stands against one. Then no p-value says anything of the methods.
    """
    if verdict not in ("better", "worse"):
        return verdict
    if single:
        return f"{verdict}, {ONE_SEED_EACH}"
    return f"{verdict}, not after Holm" if (holm or 0.0) > SIGNIFICANCE else verdict


def restated(comparison: Mapping[str, Any]) -> str:
    """A sentence on intervals that were made before few seeds were made up for; else nothing.

    Args:
        comparison: its rows, and how its intervals were made where that was not with them.
    """
    if comparison.get("intervals") != "restated":
        return ""
    return " Intervals were widened afterwards, from the AUC of each seed."


def compare(
    configurations: Mapping[str, Sequence[Predictions]],
    base: str,
    thresholds: tuple[int, int] | None,
    replicates: int = N_REPLICATES,
    masks: Mapping[str, Mask] | None = None,
    untrained: Collection[str] = (),
) -> Comparison:
    """Compare configurations, each run with one or more seeds, against one of them.

    Users are resampled, the same ones for all runs, and then the seeds of each configuration,
    spread as few seeds need (`bootstrap.resample_seeds`); configurations with the same number of
    seeds share the choice, run i standing beside run i. A single training beside several is taken
    to scatter as they do (`bootstrap.one_training`).

    Args:
        configurations: the predictions of each seed, on the same rows in the same order.
        base: name of the configuration that the others are compared with.
        thresholds: the most clicks of a non-active and of a slightly active user.
        replicates: resamples; at most 200 are taken above a million rows.
        masks: rows of each group, in place of those by the users' activity.
        untrained: configurations that were not trained: a family of their own in Holm's correction.

    Raises:
        ConfigError: there is no configuration called `base`.
        DataError: a configuration without runs, or runs on different rows.
    """
    choose(configurations, base, "base")
    return measure(configurations, thresholds, replicates, masks, base).against(base, untrained)


@dataclass(frozen=True)
class Measured:
    """Configurations whose users and seeds are resampled: ready to be compared with any of them."""

    aucs: Mapping[str, Floats]
    """Of each seed on each group, by configuration."""
    resampled: Mapping[str, Floats]
    """Of each group over the resamples, by configuration."""
    counts: Mapping[str, Counts]
    """By group."""
    thresholds: tuple[int, int] | None
    replicates: int
    seed: int

    def against(self, base: str, untrained: Collection[str] = (), to_come: int = 0) -> Comparison:
        """All configurations beside one of them.

        Args:
            base: name of the one.
            untrained: as in `compare`.
            to_come: configurations that will be compared too and count in Holm's correction.
        """
        rows = []
        for g, (group, counts) in enumerate(self.counts.items()):
            base_aucs = self.aucs[base][:, g], self.resampled[base][g]
            for name, aucs in self.aucs.items():
                ours = aucs[:, g], self.resampled[name][g]
                trained = not {name, base} & set(untrained)
                row = _compared(name, group, counts, ours, base_aucs, trained=trained)
                if name == base:
                    row = replace(row, verdict="base", p_value=None, single=False)
                rows.append(row)
        rows = corrected(rows, untrained, to_come)
        return Comparison(tuple(rows), base, self.thresholds, self.replicates, self.seed)


def measure(
    configurations: Mapping[str, Sequence[Predictions]],
    thresholds: tuple[int, int] | None,
    replicates: int = N_REPLICATES,
    masks: Mapping[str, Mask] | None = None,
    reference: str | None = None,
) -> Measured:
    """Resample the users and seeds of configurations; `compare` says how.

    Args:
        configurations: the predictions of each seed, on the same rows in the same order.
        thresholds: the most clicks of a non-active and of a slightly active user.
        replicates: resamples; at most 200 are taken above a million rows.
        masks: rows of each group, in place of those by the users' activity.
        reference: the configuration whose rows the others must have; the first if not given.

    Raises:
        DataError: a configuration without runs, or runs on different rows.
    """
    first = _check_rows(configurations, reference or next(iter(configurations)))
    masks = masks or group_masks(first, thresholds)
    counts = dict(zip(masks, count_rows(first, list(masks.values())), strict=True))
    replicates = affordable(replicates, len(first))
    runs = [run for seeds in configurations.values() for run in seeds]
    aucs, resampled = resample_users(runs, list(masks.values()), replicates, _SEED)
    of_seeds, of_resamples = {}, {}
    start = 0
    for name, seeds in configurations.items():
        stop = start + len(seeds)
        of_seeds[name] = aucs[start:stop]
        of_resamples[name] = resample_seeds(resampled[start:stop], _SEED)
        start = stop
    return Measured(of_seeds, of_resamples, counts, thresholds, replicates, _SEED)


def corrected(
    rows: Sequence[ComparisonRow], untrained: Collection[str], to_come: int = 0
) -> list[ComparisonRow]:
    """The rows with Holm's correction for all configurations of their kind, and all groups.

    Trained configurations are one family, untrained ones another: so none of these makes a claim
    about training harder to show. What has too little to tell claims nothing, whatever its
    p-value.

    Args:
        rows: of all configurations, the base's among them.
        untrained: configurations that were not trained.
        to_come: trained configurations without rows yet, each with as many claims as one of the
            others.
    """
    judged = [
        k
        for k, row in enumerate(rows)
        if row.p_value is not None and row.verdict not in ("base", TOO_LITTLE)
    ]
    adjusted: dict[int, float] = {}
    for trained in (True, False):
        family = [k for k in judged if (rows[k].configuration not in untrained) == trained]
        more = to_come * len({rows[k].group for k in family}) if trained else 0
        p_values = holm([rows[k].p_value or 0.0 for k in family], more)
        adjusted |= dict(zip(family, p_values, strict=True))
    return [replace(row, holm=adjusted.get(k)) for k, row in enumerate(rows)]


def _compared(
    configuration: str,
    group: str,
    counts: Counts,
    ours: tuple[Floats, Floats],
    base: tuple[Floats, Floats],
    *,
    trained: bool,
) -> ComparisonRow:
    """A row from the AUC of each seed and over the resamples, of a configuration and the base."""
    aucs, resampled = ours
    low, high = interval(resampled.clip(0, 1))
    resampled, base_resampled = _both_scatter(ours, base) if trained else (resampled, base[1])
    differences = resampled - base_resampled
    difference_low, difference_high = interval(differences)
    ratio_low, ratio_high = interval(_rela_impr(resampled, base_resampled))
    return ComparisonRow(
        configuration=configuration,
        group=group,
        **counts,
        seeds=len(aucs),
        auc=defined(aucs.mean()),
        auc_low=low,
        auc_high=high,
        auc_sd=defined(aucs.std(ddof=1)) if len(aucs) > 1 else None,
        difference=defined(aucs.mean() - base[0].mean()),
        difference_low=difference_low,
        difference_high=difference_high,
        rela_impr=defined(metrics.rela_impr(float(aucs.mean()), float(base[0].mean()))),
        rela_impr_low=ratio_low,
        rela_impr_high=ratio_high,
        verdict=judge(difference_low, difference_high, counts),
        p_value=p_value(differences, seed_freedom(aucs, base[0], differences, trained=trained)),
        single=trained and len(aucs) == len(base[0]) == 1,
    )


def _both_scatter(
    ours: tuple[Floats, Floats], base: tuple[Floats, Floats]
) -> tuple[Floats, Floats]:
    """The resamples of both; one that was trained once scatters as the other does, if that does."""
    (aucs, resampled), (base_aucs, base_resampled) = ours, base
    if len(aucs) == 1 < len(base_aucs):
        resampled = resampled + one_training(base_aucs, len(resampled), _SEED)
    elif len(base_aucs) == 1 < len(aucs):
        base_resampled = base_resampled + one_training(aucs, len(resampled), _SEED)
    return resampled, base_resampled


def _rela_impr(auc: Floats, base_auc: Floats) -> Floats:
    return np.array([metrics.rela_impr(*pair) for pair in zip(auc, base_auc, strict=True)])


def lacking(*, rows: int, users: int, positives: int) -> list[str]:
    """What a group has too few of to tell anything, such as "39 clicks of 50"; nothing if enough.

    An AUC is as uncertain as the rarer label leaves it.
    """
    needs = [
        (users, _FEWEST_USERS, "users"),
        (positives, _FEWEST_OF_A_LABEL, "clicks"),
        (rows - positives, _FEWEST_OF_A_LABEL, "rows without a click"),
    ]
    return [f"{has:,} {what} of {needed}" for has, needed, what in needs if has < needed]


def judge(low: float | None, high: float | None, counts: Counts) -> Verdict:
    """What an interval of the difference says, if there are users enough to say anything."""
    if low is None or high is None or lacking(**counts):
        return TOO_LITTLE
    if low > 0:
        return "better"
    return "worse" if high < 0 else "no difference shown"


def _check_rows(configurations: Mapping[str, Sequence[Predictions]], base: str) -> Predictions:
    """The rows that all runs have in common: all of them, or it is an error."""
    for name, runs in configurations.items():
        if not runs:
            raise DataError(f"configuration '{name}': expected at least one run, got none")
    first = configurations[base][0]
    for name, runs in configurations.items():
        for number, run in enumerate(runs, start=1):
            difference = _first_difference(first, run)
            if difference:
                raise DataError(
                    f"configuration '{name}', run {number}: {difference}, as in run 1 of "
                    f"'{base}'; runs on different rows or test negatives cannot be compared: "
                    "score all of them on one dataset directory"
                )
    return first


def _first_difference(expected: Predictions, run: Predictions) -> str:
    if len(run) != len(expected):
        return f"got {len(run)} rows, expected {len(expected)}"
    for column in ROW_COLUMNS:
        wanted, got = getattr(expected, column), getattr(run, column)
        if not np.array_equal(wanted, got):
            row = int(np.argmax(wanted != got))
            return f"column {column}, row {row}: got {got[row]}, expected {wanted[row]}"
    return ""
