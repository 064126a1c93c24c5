"""Alpha learned in one training: a step on its parameters by the gradient of validation loss."""

import logging
import math
from collections.abc import Callable, Mapping
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional as F

from aqcl.batch import Batch
from aqcl.dataset import Split
from aqcl.errors import ConfigError
from aqcl.experiment import TrainOptions
from aqcl.objective import Moment, Objective
from aqcl.optimizers import Optimizers
from aqcl.regularizers.aqcl import AQCL
from aqcl.streams import numpy_stream

logger = logging.getLogger(__name__)
Parameters = dict[str, Tensor]

RADIUS = 0.01
"""Length of the steps of the central difference, over all parameters together."""
STATE = "alpha."
"""Prefix of the optimizer's state in a checkpoint."""


def hypergradient(
    train_loss: Callable[[Parameters, Tensor], Tensor],
    held_out_loss: Callable[[Parameters, Tensor], Tensor],
    parameters: Mapping[str, Tensor],
    gradients: Mapping[str, Tensor],
    free: Float[Tensor, " P"],
    sizes: Mapping[str, Tensor],
) -> Float[Tensor, " P"]:
    """Gradient of the held-out loss after one step of descent, with respect to `free`.

    With v the gradient of the held-out loss at theta - s g, it is the derivative of that loss by
    `free` itself, less the derivative along s v of d train_loss / d free, taken as a central
    difference of radius 0.01 / |s v|; products are by weight.

    Args:
        train_loss: of parameters and free parameters; the same noise in every call.
        held_out_loss: of parameters and free parameters, which it need not depend on.
        parameters: theta.
        gradients: g, of the training loss at theta; a parameter without one does not move.
        free: phi, what the losses depend on beside theta.
        sizes: s, how far the step moves each weight by a unit of g, of the shapes of the
            parameters or one number, and constant; a parameter without one does not move.

    Reference: arXiv 1806.09055, section 2.3, equations 7 and 8, where s is one learning rate.
    """
    steps = _scaled(gradients, sizes)
    ahead, at = _moved(parameters, steps, -1.0), free.detach().clone().requires_grad_()
    found: list[Tensor | None] = [
        *torch.autograd.grad(held_out_loss(ahead, at), [*ahead.values(), at], allow_unused=True)
    ]
    direct = found.pop()
    if direct is None:
        direct = torch.zeros_like(free)
    by_weight = {n: v for n, v in zip(ahead, found, strict=True) if v is not None}
    direction = _scaled(by_weight, sizes)
    norm = math.hypot(*(float(v.norm()) for v in direction.values()))
    if norm == 0:
        return direct
    radius = RADIUS / norm

    def slope(sign: int) -> Tensor:
        leaf = free.detach().clone().requires_grad_()
        moved = _moved(parameters, direction, sign * radius)
        (gradient,) = torch.autograd.grad(train_loss(moved, leaf), leaf)
        return gradient

    return direct - (slope(1) - slope(-1)) / (2 * radius)


def _scaled(gradients: Mapping[str, Tensor], sizes: Mapping[str, Tensor]) -> Parameters:
    """Gradients times step sizes, where there is one; sparse if either is."""
    return {
        name: sizes[name] * (g.coalesce() if g.is_sparse else g)
        for name, g in gradients.items()
        if name in sizes
    }


def _moved(
    parameters: Mapping[str, Tensor], direction: Mapping[str, Tensor], length: float
) -> Parameters:
    """Copies a step away along `direction`; a parameter without one stays where it is."""
    copies = {name: nn.Parameter(p.detach().clone()) for name, p in parameters.items()}
    with torch.no_grad():
        for name, along in direction.items():
            copies[name].add_(along, alpha=length)
    return {**copies}


class HeldOutLoss(nn.Module):
    """Mean logloss of an objective's model, without its regularizers."""

    def __init__(self, objective: Objective) -> None:
        super().__init__()
        self.objective = objective

    def forward(self, batch: Batch) -> Float[Tensor, ""]:
        model = self.objective.parts.predictor
        embedded = model.embed(batch)
        logit = model.predict(model.encode(embedded), embedded)
        return F.binary_cross_entropy_with_logits(logit, batch.label)


class AlphaLearner:
    """Moves the free parameters of an AQCL's alpha while a model trains.

    Args:
        objective: in training; its AQCL has `learn_alpha.enabled`.
        held_out: rows whose loss alpha shall lower.
        optimizers: of the weights.
        options: of the training.
        seed: of the run.

    Reference: arXiv 2109.13921, equation 7, its two minima by the one-step scheme of
    arXiv 1806.09055.
    """

    # NOTE[DIFF]: the paper partitions D_val from the training set; here the gradient of alpha is of
    # the validation rows, as in the search over trainings: users kept out of training would have
    # untrained vectors, and alpha would be fitted to users whom the model does not know.

    def __init__(
        self,
        objective: Objective,
        held_out: Split,
        optimizers: Optimizers,
        options: TrainOptions,
        seed: int,
    ) -> None:
        self.objective = objective
        self.held_out = held_out
        self.optimizers = optimizers
        self.options = options
        self.seed = seed
        self.name, self.prefix, self.module = _only_learner(objective)
        assert self.module.free_alpha is not None
        self.free = self.module.free_alpha
        self.learning = self.module.options.learn_alpha
        self.optimizer = torch.optim.Adam([self.free], lr=self.learning.lr)
        self.held_out_loss = HeldOutLoss(objective)

    def update(self, batch: Batch, moment: Moment) -> int:
        """Move alpha, if it is time to; call it when the training loss has been differentiated.

        Returns:
            How many rows went through the model for it; a forward pass alone counts like one with
            its backward pass.
        """
        warm = int(self.module.steps) > self.module.options.warmup_steps
        if not warm or (moment.number + 1) % self.learning.every:
            return 0
        size = min(self.options.batch_size, len(self.held_out))
        stream = numpy_stream(self.seed, "alpha", moment.number)
        rows = stream.choice(len(self.held_out), size, replace=False)
        held_out = self.held_out.batch(rows, self.options.max_history).to(batch.user.device)
        gradient = self.gradient(batch, moment, held_out)
        if gradient.isfinite().all():
            self.free.grad = gradient
            self.optimizer.step()
            self.free.grad = None
            self.free.copy_(self.module.shape.limited(self.free))
        else:
            logger.warning("alpha stays: its gradient is not finite at step %d", moment.number)
        return 2 * len(batch) + size

    def gradient(self, batch: Batch, moment: Moment, held_out: Batch) -> Float[Tensor, " P"]:
        """Gradient of the held-out loss by the free parameters; changes nothing."""
        objective = self.objective
        named = dict(objective.named_parameters())
        # NOTE[DIFF]: DARTS looks ahead by the step of plain descent, with which it trains; here a
        # weight moves by the batch's gradient times its step size under the run's optimizer. That
        # leaves out the momentum of earlier gradients and the penalty on embeddings, and takes
        # Adam's second moment, or Adagrad's sum, for a constant, though the gradient changes it.
        gradients = {n: p.grad for n, p in named.items() if p.grad is not None}
        sizes = self.optimizers.step_sizes(objective)

        def train_loss(parameters: Parameters, free: Tensor) -> Tensor:
            changed = parameters | {f"{self.prefix}free_alpha": free}
            losses = functional_call(objective, self._copies() | changed, (batch, moment))
            total: Tensor = losses.total
            return total

        def held_out_loss(parameters: Parameters, free: Tensor) -> Tensor:
            changed = parameters | {f"{self.prefix}free_alpha": free}
            inner = {f"objective.{name}": value for name, value in changed.items()}
            self.held_out_loss.eval()
            loss: Tensor = functional_call(self.held_out_loss, inner, (held_out,))
            self.held_out_loss.train()
            return loss

        parameters = {n: p for n, p in named.items() if p.requires_grad}
        return hypergradient(train_loss, held_out_loss, parameters, gradients, self.free, sizes)

    def _copies(self) -> Parameters:
        """Buffers and frozen parameters that a training pass may write into."""
        frozen = {n: p for n, p in self.objective.named_parameters() if not p.requires_grad}
        state = frozen | dict(self.objective.named_buffers())
        return {name: tensor.detach().clone() for name, tensor in state.items()}

    def log(self) -> dict[str, float]:
        """The present values, as a line of the log has them."""
        named = self.module.shape.moved(self.free).named()
        return {f"{self.name}/{key}": value for key, value in named.items()}

    def chosen(self, weights: Mapping[str, Tensor]) -> dict[str, Any]:
        """The options of the regularizer for the alpha that goes with the kept weights."""
        return self.module.shape.moved(weights[f"{self.prefix}free_alpha"]).options()

    def tensors(self) -> dict[str, Tensor]:
        """The optimizer's state, for a checkpoint."""
        return {STATE + key: value for key, value in self.optimizer.state[self.free].items()}

    def restore(self, tensors: Mapping[str, Tensor]) -> None:
        """Take over what `tensors` gave; the parameters themselves are the objective's."""
        state = {k.removeprefix(STATE): v for k, v in tensors.items() if k.startswith(STATE)}
        # Adam counts its steps on the CPU.
        device = self.free.device
        state = {key: v if key == "step" else v.to(device) for key, v in state.items()}
        self.optimizer.state[self.free].update(state)


def make_learner(
    objective: Objective,
    held_out: Split,
    optimizers: Optimizers,
    options: TrainOptions,
    seed: int,
) -> AlphaLearner | None:
    """What moves alpha, if any regularizer of the objective wants it."""
    if not _learners(objective):
        return None
    return AlphaLearner(objective, held_out, optimizers, options, seed)


def _learners(objective: Objective) -> list[tuple[str, str, AQCL]]:
    """Name in the configuration, prefix of its tensors, module."""
    return [
        (name, f"regularizers.{number}.", module)
        for number, (name, module) in enumerate(
            zip(objective.names, objective.regularizers, strict=True)
        )
        if isinstance(module, AQCL) and module.free_alpha is not None and module.weight > 0
    ]


def _only_learner(objective: Objective) -> tuple[str, str, AQCL]:
    found = _learners(objective)
    if len(found) > 1:
        names = ", ".join(name for name, _, _ in found)
        raise ConfigError(
            f"learn_alpha.enabled = true in {names}: one regularizer of a run can learn its alpha"
        )
    return found[0]
