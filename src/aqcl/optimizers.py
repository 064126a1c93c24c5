"""The optimizers of a run: Adam, and for large tables one that updates only a batch's rows."""

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
                gradient = table.grad
                gradient = gradient if gradient.is_sparse else gradient.to_sparse(1)
                table.grad = gradient.coalesce()
        add_embedding_penalty(self.penalised, self.embedding_l2)
        for optimizer in self.parts.values():
            optimizer.step()

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
