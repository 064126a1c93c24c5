"""Groups of rows by the values of a field of the dataset, such as a category or a position."""

from typing import Any, Final

import numpy as np
import numpy.typing as npt

from aqcl.dataset import Dataset
from aqcl.evaluate import ALL, Mask, every_row
from aqcl.predictions import Predictions
from aqcl.schema import PADDING, UNKNOWN, Field
from aqcl.splits import SplitName
from aqcl.vocab import Vocabulary

MOST_VALUES: Final = 8
"""Values that have a group of their own, those of most rows."""
RANGES: Final = 4
"""Groups of a numeric field, of nearly the same number of rows where values differ."""
_UNKNOWN = ", unknown"
_SMALLEST_PLAIN, _LARGEST_PLAIN = 1e-4, 1e12  # others are written with an exponent


def field_masks(
    predictions: Predictions, dataset: Dataset, split: SplitName, field: Field
) -> dict[str, Mask]:
    """All rows, and those of each group, named as `FIELD: VALUE`; no two have one name.

    Args:
        predictions: all rows of the split, as it stores them.
        dataset: what the rows are of.
        split: which rows.
        field: of the dataset. A numeric one is cut into ranges, where a value that is not known
            counts as the mean, as models read it. A row of several categories is in the group of
            each; one is `FIELD, N others` if none of its values is among the most common, and
            `FIELD, unknown` if models know none of them.
    """
    masks = {ALL: every_row(len(predictions))}
    values = _values(predictions, dataset, split, field)
    if field.kind == "numeric":
        return masks | _ranges(field.name, values)
    ids = values.reshape(len(predictions), -1)
    return masks | _most_common(field, ids, dataset.vocabularies[field.name])


def _values(
    predictions: Predictions, dataset: Dataset, split: SplitName, field: Field
) -> npt.NDArray[Any]:
    """What the field says of each row."""
    if field.side == "context":
        column: npt.NDArray[Any] = getattr(dataset, split).context[field.name]
        return column
    entity = predictions.user if field.side == "user" else predictions.item
    return np.asarray(dataset.attributes[field.name][entity])


def _ranges(name: str, values: npt.NDArray[Any]) -> dict[str, Mask]:
    shares = np.arange(1, RANGES) / RANGES
    cuts = np.unique(np.quantile(values, shares, method="inverted_cdf")).astype(values.dtype)
    cuts = cuts[cuts < values.max()]
    bounds = list(map(_digits, cuts))
    lower = ["", *(f"above {low}" for low in bounds)]
    upper = [*(f"at most {high}" for high in bounds), ""]
    names = [" and ".join(filter(None, ends)) or "all" for ends in zip(lower, upper, strict=True)]
    group = np.searchsorted(cuts, values, side="left")
    return {f"{name}: {ends}": group == g for g, ends in enumerate(names)}


def _digits(value: np.floating[Any]) -> str:
    """The fewest digits that no other number of the type has."""
    plain = value == 0 or _SMALLEST_PLAIN <= abs(value) < _LARGEST_PLAIN
    return (np.format_float_positional if plain else np.format_float_scientific)(value, trim="-")


def _most_common(field: Field, ids: npt.NDArray[Any], vocabulary: Vocabulary) -> dict[str, Mask]:
    rows = np.bincount(ids.ravel(), minlength=field.size)
    rows[PADDING] = 0
    found = np.flatnonzero(rows)
    ranked = found[np.argsort(-rows[found], kind="stable")]
    if len(ranked) == MOST_VALUES + 1:  # one alone is told by its name
        own, others = ranked, ranked[:0]
    else:
        own, others = ranked[:MOST_VALUES], ranked[MOST_VALUES:]
    values = vocabulary.decode(own)
    masks, covered = {}, np.zeros(len(ids), dtype=np.bool_)
    for value, number in zip(values, own.tolist(), strict=True):
        mask = (ids == number).any(1)
        masks[unknown(field.name) if number == UNKNOWN else f"{field.name}: {value}"] = mask
        covered |= mask
    if len(others):
        masks[f"{field.name}, {len(others):,} others"] = ~covered
    return masks


def unknown(name: str) -> str:
    """The name of the group of rows that have no value that models know."""
    return f"{name}{_UNKNOWN}"


def is_unknown(group: str) -> bool:
    """Whether a group of rows of any field is this one."""
    return group.endswith(_UNKNOWN) and ": " not in group
