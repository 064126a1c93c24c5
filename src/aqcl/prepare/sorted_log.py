"""The sorted log: its rows by (user, time, file order), numbered, and read block by block."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from aqcl.click_log import BELOW_SECOND, TimeUnit
from aqcl.errors import DataError
from aqcl.prepare.census import Census
from aqcl.prepare.partitions import Partition
from aqcl.schema import FIRST_ID
from aqcl.splits import SPLITS, TRAIN, SplitSettings, assign, check_not_empty
from aqcl.vocab import Vocabulary
from aqcl.workers import in_order

Array = npt.NDArray[Any]
Int8s = npt.NDArray[np.int8]
Int32s = npt.NDArray[np.int32]
Int64s = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Entities:
    """The users or the items of a log with their ids; the known ones have the first."""

    vocabulary: Vocabulary
    ids: Int32s
    """The id of each code."""
    train_rows: Int64s
    """Rows of the training split that each id has."""
    train_clicks: Int64s
    """Clicks of the training split that each id has."""


@dataclass(frozen=True)
class Block:
    """Consecutive rows of the sorted log: those of some users of a partition."""

    partition: Partition
    known: bool
    """Whether it holds the known users of the partition, or the others."""
    first_click: int
    """Clicks of the log before the block."""
    first_rows: tuple[int, ...]
    """Rows of each split before the block."""


@dataclass(frozen=True)
class SortedLog:
    """Consecutive rows of the log as arrays of one length, with all the rows of their users."""

    user: Int32s
    item: Int32s
    """As entity ids, like `user`."""
    timestamp: Int64s
    label: Int8s
    """All 1 in a log without labels."""
    part: Int8s
    """The split of each row, an index of `SPLITS`."""
    context: Mapping[str, Array]
    """Codes of categorical fields, -1 where unknown, and float64 numbers, NaN where unknown."""


@dataclass(frozen=True)
class Numbering:
    """What is known of a log when its splits are; enough to read any block of it."""

    users: Entities
    items: Entities
    context_rows: Mapping[str, Int64s]
    """Training rows of each code of a categorical context field."""
    blocks: Sequence[Block]
    """In the order of the sorted log."""
    held_out_from: Int64s
    """The first timestamp of each user code that does not train; the largest where all do."""
    split: SplitSettings
    time_unit: TimeUnit
    latest: int

    def read(self, block: Block) -> SortedLog:
        """The rows of a block."""
        columns = block.partition.read()
        known = self.users.ids[columns["user"]] < self.users.vocabulary.size_known
        if not (known == block.known).all():
            columns = {name: column[known == block.known] for name, column in columns.items()}
        user, item, timestamp = (columns.pop(name) for name in ("user", "item", "timestamp"))
        part = assign(user, timestamp, self.split, self.time_unit, self.latest)
        columns.pop(BELOW_SECOND, None)  # the rows are sorted by it
        label = columns.pop("label", None)
        return SortedLog(
            user=self.users.ids[user],
            item=self.items.ids[item],
            timestamp=timestamp,
            label=np.ones(len(user), dtype=np.int8) if label is None else label,
            part=part,
            context=columns,
        )


@dataclass(frozen=True)
class _Counts:
    """Of one partition or of all."""

    rows: Int64s
    """(users, splits)."""
    clicks: Int64s
    """Like `rows`."""
    item_rows: Int64s
    """Training rows of each item code."""
    item_clicks: Int64s
    held_out_from: Int64s
    """(users,)"""
    context_rows: dict[str, Int64s]


def number_rows(
    census: Census,
    partitions: Sequence[Partition],
    split: SplitSettings,
    time_unit: TimeUnit,
    min_count: int,
) -> Numbering:
    """Split the rows, and number users and items: those with `min_count` training rows first.

    Raises:
        ConfigError: a split that does not fit the time unit, or cuts in the wrong order.
        DataError: a split would be empty, or no user or no item is known.
    """

    def count(partition: Partition) -> _Counts:
        return _count(partition, census, split, time_unit)

    counts = _sum(in_order(count, partitions))
    moments = (partition.read()["timestamp"] for partition in partitions)
    check_not_empty(counts.rows.sum(axis=0), moments, split, time_unit)
    user_rows, user_clicks = counts.rows[:, TRAIN], counts.clicks[:, TRAIN]
    users = _number(census.columns["user"].values, user_rows, user_clicks, min_count)
    items = _number(census.columns["item"].values, counts.item_rows, counts.item_clicks, min_count)
    return Numbering(
        users=users,
        items=items,
        context_rows=counts.context_rows,
        blocks=list(_blocks(partitions, counts, user_rows >= min_count)),
        held_out_from=counts.held_out_from,
        split=split,
        time_unit=time_unit,
        latest=census.latest,
    )


def _count(
    partition: Partition, census: Census, split: SplitSettings, time_unit: TimeUnit
) -> _Counts:
    columns = partition.read()
    part = assign(columns["user"], columns["timestamp"], split, time_unit, census.latest)
    place = (columns["user"] - partition.users.start) * np.int64(len(SPLITS)) + part
    clicked = columns["label"] == 1 if census.labelled else np.ones(len(part), dtype=np.bool_)
    trains = part == TRAIN
    shape = (len(partition.users), len(SPLITS))

    def bincount(name: str, chosen: npt.NDArray[np.bool_]) -> Int64s:
        codes = columns[name][chosen]
        return np.bincount(codes[codes >= 0], minlength=len(census.columns[name].values))

    # Rows ascend in time, so that of a user's held-out rows, written backwards, the first stays.
    held_out_from = np.full(shape[0], np.iinfo(np.int64).max)
    held_out = np.flatnonzero(~trains)[::-1]
    held_out_from[columns["user"][held_out] - partition.users.start] = columns["timestamp"][
        held_out
    ]
    return _Counts(
        rows=np.bincount(place, minlength=shape[0] * shape[1]).reshape(shape),
        clicks=np.bincount(place[clicked], minlength=shape[0] * shape[1]).reshape(shape),
        item_rows=bincount("item", trains),
        item_clicks=bincount("item", trains & clicked),
        held_out_from=held_out_from,
        context_rows={
            name: bincount(name, trains) for name in census.columns if name not in ("user", "item")
        },
    )


def _sum(counts: Iterator[_Counts]) -> _Counts:
    """Of all partitions: users one after the other, the rest added."""
    first = next(counts)
    rows, clicks, held_out_from = [first.rows], [first.clicks], [first.held_out_from]
    for one in counts:
        rows.append(one.rows)
        clicks.append(one.clicks)
        held_out_from.append(one.held_out_from)
        first.item_rows[:] += one.item_rows
        first.item_clicks[:] += one.item_clicks
        for name, found in one.context_rows.items():
            first.context_rows[name][:] += found
    return _Counts(
        np.concatenate(rows),
        np.concatenate(clicks),
        first.item_rows,
        first.item_clicks,
        np.concatenate(held_out_from),
        first.context_rows,
    )


def _number(values: pl.Series, rows: Int64s, clicks: Int64s, min_count: int) -> Entities:
    """Codes as entity ids, those with `min_count` training rows first."""
    known = rows >= min_count
    n_known = int(known.sum())
    if not n_known:
        raise DataError(
            f"no {values.name} has {min_count} training rows; lower vocabulary.min_count"
        )
    order = np.argsort(~known, kind="stable")
    ids = np.empty(len(values), dtype=np.int32)
    ids[order] = np.arange(FIRST_ID, len(values) + FIRST_ID)
    none = np.zeros(FIRST_ID, dtype=np.int64)
    return Entities(
        Vocabulary(values.gather(order), n_known + FIRST_ID),
        ids,
        train_rows=np.concatenate([none, rows[order]]),
        train_clicks=np.concatenate([none, clicks[order]]),
    )


def _blocks(
    partitions: Sequence[Partition], counts: _Counts, known: npt.NDArray[np.bool_]
) -> Iterator[Block]:
    """The known users of all partitions, then the others: so their ids ascend."""
    n_clicks, n_rows = 0, np.zeros(len(SPLITS), dtype=np.int64)
    for is_known in (True, False):
        for partition in partitions:
            users = slice(partition.users.start, partition.users.stop)
            chosen = known[users] == is_known
            rows = counts.rows[users][chosen].sum(axis=0)
            if rows.any():
                yield Block(partition, is_known, n_clicks, tuple(n_rows.tolist()))
            n_clicks += int(counts.clicks[users][chosen].sum())
            n_rows += rows
