"""Predictions measured by activity group, with intervals.

Intervals are 95% percentile intervals of a bootstrap over users, who keep all their rows.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise, zip_longest
from typing import Any, Final, TypedDict

import numpy as np
import numpy.typing as npt

from aqcl import metrics
from aqcl.activity import GROUPS, user_groups
from aqcl.bootstrap import affordable, interval, resample_seeds, resample_users
from aqcl.errors import DataError
from aqcl.numbering import Numbers, number_users, rows_by_score
from aqcl.predictions import Predictions
from aqcl.spill import Column, Spill, chunks, failures, made

Mask = npt.NDArray[np.bool_]

ALL: Final = "all"
"""Name of the group of all users."""
N_REPLICATES = 1000
"""Resamples of the users, unless a caller says otherwise."""


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

    @property
    def constant_logloss(self) -> float | None:
        """Logloss of the rows' own click rate for each of them, beside that of a probability."""
        if self.logloss is None:
            return None
        return defined(metrics.constant_logloss(self.positives, self.rows))


@dataclass(frozen=True)
class Evaluation:
    """Predictions of one run, measured on all users and on each activity group."""

    groups: tuple[GroupEvaluation, ...]
    thresholds: tuple[int, int] | None
    """The most clicks of the first two groups; None where groups are of no clicks."""
    replicates: int
    seed: int

    def __getitem__(self, group: str) -> GroupEvaluation:
        return next(entry for entry in self.groups if entry.group == group)

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return plain(self)

    @staticmethod
    def from_json(values: Mapping[str, Any]) -> "Evaluation":
        """The inverse of `to_json`."""
        groups = tuple(GroupEvaluation(**group) for group in values["groups"])
        return Evaluation(**{**values, "groups": groups, "thresholds": pair(values["thresholds"])})


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
    thresholds: tuple[int, int] | None,
    replicates: int = N_REPLICATES,
    seed: int = 0,
    masks: Mapping[str, Mask] | None = None,
) -> Evaluation:
    """Measure predictions on all users and on each activity group, or on other groups of rows.

    Args:
        predictions: all rows of a split, a user's earliest row first.
        thresholds: the most clicks of a non-active and of a slightly active user.
        replicates: resamples of the users; at most 200 are taken above a million rows.
        seed: of the resampling.
        masks: rows of each group, in place of those by the users' activity.
    """
    masks = masks or group_masks(predictions, thresholds)
    rows = list(masks.values())
    measures, counts = _measure(predictions, rows), count_rows(predictions, rows)
    replicates = affordable(replicates, len(predictions))
    aucs, resampled = resample_users([predictions], rows, replicates, seed)
    groups = []
    for g, name in enumerate(masks):
        low, high = interval(resampled[0, g])
        groups.append(
            GroupEvaluation(
                group=name,
                **counts[g],
                auc=defined(aucs[0, g]),
                auc_low=low,
                auc_high=high,
                **measures[g],
            )
        )
    return Evaluation(tuple(groups), thresholds, replicates, seed)


def auc_by_activity(
    seeds: Sequence[Predictions],
    edges: Sequence[int],
    replicates: int = N_REPLICATES,
    seed: int = 0,
) -> tuple[ActivityPoint, ...]:
    """AUC as a function of the clicks seen: each row counts by its own activity.

    Args:
        seeds: rows of a split as each training of one method scores them; the mean AUC is given,
            its interval over users and seeds.
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
    bins = np.searchsorted(lowest, seeds[0].activity, side="right") - 1
    masks = [bins == b for b in range(len(edges))]
    replicates = affordable(replicates, len(seeds[0]))
    aucs, of_seeds = resample_users(seeds, masks, replicates, seed)
    resampled = resample_seeds(of_seeds, seed)
    counts = count_rows(seeds[0], masks)
    points = []
    for b in range(len(edges)):
        low, high = interval(resampled[b].clip(0, 1))
        highest = int(edges[b + 1]) - 1 if b + 1 < len(edges) else None
        points.append(
            ActivityPoint(
                int(edges[b]),
                highest,
                **counts[b],
                auc=defined(aucs[:, b].mean()),
                auc_low=low,
                auc_high=high,
            )
        )
    return tuple(points)


class Counts(TypedDict):
    """How much stands behind a figure."""

    rows: int
    users: int
    positives: int


class _Measures(TypedDict):
    gauc: float | None
    logloss: float | None
    calibration_error: float | None
    predicted_observed_ratio: float | None


def group_masks(predictions: Predictions, thresholds: tuple[int, int] | None) -> dict[str, Mask]:
    """The rows of all users and of each activity group."""
    assert thresholds is not None, "activity groups have thresholds"
    return masks_of(user_groups(predictions.user, predictions.activity, thresholds), GROUPS)


def masks_of(group: Column, names: Sequence[str]) -> dict[str, Mask]:
    """The mask of all rows, and of those of each group, which have its number."""

    def mask(number: int) -> Mask:
        return made(np.bool_, len(group), lambda chunk: group[chunk] == number)

    return {ALL: every_row(len(group))} | {name: mask(g) for g, name in enumerate(names)}


def every_row(n_rows: int) -> Mask:
    """The mask of all rows, in no memory."""
    return np.broadcast_to(np.True_, n_rows)


def count_rows(predictions: Predictions, masks: Sequence[Mask]) -> list[Counts]:
    """Rows, users and positives of each mask."""
    user, n_users = number_users(predictions.user)
    return [
        {
            "rows": int(np.count_nonzero(mask)),
            "users": int(np.count_nonzero(_members(user, n_users, mask))),
            "positives": sum(
                int(np.count_nonzero(predictions.label[chunk][mask[chunk]]))
                for chunk in chunks(len(mask))
            ),
        }
        for mask in masks
    ]


def _members(user: Numbers, n_users: int, mask: Mask) -> Mask:
    """The users who have rows in a mask."""
    members = np.zeros(n_users, dtype=np.bool_)
    for chunk in chunks(len(mask)):
        members[user[chunk][mask[chunk]]] = True
    return members


def _measure(predictions: Predictions, masks: Sequence[Mask]) -> list[_Measures]:
    """What needs no resampling; GAUC only where a mask holds all rows of its users."""
    user, n_users = number_users(predictions.user)
    positive = made(np.bool_, len(user), lambda chunk: predictions.label[chunk] == 1)
    pairs = metrics.user_pairs(user, positive, predictions.score)
    ascending = _by_score(predictions, masks) if predictions.is_probability else []
    measured: list[_Measures] = []
    for mask, by_score in zip_longest(masks, ascending):
        members = _members(user, n_users, mask)
        whole = _has_all_rows(members, user, mask)
        measures: _Measures = {
            "gauc": defined(pairs.gauc(members=members)) if whole else None,
            "logloss": None,
            "calibration_error": None,
            "predicted_observed_ratio": None,
        }
        if by_score is not None:
            error = metrics.calibration_error_of_sorted(*by_score)
            measures["calibration_error"] = defined(error)
            labelled = _labelled(predictions, mask)
            measures["logloss"] = defined(metrics.logloss(*labelled))
            ratio = metrics.predicted_observed_ratio(*labelled)
            measures["predicted_observed_ratio"] = defined(ratio)
        measured.append(measures)
    return measured


def _has_all_rows(members: Mask, user: Numbers, mask: Mask) -> bool:
    """Whether a mask holds all rows of its users, and thus no others."""
    count, _ = failures(len(mask), lambda chunk: members[user[chunk]] == mask[chunk])
    return count == 0


def _labelled(predictions: Predictions, mask: Mask) -> tuple[Column, Column]:
    """Labels and scores of the rows of a mask, in the order of the rows."""
    if mask.all():
        return predictions.label, predictions.score
    label, score = Spill(np.int8), Spill(np.float64)
    for chunk in chunks(len(mask)):
        label.append(predictions.label[chunk][mask[chunk]])
        score.append(predictions.score[chunk][mask[chunk]])
    return label.array(), score.array()


def _by_score(predictions: Predictions, masks: Sequence[Mask]) -> list[tuple[Column, Column]]:
    """Whether the label is 1, and the score, of the rows of each mask in the scores' order."""
    columns = [(Spill(np.bool_), Spill(np.float64)) for _ in masks]
    for rows in rows_by_score(predictions.score):
        for mask, (positive, score) in zip(masks, columns, strict=True):
            chosen = rows[mask[rows]]
            positive.append(predictions.label[chosen] == 1)
            score.append(predictions.score[chosen])
    return [(positive.array(), score.array()) for positive, score in columns]


def defined(value: float | np.floating[Any]) -> float | None:
    """A number as JSON can hold it: None for NaN."""
    return float(value) if np.isfinite(value) else None


def pair(thresholds: Sequence[int] | None) -> tuple[int, int] | None:
    """Thresholds as read from JSON."""
    if thresholds is None:
        return None
    low, high = thresholds
    return low, high


def plain(result: Any) -> dict[str, Any]:
    """A dataclass as JSON would give it back: lists for tuples."""
    values: dict[str, Any] = json.loads(json.dumps(asdict(result), allow_nan=False))
    return values
