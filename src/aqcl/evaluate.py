"""Predictions measured by activity group, with intervals; configurations compared in pairs.

Intervals are 95% percentile intervals of a bootstrap over users, who keep all their rows. All
runs that are compared share the resampled users, so that what is common to them cancels.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import pairwise
from typing import Any, Final, Literal, TypedDict

import numpy as np
import numpy.typing as npt

from aqcl import metrics
from aqcl.activity import GROUPS, user_groups
from aqcl.bootstrap import affordable, interval, resample_seeds, resample_users
from aqcl.config import choose
from aqcl.errors import DataError
from aqcl.predictions import Predictions

Floats = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]
Verdict = Literal["base", "better", "worse", "no difference shown", "too few users to tell"]

ALL: Final = "all"
"""Name of the group of all users."""
N_REPLICATES = 1000
"""Resamples of the users, unless a caller says otherwise."""

_FEWEST_USERS, _FEWEST_POSITIVES = 100, 50


@dataclass(frozen=True)
class GroupEvaluation:
    """What was measured on one group; None where the group's rows do not define it."""

    group: str
    rows: int
    users: int
    positives: int
    auc: float | None
    auc_low: float | None
    auc_high: float | None
    gauc: float | None
    """Weighted by impressions."""
    logloss: float | None
    """This and what follows are None where the score is no probability."""
    calibration_error: float | None
    predicted_observed_ratio: float | None


@dataclass(frozen=True)
class Evaluation:
    """Predictions of one run, measured on all users and on each activity group."""

    groups: tuple[GroupEvaluation, ...]
    thresholds: tuple[int, int]
    replicates: int
    seed: int

    def __getitem__(self, group: str) -> GroupEvaluation:
        return next(entry for entry in self.groups if entry.group == group)

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return _plain(self)

    @staticmethod
    def from_json(values: Mapping[str, Any]) -> "Evaluation":
        """The inverse of `to_json`."""
        groups = tuple(GroupEvaluation(**group) for group in values["groups"])
        low, high = values["thresholds"]
        return Evaluation(**{**values, "groups": groups, "thresholds": (low, high)})


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
        return _plain(self)

    @staticmethod
    def from_json(values: Mapping[str, Any]) -> "Comparison":
        """The inverse of `to_json`."""
        rows = tuple(ComparisonRow(**row) for row in values["rows"])
        low, high = values["thresholds"]
        return Comparison(**{**values, "rows": rows, "thresholds": (low, high)})


@dataclass(frozen=True)
class ActivityPoint:
    """AUC over the rows whose own activity lies in `lowest`..`highest`."""

    lowest: int
    highest: int | None
    """None: no bound."""
    rows: int
    users: int
    positives: int
    auc: float | None
    auc_low: float | None
    auc_high: float | None


def evaluate(
    predictions: Predictions,
    thresholds: tuple[int, int],
    replicates: int = N_REPLICATES,
    seed: int = 0,
) -> Evaluation:
    """Measure predictions on all users and on each activity group.

    Args:
        predictions: all rows of a split, a user's earliest row first.
        thresholds: the most clicks of a non-active and of a slightly active user.
        replicates: resamples of the users; at most 200 are taken above a million rows.
        seed: of the resampling.
    """
    masks = _group_masks(predictions, thresholds)
    replicates = affordable(replicates, len(predictions))
    aucs, resampled = resample_users([predictions], list(masks.values()), replicates, seed)
    groups = []
    for g, (name, mask) in enumerate(masks.items()):
        low, high = interval(resampled[0, g])
        groups.append(
            GroupEvaluation(
                group=name,
                **_counts(predictions, mask),
                auc=_defined(aucs[0, g]),
                auc_low=low,
                auc_high=high,
                **_measures(predictions, mask),
            )
        )
    return Evaluation(tuple(groups), thresholds, replicates, seed)


def compare(
    configurations: Mapping[str, Sequence[Predictions]],
    base: str,
    thresholds: tuple[int, int],
    replicates: int = N_REPLICATES,
    seed: int = 0,
) -> Comparison:
    """Compare configurations, each run with one or more seeds, against one of them.

    Users are resampled, the same ones for all runs, and then the seeds of each configuration;
    configurations with the same number of seeds share the choice, run i standing beside run i.

    Args:
        configurations: the predictions of each seed, on the same rows in the same order.
        base: name of the configuration that the others are compared with.
        thresholds: the most clicks of a non-active and of a slightly active user.
        replicates: resamples; at most 200 are taken above a million rows.
        seed: of the resampling.

    Raises:
        ConfigError: there is no configuration called `base`.
        DataError: a configuration without runs, or runs on different rows.
    """
    choose(configurations, base, "base")
    first = _check_rows(configurations, base)
    masks = _group_masks(first, thresholds)
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
    for g, (group, mask) in enumerate(masks.items()):
        counts = _counts(first, mask)
        base_aucs = measured[base][0][:, g], measured[base][1][g]
        for name, (own, own_resampled) in measured.items():
            row = _compared(name, group, counts, (own[:, g], own_resampled[g]), base_aucs)
            rows.append(replace(row, verdict="base") if name == base else row)
    return Comparison(tuple(rows), base, thresholds, replicates, seed)


def auc_by_activity(
    predictions: Predictions,
    edges: Sequence[int],
    replicates: int = N_REPLICATES,
    seed: int = 0,
) -> tuple[ActivityPoint, ...]:
    """AUC as a function of the clicks seen: each row counts by its own activity.

    Args:
        predictions: rows of a split.
        edges: the lowest activity of each bin, ascending; the last bin has no upper bound and
            rows below the first edge are left out.
        replicates: resamples of the users; at most 200 are taken above a million rows.
        seed: of the resampling.

    Raises:
        DataError: the edges do not ascend.
    """
    if not edges or any(a >= b for a, b in pairwise(edges)):
        raise DataError(f"activity edges: expected ascending integers, got {list(edges)}")
    lowest = np.asarray(edges)
    bins = np.searchsorted(lowest, predictions.activity, side="right") - 1
    masks = [bins == b for b in range(len(edges))]
    replicates = affordable(replicates, len(predictions))
    aucs, resampled = resample_users([predictions], masks, replicates, seed)
    points = []
    for b, mask in enumerate(masks):
        low, high = interval(resampled[0, b])
        highest = int(edges[b + 1]) - 1 if b + 1 < len(edges) else None
        counts = _counts(predictions, mask)
        points.append(
            ActivityPoint(
                int(edges[b]),
                highest,
                **counts,
                auc=_defined(aucs[0, b]),
                auc_low=low,
                auc_high=high,
            )
        )
    return tuple(points)


class _Counts(TypedDict):
    rows: int
    users: int
    positives: int


class _Measures(TypedDict):
    gauc: float | None
    logloss: float | None
    calibration_error: float | None
    predicted_observed_ratio: float | None


def _group_masks(predictions: Predictions, thresholds: tuple[int, int]) -> dict[str, Mask]:
    groups = user_groups(predictions.user, predictions.activity, thresholds)
    masks = {ALL: np.ones(len(predictions), dtype=np.bool_)}
    return masks | {name: groups == g for g, name in enumerate(GROUPS)}


def _counts(predictions: Predictions, mask: Mask) -> _Counts:
    return {
        "rows": int(np.count_nonzero(mask)),
        "users": len(np.unique(predictions.user[mask])),
        "positives": int(np.count_nonzero(predictions.label[mask])),
    }


def _measures(predictions: Predictions, mask: Mask) -> _Measures:
    user, label = predictions.user[mask], predictions.label[mask]
    score = predictions.score[mask]
    probable = predictions.is_probability
    return {
        "gauc": _defined(metrics.gauc(user, label, score)),
        "logloss": _defined(metrics.logloss(label, score)) if probable else None,
        "calibration_error": (
            _defined(metrics.expected_calibration_error(label, score)) if probable else None
        ),
        "predicted_observed_ratio": (
            _defined(metrics.predicted_observed_ratio(label, score)) if probable else None
        ),
    }


def _compared(
    configuration: str,
    group: str,
    counts: _Counts,
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
        auc=_defined(aucs.mean()),
        auc_low=low,
        auc_high=high,
        auc_sd=_defined(aucs.std(ddof=1)) if len(aucs) > 1 else None,
        difference=_defined(aucs.mean() - base[0].mean()),
        difference_low=difference_low,
        difference_high=difference_high,
        rela_impr=_defined(metrics.rela_impr(float(aucs.mean()), float(base[0].mean()))),
        rela_impr_low=ratio_low,
        rela_impr_high=ratio_high,
        verdict=_verdict(difference_low, difference_high, counts),
    )


def _rela_impr(auc: Floats, base_auc: Floats) -> Floats:
    return np.array([metrics.rela_impr(*pair) for pair in zip(auc, base_auc, strict=True)])


def _verdict(low: float | None, high: float | None, counts: _Counts) -> Verdict:
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
    for column in ("user", "item", "label", "activity"):
        wanted, got = getattr(expected, column), getattr(run, column)
        if not np.array_equal(wanted, got):
            row = int(np.argmax(wanted != got))
            return f"column {column}, row {row}: got {got[row]}, expected {wanted[row]}"
    return ""


def _defined(value: float | np.floating[Any]) -> float | None:
    return float(value) if np.isfinite(value) else None


def _plain(result: Evaluation | Comparison) -> dict[str, Any]:
    """As JSON would give it back: lists for tuples."""
    plain: dict[str, Any] = json.loads(json.dumps(asdict(result), allow_nan=False))
    return plain
