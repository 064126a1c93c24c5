"""What rows are grouped by: the clicks of their user or item, or a field of the dataset."""

from typing import Final

from aqcl.config import did_you_mean
from aqcl.dataset import Dataset
from aqcl.errors import ConfigError
from aqcl.evaluate import ALL, Mask, every_row, group_masks
from aqcl.field_groups import field_masks
from aqcl.item_groups import item_masks, item_thresholds
from aqcl.predictions import Predictions
from aqcl.splits import SplitName

USER_ACTIVITY: Final = "user-activity"
ITEM_ACTIVITY: Final = "item-activity"


def check_by(by: str, dataset: Dataset) -> None:
    """Make sure that rows can be grouped by this.

    Raises:
        ConfigError: it is neither an activity nor a field of the dataset.
    """
    known = [USER_ACTIVITY, ITEM_ACTIVITY, *(field.name for field in dataset.schema.fields)]
    if by not in known:
        raise ConfigError(
            f"by: expected {USER_ACTIVITY}, {ITEM_ACTIVITY} or a field of {dataset.path}, got "
            f"'{by}'; {did_you_mean(by, known)}"
        )


def groups_by(
    by: str, predictions: Predictions, dataset: Dataset, split: SplitName
) -> tuple[tuple[int, int] | None, dict[str, Mask]]:
    """The rows of each group, all rows first, and thresholds of clicks.

    Args:
        by: as `check_by` allows it.
        predictions: all rows of the split, as it stores them.
        dataset: what the rows are of.
        split: which rows.

    Returns:
        The most clicks of the first two groups of users, or of known items, None for a field; and
        the groups.
    """
    if by == USER_ACTIVITY and split == "train":
        # All users have their first row there, before which they had no click.
        return dataset.thresholds, {ALL: every_row(len(predictions))}
    if by == USER_ACTIVITY:
        return dataset.thresholds, group_masks(predictions, dataset.thresholds)
    if by == ITEM_ACTIVITY:
        thresholds = item_thresholds(dataset.item_count)
        return thresholds, item_masks(predictions, dataset.item_count, thresholds)
    (field,) = dataset.schema.select([by]).fields
    return None, field_masks(predictions, dataset, split, field)
