"""Optimizers of large tables: against slow NumPy, dense Adam, and the size of the table."""

import copy
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils._python_dispatch import TorchDispatchMode

from aqcl.backbones.fm import FM
from aqcl.batch import Batch
from aqcl.config import build
from aqcl.embeddings import EmbeddingOptions, Embeddings
from aqcl.errors import ConfigError
from aqcl.experiment import TrainOptions
from aqcl.objective import Moment, Objective
from aqcl.optimizers import EPSILON, Optimizers, RowwiseAdagrad
from aqcl.schema import Schema
from tests.model_inputs import IDS_ONLY, LENGTHS, WITH_FIELDS, make_backbone, make_batch, make_facts

ROWWISE = ("lazy_adam", "rowwise_adagrad")
LR, TABLE_LR, L2 = 0.01, 0.05, 0.3


def options(optimizer: str, **changes: Any) -> TrainOptions:
    values = {"optimizer": optimizer, "lr": LR, "table_lr": TABLE_LR, "embedding_l2": L2}
    return build(TrainOptions, values | changes)


def make(optimizer: str, schema: Schema = WITH_FIELDS, **changes: Any) -> tuple[Objective, Any]:
    """A factorization machine, which has tables of vectors and of first-order weights."""
    module, _ = make_backbone(FM, make_facts(schema), id_dropout=0.0)
    objective = Objective(module, {})
    with torch.no_grad():
        for parameter in objective.parameters():
            parameter.add_(0.1 * torch.randn(parameter.shape))
    return objective, Optimizers(objective, module, options(optimizer, **changes))


def backward(objective: Objective, optimizer: Optimizers, batch: Batch, number: int = 0) -> None:
    optimizer.zero_grad()
    losses = objective(batch, Moment(0, 0, number, number))
    (100 * losses.total).backward()


def look_ups(table: nn.Parameter) -> list[tuple[int, list[float]]]:
    """Each row of a sparse gradient, as often as it was looked up."""
    assert table.grad is not None
    assert table.grad.is_sparse
    rows, values = table.grad._indices()[0].tolist(), table.grad._values().tolist()
    return list(zip(rows, values, strict=True))


def summed(gradient: Sequence[tuple[int, list[float]]]) -> dict[int, np.ndarray]:
    total: dict[int, np.ndarray] = {}
    for row, values in gradient:
        total[row] = total.get(row, np.zeros(len(values))) + np.array(values)
    return total


def slow_lazy_adam(w: np.ndarray, g: dict[int, np.ndarray], state: dict[Any, Any]) -> None:
    state["t"] = t = state.get("t", 0) + 1
    for r, g_r in g.items():
        for d in range(w.shape[1]):
            m, v = state.get((r, d), (0.0, 0.0))
            m, v = 0.9 * m + 0.1 * g_r[d], 0.999 * v + 0.001 * g_r[d] ** 2
            state[r, d] = (m, v)
            scale = LR * np.sqrt(1 - 0.999**t) / (1 - 0.9**t)
            w[r, d] -= scale * m / (np.sqrt(v) + EPSILON)


def slow_rowwise_adagrad(w: np.ndarray, g: dict[int, np.ndarray], state: dict[Any, float]) -> None:
    for r, g_r in g.items():
        state[r] = state.get(r, 0.0) + sum(x * x for x in g_r) / len(g_r)
        for d in range(w.shape[1]):
            w[r, d] -= TABLE_LR * g_r[d] / (np.sqrt(state[r]) + EPSILON)


SLOW = {"lazy_adam": slow_lazy_adam, "rowwise_adagrad": slow_rowwise_adagrad}


@pytest.mark.parametrize("optimizer_name", ROWWISE)
def test_tables_are_updated_as_slow_loops_do(optimizer_name: str) -> None:
    """The penalty counts each row of a batch once, and never the first-order weights."""
    objective, optimizer = make(optimizer_name)
    names = {id(parameter): name for name, parameter in objective.named_parameters()}
    tables = {names[id(table)]: table for table in optimizer.tables}
    weights = {name: t.detach().double().numpy().copy() for name, t in tables.items()}
    states: dict[str, dict[Any, Any]] = {name: {} for name in tables}
    assert len(tables) == 2 * (2 + 4)

    for number in range(4):
        backward(objective, optimizer, make_batch(WITH_FIELDS, (3, 1, 0), seed=number), number)
        for name, table in tables.items():
            gradient = summed(look_ups(table))
            for row in gradient:
                if not name.startswith("backbone.first_order"):
                    gradient[row] = gradient[row] + L2 * weights[name][row]
            SLOW[optimizer_name](weights[name], gradient, states[name])
        optimizer.step()

    for name, table in tables.items():
        np.testing.assert_allclose(table.detach().numpy(), weights[name], atol=2e-6)


@pytest.mark.parametrize("optimizer_name", ROWWISE)
def test_all_other_parameters_have_dense_adam(optimizer_name: str) -> None:
    """Without tables in between: they see the same first gradient, so their first step is equal."""
    (lazy, by_row), (dense, adam) = make(optimizer_name), make("adam")
    tables = {id(table) for table in by_row.tables}
    batch = make_batch(WITH_FIELDS)

    for objective, optimizer in ((lazy, by_row), (dense, adam)):
        backward(objective, optimizer, batch)
        optimizer.step()

    others = [
        (one, other)
        for one, other in zip(lazy.parameters(), dense.parameters(), strict=True)
        if id(one) not in tables
    ]
    # The slope and intercept of three numeric columns, twice, and the bias.
    assert len(others) == 2 * 3 + 1
    for one, other in others:
        torch.testing.assert_close(one, other, atol=1e-6, rtol=0)


def test_lazy_adam_is_adam_where_each_batch_holds_all_rows() -> None:
    (lazy, by_row), (dense, adam) = make("lazy_adam", IDS_ONLY), make("adam", IDS_ONLY)
    n_users, n_items = IDS_ONLY.n_users, IDS_ONLY.n_items
    random = np.random.default_rng(0)
    for number in range(20):
        lengths = [2] * n_users
        batch = make_batch(IDS_ONLY, lengths)
        values = {
            "user": torch.from_numpy(random.permutation(n_users)),
            "history": torch.from_numpy(np.resize(random.permutation(n_items), 2 * n_users)),
            "label": torch.from_numpy(random.integers(0, 2, n_users).astype(np.float32)),
        }
        batch = Batch(**{**vars(batch), **values})
        for objective, optimizer in ((lazy, by_row), (dense, adam)):
            backward(objective, optimizer, batch, number)
            optimizer.step()

    for one, other in zip(lazy.parameters(), dense.parameters(), strict=True):
        torch.testing.assert_close(one, other, atol=1e-6, rtol=0)


@pytest.mark.parametrize("schema", [IDS_ONLY, WITH_FIELDS], ids=["ids only", "with fields"])
def test_sparse_gradients_are_the_dense_ones(schema: Schema) -> None:
    (lazy, by_row), (dense, adam) = make("lazy_adam", schema), make("adam", schema)
    batch = make_batch(schema)

    backward(lazy, by_row, batch)
    backward(dense, adam, batch)

    for one, other in zip(lazy.parameters(), dense.parameters(), strict=True):
        assert one.grad is not None
        assert other.grad is not None
        torch.testing.assert_close(one.grad.to_dense(), other.grad)


def test_a_second_look_up_in_one_step_adds_to_the_same_rows() -> None:
    """As regularizers do through `embed_items`."""
    objective, optimizer = make("rowwise_adagrad", IDS_ONLY, embedding_l2=0.0)
    layer = objective.parts.backbone
    before = layer.embedding_tables()[1].detach().clone()

    vectors = layer.embed_items(torch.tensor([3, 3, 5])).sum()
    (vectors + 2 * layer.embed_items(torch.tensor([5])).sum()).backward()
    optimizer.step()

    change = layer.embedding_tables()[1].detach() - before
    # Adagrad's first step has the length of its rate whatever the gradient.
    expected = torch.zeros_like(before)
    expected[[3, 5]] = -TABLE_LR
    torch.testing.assert_close(change, expected, atol=1e-6, rtol=0)


@pytest.mark.parametrize("optimizer_name", ROWWISE)
def test_a_regularizer_may_act_on_a_whole_table(optimizer_name: str) -> None:
    objective, optimizer = make(optimizer_name)
    backward(objective, optimizer, make_batch(WITH_FIELDS))
    before = copy.deepcopy(objective.state_dict())

    objective.parts.backbone.embedding_tables()[0].square().sum().backward()
    optimizer.step()

    name = "backbone.embeddings.user_table"
    changed = (objective.state_dict()[name] != before[name]).any(1)
    assert changed.all()


@pytest.mark.parametrize("n_before", [0, 1, 5])
@pytest.mark.parametrize("optimizer_name", ["adam", *ROWWISE])
def test_step_sizes_are_those_of_a_step_without_momentum(
    optimizer_name: str, n_before: int
) -> None:
    """The step is then size times gradient, penalty included, of each weight that has one."""
    objective, optimizer = make(optimizer_name)
    for part in optimizer.parts.values():
        part.param_groups[0]["eps"] = 0.05  # so large that its place matters
    for number in range(n_before):
        backward(objective, optimizer, make_batch(WITH_FIELDS, (3, 1, 0), seed=number), number)
        optimizer.step()
    for part in optimizer.parts.values():
        for state in part.state.values():
            if "exp_avg" in state:
                state["exp_avg"].zero_()
    backward(objective, optimizer, make_batch(WITH_FIELDS, (3, 1, 0), seed=9), n_before)
    named = dict(objective.named_parameters())
    batch_alone = {n: p.grad.to_dense().clone() for n, p in named.items() if p.grad is not None}
    before = {name: p.detach().clone() for name, p in named.items()}

    sizes = optimizer.step_sizes(objective)
    optimizer.step()

    assert sizes.keys() == batch_alone.keys() == named.keys()
    for name, parameter in named.items():
        assert parameter.grad is not None
        assert sizes[name].is_sparse == parameter.grad.is_sparse
        size, reached = sizes[name].to_dense(), batch_alone[name] != 0
        assert reached.any()
        assert torch.equal(size > 0, reached)
        # The step has left the penalty in the gradient.
        expected = before[name] - size * parameter.grad.to_dense()
        torch.testing.assert_close(parameter[reached], expected[reached], atol=1e-6, rtol=1e-5)
        moved = (parameter - before[name])[reached].abs()
        assert moved.max() > 1e-4


class Touched(TorchDispatchMode):
    """Names of the operations that see a dense tensor with as many rows as the table of users."""

    def __init__(self, n_rows: int) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.n_rows = n_rows
        self.seen: set[str] = set()

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        out = func(*args, **(kwargs or {}))
        if any(self.is_large(value) for value in self.tensors([args, kwargs or {}, out])):
            self.seen.add(func.overloadpacket.__name__)
        return out

    def tensors(self, value: Any) -> Iterator[Tensor]:
        if isinstance(value, Tensor):
            yield value
        elif isinstance(value, dict):
            yield from self.tensors(list(value.values()))
        elif isinstance(value, (list, tuple)):
            for one in value:
                yield from self.tensors(one)

    def is_large(self, value: Tensor) -> bool:
        dense = value.layout == torch.strided
        return dense and value.dim() > 0 and value.shape[0] == self.n_rows


BY_ROW = {"embedding", "index_select", "index_add_", "index_copy_", "detach", "sparse_mask", "add_"}
"""What only reads or writes some rows; `add_` adds a sparse tensor."""


@pytest.mark.parametrize("optimizer_name", ["adam", *ROWWISE])
def test_no_step_passes_over_a_whole_table(optimizer_name: str) -> None:
    schema = Schema(n_users=1009, n_items=11, n_user_entities=1009, n_item_entities=15)
    objective, optimizer = make(optimizer_name, schema)
    batch = make_batch(schema, LENGTHS)
    backward(objective, optimizer, batch)
    optimizer.step()  # makes the state

    with Touched(1009) as touched:
        backward(objective, optimizer, batch, 1)
        optimizer.step_sizes(objective)
        optimizer.step()

    assert touched.seen
    assert (touched.seen <= BY_ROW) == (optimizer_name != "adam"), touched.seen


def test_a_foreign_backbone_has_no_tables_to_update_by_row() -> None:
    class Foreign(FM):
        def __init__(self, facts: Any, options: EmbeddingOptions) -> None:
            super().__init__(facts, options)
            self.embeddings = None  # type: ignore[assignment]
            self.first_order = None  # type: ignore[assignment]

        def embedding_tables(self) -> list[nn.Parameter]:
            return []

    foreign = Foreign(make_facts(), EmbeddingOptions())
    Optimizers(foreign, foreign, options("adam"))

    with pytest.raises(
        ConfigError, match=r"train\.optimizer = 'lazy_adam'.*Foreign has none.*adam"
    ):
        Optimizers(foreign, foreign, options("lazy_adam"))


def test_an_unknown_optimizer_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"train\.optimizer.*lazy_adam"):
        build(TrainOptions, {"optimizer": "lazy-adam"}, "train")


def test_scoring_needs_no_gradient_of_rows() -> None:
    """An embedding layer is dense until a run asks for rows: what is served stays as it was."""
    layer = Embeddings(make_facts(), EmbeddingOptions())

    layer(make_batch()).user.sum().backward()

    assert layer.user_table.grad is not None
    assert not layer.user_table.grad.is_sparse


def test_rowwise_adagrad_keeps_one_number_a_row() -> None:
    table = nn.Parameter(torch.zeros(5, 3))
    optimizer = RowwiseAdagrad([table], 0.1, initial_accumulator=2.0)
    F.embedding(torch.tensor([1, 4]), table, sparse=True).sum().backward()

    optimizer.step()

    assert optimizer.state[table]["sum"].tolist() == [2.0, 3.0, 2.0, 2.0, 3.0]
    torch.testing.assert_close(table[1], torch.full((3,), -0.1 / (3**0.5 + EPSILON)))
