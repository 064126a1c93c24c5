"""Measures of a ranking and of probabilities: arrays in, floats out.

All are computed over the rows given, never averaged over batches, and need the rows in no
particular order. A measure that the rows do not define (one class only) is NaN.
"""

from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from jaxtyping import Float, Shaped

from aqcl.errors import DataError

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.intp]
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
        DataError: a label or score that is not allowed.
    """
    positive = _checked(label, score)
    if len(score) == 0:
        return UNDEFINED
    order = np.argsort(score)
    weights = np.ones(len(score)) if weight is None else np.asarray(weight, dtype=np.float64)
    starts = _run_starts(score[order])
    positives = np.add.reduceat((weights * positive)[order], starts)
    negatives = np.add.reduceat((weights * (1 - positive))[order], starts)
    pairs = positives.sum() * negatives.sum()
    if pairs == 0:
        return UNDEFINED
    below = np.cumsum(negatives) - negatives
    return float(positives @ (below + negatives / 2) / pairs)


def logloss(label: Shaped[np.ndarray, " N"], probability: Shaped[np.ndarray, " N"]) -> float:
    """Mean binary cross-entropy, probabilities clipped to [1e-7, 1 - 1e-7].

    Returns:
        NaN if there are no rows.

    Raises:
        DataError: a label or probability that is not allowed.
    """
    positive = _checked(label, probability)
    if len(positive) == 0:
        return UNDEFINED
    p = np.clip(probability.astype(np.float64), _SMALLEST_PROBABILITY, 1 - _SMALLEST_PROBABILITY)
    return float(-np.mean(positive * np.log(p) + (1 - positive) * np.log1p(-p)))


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
        DataError: a label or score that is not allowed.
    """
    positive = _checked(label, score)
    if len(score) == 0:
        return UNDEFINED
    order = np.lexsort((score, user))
    users, scores, positive = user[order], score[order], positive[order]
    user_change = _run_starts(users)
    starts = np.union1d(user_change, _run_starts(scores))
    positives = np.add.reduceat(positive, starts)
    negatives = np.add.reduceat(1 - positive, starts)
    first = np.searchsorted(starts, user_change)
    below = np.cumsum(negatives) - negatives
    below -= np.repeat(below[first], np.diff(first, append=len(starts)))
    wins = np.add.reduceat(positives * (below + negatives / 2), first)
    n_positive = np.add.reduceat(positives, first)
    n_negative = np.add.reduceat(negatives, first)
    pairs = n_positive * n_negative
    both = pairs > 0
    if not both.any():
        return UNDEFINED
    weights = {
        "impressions": n_positive + n_negative,
        "positives": n_positive,
        "users": np.ones(len(pairs)),
    }
    return float(np.average(wins[both] / pairs[both], weights=weights[weight][both]))


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
    positive = _checked(label, probability)
    n_rows = len(positive)
    if n_rows == 0:
        return UNDEFINED
    order = np.argsort(probability)
    starts = _run_starts(probability[order])
    ends = np.append(starts[1:], n_rows)
    bin_of_run = (starts + ends) * bins // (2 * n_rows)
    surplus = np.add.reduceat((probability - positive)[order], starts)
    return float(np.abs(np.bincount(bin_of_run, weights=surplus)).sum() / n_rows)


def predicted_observed_ratio(
    label: Shaped[np.ndarray, " N"], probability: Shaped[np.ndarray, " N"]
) -> float:
    """Predicted clicks per observed click; 1 is calibrated on the whole.

    Returns:
        NaN if there is no click.

    Raises:
        DataError: a label or probability that is not allowed.
    """
    clicks = _checked(label, probability).sum()
    return float(probability.sum(dtype=np.float64) / clicks) if clicks else UNDEFINED


def _checked(label: npt.NDArray[Any], score: npt.NDArray[Any]) -> Float[np.ndarray, " N"]:
    """The labels as float64."""
    if label.shape != score.shape:
        raise DataError(f"expected a label for each score, got {label.shape} and {score.shape}")
    finite = np.isfinite(score)
    if not finite.all():
        row = int(np.argmin(finite))
        raise DataError(f"score, row {row}: expected a finite number, got {score[row]}")
    positive = label.astype(np.float64)
    allowed = (positive == 0) | (positive == 1)
    if not allowed.all():
        row = int(np.argmin(allowed))
        raise DataError(f"label, row {row}: expected 0 or 1, got {label[row]}")
    return positive


def _run_starts(values: npt.NDArray[Any]) -> Ints:
    """Where each run of equal values starts."""
    return np.flatnonzero(np.append(True, values[1:] != values[:-1]))
