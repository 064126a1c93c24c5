"""What would mislead a reader of results, seen in the samples that were made."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, Literal

import numpy as np
import numpy.typing as npt
import polars as pl

from aqcl.errors import DataError
from aqcl.negatives import pack
from aqcl.prepare.attributes import EncodedField, TrainingValues
from aqcl.prepare.sorted_log import Entities
from aqcl.schema import FIRST_ID, UNKNOWN, Field, Kind
from aqcl.splits import SPLITS, TEST, TRAIN

WORTH_TELLING: Final = {
    "copies": 0.001,
    "clicked_again": 0.01,
    "varying": 0.05,
    "nobody": 0.001,
    "heavy": 0.01,
}
"""Least shares: of the rows of the log, of the clicks of test, of the users or items, and twice of
the training rows."""
_NOBODY = ("null", "none", "nan", "na", "n/a", "nil", "\\n", "unknown", "undefined", "anonymous")
"""What stands for a missing value in many an export, in small letters."""
_OF_ONE_USER = 100
"""Times the mean above which one user has more training rows than a person would."""
_OWN_TO_ITEM = 0.25
"""Share of a column's variety within items below which it is that of the item."""
_VARIETY = 0.05
"""Share of clicks that lack the most frequent value; below it a column tells little."""
_WIDE = 20
"""Times the mean list above which the longest one makes all others cost too much."""
_MOST_CLICKS, _CLICKS_OF_ITEM, _FEWEST_CLICKS = 1_000_000, 5, 200


def repeat_notes(facts: Mapping[str, Any], *, labelled: bool) -> list[str]:
    """What to know of rows that repeat others.

    Args:
        facts: counts of the samples, as they stand in the manifest.
        labelled: whether the log has labels.
    """
    notes, copies = [], facts["copies"]
    if copies >= WORTH_TELLING["copies"] * facts["counts"]["rows"]:
        notes.append(
            f"{copies:,} rows have the user, item and time of an earlier one; if events were "
            "delivered twice, remove them: they make users look more active"
        )
    again = facts["clicked_again"][SPLITS[TEST]]
    if not labelled and again >= WORTH_TELLING["clicked_again"]:
        notes.append(
            f"{again:.1%} of the clicks of test are on an item that the user had clicked before, "
            "and no drawn negative is: a model that ranks them first gains by that alone"
        )
    return notes


def crowd_notes(side: Literal["user", "item"], entities: Entities) -> list[str]:
    """What to know of an id that seems to stand for many users or items, or for none.

    Args:
        side: what the ids are of.
        entities: all of them.
    """
    rows = entities.train_rows[FIRST_ID : entities.vocabulary.size_known]
    if not len(rows):
        return []
    values, share = entities.vocabulary.values[: len(rows)], rows / rows.sum()
    if values.dtype == pl.String:
        is_nobody = values.str.strip_chars().str.to_lowercase().is_in(_NOBODY).to_numpy()
    else:
        is_nobody = np.zeros(len(rows), dtype=np.bool_)
    told = is_nobody & (share >= WORTH_TELLING["nobody"])
    if side == "user":
        told |= (share >= WORTH_TELLING["heavy"]) & (share >= _OF_ONE_USER / len(rows))
    return [
        f"{side} {values[int(k)]!r} has {share[k]:.1%} of the training rows; if that is no one "
        f"{side}, but stands for those without an id or for a robot, leave its rows out"
        for k in np.flatnonzero(told)
    ]


def varying_notes(field: Field, found: TrainingValues) -> list[str]:
    """What to know of a column of users or items whose values change."""
    described = 0 if found.table is None else len(found.table)
    if not found.varying or found.varying < WORTH_TELLING["varying"] * described:
        return []
    return [
        f"column {field.name}: {found.varying:,} of {described:,} {field.side}s have "
        "several values in training, of which the latest stands for all; is it a context column?"
    ]


def untold_notes(fields: Iterable[Field]) -> list[str]:
    """What to know of columns of numbers that are one and the same in all training rows."""
    return [
        f"column {field.name} has one value, or none, in the training rows, from which nothing can "
        f"be learnt: models read {field.mean:.6g} in all rows"
        for field in fields
    ]


def wide_notes(encoded: Iterable[EncodedField]) -> list[str]:
    """What to know of columns of lists of which a few are far longer than the others."""
    notes = []
    for one in encoded:
        if one.field.kind == "categories":
            most, mean = one.table.shape[1], np.count_nonzero(one.table) / max(len(one.table), 1)
            if most >= _WIDE * max(mean, 1):
                notes.append(
                    f"column {one.field.name}: the longest list has {most:,} values, the mean one "
                    f"{mean:.1f}; memory and steps are those of the longest for each, so keep fewer"
                )
    return notes


def check_context(folder: Path, fields: Sequence[Field]) -> None:
    """Make sure that context does not give drawn negatives away.

    A drawn negative has the context of its click. A column that goes with the item then
    contradicts the item where, and only where, it was drawn. That holds for the rows that have a
    value, too, where others have none or one that stands for none.

    Args:
        folder: of the dataset.
        fields: its context fields.

    Raises:
        DataError: a column hardly varies among the training clicks of an item.
    """
    columns = folder / SPLITS[TRAIN]
    clicked = np.flatnonzero(np.load(columns / "label.npy", mmap_mode="r") == 1)
    clicked = clicked[:: -(-len(clicked) // _MOST_CLICKS)]
    item = np.load(columns / "item.npy", mmap_mode="r")[clicked]
    for field in fields:
        values = np.load(columns / f"context_{field.name}.npy", mmap_mode="r")[clicked]
        unknown = np.float32(field.mean) if field.kind == "numeric" else UNKNOWN
        distinct, count = np.unique(values, return_counts=True)
        every = np.ones(len(values), dtype=np.bool_)
        parts = (every, values != unknown, values != distinct[count.argmax()])
        if any(_goes_with_item(item[part], values[part], field.kind) for part in parts):
            raise DataError(
                f"context column {field.name}: it hardly varies among the clicks of one item. A "
                "drawn negative has the context of its click, so that such a column tells which "
                "item was drawn, and results would look far too good. Describe items with it "
                f"(source.item_columns.{field.name}), leave it out, or give impressions with a "
                "label"
            )


def _goes_with_item(item: npt.NDArray[np.integer], value: npt.NDArray[Any], kind: Kind) -> bool:
    """Whether a value hardly varies among the clicks of an item, as far as these are enough."""
    several = np.bincount(item)[item] >= _CLICKS_OF_ITEM
    if several.sum() < _FEWEST_CLICKS:
        return False
    item, value = item[several], value[several]
    within, variety = _spread(item, value) if kind == "numeric" else _mixed(item, value)
    least = 0 if kind == "numeric" else _VARIETY
    return bool(variety > least and within <= _OWN_TO_ITEM * variety)


def _mixed(item: npt.NDArray[np.integer], value: npt.NDArray[np.integer]) -> tuple[float, float]:
    """Shares of the clicks without the most frequent value: of their item, and of all."""
    pairs, count = np.unique(pack(item, value), return_counts=True)
    owner = pairs >> 32
    most = np.maximum.reduceat(count, np.flatnonzero(np.diff(owner, prepend=-1)))
    return 1 - most.sum() / len(item), 1 - np.bincount(value).max() / len(item)


def _spread(item: npt.NDArray[np.integer], value: npt.NDArray[np.floating]) -> tuple[float, float]:
    """Variance of ranks within items, with their freedom, and of all; few outliers do not count."""
    _, place, ties = np.unique(value, return_inverse=True, return_counts=True)
    numbers = (ties.cumsum() - (ties - 1) / 2)[place]
    clicks = np.bincount(item)
    mean = np.bincount(item, weights=numbers) / np.maximum(clicks, 1)
    freedom = max(len(item) - np.count_nonzero(clicks), 1)
    return float(((numbers - mean[item]) ** 2).sum() / freedom), float(numbers.var())
