"""The loss of a step: mean logloss plus the regularizers' terms (equation 8)."""

import zlib
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from aqcl.batch import Batch
from aqcl.contracts import Attentive, Backbone, Predictor, Regularizer, Step
from aqcl.errors import ConfigError
from aqcl.layers import seed_dropout
from aqcl.readers import with_readers
from aqcl.streams import Purpose, derive_seed


@dataclass(frozen=True)
class Moment:
    """Where a run is; every random stream of a step follows from it."""

    seed: int
    epoch: int
    step: int
    """Step within the epoch."""
    number: int
    """Steps done since training began."""

    def derive(self, purpose: Purpose) -> int:
        """The seed of one stream of this step."""
        return derive_seed(self.seed, purpose, self.epoch, self.step)


@dataclass(frozen=True)
class Losses:
    """The loss of a step and what to log of it."""

    total: Float[Tensor, ""]
    logs: dict[str, Tensor]
    """Detached scalars: `logloss`, and `<regularizer>/<name>` for each regularizer's own."""


@dataclass(frozen=True)
class Parts:
    """The modules of an objective by what they promise; asking a protocol takes as long as a layer.

    Beside the modules and not among them, so that no weight is listed twice.
    """

    backbone: Backbone
    attentive: Attentive | None
    predictor: Predictor
    regularizers: tuple[tuple[str, Regularizer], ...]


class Objective(nn.Module):
    """A backbone with its regularizers; a regularizer of weight 0 is not called at all."""

    def __init__(self, backbone: nn.Module, regularizers: Mapping[str, nn.Module]) -> None:
        super().__init__()
        self.backbone = backbone
        # Names may be import paths, which a ModuleDict does not take.
        self.names = tuple(regularizers)
        self.regularizers = nn.ModuleList(regularizers.values())
        self.parts = self._parts()

    def forward(self, batch: Batch, moment: Moment, *, diagnose: bool = False) -> Losses:
        """Losses of one step.

        The global generator is seeded before each pass, because `nn.Dropout` reads it.

        Raises:
            ConfigError: a backbone from outside returns latents or logits of another shape than
                its contract has.
        """
        backbone, attentive = self.parts.backbone, self.parts.attentive
        seed_dropout(moment.derive("primary pass"))
        embedded = backbone.embed(batch)
        active = [pair for pair in self.parts.regularizers if pair[1].weight > 0]
        generator = torch.Generator(device=batch.user.device)
        for name, regularizer in active:
            # By name, not by position: one regularizer must not shift another's stream.
            generator.manual_seed(moment.derive("primary pass") + 1 + zlib.crc32(name.encode()))
            embedded = regularizer.perturb(embedded, generator)
        if active and attentive is not None:
            embedded = attentive.attend(embedded)
        latent = backbone.encode(embedded)
        self._check_shape("encode", latent, (*batch.label.shape, backbone.latent_dim))
        logit = self.parts.predictor.predict(latent, embedded).to(batch.label.dtype)
        self._check_shape("predict", logit, batch.label.shape)
        logloss = F.binary_cross_entropy_with_logits(logit, batch.label)
        total, logs = logloss, {"logloss": logloss.detach()}
        view_seed = moment.derive("view")
        for name, regularizer in active:
            # The same for each, so that methods of one seed see the same views.
            generator.manual_seed(view_seed)
            seed_dropout(view_seed)
            term = regularizer.loss(
                Step(
                    backbone=backbone,
                    batch=batch,
                    embedded=embedded,
                    latent=latent,
                    logit=logit,
                    generator=generator,
                    view_seed=view_seed,
                    number=moment.number,
                    diagnose=diagnose,
                )
            )
            if term is not None:
                total = total + regularizer.weight * term.value + term.own
                logs |= {f"{name}/{key}": value for key, value in term.logs.items()}
        return Losses(total, logs)

    def model(self) -> nn.Module:
        """What is scored and served: the backbone, with those regularizers that it reads."""
        return with_readers(self.backbone, self.regularizers)

    def _check_shape(self, phase: str, made: Tensor, expected: tuple[int, ...]) -> None:
        if made.shape != expected:
            raise ConfigError(
                f"{type(self.backbone).__name__}.{phase}: expected a tensor of shape "
                f"{tuple(expected)}, got {tuple(made.shape)}; see aqcl.contracts"
            )

    def _parts(self) -> Parts:
        backbone, predictor = self.backbone, self.model()
        assert isinstance(backbone, Backbone)
        assert isinstance(predictor, Predictor)
        regularizers: list[tuple[str, Regularizer]] = []
        for name, regularizer in zip(self.names, self.regularizers, strict=True):
            assert isinstance(regularizer, Regularizer)
            regularizers.append((name, regularizer))
        attentive = backbone if isinstance(backbone, Attentive) else None
        return Parts(backbone, attentive, predictor, tuple(regularizers))
