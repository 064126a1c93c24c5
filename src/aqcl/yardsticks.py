"""Scores that need no training: what a model must beat before it has learned anything.

All are fitted on training clicks only. They rank and are no probabilities: their logloss and
calibration mean nothing and are not reported.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import numpy.typing as npt
from jaxtyping import Float, Int
from scipy.sparse import csr_array
from scipy.stats import rankdata

from aqcl.dataset import Dataset
from aqcl.predictions import Predictions
from aqcl.schema import FIRST_ID, PADDING
from aqcl.splits import SplitName

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

POPULARITY_WEIGHT = 0.3
"""Of log(popularity) beside log(item-CF); anything in 0.15..1 does about as well."""
ATTRIBUTE_POPULARITY_WEIGHT = 0.5
"""Of log(popularity) beside attribute overlap; anything in 0.2..1 does about as well."""
CLICK_RATE_PRIOR = 20
"""Impressions with the click rate of all that an item is taken to have had before."""
SMALL_SIMILARITY = 1e-3
"""Stands in for no similarity under the logarithm: that of two items with a thousand users
each and one in common, so that candidates without any link rank below nearly all others."""

_CHUNK_PRODUCTS = 8_000_000  # pairs of clicks, or clicks of histories, held in memory at once


@dataclass(frozen=True)
class Candidates:
    """Rows to score: an item each, and the clicks before it as a range of all clicks."""

    item: Int[np.ndarray, " N"]
    clicks: Int[np.ndarray, " C"]
    """Items of all clicks; row i owns `clicks[start[i] : start[i] + length[i]]`."""
    start: Int[np.ndarray, " N"]
    length: Int[np.ndarray, " N"]

    def __len__(self) -> int:
        return len(self.item)

    def histories(self, rows: Ints) -> Iterator[tuple[Ints, Ints, Ints]]:
        """The clicks before some rows, in chunks of bounded size.

        Yields:
            Row numbers, the clicked items of all their histories, and for each click the
            position of its row among the row numbers.
        """
        lengths = self.length[rows].astype(np.int64)
        for begin, end in pairwise(_cuts(lengths)):
            length = lengths[begin:end]
            segment = np.repeat(np.arange(end - begin), length)
            first = self.start[rows[begin:end]] - (np.cumsum(length) - length)
            history = self.clicks[first[segment] + np.arange(len(segment))]
            yield rows[begin:end], history.astype(np.int64), segment


def popularity(
    item: Int[np.ndarray, " N"], item_count: Int[np.ndarray, " I"]
) -> Float[np.ndarray, " N"]:
    """log(1 + training clicks) of each item.

    Args:
        item: candidates.
        item_count: training clicks of every item.
    """
    return np.asarray(np.log1p(item_count[item].astype(np.float64)))


def clicked_first(
    popularity: Float[np.ndarray, " N"], candidates: Candidates
) -> Float[np.ndarray, " N"]:
    """Popularity, above all of it where the user has clicked the candidate before.

    A drawn negative is never an item that its user clicked, so that this gives labels away as far
    as users click items again. Models may see it, too: this tells how much there is to be had.

    Args:
        popularity: as `popularity` gives it.
        candidates: rows to score.
    """
    again = np.zeros(len(candidates), dtype=np.bool_)
    for rows, clicked, segment in candidates.histories(np.arange(len(candidates))):
        again[rows[segment[clicked == candidates.item[rows][segment]]]] = True
    return np.asarray(popularity + again * (popularity.max(initial=0.0) + 1))


def click_rate(
    item: Int[np.ndarray, " N"],
    train_item: Int[np.ndarray, " T"],
    train_label: Int[np.ndarray, " T"],
) -> Float[np.ndarray, " N"]:
    """Training clicks per training impression of each item, drawn to that of all where few.

    Args:
        item: candidates.
        train_item: item of each training impression.
        train_label: 1 where it was clicked.
    """
    n_items = 1 + max(int(item.max(initial=0)), int(train_item.max(initial=0)))
    shown = np.bincount(train_item, minlength=n_items)
    clicked = np.bincount(train_item, weights=train_label, minlength=n_items)
    prior = CLICK_RATE_PRIOR * float(np.mean(train_label))
    return np.asarray(((clicked + prior) / (shown + CLICK_RATE_PRIOR))[item])


def item_cf(
    train_user: Int[np.ndarray, " T"], train_item: Int[np.ndarray, " T"], candidates: Candidates
) -> Float[np.ndarray, " N"]:
    """Sum over the history of the cosine similarity between the clicked item and the candidate.

    The similarity of two items is the number of training users who clicked both, over the root
    of the product of their numbers of users. An item has no similarity with itself: negatives
    are never items that the user clicked, so a repeat purchase would give the label away.

    Args:
        train_user: user of each training click.
        train_item: item of each training click.
        candidates: rows to score.
    """
    n_items = 1 + max(
        int(a.max(initial=0)) for a in (train_item, candidates.item, candidates.clicks)
    )
    users, user = np.unique(train_user, return_inverse=True)
    ones = np.ones(len(user), dtype=np.float32)
    by_user = csr_array((ones, (user, train_item)), shape=(len(users), n_items))
    by_user.data[:] = 1  # clicks of one user on one item were added up
    by_item = by_user.T.tocsr()
    users_of_item = np.diff(by_item.indptr).astype(np.float64)
    norm = np.sqrt(np.maximum(users_of_item, 1))

    order = np.argsort(candidates.item, kind="stable")
    wanted, first = np.unique(candidates.item[order], return_index=True)
    row_bounds = np.append(first, len(order))
    products = (by_item @ np.diff(by_user.indptr).astype(np.float64))[wanted]
    scores = np.zeros(len(candidates))
    for begin, end in pairwise(_cuts(products)):
        block = wanted[begin:end]
        common = (by_item[block] @ by_user).tocsr()
        common.sort_indices()
        owner = np.repeat(np.arange(len(block)), np.diff(common.indptr))
        keys = owner * n_items + common.indices
        for rows, clicked, segment in candidates.histories(
            order[row_bounds[begin] : row_bounds[end]]
        ):
            item = candidates.item[rows]
            pairs = np.searchsorted(block, item)[segment] * n_items + clicked
            n_common = _look_up(keys, common.data, pairs)
            n_common[clicked == item[segment]] = 0
            sums = np.bincount(segment, weights=n_common / norm[clicked], minlength=len(rows))
            scores[rows] = sums / norm[item]
    return scores


def mix(
    item_cf: Float[np.ndarray, " N"], popularity: Float[np.ndarray, " N"]
) -> Float[np.ndarray, " N"]:
    """log(item-CF + small) + 0.3 log(popularity): what two counts know together.

    Args:
        item_cf: as `item_cf` gives it.
        popularity: as `popularity` gives it, logarithm taken.
    """
    return np.log(item_cf + SMALL_SIMILARITY) + POPULARITY_WEIGHT * popularity


def attribute_overlap(
    attributes: Int[np.ndarray, "I M"], candidates: Candidates
) -> Float[np.ndarray, " N"]:
    """Attributes that the candidate shares with a click, the rare ones counting more.

    A click adds the idf of each attribute it shares with the candidate: the log of described
    items per item that has it. The score is the mean over the history, 0 for an empty one. An
    earlier click on the candidate itself adds nothing, as in item-CF.

    Args:
        attributes: attribute ids of every item, padded with 0.
        candidates: rows to score.
    """
    n_items = len(attributes)
    item, column = np.nonzero(attributes != PADDING)
    shape = (n_items, int(attributes.max(initial=0)) + 1)
    ones = np.ones(len(item), dtype=np.float32)
    has = csr_array((ones, (item, attributes[item, column])), shape=shape)
    has.data[:] = 1
    items_with = np.asarray(has.sum(axis=0), dtype=np.float64)
    n_described = max(np.count_nonzero(np.diff(has.indptr)), 1)
    idf = np.log(n_described / np.maximum(items_with, 1))
    scores = np.zeros(len(candidates))
    for rows, clicked, segment in candidates.histories(np.arange(len(candidates))):
        clicks = (clicked != candidates.item[rows][segment]).astype(np.float32)
        history = csr_array((clicks, (segment, clicked)), shape=(len(rows), n_items)) @ has
        shared = history.multiply(has[candidates.item[rows]])
        scores[rows] = shared @ idf
    scores /= np.maximum(candidates.length, 1)
    return scores


def yardstick_predictions(dataset: Dataset, split_name: SplitName) -> dict[str, Predictions]:
    """Every yardstick that a dataset allows, on the rows of a split.

    Args:
        dataset: an opened dataset; attribute overlap needs item attributes.
        split_name: `train`, `valid` or `test`.

    Returns:
        Predictions by the name of the yardstick, `is_probability` false.
    """
    split = getattr(dataset, split_name)
    columns = split.columns
    candidates = Candidates(
        columns["item"], dataset.clicks, columns["history_start"], columns["history_length"]
    )
    train = dataset.train.columns
    clicked = np.asarray(train["label"]) == 1
    popular = popularity(candidates.item, dataset.item_count)
    similar = item_cf(train["user"][clicked], train["item"][clicked], candidates)
    scores = {
        "popularity": popular,
        "item-CF": similar,
        "item-CF + popularity": mix(similar, popular),
    }
    if dataset.protocol["labels"] == "impressions":
        scores["click rate"] = click_rate(candidates.item, train["item"], train["label"])
    else:
        first = clicked_first(popular, candidates)
        if (first != popular).any():  # else nobody clicked an item again
            scores["clicked before + popularity"] = first
    attributes = _item_attributes(dataset)
    if attributes.shape[1]:
        overlap = attribute_overlap(attributes, candidates)
        scores["attribute overlap"] = overlap
        scores["attribute overlap + popularity"] = overlap + ATTRIBUTE_POPULARITY_WEIGHT * popular
    return {
        name: Predictions(
            user=columns["user"],
            item=columns["item"],
            label=columns["label"],
            activity=columns["history_length"],
            # ranks keep order and ties, and lie in (0, 1)
            score=rankdata(score) / (len(score) + 1),
            is_probability=False,
        )
        for name, score in scores.items()
    }


def _item_attributes(dataset: Dataset) -> Ints:
    """All attributes of every item in one table, numbered across fields; unknown is none."""
    tables = [np.zeros((dataset.schema.n_item_entities, 0), dtype=np.int64)]
    shift = 0
    for field in dataset.schema.on("item"):
        if field.kind != "numeric":
            ids = dataset.attributes[field.name].astype(np.int64)
            ids = ids.reshape(len(ids), -1)
            tables.append(np.where(ids >= FIRST_ID, ids + shift, PADDING))
            shift += field.size
    return np.concatenate(tables, axis=1)


def _cuts(costs: npt.NDArray[np.int64] | Floats) -> Ints:
    """Bounds of chunks of about `_CHUNK_PRODUCTS` each, of at least one element."""
    chunk = np.cumsum(costs) // _CHUNK_PRODUCTS
    inner = np.flatnonzero(np.diff(chunk)) + 1
    return np.concatenate([[0], inner, [len(costs)]])


def _look_up(keys: Ints, values: npt.NDArray[np.float32], wanted: Ints) -> Floats:
    """The value at each wanted key, 0 where it is missing; keys ascend."""
    found = np.zeros(len(wanted))
    if len(keys):
        place = np.minimum(np.searchsorted(keys, wanted), len(keys) - 1)
        hit = keys[place] == wanted
        found[hit] = values[place[hit]]
    return found
