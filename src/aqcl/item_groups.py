"""How well known an item is: groups of rows by the training clicks of their candidate."""

from typing import Final

import numpy as np
import numpy.typing as npt
from jaxtyping import Int

from aqcl.evaluate import masks_of
from aqcl.predictions import Predictions
from aqcl.spill import Column, made
from aqcl.thresholds import group_thresholds

ITEM_GROUPS: Final = ("cold", "rare", "known", "popular")
"""Items without training clicks; of the others about 60%, 30% and 10%, the least clicked first."""

Mask = npt.NDArray[np.bool_]


def item_thresholds(clicks: Int[np.ndarray, " I"]) -> tuple[int, int]:
    """The most clicks of a rare and of a known item: the smallest that reach 60% and 90%.

    Args:
        clicks: of each item; those without any are cold and do not count.
    """
    known = clicks[clicks > 0]
    return group_thresholds(known) if len(known) else (0, 0)


def item_masks(
    predictions: Predictions, clicks: Int[np.ndarray, " I"], thresholds: tuple[int, int]
) -> dict[str, Mask]:
    """The rows of all items and of each group.

    A row belongs to the group of its own candidate: in a group, clicks on such items are ranked
    against other such items that were shown or drawn.
    """

    def group_of(chunk: slice) -> Column:
        item = predictions.item[chunk]
        own = np.where(item < len(clicks), clicks[np.minimum(item, len(clicks) - 1)], 0)
        return np.searchsorted([0, *thresholds], own)

    return masks_of(made(np.int8, len(predictions), group_of), ITEM_GROUPS)
