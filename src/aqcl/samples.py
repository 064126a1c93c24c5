"""The samples of each split: rows of the log with their histories, and drawn negatives."""

from dataclasses import dataclass
from typing import Annotated, Any, Literal

import numpy as np
import numpy.typing as npt
import pydantic

from aqcl import negatives
from aqcl.config import settings
from aqcl.errors import DataError
from aqcl.schema import PADDING
from aqcl.sorted_log import SortedLog
from aqcl.splits import SPLITS, TEST, TRAIN
from aqcl.streams import derive_seed

Int8s = npt.NDArray[np.int8]
Int32s = npt.NDArray[np.int32]
Int64s = npt.NDArray[np.int64]

_MIN_ITEMS = 2
_GROUP_SHARES_PERCENT = (60, 90)


@settings
class NegativeSettings:
    """How negatives are drawn for a log of clicks; a log with labels takes none of this."""

    beta: Annotated[float, pydantic.Field(ge=0, le=2)] = 0.0
    """An item is drawn with weight (training clicks + 1)^beta; 0 is uniform."""
    ratio: Annotated[int, pydantic.Field(ge=1)] = 1
    """Negatives for each click."""
    train: Literal["frozen", "resampled"] = "frozen"
    """Whether the training negatives are drawn once or anew in every epoch."""
    exclude: Literal["train", "all"] = "train"
    """A training negative is none of the user's training clicks, or none of all clicks; one of
    valid or test is always none of all clicks."""
    seed: Annotated[int, pydantic.Field(ge=0)] = 0
    """Of the draws."""


@dataclass(frozen=True)
class Samples:
    """The samples of one split as columns."""

    row: Int64s
    """The row of the sorted log that each sample, or a negative's click, comes from."""
    item: Int32s
    label: Int8s
    users_without_negative: Int32s
    """Users who clicked all items, so that their clicks have no negatives."""


@dataclass(frozen=True)
class Histories:
    """The clicks before each row of the sorted log, as a range of all clicks."""

    clicks: Int32s
    start: Int64s
    length: Int32s


@dataclass(frozen=True)
class Sampler:
    """What the negatives of a log are drawn from."""

    cdf: negatives.Floats
    seen_in_train: Int64s
    """Sorted pairs that training negatives avoid."""
    seen: Int64s
    """Sorted pairs that the other negatives avoid."""


def histories(log: SortedLog, ties: Literal["exclude", "order"]) -> Histories:
    """The clicks strictly before each row: by time, or also by file order at one time."""
    clicked = log.label == 1
    before = np.cumsum(clicked, dtype=np.int64) - clicked
    new_user = np.diff(log.user, prepend=-1) != 0
    start = before[_last_true(new_user)]
    if ties == "exclude":
        new_time = new_user | (np.diff(log.timestamp, prepend=log.timestamp[0]) != 0)
        before = before[_last_true(new_time)]
    return Histories(log.item[clicked], start, (before - start).astype(np.int32))


def _last_true(marks: npt.NDArray[np.bool_]) -> Int64s:
    """The place of the last mark at or before each element; the first element is marked."""
    return np.maximum.accumulate(np.where(marks, np.arange(len(marks)), 0))


def make_sampler(log: SortedLog, negative: NegativeSettings) -> Sampler:
    """Weights and forbidden pairs of a log of clicks.

    Raises:
        DataError: the log has a single item.
    """
    if len(log.items.values) < _MIN_ITEMS:
        raise DataError(
            "the log has one item only, so no negative can be drawn; "
            "negatives need 2 or more items, or give a label column"
        )
    pairs = negatives.pack(log.user, log.item)
    seen = np.unique(pairs)
    return Sampler(
        cdf=negatives.cumulative_weights(log.train_clicks(log.item, log.items), negative.beta),
        seen_in_train=seen if negative.exclude == "all" else np.unique(pairs[log.part == TRAIN]),
        seen=seen,
    )


def take_samples(
    log: SortedLog, part: int, sampler: Sampler | None, negative: NegativeSettings
) -> Samples:
    """The samples of one split: rows in sorted order, each click followed by its negatives.

    Raises:
        DataError: all samples have one label.
    """
    rows = np.flatnonzero(log.part == part)
    if sampler is None:
        samples = Samples(rows, log.item[rows], log.label[rows], np.empty(0, dtype=np.int32))
    else:
        samples = _with_negatives(log, rows, part, sampler, negative)
    if samples.label.min() == samples.label.max():
        what, why = (
            ("clicks", "all its users clicked every item of the log" if sampler else "")
            if samples.label[0]
            else ("rows without a click", "")
        )
        raise DataError(
            f"split {SPLITS[part]} holds {len(rows)} rows, all of them {what}; it needs both "
            f"labels: {why or 'move the cuts of split or give more rows'}"
        )
    return samples


def _with_negatives(
    log: SortedLog, rows: Int64s, part: int, sampler: Sampler, negative: NegativeSettings
) -> Samples:
    row = np.repeat(rows, negative.ratio + 1)
    place = np.arange(len(row))
    drawn = place % (negative.ratio + 1) != 0
    item = log.item[row]
    item[drawn] = negatives.draw(
        log.user[row[drawn]],
        place[drawn],
        sampler.cdf,
        sampler.seen_in_train if part == TRAIN else sampler.seen,
        derive_seed(negative.seed, "negatives", step=part),
    )
    legal = item != PADDING
    return Samples(
        row=row[legal],
        item=item[legal],
        label=(~drawn[legal]).astype(np.int8),
        users_without_negative=np.unique(log.user[row[~legal]]),
    )


def describe(log: SortedLog, samples: list[Samples], past: Histories) -> dict[str, Any]:
    """Counts and rates of a dataset, as plain values for its manifest.

    Args:
        log: all rows.
        samples: of train, valid and test.
        past: the histories of all rows.
    """
    active = log.train_clicks(log.user, log.users)
    without = np.unique(np.concatenate([sample.users_without_negative for sample in samples]))
    by_split = dict(zip(SPLITS, samples, strict=True))
    n_known = log.items.size_known
    return {
        "counts": {
            "users": len(log.users.values),
            "items": len(log.items.values),
            "rows": len(log.user),
            "clicks": len(past.clicks),
            "splits": {name: _sizes(one, log) for name, one in by_split.items()},
        },
        "mean_activity": float(active[active > 0].mean()) if active.any() else 0.0,
        "unknown_items": {
            name: {
                kind: float((one.item[one.label == label] >= n_known).mean())
                for kind, label in (("positives", 1), ("negatives", 0))
            }
            for name, one in by_split.items()
        },
        "users_without_negative": len(without),
        "activity_thresholds": _thresholds(log, samples[TEST], past),
    }


def _sizes(samples: Samples, log: SortedLog) -> dict[str, int]:
    return {
        "rows": len(samples.row),
        "positives": int(samples.label.sum()),
        "users": len(np.unique(log.user[samples.row])),
    }


def _thresholds(log: SortedLog, test: Samples, past: Histories) -> list[int]:
    """The smallest activities that 60% and 90% of the test users do not exceed."""
    _, first = np.unique(log.user[test.row], return_index=True)
    activity = np.sort(past.length[test.row[first]])
    # The ceiling in integers: 0.6 * 5 is a little above 3 in floating point.
    places = [-(-share * len(activity) // 100) - 1 for share in _GROUP_SHARES_PERCENT]
    return [int(activity[place]) for place in places]
