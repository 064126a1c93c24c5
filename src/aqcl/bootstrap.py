"""AUC over resampled users: scores are sorted once, each resample only re-weights the rows.

A resample draws as many users as there are, with replacement; a user drawn twice counts with
all rows twice. Numbers do not depend on how the resamples are cut into chunks.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from jaxtyping import Bool, Float

from aqcl.predictions import Predictions
from aqcl.streams import numpy_stream

Ints = npt.NDArray[np.intp]
Interval = tuple[float | None, float | None]

_QUANTILES = (0.025, 0.975)
_LARGE_ROWS, _LARGE_REPLICATES = 1_000_000, 200
_CHUNK_CELLS = 400_000  # rows times replicates: what stays in a processor's cache


@dataclass(frozen=True)
class Ranking:
    """Positives and negatives of some rows in the order of their scores."""

    positive_user: Ints
    negative_user: Ints
    n_below: Ints
    """Negatives that score below each positive."""
    n_not_above: Ints
    """Negatives that score below each positive or the same: ties."""

    def auc(self, weights: Float[np.ndarray, "R U"]) -> Float[np.ndarray, " R"]:
        """The AUC under each row of user weights, exact with ties; NaN where undefined."""
        negatives = np.zeros((len(weights), len(self.negative_user) + 1))
        np.cumsum(np.take(weights, self.negative_user, axis=1), axis=1, out=negatives[:, 1:])
        positives = np.take(weights, self.positive_user, axis=1)
        pairs = positives.sum(axis=1) * negatives[:, -1]
        wins = np.take(negatives, self.n_below, axis=1)
        wins += np.take(negatives, self.n_not_above, axis=1)
        wins *= positives
        with np.errstate(invalid="ignore"):
            return np.asarray(wins.sum(axis=1) / 2 / pairs)


def rank(predictions: Predictions, user: Ints, mask: Bool[np.ndarray, " N"]) -> Ranking:
    """Sort the rows of `mask`.

    Args:
        predictions: the rows.
        user: the user of each row, numbered from 0.
        mask: the rows that count.
    """
    positive = np.flatnonzero(mask & (predictions.label == 1))
    negative = np.flatnonzero(mask & (predictions.label == 0))
    # sorting the positives too makes the look-ups into `negatives` go forward in memory
    positive = positive[np.argsort(predictions.score[positive])]
    negative = negative[np.argsort(predictions.score[negative])]
    scores, ranked = predictions.score[positive], predictions.score[negative]
    return Ranking(
        positive_user=user[positive],
        negative_user=user[negative],
        n_below=np.searchsorted(ranked, scores, side="left"),
        n_not_above=np.searchsorted(ranked, scores, side="right"),
    )


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
    users, user = np.unique(runs[0].user, return_inverse=True)
    rankings = [[rank(run, user, mask) for mask in masks] for run in runs]
    once = np.ones((1, len(users)))
    aucs = np.array([[ranking.auc(once)[0] for ranking in of_run] for of_run in rankings])
    resampled = np.empty((len(runs), len(masks), replicates))
    stream = numpy_stream(seed, "bootstrap")
    size = max(1, _CHUNK_CELLS // max(1, len(user)))
    for start in range(0, replicates, size):
        chunk = slice(start, min(start + size, replicates))
        weights = np.stack([_draw(stream, len(users)) for _ in range(chunk.start, chunk.stop)])
        for r, of_run in enumerate(rankings):
            for m, ranking in enumerate(of_run):
                resampled[r, m, chunk] = ranking.auc(weights)
    return aucs, resampled


def _draw(stream: np.random.Generator, n_users: int) -> Float[np.ndarray, " U"]:
    """How often each user is drawn: multinomial with equal probabilities."""
    drawn = stream.integers(n_users, size=n_users, dtype=np.int32)
    return np.bincount(drawn, minlength=n_users).astype(np.float64)


def resample_seeds(aucs: Float[np.ndarray, "S masks R"], seed: int) -> Float[np.ndarray, "masks R"]:
    """Mean over the S seeds of a configuration, drawn with replacement for each resample.

    Configurations of the same S get the same draws, so that run i is paired with run i.
    """
    n_seeds, _, replicates = aucs.shape
    stream = numpy_stream(seed, "bootstrap", epoch=n_seeds)
    drawn = stream.integers(n_seeds, size=(replicates, n_seeds))
    times = (drawn[:, :, None] == np.arange(n_seeds)).sum(axis=1)
    return np.asarray(np.einsum("smr,rs->mr", aucs, times) / n_seeds)


def interval(resampled: Float[np.ndarray, " R"]) -> Interval:
    """The 95% percentile interval; None where some resample has no value."""
    if len(resampled) == 0 or not np.isfinite(resampled).all():
        return None, None
    low, high = np.quantile(resampled, _QUANTILES)
    return float(low), float(high)
