"""A block of the sorted log as columns of samples, ready to be written."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from aqcl.dataset import COLUMNS
from aqcl.prepare.context import ContextField
from aqcl.prepare.repeats import find_repeats
from aqcl.prepare.samples import (
    Chances,
    Histories,
    NegativeSettings,
    Samples,
    Summary,
    histories,
    make_sampler,
    summarise,
    take_samples,
)
from aqcl.prepare.sorted_log import Block, Numbering, SortedLog
from aqcl.splits import SPLITS

Array = npt.NDArray[Any]


@dataclass(frozen=True)
class Recipe:
    """What it takes to make the samples of any block."""

    numbering: Numbering
    context: Sequence[ContextField]
    negatives: NegativeSettings
    chances: Chances | None
    """None for a log with labels."""

    def make(self, block: Block) -> "Piece":
        """The samples of a block."""
        log = self.numbering.read(block)
        past = histories(log, self.numbering.split.ties, block.first_click)
        chances = self.chances
        sampler = None if chances is None else make_sampler(log, chances, self.negatives)
        samples = [
            take_samples(log, part, sampler, self.negatives, first_row)
            for part, first_row in enumerate(block.first_rows)
        ]
        n_known = self.numbering.items.vocabulary.size_known
        repeats = find_repeats(log, self.numbering.split.ties, labelled=sampler is None)
        whole: dict[str, Array] = {"clicks": past.clicks}
        if sampler is not None:
            whole["seen"] = sampler.seen_in_train
        return Piece(
            n_rows=tuple(np.bincount(log.part, minlength=len(SPLITS)).tolist()),
            whole=whole,
            columns=[self._columns(log, past, one) for one in samples],
            summaries=[summarise(one, log, past, n_known, repeats) for one in samples],
        )

    def _columns(self, log: SortedLog, past: Histories, samples: Samples) -> dict[str, Array]:
        columns: dict[str, Array] = {
            "user": log.user[samples.row],
            "item": samples.item,
            "label": samples.label,
            "timestamp": log.timestamp[samples.row],
            "history_start": past.start[samples.row],
            "history_length": past.length[samples.row],
        }
        assert tuple(columns) == COLUMNS
        for one in self.context:
            values = log.context[one.field.name][samples.row]
            columns[f"context_{one.field.name}"] = one.encode(values)
        return columns


@dataclass(frozen=True)
class Piece:
    """The samples of a block."""

    n_rows: tuple[int, ...]
    """Rows of the log in each split."""
    whole: Mapping[str, Array]
    """Columns of the whole log: `clicks`, and `seen` where negatives are drawn."""
    columns: Sequence[Mapping[str, Array]]
    """Of each split."""
    summaries: Sequence[Summary]
    """Of each split."""
