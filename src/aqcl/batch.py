"""What flows through a model: `Batch` (ids), `Embedded` (vectors), `LossTerm` (losses)."""

from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from typing import Self

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor


@dataclass(frozen=True)
class Batch:
    """Samples as ids. Histories are jagged: S clicks in all, row b owns offsets[b]:offsets[b+1]."""

    user: Int[Tensor, " B"]
    item: Int[Tensor, " B"]
    label: Float[Tensor, " B"]
    activity: Float[Tensor, " B"]
    """L_j: all clicks of the user strictly before the sample, never truncated."""
    history: Int[Tensor, " S"]
    """Item ids of the latest clicks before the sample, oldest first."""
    offsets: Int[Tensor, " B+1"]
    segment: Int[Tensor, " S"]
    """The row that each click belongs to, ascending."""
    context: dict[str, Tensor]
    """A column (B,) for each context field: int64 ids or float32 values."""

    def __len__(self) -> int:
        return self.user.shape[0]

    def to(self, device: torch.device) -> Self:
        """The same batch on another device."""
        if self.user.device == device:
            return self
        moved = {
            f.name: getattr(self, f.name).to(device, non_blocking=True)
            for f in fields(self)
            if f.name != "context"
        }
        context = {name: column.to(device) for name, column in self.context.items()}
        return type(self)(**moved, context=context)


@dataclass(frozen=True)
class Embedded:
    """Samples as vectors of one width d: what augmentations act on.

    Field 0 of `user`, `item` and `history` is the id, the rest are attributes.
    """

    user: Float[Tensor, "B Fu d"]
    item: Float[Tensor, "B Fi d"]
    context: Float[Tensor, "B Fc d"]
    history: Float[Tensor, "S Fi d"]
    segment: Int[Tensor, " S"]
    offsets: Int[Tensor, " B+1"]
    keep: Bool[Tensor, " S"] | None
    """False where a view masked the click; None where nothing is masked."""
    activity: Float[Tensor, " B"]
    linear: Float[Tensor, " B"]
    """First-order and wide logit; made in `embed`, never perturbed."""
    scores: Float[Tensor, " S"] | None = None
    """Attention score of each click for its candidate, once a backbone has computed it."""
    item_output: Float[Tensor, "B d"] | None = None
    """The candidate's row of a second table of items, where a backbone has one; no view changes
    it."""

    def with_item_id(self, change: Callable[[Tensor], Tensor]) -> Self:
        """The same samples with `change` applied to each vector (B, d) of the candidate's id."""
        item = torch.cat([change(self.item[:, 0])[:, None], self.item[:, 1:]], dim=1)
        output = None if self.item_output is None else change(self.item_output)
        return replace(self, item=item, item_output=output)

    def without_masked(self) -> Self:
        """The same samples with the masked clicks taken out of the histories."""
        if self.keep is None:
            return self
        kept = self.keep.nonzero().squeeze(1)
        segment = self.segment.index_select(0, kept)
        counts = torch.bincount(segment, minlength=self.offsets.shape[0] - 1)
        return replace(
            self,
            history=self.history.index_select(0, kept),
            segment=segment,
            offsets=torch.cat([self.offsets[:1], counts.cumsum(0)]),
            keep=None,
            scores=None if self.scores is None else self.scores.index_select(0, kept),
        )

    @property
    def item_vector(self) -> Float[Tensor, "B width"]:
        """The candidate's fields side by side."""
        return self.item.flatten(1)

    @property
    def context_vector(self) -> Float[Tensor, "B width"]:
        """The context fields side by side."""
        return self.context.flatten(1)

    @property
    def history_vectors(self) -> Float[Tensor, "S width"]:
        """Each click's fields side by side."""
        return self.history.flatten(1)


@dataclass(frozen=True)
class LossTerm:
    """What a regularizer adds to the loss of a step."""

    value: Float[Tensor, ""]
    """Scaled by the regularizer's weight; trains the model."""
    own: Float[Tensor, ""]
    """Added as it is; trains only the regularizer's own parameters, such as a codebook."""
    logs: dict[str, Tensor]
    """Detached scalars for the training log."""

    @classmethod
    def of(cls, value: Float[Tensor, ""], **parts: Tensor) -> Self:
        """A term that trains the model alone; `value` and what it is made of are logged."""
        logs = {"value": value, **parts}
        own = value.new_zeros(())
        return cls(value, own, {name: number.detach() for name, number in logs.items()})
