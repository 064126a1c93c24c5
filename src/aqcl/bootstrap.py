"""AUC over resampled users: scores are sorted once, each resample only re-weights the rows.

A resample draws as many users as there are, with replacement; a user drawn twice counts with
all rows twice. Numbers do not depend on how the resamples are cut into chunks.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from jaxtyping import Bool, Float, Int, Num
from scipy.special import stdtr, stdtrit

from aqcl.numbering import Numbers, index_type, number_users, rows_by_score
from aqcl.predictions import Predictions
from aqcl.spill import Column, Spill
from aqcl.streams import derive_seed, numpy_stream

Interval = tuple[float | None, float | None]

_QUANTILES = (0.025, 0.975)
_NORMAL = 1e8  # degrees of freedom that make Student's t a normal distribution
_LARGE_ROWS, _LARGE_REPLICATES = 1_000_000, 200
_CHUNK_CELLS = 65_536  # rows times replicates: what stays in a processor's cache


@dataclass(frozen=True)
class Beaten:
    """Positives in the order of their scores, and how many negatives they beat."""

    user: Numbers
    n_negatives: Numbers
    counts: int
    """What a negative that is beaten counts: 2, or 1 where a positive is looked up twice."""


@dataclass(frozen=True)
class Ranking:
    """Positives and negatives of some rows in the order of their scores.

    Most positives tie with no negative and are looked up once. The others are looked up twice:
    among the negatives below them, and among those that are not above them.
    """

    negative_user: Numbers
    untied: Beaten
    tied: Beaten
    tied_or_beaten: Beaten
    """The positives of `tied` once more."""

    def auc(self, weights: Num[np.ndarray, "R U"]) -> Float[np.ndarray, " R"]:
        """The AUC under each row of user weights, exact with ties; NaN where undefined.

        Args:
            weights: how often each user counts; unsigned integers take the least time.
        """
        # Integers add up without rounding, so no order of summation changes a result.
        kind: npt.DTypeLike = np.uint64 if weights.dtype.kind == "u" else np.float64
        wins, total = np.zeros(len(weights), kind), np.zeros((len(weights), 1), kind)
        size = max(1, _CHUNK_CELLS // max(1, len(weights)))
        for start in range(0, len(self.negative_user), size):
            chunk = self.negative_user[start : start + size]
            negatives = np.cumsum(np.take(weights, chunk, axis=1), axis=1, dtype=kind)
            negatives += total
            total = negatives[:, -1:]
            for positives in (self.untied, self.tied, self.tied_or_beaten):
                # the positives whose last negative is in this chunk
                ends = np.array([start, start + len(chunk)], positives.n_negatives.dtype)
                first, last = np.searchsorted(positives.n_negatives, ends, side="right").tolist()
                for begin in range(first, last, size):
                    ours = slice(begin, min(begin + size, last))
                    beaten = np.take(negatives, positives.n_negatives[ours] - (start + 1), axis=1)
                    beaten *= np.take(weights, positives.user[ours], axis=1)
                    wins += positives.counts * beaten.sum(axis=1)
        drawn = np.zeros(len(weights), kind)
        for positives in (self.untied, self.tied):
            for start in range(0, len(positives.user), size):
                chunk = positives.user[start : start + size]
                drawn += np.take(weights, chunk, axis=1).sum(axis=1, dtype=kind)
        with np.errstate(invalid="ignore"):
            return np.asarray(wins / 2 / (drawn * total[:, 0]))


class _Ranker:
    """Makes a `Ranking` of rows that come in the order of their scores."""

    def __init__(self, n_rows: int) -> None:
        kind = index_type(n_rows)
        self.negative_user, self.untied_user, self.tied_user = (Spill(kind) for _ in range(3))
        self.untied, self.tied, self.tied_or_beaten = (Spill(kind) for _ in range(3))
        self.n_negatives = 0

    def add(self, user: Numbers, positive: Column, score: Column) -> None:
        """Rows above those that are there; ties come together."""
        # sorted positives make the look-ups into the negatives go forward in memory
        ours, theirs = score[positive], score[~positive]
        below = np.searchsorted(theirs, ours, side="left") + self.n_negatives
        not_above = np.searchsorted(theirs, ours, side="right") + self.n_negatives
        tied = below < not_above
        self.negative_user.append(user[~positive])
        self.untied_user.append(user[positive][~tied])
        self.tied_user.append(user[positive][tied])
        self.untied.append(below[~tied])
        self.tied.append(below[tied])
        self.tied_or_beaten.append(not_above[tied])
        self.n_negatives += len(theirs)

    def ranking(self) -> Ranking:
        tied_user = self.tied_user.array()
        return Ranking(
            self.negative_user.array(),
            untied=Beaten(self.untied_user.array(), self.untied.array(), counts=2),
            tied=Beaten(tied_user, self.tied.array(), counts=1),
            tied_or_beaten=Beaten(tied_user, self.tied_or_beaten.array(), counts=1),
        )


def rank(
    predictions: Predictions,
    user: Int[np.ndarray, " N"],
    masks: Sequence[Bool[np.ndarray, " N"]],
) -> list[Ranking]:
    """Put the rows of each mask in the order of their scores.

    Args:
        predictions: the rows.
        user: the user of each row, numbered from 0.
        masks: the rows that count.
    """
    rankers = [_Ranker(len(predictions)) for _ in masks]
    for rows in rows_by_score(predictions.score):
        for mask, ranker in zip(masks, rankers, strict=True):
            chosen = rows[mask[rows]]
            ranker.add(user[chosen], predictions.label[chosen] == 1, predictions.score[chosen])
    return [ranker.ranking() for ranker in rankers]


def affordable(replicates: int, n_rows: int) -> int:
    """`replicates`, but no more than 200 above a million rows."""
    return min(replicates, _LARGE_REPLICATES) if n_rows > _LARGE_ROWS else replicates


def resample_users(
    runs: Sequence[Predictions],
    masks: Sequence[Bool[np.ndarray, " N"]],
    replicates: int,
    seed: int,
) -> tuple[Float[np.ndarray, "runs masks"], Float[np.ndarray, "runs masks {replicates}"]]:
    """AUC of each run on the rows of each mask, and the same over resampled users.

    Args:
        runs: on the same rows; all see the same resamples.
        masks: groups of rows.
        replicates: number of resamples.
        seed: of the resampling.
    """
    user, n_users = number_users(runs[0].user)
    aucs = np.empty((len(runs), len(masks)))
    resampled = np.empty((len(runs), len(masks), replicates))
    size = max(1, _CHUNK_CELLS // max(1, len(user)))
    for r, run in enumerate(runs):  # one ranked run in memory at a time
        rankings = rank(run, user, masks)
        once = np.ones((1, n_users), dtype=np.uint8)
        aucs[r] = [ranking.auc(once)[0] for ranking in rankings]
        stream = numpy_stream(seed, "bootstrap")  # all runs see the same resamples
        for start in range(0, replicates, size):
            chunk = slice(start, min(start + size, replicates))
            weights = np.stack([_draw(stream, n_users) for _ in range(chunk.start, chunk.stop)])
            for m, ranking in enumerate(rankings):
                resampled[r, m, chunk] = ranking.auc(weights)
    return aucs, resampled


def _draw(stream: np.random.Generator, n_users: int) -> npt.NDArray[np.unsignedinteger[Any]]:
    """How often each user is drawn: multinomial with equal probabilities."""
    drawn = stream.integers(n_users, size=n_users, dtype=np.int32)
    times = np.bincount(drawn, minlength=n_users)
    # a byte in all but absurd cases: the weights of a million users then stay in the cache
    return times.astype(np.min_scalar_type(times.max(initial=0)))


def resample_seeds(aucs: Float[np.ndarray, "S masks R"], seed: int) -> Float[np.ndarray, "masks R"]:
    """Mean over the S seeds of a configuration, drawn with replacement for each resample.

    Configurations of the same S get the same draws, so that run i is paired with run i. Few seeds
    scatter too little when drawn from themselves, and say little of how much they do scatter: the
    draws are spread about the mean of all seeds by `seed_spread`. A single seed is itself: its
    resamples say nothing of other trainings.
    """
    n_seeds, _, replicates = aucs.shape
    stream = numpy_stream(seed, "bootstrap", epoch=n_seeds)
    drawn = stream.integers(n_seeds, size=(replicates, n_seeds))
    times = (drawn[:, :, None] == np.arange(n_seeds)).sum(axis=1)
    mean = aucs.mean(axis=0)
    means = np.einsum("smr,rs->mr", aucs, times) / n_seeds
    return np.asarray(mean + seed_spread(n_seeds) * (means - mean))


def one_training(
    aucs: Float[np.ndarray, " S"], replicates: int, seed: int
) -> Float[np.ndarray, " {replicates}"]:
    """How far a single training lies from the mean of all, if it scatters as these S seeds do.

    It scatters sqrt(S) times as far as their mean, which is drawn and spread as in
    `resample_seeds`, but by draws of its own.

    Args:
        aucs: of the seeds of another configuration, two or more.
        replicates: number of resamples.
        seed: of the resampling.
    """
    n_seeds = len(aucs)
    stream = np.random.default_rng(derive_seed(seed, "bootstrap", epoch=n_seeds, step=1))
    drawn = stream.integers(n_seeds, size=(replicates, n_seeds))
    means = aucs[drawn].mean(axis=1)
    return np.asarray(math.sqrt(n_seeds) * seed_spread(n_seeds) * (means - aucs.mean()))


def seed_spread(n_seeds: int) -> float:
    """By how much draws of `n_seeds` from themselves are spread: 9.2, 2.7, 1.6 for 2, 3, 5.

    The variance of a mean of S draws is (S - 1) / S of what it should be, and a 95% interval from
    S values reaches to Student's t with S - 1 degrees of freedom in place of 1.96.
    """
    if n_seeds == 1:
        return 1.0
    return (
        t_quantile(float(n_seeds - 1)) / t_quantile(math.inf) * math.sqrt(n_seeds / (n_seeds - 1))
    )


def seed_variance(aucs: Float[np.ndarray, " S"]) -> float:
    """Variance of the mean over drawn seeds, as `resample_seeds` spreads it; 0 for one seed."""
    return float(aucs.var()) / len(aucs) * seed_spread(len(aucs)) ** 2


def t_quantile(freedom: float) -> float:
    """Student's t that 2.5% of draws exceed."""
    return float(stdtrit(min(freedom, _NORMAL), _QUANTILES[1]))


def t_tail(distance: float, freedom: float) -> float:
    """How often chance is further from zero than `distance`, on either side.

    Args:
        distance: in standard deviations of which 1.96 are the half of a 95% interval, so that there
            it is 5% whatever the freedom.
        freedom: degrees of freedom; the fewer, the heavier the tail beyond.
    """
    t = distance * t_quantile(freedom) / t_quantile(math.inf)
    return float(2 * stdtr(min(freedom, _NORMAL), -t))


def interval(resampled: Float[np.ndarray, " R"]) -> Interval:
    """The 95% percentile interval; None where some resample has no value."""
    if len(resampled) == 0 or not np.isfinite(resampled).all():
        return None, None
    low, high = np.quantile(resampled, _QUANTILES)
    return float(low), float(high)
