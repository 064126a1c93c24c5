"""AQCL or ICL on any torch model: its own forward pass, and one more with the embeddings perturbed.

Hooks are on the model only while an `Attachment` is being called; at all other times the model is
exactly what its author wrote, so evaluating, saving and copying it need no care.
"""

import inspect
from collections.abc import Iterable, Sequence
from typing import Any, Final, cast

import torch
from jaxtyping import Int
from torch import Tensor, nn

from aqcl.activity import check_activity
from aqcl.batch import LossTerm
from aqcl.config import options_of
from aqcl.errors import ConfigError
from aqcl.probe import Probe, View, find_end, find_tables
from aqcl.regularizers.aqcl import AQCL, AQCLOptions
from aqcl.regularizers.icl import ICL, ICLOptions
from aqcl.streams import derive_seed

OWN_ARGUMENTS: Final = ("activity", "groups", "diagnose")
"""Keywords of a call that are not the model's."""


def attach(  # noqa: PLR0913 - places in a model, by keyword
    model: nn.Module,
    *,
    latent: str,
    embeddings: Sequence[str],
    history: Sequence[str] = (),
    mean_activity: float | None = None,
    options: AQCLOptions | ICLOptions | None = None,
    latent_dim: int | None = None,
    seed: int = 0,
) -> "Attachment":
    """Attach AQCL, or ICL if `options` are an `ICLOptions`, to a model.

    Args:
        model: any module; it stays as it is, and so do the keys of its `state_dict`.
        latent: `input:MODULE` or `output:MODULE`, a name of `model.named_modules()`; the paper's
            latent is the input of the last linear layer.
        embeddings: modules whose outputs lose bits in the view, at `options.view.bit_rate`.
        history: modules whose (B, L, d) outputs lose steps in the view, at
            `options.view.mask_rate`; `NAME#2` is only the second call of NAME in a forward pass.
        mean_activity: mean number of training clicks of the users who have any; AQCL needs it.
        options: settings of the loss; AQCL's defaults if None.
        latent_dim: width of the latent; read off the module if that is an `nn.Linear`.
        seed: of the views; the projector and the codebook start from the global generator.

    Raises:
        ConfigError: a name that is not in the model, a setting that is missing or of no use, or
            rates that leave the view as the sample is.
    """
    modules = dict(model.named_modules(remove_duplicate=False))
    modules.pop("")
    for key, named in (("embeddings", embeddings), ("history", history)):
        if isinstance(named, str):
            raise ConfigError(f"{key}: expected a list of names, got '{named}'; write ['{named}']")
    if not embeddings and not history:
        raise ConfigError(
            "embeddings and history are both empty, so the view would be the sample itself: name "
            "the embedding modules"
        )
    end = find_end(modules, latent)
    probe = Probe(model, end, find_tables(modules, embeddings, history))
    if not isinstance(options, ICLOptions):
        options = options_of(AQCLOptions, options)
    rates = (options.view.bit_rate if embeddings else 0, options.view.mask_rate if history else 0)
    if max(rates) == 0:
        raise ConfigError(
            "the view would be the sample itself: view.bit_rate is for embeddings and "
            "view.mask_rate for history, and what is named has the rate 0"
        )
    loss = make_loss(end.width(latent_dim), mean_activity, options)
    first = next(model.parameters(), None)
    return Attachment(probe, loss if first is None else loss.to(first.device), seed)


def make_loss(
    latent_dim: int, mean_activity: float | None, options: AQCLOptions | ICLOptions
) -> AQCL | ICL:
    """The loss that the options are for."""
    if isinstance(options, ICLOptions):
        return ICL(latent_dim, options)
    if mean_activity is None:
        raise ConfigError(
            "mean_activity is missing: AQCL needs the mean number of training clicks of a training "
            "user; only ICLOptions do without"
        )
    if options.readout:
        raise ConfigError(
            "readout = true changes the model's prediction, which an attachment never does: leave "
            "it out, or train a backbone of aqcl"
        )
    if options.learn_alpha.enabled:
        raise ConfigError(
            "learn_alpha.enabled = true needs validation rows, which an attachment does not have: "
            "leave it out, or train a backbone of aqcl"
        )
    return AQCL(latent_dim, mean_activity, options)


def shared_arguments(model: nn.Module, names: Iterable[str]) -> dict[str, int]:
    """Where a model takes arguments of these names.

    Raises:
        ConfigError: it takes one by keyword alone.
    """
    places = {}
    for place, parameter in enumerate(inspect.signature(model.forward).parameters.values()):
        if parameter.name in names:
            if parameter.kind is inspect.Parameter.KEYWORD_ONLY:
                raise ConfigError(
                    f"{parameter.name}: the model takes an argument of this name by keyword alone, "
                    "and the attachment keeps the keyword for itself: let it stand among those by "
                    "position"
                )
            places[parameter.name] = place
    return places


class Attachment(nn.Module):
    """A loss on the latents of a model and of its perturbed self.

    Its parameters are those of projector and codebook alone: hand the optimizer the model's too.
    """

    def __init__(self, probe: Probe, loss: AQCL | ICL, seed: int) -> None:
        super().__init__()
        self.loss = loss
        self.seed = seed
        self.weight = loss.weight
        self._probe: Probe | None = probe
        self._shared = shared_arguments(probe.model, OWN_ARGUMENTS)
        self.passes: Tensor
        self.register_buffer("passes", torch.zeros((), dtype=torch.int64))

    def forward(
        self,
        *inputs: Any,
        activity: Tensor | None = None,
        groups: Int[Tensor, " B"] | None = None,
        diagnose: bool = False,
        **named: Any,
    ) -> tuple[Any, LossTerm]:
        """What the model returns for its inputs, and what to add to its loss.

        Args:
            inputs: arguments of the model.
            activity: (B,) number of clicks of the user before each sample; AQCL needs it.
            groups: user or item of each sample, where `false_negatives` asks for it.
            diagnose: whether `term.logs` has the diagnostics of the codebook, which take a fifth of
                the time of AQCL's loss.
            named: keyword arguments of the model.

        Raises:
            ConfigError: a named module was not called, gave something else than is needed, or does
                not lead to the latent; an argument of the model by a keyword of the attachment.
        """
        if self._probe is None:
            raise ConfigError("this attachment is detached: call aqcl.attach for another one")
        for name, place in self._shared.items():
            if place >= len(inputs):
                raise ConfigError(
                    f"{name}: the model takes an argument of this name, and the attachment keeps "
                    f"the keyword for itself: give the model's by position, as number {place + 1}"
                )
        output, latent = self._probe.run(inputs, named)
        seed = derive_seed(self.seed, "view", step=int(self.passes))
        view = View(self.loss.options.view, seed)
        _, view_latent = self._probe.run(inputs, named, view)
        like = cast(nn.Linear, self.loss.projector[0]).weight
        if latent.shape[1] != like.shape[1]:
            raise ConfigError(
                f"{self._probe.end} is {latent.shape[1]} wide: give latent_dim = {latent.shape[1]}"
            )
        latent, view_latent = latent.to(like.dtype), view_latent.to(like.dtype)
        if self.training:  # how often one validates changes no later view
            self.passes += 1
        return output, self._term(latent, view_latent, activity, groups, diagnose)

    def _term(
        self,
        latent: Tensor,
        view: Tensor,
        activity: Tensor | None,
        groups: Tensor | None,
        diagnose: bool,
    ) -> LossTerm:
        if isinstance(self.loss, ICL):
            return cast(LossTerm, self.loss(latent, view))
        if activity is None:
            raise ConfigError(f"activity: expected shape ({len(latent)},), got None")
        check_activity(activity, len(latent), values=False)  # the loss looks at them
        term = self.loss(latent, view, activity.to(latent), groups=groups, diagnose=diagnose)
        return cast(LossTerm, term)

    def detach(self) -> None:
        """Let go of the model; the attachment keeps its parameters but cannot be called again."""
        self._probe = None
