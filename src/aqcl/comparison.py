"""Configurations compared in pairs, on the same rows.

All runs share the resampled users, so that what is common to them cancels.
"""

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final, Literal

import numpy as np
import numpy.typing as npt

from aqcl import metrics
from aqcl.bootstrap import affordable, interval, resample_seeds, resample_users
from aqcl.config import choose
from aqcl.errors import DataError
from aqcl.evaluate import N_REPLICATES, Counts, Mask, count_rows, defined, group_masks, plain
from aqcl.predictions import ROW_COLUMNS, Predictions

Floats = npt.NDArray[np.float64]
Verdict = Literal["base", "better", "worse", "no difference shown", "too few users to tell"]

SIGNIFICANCE: Final = 0.05
"""Of an interval of 95%, and of a corrected p-value."""
FEWEST_FOR_TAIL: Final = 100
"""Resamples, without which their standard deviation says little of a tail."""
_FEWEST_USERS, _FEWEST_POSITIVES = 100, 50


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
    """The same after Holm's correction for all trained configurations and groups compared."""

    @property
    def finding(self) -> str:
        """The verdict, and whether it holds when one counts how many were looked for."""
        weak = self.verdict in ("better", "worse") and (self.holm or 0.0) > SIGNIFICANCE
        return f"{self.verdict}, not after Holm" if weak else self.verdict


@dataclass(frozen=True)
class Comparison:
    """Configurations on the same rows."""

    rows: tuple[ComparisonRow, ...]
    base: str
    thresholds: tuple[int, int]
    replicates: int
    seed: int

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return plain(self)

    @staticmethod
    def from_json(values: Mapping[str, Any]) -> "Comparison":
        """The inverse of `to_json`."""
        rows = tuple(ComparisonRow(**row) for row in values["rows"])
        low, high = values["thresholds"]
        return Comparison(**{**values, "rows": rows, "thresholds": (low, high)})


def compare(
    configurations: Mapping[str, Sequence[Predictions]],
    base: str,
    thresholds: tuple[int, int],
    replicates: int = N_REPLICATES,
    masks: Mapping[str, Mask] | None = None,
    untrained: Collection[str] = (),
) -> Comparison:
    """Compare configurations, each run with one or more seeds, against one of them.

    Users are resampled, the same ones for all runs, and then the seeds of each configuration;
    configurations with the same number of seeds share the choice, run i standing beside run i.

    Args:
        configurations: the predictions of each seed, on the same rows in the same order.
        base: name of the configuration that the others are compared with.
        thresholds: the most clicks of a non-active and of a slightly active user.
        replicates: resamples; at most 200 are taken above a million rows.
        masks: rows of each group, in place of those by the users' activity.
        untrained: configurations that are no claims, and do not count in Holm's correction.

    Raises:
        ConfigError: there is no configuration called `base`.
        DataError: a configuration without runs, or runs on different rows.
    """
    choose(configurations, base, "base")
    first = _check_rows(configurations, base)
    seed = 0  # of the resampling: the same for all, so that what is common cancels
    masks = group_masks(first, thresholds) if masks is None else masks
    counts = count_rows(first, list(masks.values()))
    replicates = affordable(replicates, len(first))
    runs = [run for seeds in configurations.values() for run in seeds]
    aucs, resampled = resample_users(runs, list(masks.values()), replicates, seed)
    measured: dict[str, tuple[Floats, Floats]] = {}
    start = 0
    for name, seeds in configurations.items():
        stop = start + len(seeds)
        measured[name] = aucs[start:stop], resample_seeds(resampled[start:stop], seed)
        start = stop
    rows = []
    for g, group in enumerate(masks):
        base_aucs = measured[base][0][:, g], measured[base][1][g]
        for name, (own, own_resampled) in measured.items():
            row = _compared(name, group, counts[g], (own[:, g], own_resampled[g]), base_aucs)
            rows.append(replace(row, verdict="base", p_value=None) if name == base else row)
    return Comparison(tuple(_corrected(rows, untrained)), base, thresholds, replicates, seed)


def _corrected(rows: Sequence[ComparisonRow], untrained: Collection[str]) -> list[ComparisonRow]:
    claims = [
        k
        for k, row in enumerate(rows)
        if row.p_value is not None and row.verdict != "base" and row.configuration not in untrained
    ]
    adjusted = dict(zip(claims, holm([rows[k].p_value or 0.0 for k in claims]), strict=True))
    return [replace(row, holm=adjusted.get(k)) for k, row in enumerate(rows)]


def holm(p_values: Sequence[float]) -> list[float]:
    """P-values corrected for how many there are, so that any error is as rare as one alone.

    Reference: Holm, Scandinavian Journal of Statistics 6 (1979): the smallest p of m is multiplied
    by m, the next by m - 1, ..., and none is below the one before it.
    """
    order = np.argsort(p_values, kind="stable")
    scaled = np.asarray(p_values, dtype=np.float64)[order] * np.arange(len(order), 0, -1)
    adjusted = np.empty(len(order))
    adjusted[order] = np.minimum(np.maximum.accumulate(scaled), 1.0)
    return [float(p) for p in adjusted]


def p_value(differences: Floats) -> float | None:
    """Two-sided p of a bootstrap: twice the smaller share of resamples on one side of zero.

    One resample is added to each side, so that no finite number of them gives 0. Where all lie on
    one side, their number alone would limit p: the tail of the normal distribution with their mean
    and standard deviation says how far zero is, and is taken where it is smaller. None where a
    difference is not defined.

    Reference: Efron and Tibshirani, An Introduction to the Bootstrap (1993), chapters 13 and 16.
    """
    if not np.isfinite(differences).all():
        return None
    below, above = (differences <= 0).sum() + 1, (differences >= 0).sum() + 1
    share = float(min(1.0, 2 * min(below, above) / (len(differences) + 1)))
    if min(below, above) > 1 or len(differences) < FEWEST_FOR_TAIL:
        return share
    spread = float(differences.std(ddof=1))
    distance = abs(float(differences.mean())) / spread if spread > 0 else 0.0
    return min(share, math.erfc(distance / math.sqrt(2)))


def _compared(
    configuration: str,
    group: str,
    counts: Counts,
    ours: tuple[Floats, Floats],
    base: tuple[Floats, Floats],
) -> ComparisonRow:
    """A row from the AUC of each seed and over the resamples, of a configuration and the base."""
    aucs, resampled = ours
    low, high = interval(resampled)
    difference_low, difference_high = interval(resampled - base[1])
    ratio_low, ratio_high = interval(_rela_impr(resampled, base[1]))
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
        verdict=_verdict(difference_low, difference_high, counts),
        p_value=p_value(resampled - base[1]),
    )


def _rela_impr(auc: Floats, base_auc: Floats) -> Floats:
    return np.array([metrics.rela_impr(*pair) for pair in zip(auc, base_auc, strict=True)])


def _verdict(low: float | None, high: float | None, counts: Counts) -> Verdict:
    few = counts["users"] < _FEWEST_USERS or counts["positives"] < _FEWEST_POSITIVES
    if low is None or high is None or few:
        return "too few users to tell"
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
