"""The contracts between a backbone, a regularizer and the training loop."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Protocol, Self, runtime_checkable

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Generator, Tensor, nn

from aqcl.batch import Batch, Embedded, LossTerm
from aqcl.layers import seed_dropout, statistics_held
from aqcl.schema import Schema


@dataclass(frozen=True)
class Facts:
    """What a model may know of the training data."""

    schema: Schema
    attributes: Mapping[str, np.ndarray]
    """Per-entity column of each user and item field, indexed by entity id."""
    mean_activity: float
    """Mean number of training clicks of the users who have any: the paper's L."""
    max_history: int
    """Most clicks that a batch holds of one history."""


@runtime_checkable
class Predictor(Protocol):
    """The three phases of section 3.1 of the paper, all that scoring needs; an `nn.Module`."""

    def embed(self, batch: Batch) -> Embedded:
        """Embedding layer."""
        ...

    def encode(self, embedded: Embedded) -> Float[Tensor, "B D"]:
        """Feature interaction layer: the paper's h."""
        ...

    def predict(self, latent: Tensor, embedded: Embedded) -> Float[Tensor, " B"]:
        """Prediction layer: the logit; wide and FM parts are added here."""
        ...


@runtime_checkable
class Backbone(Predictor, Protocol):
    """A CTR model; it knows nothing of losses, optimizers, devices or files."""

    Options: ClassVar[type]
    """Its configuration class."""
    latent_dim: int
    """Width D of the latent."""

    @classmethod
    def create(cls, facts: Facts, options: object) -> Self:
        """A new model with random weights from the global generator."""
        ...

    def embed_items(self, ids: Int[Tensor, " N"]) -> Float[Tensor, "N Fi d"]:
        """Vectors of items by id."""
        ...

    def embedding_tables(self) -> list[nn.Parameter]:
        """What the embedding penalty acts on: id and attribute tables, not wide weights."""
        ...


def item_width(backbone: Backbone) -> int:
    """Width of an item's fields side by side, as `Embedded.item_vector` has them."""
    return _no_items(backbone).flatten(1).shape[1]


def field_width(backbone: Backbone) -> int:
    """Width d of the vector of one field, the same for all fields."""
    return _no_items(backbone).shape[2]


def _no_items(backbone: Backbone) -> Float[Tensor, "0 Fi d"]:
    return backbone.embed_items(torch.zeros(0, dtype=torch.int64))


@runtime_checkable
class Attentive(Protocol):
    """A backbone whose attention over the clicks can be shared by several passes."""

    def attend(self, embedded: Embedded) -> Embedded:
        """The same samples with `scores`, which `encode` then uses as they are."""
        ...


@runtime_checkable
class Sequential(Protocol):
    """A backbone with a state after each click, for losses that predict what comes next."""

    state_dim: int
    """Width of a state."""

    def states(self, embedded: Embedded) -> Float[Tensor, "S state"]:
        """The state after each click that no view masked; it knows that click and earlier ones."""
        ...


@dataclass(frozen=True)
class Step:
    """What a regularizer sees of a training step."""

    backbone: Backbone
    batch: Batch
    embedded: Embedded
    latent: Float[Tensor, "B D"]
    logit: Float[Tensor, " B"]
    generator: Generator
    """The stream for views and negatives of this step."""
    view_seed: int
    """Seeds dropout in the view passes."""
    number: int
    """Steps done since training began."""
    diagnose: bool = False
    """Whether costly diagnostics are wanted in the logs of this step."""

    def encode_view(self, view: Embedded) -> Float[Tensor, "B D"]:
        """Latent of a view: same parameters, own dropout, running statistics left alone."""
        assert isinstance(self.backbone, nn.Module)
        seed_dropout(self.view_seed)
        with statistics_held(self.backbone):
            return self.backbone.encode(view)


@runtime_checkable
class Regularizer(Protocol):
    """Implicit (`perturb`) or explicit (`loss`) regularization; an `nn.Module`.

    It owns its projector, codebook and towers; checkpoints see them, serving drops them unless it
    is a `Reader`.
    """

    Options: ClassVar[type]
    """Its configuration class."""
    weight: float
    """Scales `LossTerm.value`; a regularizer of weight 0 is not called at all."""

    @classmethod
    def create(cls, facts: Facts, backbone: Backbone, options: object) -> Self:
        """A new regularizer for a backbone, with random weights from the global generator."""
        ...

    def perturb(self, embedded: Embedded, generator: Generator) -> Embedded:
        """Change the primary pass; identity where the regularizer has no implicit part."""
        ...

    def loss(self, step: Step) -> LossTerm | None:
        """An auxiliary loss; None where the regularizer has no explicit part."""
        ...


@runtime_checkable
class Reader(Protocol):
    """A regularizer whose knowledge `predict` may use, in training and when the model is served.

    Every regularizer, readers too, still gets the latent without what is added here.
    """

    def reads(self) -> bool:
        """Whether its options ask for it; if not, `read` is not called and serving drops it."""
        ...

    def read(self, latent: Tensor, embedded: Embedded) -> Float[Tensor, "B D"]:
        """What is added to the latent that `predict` sees."""
        ...
