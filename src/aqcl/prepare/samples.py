"""The samples of each split: rows of the log with their histories, and drawn negatives."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import numpy as np
import numpy.typing as npt
import pydantic

from aqcl import negatives
from aqcl.config import settings
from aqcl.errors import DataError
from aqcl.prepare.repeats import Repeats
from aqcl.prepare.sorted_log import Entities, Numbering, SortedLog
from aqcl.schema import PADDING
from aqcl.splits import SPLITS, TEST, TRAIN
from aqcl.streams import derive_seed
from aqcl.thresholds import group_thresholds

Int8s = npt.NDArray[np.int8]
Int32s = npt.NDArray[np.int32]
Int64s = npt.NDArray[np.int64]
Facts = dict[str, Any]

_MIN_ITEMS = 2


@settings
class NegativeSettings:
    """How negatives are drawn for a log of clicks; a log with labels takes none of this."""

    beta: Annotated[float, pydantic.Field(ge=0, le=2)] = 0.0
    """An item is drawn with weight (training clicks + 1)^beta; 0 is uniform. Ta Feng has 0.75 by
    default."""
    train_items: Literal["clicked", "all"] = "clicked"
    """What training negatives are drawn from: the items that training rows click, or all of the
    log. With `all` the model learns that an unknown item is never clicked, from items that only
    later rows hold; negatives of valid and test are always drawn from all."""
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
    """The samples of one split that come from a block, as columns."""

    row: Int64s
    """The row of the block that each sample, or a negative's click, comes from."""
    item: Int32s
    label: Int8s
    users_without_negative: Int32s
    """Users who clicked all items, so that their clicks have no negatives."""


@dataclass(frozen=True)
class Histories:
    """The clicks before each row of a block, as a range of all clicks of the log."""

    clicks: Int32s
    """Those of the block."""
    start: Int64s
    length: Int32s


@dataclass(frozen=True)
class Chances:
    """Cumulative probabilities of drawing each item of a log of clicks."""

    train: negatives.Floats
    held_out: negatives.Floats
    """Of valid and test."""


@dataclass(frozen=True)
class Sampler:
    """What the negatives of a block are drawn from."""

    chances: Chances
    seen_in_train: Int64s
    """Sorted pairs that training negatives avoid."""
    seen: Int64s
    """Sorted pairs that the other negatives avoid."""


@dataclass(frozen=True)
class Summary:
    """Counts of the samples of one split, or of a block of it."""

    rows: int
    positives: int
    users: int
    unknown_positives: int
    """Positives whose item has no id of its own, being too rare in training."""
    unknown_negatives: int
    copies: int
    """Rows of the log with the user, item, time and label of an earlier one."""
    again: int
    """Clicks on an item that their history holds; not counted in a log with labels."""
    users_without_negative: Int32s
    activity: Int32s
    """Clicks of each user before the first sample."""


def histories(log: SortedLog, ties: Literal["exclude", "order"], first_click: int = 0) -> Histories:
    """The clicks strictly before each row: by time, or also by file order at one time.

    Args:
        log: a block.
        ties: see `SplitSettings`.
        first_click: clicks of the log before the block.
    """
    clicked = log.label == 1
    before = np.cumsum(clicked, dtype=np.int64) - clicked
    new_user = np.diff(log.user, prepend=-1) != 0
    start = before[_last_true(new_user)]
    if ties == "exclude":
        new_time = new_user | (np.diff(log.timestamp, prepend=log.timestamp[0]) != 0)
        before = before[_last_true(new_time)]
    length = (before - start).astype(np.int32)
    return Histories(log.item[clicked], start + first_click, length)


def _last_true(marks: npt.NDArray[np.bool_]) -> Int64s:
    """The place of the last mark at or before each element; the first element is marked."""
    return np.maximum.accumulate(np.where(marks, np.arange(len(marks)), 0))


def chances_of(items: Entities, negative: NegativeSettings) -> Chances:
    """How likely each item of a log of clicks is drawn.

    Raises:
        DataError: the log has a single item.
    """
    if len(items.vocabulary.values) < _MIN_ITEMS:
        raise DataError(
            "the log has one item only, so no negative can be drawn; "
            "negatives need 2 or more items, or give a label column"
        )
    counts, clicked = items.train_clicks, negative.train_items == "clicked"
    return Chances(
        train=negatives.cumulative_weights(counts, negative.beta, clicked=clicked),
        held_out=negatives.cumulative_weights(counts, negative.beta),
    )


def make_sampler(log: SortedLog, chances: Chances, negative: NegativeSettings) -> Sampler:
    """Weights and forbidden pairs of a block; those of all blocks, joined, are sorted too."""
    pairs = negatives.pack(log.user, log.item)
    seen = np.unique(pairs)
    in_train = seen if negative.exclude == "all" else np.unique(pairs[log.part == TRAIN])
    return Sampler(chances, in_train, seen)


def take_samples(
    log: SortedLog, part: int, sampler: Sampler | None, negative: NegativeSettings, first_row: int
) -> Samples:
    """The samples of one split: rows in sorted order, each click followed by its negatives.

    Args:
        log: a block.
        part: an index of `SPLITS`.
        sampler: of the block; None for a log with labels.
        negative: the settings.
        first_row: rows of the split before the block; it places the draws.
    """
    rows = np.flatnonzero(log.part == part)
    if sampler is None:
        return Samples(rows, log.item[rows], log.label[rows], np.empty(0, dtype=np.int32))
    row = np.repeat(rows, negative.ratio + 1)
    place = first_row * (negative.ratio + 1) + np.arange(len(row))
    drawn = place % (negative.ratio + 1) != 0
    item = log.item[row]
    item[drawn] = negatives.draw(
        log.user[row[drawn]],
        place[drawn],
        sampler.chances.train if part == TRAIN else sampler.chances.held_out,
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


def summarise(
    samples: Samples, log: SortedLog, past: Histories, n_known: int, repeats: Repeats
) -> Summary:
    """Count the samples of a block; items from `n_known` on have no id of their own."""
    _, first = np.unique(log.user[samples.row], return_index=True)
    positive, unknown = samples.label == 1, samples.item >= n_known
    return Summary(
        rows=len(positive),
        positives=int(positive.sum()),
        users=len(first),
        unknown_positives=int((unknown & positive).sum()),
        unknown_negatives=int((unknown & ~positive).sum()),
        copies=int(repeats.copy[samples.row[np.diff(samples.row, prepend=-1) > 0]].sum()),
        again=int(repeats.again[samples.row[positive]].sum()),
        users_without_negative=samples.users_without_negative,
        activity=past.length[samples.row[first]],
    )


def total(summaries: Sequence[Summary]) -> Summary:
    """The summary of all blocks of a split."""
    return Summary(
        rows=sum(one.rows for one in summaries),
        positives=sum(one.positives for one in summaries),
        users=sum(one.users for one in summaries),
        unknown_positives=sum(one.unknown_positives for one in summaries),
        unknown_negatives=sum(one.unknown_negatives for one in summaries),
        copies=sum(one.copies for one in summaries),
        again=sum(one.again for one in summaries),
        users_without_negative=np.concatenate([one.users_without_negative for one in summaries]),
        activity=np.concatenate([one.activity for one in summaries]),
    )


def check_labels(
    split: str, found: Summary, n_rows: int, negative: NegativeSettings | None
) -> None:
    """Check that a split can be learnt or evaluated.

    Args:
        split: its name.
        found: its samples.
        n_rows: rows of the log that it holds.
        negative: how its negatives were drawn; None for labels of the log.

    Raises:
        DataError: all samples have one label.
    """
    if 0 < found.positives < found.rows:
        return
    what, why = "rows without a click", ""
    if found.positives:
        what = "clicks"
        if negative is not None:
            clicked = split == SPLITS[TRAIN] and negative.train_items == "clicked"
            pool = "that training rows click" if clicked else "of the log"
            why = f"all its users clicked every item {pool}"
    raise DataError(
        f"split {split} holds {n_rows} rows, all of them {what}; it needs both "
        f"labels: {why or 'move the cuts of split or give more rows'}"
    )


def describe(numbering: Numbering, n_rows: int, n_clicks: int, found: Sequence[Summary]) -> Facts:
    """Counts and rates of a dataset, as plain values for its manifest.

    Args:
        numbering: users and items of the log.
        n_rows: of the log.
        n_clicks: of the log.
        found: the samples of train, valid and test.
    """
    users, items = numbering.users, numbering.items
    active = users.train_clicks[users.train_clicks > 0]
    without = np.unique(np.concatenate([one.users_without_negative for one in found]))
    by_split = dict(zip(SPLITS, found, strict=True))
    return {
        "counts": {
            "users": len(users.vocabulary.values),
            "items": len(items.vocabulary.values),
            "rows": n_rows,
            "clicks": n_clicks,
            "splits": {
                name: {"rows": one.rows, "positives": one.positives, "users": one.users}
                for name, one in by_split.items()
            },
        },
        "mean_activity": float(active.mean()) if len(active) else 0.0,
        "unknown_items": {
            name: {
                "positives": one.unknown_positives / one.positives,
                "negatives": one.unknown_negatives / (one.rows - one.positives),
            }
            for name, one in by_split.items()
        },
        "users_without_negative": len(without),
        "activity_thresholds": list(group_thresholds(found[TEST].activity)),
        "copies": sum(one.copies for one in found),
        "clicked_again": {name: one.again / one.positives for name, one in by_split.items()},
    }
