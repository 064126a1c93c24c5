"""The optimizers of a run: Adam, and for large tables one that updates only a batch's rows."""

import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from aqcl.contracts import Backbone
from aqcl.embeddings import use_sparse_gradients
from aqcl.errors import ConfigError
from aqcl.experiment import TrainOptions

INITIAL_ACCUMULATOR = 0.0
EPSILON = 1e-8
"""Both as in FBGEMM, whose kernels TorchRec uses; DLRM's own code has 1e-10."""


class RowwiseAdagrad(torch.optim.Optimizer):
    """Adagrad with one accumulator for each row of a table; gradients must be sparse.

    s += mean over the row of g^2; w -= lr g / (sqrt(s) + eps), for the rows of the gradient alone.
    The state is one number a row, where Adam's is two for each weight.

    Reference: pytorch/FBGEMM, `EXACT_ROWWISE_ADAGRAD`; facebookresearch/dlrm, `RWSAdagrad`
    (arXiv 1906.00091).
    """

    def __init__(
        self,
        parameters: Iterable[nn.Parameter],
        lr: float,
        *,
        eps: float = EPSILON,
        initial_accumulator: float = INITIAL_ACCUMULATOR,
    ) -> None:
        defaults = {"lr": lr, "eps": eps, "initial_accumulator": initial_accumulator}
        super().__init__(parameters, defaults)

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]
        """Update the rows that have a gradient."""
        assert closure is None
        for group in self.param_groups:
            for table in group["params"]:
                if table.grad is not None:
                    self._update(table, table.grad.coalesce(), group)

    def _update(self, table: Tensor, gradient: Tensor, group: Mapping[str, Any]) -> None:
        rows, values = gradient.indices()[0], gradient.values()
        state = self.state[table]
        if not state:
            state["sum"] = table.new_full(table.shape[:1], group["initial_accumulator"])
        total = state["sum"].index_select(0, rows) + values.square().mean(1)
        state["sum"].index_copy_(0, rows, total)
        scale = -group["lr"] / (total.sqrt() + group["eps"])
        table.index_add_(0, rows, values * scale[:, None])


class Optimizers:
    """Adam for all parameters; or a row-wise one for the tables and Adam for the rest.

    Raises:
        ConfigError: rows are to be updated, and the backbone has no embedding layer of aqcl.
    """

    def __init__(self, model: nn.Module, backbone: nn.Module, options: TrainOptions) -> None:
        assert isinstance(backbone, Backbone)
        self.embedding_l2 = options.embedding_l2
        self.penalised = backbone.embedding_tables()
        self.tables: list[nn.Parameter] = []
        if options.optimizer != "adam":
            self.tables = use_sparse_gradients(backbone)
            if not self.tables:
                raise ConfigError(
                    f"train.optimizer = '{options.optimizer}' updates rows of the tables of "
                    f"aqcl.embeddings.Embeddings, and {type(backbone).__name__} has none: use adam"
                )
        by_row = {id(table) for table in self.tables}
        dense = [p for p in model.parameters() if id(p) not in by_row]
        self.parts: dict[str, torch.optim.Optimizer] = {
            "adam": torch.optim.Adam(dense, lr=options.lr, fused=True)
        }
        if options.optimizer == "lazy_adam":
            self.parts["lazy_adam"] = torch.optim.SparseAdam(self.tables, lr=options.lr)
        if options.optimizer == "rowwise_adagrad":
            self.parts["rowwise_adagrad"] = RowwiseAdagrad(self.tables, options.table_lr)

    def zero_grad(self) -> None:
        """Drop all gradients."""
        for optimizer in self.parts.values():
            optimizer.zero_grad()

    def step(self) -> None:
        """Update all parameters by their gradients and the penalty."""
        for table in self.tables:
            # Once: the penalty and the optimizer both need each row once. A regularizer that acts
            # on a whole table makes its gradient dense.
            if table.grad is not None:
                table.grad = _rows_once(table.grad)
        add_embedding_penalty(self.penalised, self.embedding_l2)
        for optimizer in self.parts.values():
            optimizer.step()

    @torch.no_grad()
    def step_sizes(self, model: nn.Module) -> dict[str, Tensor]:
        """How far the coming step moves each weight by a unit of its gradient.

        The second moments are those that the step will divide by, its own gradient and the penalty
        included, and count as constant; so there are sizes before the first step, too. A weight
        whose gradient is zero has size 0: this batch does not reach it, and where no batch has yet
        it would be lr / eps.

        Returns:
            By the names in `model` of the parameters with a gradient, each of its shape; of a table
            that is updated by row, sparse, with the rows of the gradient alone.
        """
        names = {id(parameter): name for name, parameter in model.named_parameters()}
        penalised = {id(table) for table in self.penalised}
        sizes: dict[str, Tensor] = {}
        for part, optimizer in self.parts.items():
            (group,) = optimizer.param_groups
            for parameter in group["params"]:
                if parameter.grad is not None:
                    strength = self.embedding_l2 if id(parameter) in penalised else 0.0
                    state = optimizer.state.get(parameter, {})
                    sizes[names[id(parameter)]] = _sizes(part, parameter, strength, state, group)
        return sizes

    def tensors(self, model: nn.Module) -> Iterator[tuple[str, Tensor]]:
        """The state by keys of the form optimizer.piece.parameter."""
        for part, optimizer in self.parts.items():
            for name, parameter in model.named_parameters():
                for key, value in optimizer.state.get(parameter, {}).items():
                    # SparseAdam counts its steps in an int.
                    tensor = value if isinstance(value, Tensor) else torch.tensor(value)
                    yield f"{part}.{key}.{name}", tensor

    def restore(self, model: nn.Module, tensors: Mapping[str, Tensor]) -> None:
        """Take over what `tensors` gave; other keys are left alone."""
        parameters = dict(model.named_parameters())
        for place, value in tensors.items():
            part, _, rest = place.partition(".")
            if part in self.parts:
                key, _, name = rest.partition(".")
                parameter = parameters[name]
                piece = value.to(parameter.device) if value.is_floating_point() else int(value)
                self.parts[part].state[parameter][key] = piece


def _rows_once(gradient: Tensor) -> Tensor:
    """A table's gradient as a sparse one that holds each row once."""
    return (gradient if gradient.is_sparse else gradient.to_sparse(1)).coalesce()


def _sizes(
    part: str,
    parameter: Tensor,
    strength: float,
    state: Mapping[str, Any],
    group: Mapping[str, Any],
) -> Tensor:
    """The step sizes of one parameter, whose penalty has this strength."""
    assert parameter.grad is not None
    if part == "adam":
        values = parameter.grad
        sizes = _adam_sizes(values + strength * parameter, state, group)
        return torch.where(values == 0, 0.0, sizes)
    by_row = _rows_once(parameter.grad)
    rows, values = by_row.indices()[0], by_row.values()
    penalised = values + strength * parameter.index_select(0, rows)
    of_rows = {
        key: value.index_select(0, rows) if isinstance(value, Tensor) else value
        for key, value in state.items()
    }
    lazy = part == "lazy_adam"
    sizes = (_lazy_adam_sizes if lazy else _rowwise_adagrad_sizes)(penalised, of_rows, group)
    sizes = torch.where(values == 0, 0.0, sizes)
    return torch.sparse_coo_tensor(
        by_row.indices(), sizes, by_row.shape, check_invariants=False, is_coalesced=True
    )


def _adam_sizes(gradient: Tensor, state: Mapping[str, Any], group: Mapping[str, Any]) -> Tensor:
    """Adam: lr (1 - beta1) / (1 - beta1^t) / (sqrt(v / (1 - beta2^t)) + eps)."""
    beta1, beta2 = group["betas"]
    number = int(state.get("step", 0)) + 1
    second = (1 - beta2) * gradient.square()
    if "exp_avg_sq" in state:
        second += beta2 * state["exp_avg_sq"]
    divisor = (second / (1 - beta2**number)).sqrt() + group["eps"]
    sizes: Tensor = group["lr"] * (1 - beta1) / (1 - beta1**number) / divisor
    return sizes


def _lazy_adam_sizes(
    gradient: Tensor, state: Mapping[str, Any], group: Mapping[str, Any]
) -> Tensor:
    """Those of Adam with eps added before the correction, as torch's SparseAdam does."""
    number = int(state.get("step", 0)) + 1
    eps = group["eps"] / math.sqrt(1 - group["betas"][1] ** number)
    return _adam_sizes(gradient, state, {**group, "eps": eps})


def _rowwise_adagrad_sizes(
    gradient: Tensor, state: Mapping[str, Any], group: Mapping[str, Any]
) -> Tensor:
    """Those of `RowwiseAdagrad`, one for each row: lr / (sqrt(s) + eps)."""
    before = state.get("sum", group["initial_accumulator"])
    total = before + gradient.square().mean(1)
    sizes: Tensor = group["lr"] / (total.sqrt() + group["eps"])
    return sizes[:, None]


def add_embedding_penalty(tables: Iterable[nn.Parameter], strength: float) -> None:
    """Gradient of (lambda / 2) * sum of squares over the whole of each embedding table.

    Where the gradient is sparse it is over the rows of the gradient instead, each counted once.

    Reference: arXiv 2109.13921, section 5.2.2 ("L2 regularization weight for the embedding").
    """
    # NOTE[DIFF]: under `lazy_adam` and `rowwise_adagrad` the embedding penalty acts on the rows
    # that a batch looks up, and not on the whole tables, so the same lambda is a weaker penalty.
    for table in tables:
        if strength <= 0 or table.grad is None:
            continue
        if table.grad.is_sparse:
            rows = table.detach().index_select(0, table.grad.indices()[0])
            table.grad.values().add_(rows, alpha=strength)
        else:
            table.grad.add_(table.detach(), alpha=strength)
