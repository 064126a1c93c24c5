"""How likely a difference of AUC is by chance, alone and among many that were looked for."""

import math
from collections.abc import Sequence
from typing import Final

import numpy as np
import numpy.typing as npt

from aqcl.bootstrap import seed_variance, t_tail

Floats = npt.NDArray[np.float64]

SIGNIFICANCE: Final = 0.05
"""Of an interval of 95%, and of a corrected p-value."""
FEWEST_FOR_TAIL: Final = 100
"""Resamples, without which their standard deviation says little of a tail."""
FEWEST_TO_SCATTER: Final = 4
"""Seeds, without which chance too often makes them scatter much less than trainings do."""


def holm(p_values: Sequence[float], to_come: int = 0) -> list[float]:
    """P-values corrected for how many there are, so that any error is as rare as one alone.

    Args:
        p_values: of the differences that are known.
        to_come: differences of the same family that are not known yet. They count as if they were
            nothing, so that no verdict depends on what is looked at first.

    Reference: Holm, Scandinavian Journal of Statistics 6 (1979): the smallest p of m is multiplied
    by m, the next by m - 1, ..., and none is below the one before it.
    """
    order = np.argsort(p_values, kind="stable")
    scaled = np.asarray(p_values, dtype=np.float64)[order] * np.arange(
        len(order) + to_come, to_come, -1
    )
    adjusted = np.empty(len(order))
    adjusted[order] = np.minimum(np.maximum.accumulate(scaled), 1.0)
    return [float(p) for p in adjusted]


def p_value(differences: Floats, freedom: float = math.inf) -> float | None:
    """Two-sided p of a bootstrap: twice the smaller share of resamples on one side of zero.

    One resample is added to each side, so that no finite number of them gives 0. Where all lie on
    one side, their number alone would limit p: the tail of Student's distribution with their mean
    and standard deviation says how far zero is. With few degrees of freedom that tail is heavier
    than the share of resamples in it, and p is the larger of the two. None where a difference is
    not defined.

    Args:
        differences: over the resamples, spread so that 95% of them are a 95% interval.
        freedom: how many values stand behind their standard deviation; the fewer, the heavier the
            tail.

    Reference: Efron and Tibshirani, An Introduction to the Bootstrap (1993), chapters 13 and 16.
    """
    if not np.isfinite(differences).all():
        return None
    below, above = (differences <= 0).sum() + 1, (differences >= 0).sum() + 1
    share = float(min(1.0, 2 * min(below, above) / (len(differences) + 1)))
    spread = float(differences.std(ddof=1)) if len(differences) >= FEWEST_FOR_TAIL else 0.0
    crossed = min(below, above) > 1
    if spread == 0 or (crossed and math.isinf(freedom)):
        return share
    tail = t_tail(abs(float(differences.mean())) / spread, freedom)
    return max(share, tail) if crossed else tail


def seed_freedom(ours: Floats, base: Floats, differences: Floats, *, trained: bool = True) -> float:
    """Degrees of freedom of a difference whose variance is partly that of a few seeds.

    Two or three seeds may lie together by chance. They would then seem not to scatter, and the
    users, who are many, to be all that does: the difference has no more freedom than such seeds.

    Args:
        ours: a configuration's AUC with each seed.
        base: the base's; paired with ours where they are equally many.
        differences: over the resamples.
        trained: both were, so that a single one scatters as the several of the other do.

    Reference: Satterthwaite, Biometrics Bulletin 2 (1946).
    """
    parts = [ours - base] if len(ours) == len(base) else [ours, base]
    several = [part for part in parts if len(part) > 1]
    lone = trained and len(several) < len(parts) > 1
    # That of one training is that of the mean of S, times S.
    variances = [seed_variance(part) * (1 + len(part) if lone else 1) for part in several]
    weighted = sum(v**2 / (len(p) - 1) for v, p in zip(variances, several, strict=True))
    # The resamples hold this variance and the users', but for chance.
    total = max(float(differences.var(ddof=1)), sum(variances))
    freedom = total**2 / weighted if weighted > 0 else math.inf
    fewest = min(map(len, several), default=FEWEST_TO_SCATTER)
    return freedom if fewest >= FEWEST_TO_SCATTER else min(freedom, fewest - 1.0)
