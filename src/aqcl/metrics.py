"""Measures of a ranking and of probabilities: arrays in, floats out.

All are computed over the rows given, never averaged over batches, and need the rows in no
particular order. A measure that the rows do not define (one class only) is NaN.
"""

import math
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Literal, get_args

import numpy as np
import numpy.typing as npt
from jaxtyping import Bool, Float, Int, Shaped

from aqcl.config import did_you_mean
from aqcl.errors import ConfigError, DataError
from aqcl.numbering import (
    Numbers,
    count_users,
    levels,
    number_users,
    parts_by_score,
    rows_by_user,
)
from aqcl.spill import failures, made

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.intp]
Bools = npt.NDArray[np.bool_]
UserWeight = Literal["impressions", "positives", "users"]

_SMALLEST_PROBABILITY = 1e-7
UNDEFINED = float("nan")


def auc(
    label: Shaped[np.ndarray, " N"],
    score: Shaped[np.ndarray, " N"],
    weight: Shaped[np.ndarray, " N"] | None = None,
) -> float:
    """Probability that a positive scores above a negative, ties counting one half.

    Args:
        label: 0 or 1.
        score: any finite numbers; only their order matters.
        weight: how often each row counts, 0 or more; once if not given.

    Returns:
        NaN if one of the classes has no weight.

    Raises:
        DataError: a label, score or weight that is not allowed.
    """
    positive = _checked(label, score)
    if len(score) == 0:
        return UNDEFINED
    if weight is None:
        return _auc_of_once(positive, score)
    order = np.argsort(score)
    weights = np.asarray(weight, dtype=np.float64)
    _check_length("weight", weights, score)
    allowed = (weights >= 0) & np.isfinite(weights)
    if not allowed.all():
        row = int(np.argmin(allowed))
        raise DataError(f"weight, row {row}: expected a number, 0 or more, got {weights[row]}")
    starts = _run_starts(score[order])
    positives = np.add.reduceat((weights * positive)[order], starts)
    negatives = np.add.reduceat((weights * ~positive)[order], starts)
    pairs = positives.sum() * negatives.sum()
    if pairs == 0:
        return UNDEFINED
    below = np.cumsum(negatives) - negatives
    return float(positives @ (below + negatives / 2) / pairs)


def _auc_of_once(positive: Bools, score: npt.NDArray[Any]) -> float:
    """AUC where each row counts once, in little memory beside the rows."""
    wins = n_positives = n_negatives = 0
    for rows in parts_by_score(score):
        ours, theirs = (np.sort(score[rows[positive[rows] == label]]) for label in (True, False))
        below, not_above = (int(np.searchsorted(theirs, ours, s).sum()) for s in ("left", "right"))
        wins += below + not_above + 2 * n_negatives * len(ours)
        n_positives += len(ours)
        n_negatives += len(theirs)
    pairs = n_positives * n_negatives
    return wins / 2 / pairs if pairs else UNDEFINED


def logloss(label: Shaped[np.ndarray, " N"], probability: Shaped[np.ndarray, " N"]) -> float:
    """Mean binary cross-entropy, probabilities clipped to [1e-7, 1 - 1e-7].

    Returns:
        NaN if there are no rows.

    Raises:
        DataError: a label or probability that is not allowed.
    """
    positive = _checked(label, probability, most=1.0)
    if len(positive) == 0:
        return UNDEFINED

    def log_likelihood(chunk: slice) -> Floats:
        p = probability[chunk].astype(np.float64)
        p = np.clip(p, _SMALLEST_PROBABILITY, 1 - _SMALLEST_PROBABILITY)
        return np.where(positive[chunk], np.log(p), np.log1p(-p))

    return float(-np.mean(made(np.float64, len(positive), log_likelihood)))


def constant_logloss(positives: int, rows: int) -> float:
    """Logloss of the one probability for all rows that suits them best: their own click rate.

    What a model's logloss is divided by in normalised entropy (He et al., Practical Lessons from
    Predicting Clicks on Ads at Facebook, section 2).

    Returns:
        NaN if there are no rows.
    """
    if rows == 0:
        return UNDEFINED
    rate = positives / rows
    return sum((-share * math.log(share) for share in (rate, 1 - rate) if 0 < share < 1), 0.0)


def gauc(
    user: Shaped[np.ndarray, " N"],
    label: Shaped[np.ndarray, " N"],
    score: Shaped[np.ndarray, " N"],
    weight: UserWeight = "impressions",
) -> float:
    """Mean of the users' own AUCs, over users who have both labels.

    Args:
        user: user of each row.
        label: 0 or 1.
        score: any finite numbers; only their order matters.
        weight: what a user's AUC is weighted by: their rows (`impressions`, the definition of
            FuxiCTR and of this package's tables), their clicks (`positives`, RecBole's) or
            equally (`users`, TorchEasyRec's).

    Returns:
        NaN if no user has both labels.

    Raises:
        ConfigError: an unknown weight.
        DataError: a label or score that is not allowed, or not one user for each.
    """
    if weight not in get_args(UserWeight):
        raise ConfigError(f"weight = '{weight}'; {did_you_mean(weight, get_args(UserWeight))}")
    positive = _checked(label, score)
    _check_length("user", user, score)
    if len(score) == 0:
        return UNDEFINED
    number, _ = number_users(user)
    return user_pairs(number, positive, score).gauc(weight)


@dataclass(frozen=True)
class UserPairs:
    """Of each user, the pairs of a positive and a negative: what GAUC is made of."""

    positives: Int[np.ndarray, " U"]
    negatives: Int[np.ndarray, " U"]
    wins: Float[np.ndarray, " U"]
    """Pairs whose positive scores higher, ties counting one half."""

    def gauc(
        self, weight: UserWeight = "impressions", members: Bool[np.ndarray, " U"] | None = None
    ) -> float:
        """Mean of the users' own AUCs, as `metrics.gauc` defines it.

        Args:
            weight: what a user's AUC is weighted by.
            members: the users who count; all if not given.
        """
        pairs = self.positives * self.negatives
        counted = pairs > 0 if members is None else members & (pairs > 0)
        if not counted.any():
            return UNDEFINED
        weights = {
            "impressions": self.positives + self.negatives,
            "positives": self.positives,
            "users": np.ones(len(pairs)),
        }[weight]
        return float(np.average(self.wins[counted] / pairs[counted], weights=weights[counted]))


def user_pairs(
    user: Int[np.ndarray, " N"],
    positive: Bool[np.ndarray, " N"],
    score: Shaped[np.ndarray, " N"],
) -> UserPairs:
    """Count the pairs of each user.

    Args:
        user: user of each row, numbered from 0 without gaps.
        positive: whether the row's label is 1.
        score: only its order matters.
    """
    n_users = int(user.max(initial=-1)) + 1
    found = [
        _pairs_of(user[rows] - first, positive[rows], score[rows], end - first)
        for first, end, rows in rows_by_user(user, count_users(user, n_users))
    ]
    return UserPairs(*map(np.concatenate, zip(*found, strict=True)))


def _pairs_of(
    user: Numbers, positive: Bools, score: npt.NDArray[Any], n_users: int
) -> tuple[Ints, Ints, Floats]:
    """Positives, negatives and wins of users whose rows are all here."""
    order = np.argsort(score)
    user, positive, level = user[order], positive[order], levels(score[order])
    n_levels = int(level.max(initial=0)) + 1
    # One key in the place of two columns; below N * N, so that 64 bits hold it for any N below
    # three billion. Sorting it sorts each user's rows by score.
    key = user.astype(np.int64)
    key *= n_levels
    key += level
    ours, theirs = key[positive], key[~positive]
    del key
    ours.sort()
    theirs.sort()
    starts = np.searchsorted(theirs, np.arange(n_users + 1) * n_levels)
    beaten = np.searchsorted(theirs, ours, side="left")
    beaten += np.searchsorted(theirs, ours, side="right")
    ours //= n_levels
    positives = np.bincount(ours, minlength=n_users)
    # the negatives of the users before are in `beaten` too
    wins = np.bincount(ours, weights=beaten, minlength=n_users) / 2 - positives * starts[:-1]
    return positives, np.diff(starts), wins


def rela_impr(auc: float, base_auc: float) -> float:
    """Relative improvement over a base model in percent: how much further from chance.

    Reference: arXiv 2109.13921, section 5.2.3, equation 9.

    Returns:
        NaN if the base is not better than chance, where the ratio means nothing.
    """
    if not base_auc > 0.5:
        return UNDEFINED
    return ((auc - 0.5) / (base_auc - 0.5) - 1) * 100


def expected_calibration_error(
    label: Shaped[np.ndarray, " N"], probability: Shaped[np.ndarray, " N"], bins: int = 10
) -> float:
    """Mean distance between predicted and observed click rate over bins of equal mass.

    Rows are ranked by probability and cut into `bins` bins of (nearly) the same number of
    rows; rows of one probability share the bin of their mean rank. Bins weigh by their rows.

    Returns:
        NaN if there are no rows.

    Raises:
        DataError: a label or probability that is not allowed.
    """
    positive = _checked(label, probability, most=1.0)
    order = np.argsort(probability)
    return calibration_error_of_sorted(positive[order], probability[order], bins)


def calibration_error_of_sorted(
    positive: Bool[np.ndarray, " N"], probability: Shaped[np.ndarray, " N"], bins: int = 10
) -> float:
    """`expected_calibration_error` of rows whose probabilities ascend.

    Args:
        positive: whether the row's label is 1.
        probability: ascending.
        bins: of equal mass.
    """
    n_rows = len(positive)
    if n_rows == 0:
        return UNDEFINED
    cuts = equal_mass_cuts(probability, bins)

    def surplus(chunk: slice) -> Floats:
        found: Floats = np.subtract(probability[chunk], positive[chunk], dtype=np.float64)
        return found

    of_rows = made(np.float64, n_rows, surplus)
    return float(sum(abs(of_rows[begin:end].sum()) for begin, end in pairwise(cuts)) / n_rows)


def equal_mass_cuts(probability: Shaped[np.ndarray, " N"], bins: int) -> list[int]:
    """Where bins of (nearly) the same number of rows begin, and where the last one ends.

    Rows of one probability share the bin of their mean rank, so that a bin may be empty.

    Args:
        probability: ascending, at least one.
        bins: how many.

    Returns:
        `bins` + 1 numbers of rows, ascending, from 0 to N.
    """
    n_rows = len(probability)
    cuts = [0]
    for b in range(1, bins):
        # the row where the bin would start, but for ties: they stay together
        tied = probability[n_rows * b // bins]
        start, end = (int(np.searchsorted(probability, tied, side)) for side in ("left", "right"))
        cuts.append(start if (start + end) * bins >= 2 * n_rows * b else end)
    return [*cuts, n_rows]


def predicted_observed_ratio(
    label: Shaped[np.ndarray, " N"], probability: Shaped[np.ndarray, " N"]
) -> float:
    """Predicted clicks per observed click; 1 is calibrated on the whole.

    Returns:
        NaN if there is no click.

    Raises:
        DataError: a label or probability that is not allowed.
    """
    clicks = _checked(label, probability, most=1.0).sum()
    return float(probability.sum(dtype=np.float64) / clicks) if clicks else UNDEFINED


def _checked(
    label: npt.NDArray[Any], score: npt.NDArray[Any], *, most: float = math.inf
) -> npt.NDArray[np.bool_]:
    """Which labels are 1; scores that are probabilities are at `most` 1 and no less than 0."""
    if label.shape != score.shape:
        raise DataError(f"expected a label for each score, got {label.shape} and {score.shape}")
    n_rows = len(score)
    count, row = failures(n_rows, lambda chunk: np.isfinite(score[chunk]))
    if count:
        raise DataError(f"score, row {row}: expected a finite number, got {score[row]}")
    if most < math.inf:
        count, row = failures(n_rows, lambda chunk: (score[chunk] >= 0) & (score[chunk] <= most))
        if count:
            raise DataError(
                f"probability, row {row}: expected a number in [0, 1], got {score[row]}; those of "
                "logits are 1 / (1 + exp(-logit))"
            )
    count, row = failures(n_rows, lambda chunk: (label[chunk] == 1) | (label[chunk] == 0))
    if count:
        raise DataError(f"label, row {row}: expected 0 or 1, got {label[row]}")
    return made(np.bool_, n_rows, lambda chunk: label[chunk] == 1)


def _check_length(name: str, column: npt.NDArray[Any], score: npt.NDArray[Any]) -> None:
    if column.shape != score.shape:
        raise DataError(f"expected a {name} for each score, got {column.shape} and {score.shape}")


def _run_starts(values: npt.NDArray[Any]) -> Ints:
    """Where each run of equal values starts."""
    return np.flatnonzero(np.append(True, values[1:] != values[:-1]))
