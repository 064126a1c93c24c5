"""SSL4Rec: mutual information and the loss against slow NumPy, and what the views hide."""

import math
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from torch import Tensor

from aqcl.backbones.din import DIN
from aqcl.contracts import Step
from aqcl.objective import Objective
from aqcl.regularizers.ssl4rec import (
    SSL4Rec,
    hiding_patterns,
    information_matrix,
    item_columns,
    mutual_information,
)
from aqcl.schema import FIRST_ID, Schema
from tests.golden import reference
from tests.model_inputs import (
    IDS_ONLY,
    WITH_FIELDS,
    make_backbone,
    make_batch,
    make_facts,
    small_options,
)
from tests.objectives import make_step

KNOWN = torch.arange(FIRST_ID, WITH_FIELDS.n_items)


def make_ssl4rec(schema: Schema = WITH_FIELDS, **options: Any) -> tuple[SSL4Rec, Step]:
    facts = make_facts(schema)
    module, backbone = make_backbone(DIN, facts, id_dropout=0.0)
    regularizer = SSL4Rec.create(facts, backbone, small_options(SSL4Rec, **options))
    return regularizer, make_step(Objective(module, {}), make_batch(schema))


def slow_information(first: npt.NDArray[np.int64], second: npt.NDArray[np.int64]) -> float:
    """Equation 4."""
    n, total = len(first), 0.0
    for a in set(first.tolist()):
        for b in set(second.tolist()):
            both = sum(1 for x, y in zip(first, second, strict=True) if x == a and y == b) / n
            if both > 0:
                total += both * math.log(both / ((first == a).sum() / n * (second == b).sum() / n))
    return total


def test_mutual_information_equals_slow_loops() -> None:
    random = np.random.default_rng(0)
    first, noise = random.integers(-3, 9, (2, 300))
    for second in (noise, first // 3, first * 7, np.where(noise > 2, first, noise)):
        found = mutual_information(first, second)
        assert found == pytest.approx(slow_information(first, second), rel=1e-9, abs=1e-12)


def test_a_column_tells_nothing_of_a_constant_and_everything_of_itself() -> None:
    column = np.arange(12) % 3

    assert mutual_information(column, np.zeros(12, dtype=np.int64)) == pytest.approx(0.0, abs=1e-12)
    assert mutual_information(column, column) == pytest.approx(math.log(3))
    assert mutual_information(column, np.arange(12)) == pytest.approx(math.log(3))


def test_columns_are_those_of_known_items() -> None:
    facts = make_facts(WITH_FIELDS)

    identity, brand, kinds, price = item_columns(facts)

    n_items = WITH_FIELDS.n_items - FIRST_ID
    assert len(set(identity.tolist())) == n_items
    raw = facts.attributes["brand"][FIRST_ID : WITH_FIELDS.n_items, 0]
    assert np.array_equal(brand[:, None] == brand, raw[:, None] == raw)
    sets = [tuple(sorted(row)) for row in facts.attributes["kinds"][FIRST_ID : WITH_FIELDS.n_items]]
    assert [[a == b for a in kinds] for b in kinds] == [[a == b for a in sets] for b in sets]
    order = np.argsort(facts.attributes["price"][FIRST_ID : WITH_FIELDS.n_items])
    assert (np.diff(price[order]) >= 0).all()
    assert len(set(price.tolist())) > n_items // 2


@pytest.mark.parametrize(("n_fields", "n_hidden"), [(2, 1), (3, 2), (4, 3), (5, 3), (8, 5)])
def test_the_seed_and_what_tells_most_of_it_are_hidden(n_fields: int, n_hidden: int) -> None:
    half = np.random.default_rng(n_fields).random((n_fields, n_fields))
    information = half + half.T

    patterns = hiding_patterns(information)

    for seed, (first, second) in enumerate(patterns):
        assert first[seed]
        assert int(first.sum()) == n_hidden
        assert torch.equal(second, ~first)
        others = [field for field in range(n_fields) if field != seed]
        least_hidden = min((information[seed, f] for f in others if first[f]), default=math.inf)
        assert all(information[seed, f] < least_hidden for f in others if not first[f])


def test_nothing_is_hidden_of_the_id_alone() -> None:
    regularizer, step = make_ssl4rec(IDS_ONLY, dropout=0.0, temperature=1.0)

    term = regularizer.loss(step)
    term.value.backward()

    assert not regularizer.patterns.any()
    with torch.no_grad():
        shown = step.backbone.embed_items(KNOWN).flatten(1)
        z = regularizer.tower(shown).double().numpy()
    expected = reference.info_nce(z, z, 1.0).mean()
    assert float(term.value.detach()) == pytest.approx(expected, rel=1e-5)
    assert regularizer.default.grad is not None
    assert not regularizer.default.grad.any()


def test_the_loss_equals_slow_loops() -> None:
    """512 draws find each of nine known items, and one seed field is as good as another here."""
    regularizer, step = make_ssl4rec(dropout=0.0, temperature=0.3)
    torch.nn.init.normal_(regularizer.default)

    with torch.no_grad():
        value = float(regularizer.loss(step).value)
        items = step.backbone.embed_items(KNOWN)
        expected = []
        for hidden in regularizer.patterns[:, 0]:
            views = []
            for gone in (hidden, ~hidden):
                view = items.clone()
                view[:, gone] = regularizer.default[gone]
                views.append(regularizer.tower(view.flatten(1)).double().numpy())
            first, second = views
            expected.append(float(reference.info_nce(first, second, 0.3).mean()))

    assert min(abs(value - one) / one for one in expected) < 1e-5
    assert len({round(one, 4) for one in expected}) > 1


def test_each_field_is_the_seed_of_some_step() -> None:
    regularizer, step = make_ssl4rec(dropout=0.0)

    with torch.no_grad():
        values = {round(float(regularizer.loss(step).value), 5) for _ in range(60)}

    distinct = {tuple(pattern.flatten().tolist()) for pattern in regularizer.patterns}
    assert len(values) == len(distinct)


def test_a_view_knows_nothing_of_hidden_fields() -> None:
    regularizer, step = make_ssl4rec()
    items = step.backbone.embed_items(KNOWN).detach().requires_grad_()
    hidden = torch.tensor([True, False, True, False])

    regularizer.encode(items, hidden, torch.Generator().manual_seed(0)).sum().backward()

    assert items.grad is not None
    assert not items.grad[:, hidden].any()
    assert items.grad[:, ~hidden].any()


def test_dropout_differs_between_the_views() -> None:
    regularizer, step = make_ssl4rec(IDS_ONLY, dropout=0.5)
    seen: list[Tensor] = []
    regularizer.tower.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0].detach()))

    regularizer.loss(step)

    first, second = seen
    assert not torch.equal(first, second)
    share = float((torch.cat(seen) == 0).float().mean())
    assert 0.2 < share < 0.8


def test_the_patterns_follow_the_data() -> None:
    """A field that repeats another is hidden with it."""
    facts = make_facts(WITH_FIELDS)
    columns = item_columns(facts)
    twin, coin = np.arange(9) % 3, np.arange(9) // 8
    information = information_matrix([twin, coin, twin * 5, columns[0]])

    patterns = hiding_patterns(information)

    assert patterns[0, 0].tolist() == [True, False, True, True]
    assert patterns[2, 0].tolist() == [True, False, True, True]
