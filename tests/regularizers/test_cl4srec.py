"""CL4SRec: the loss against slow NumPy, and what its two views are."""

import dataclasses
import math

import numpy as np
import numpy.typing as npt
import pytest
import torch
from torch import Tensor

from aqcl.backbones import BACKBONES
from aqcl.batch import Embedded, LossTerm
from aqcl.regularizers.cl4srec import CL4SRec, CL4SRecOptions
from tests.model_inputs import WITH_FIELDS, make_batch, make_facts
from tests.objectives import make_objective, make_step, mixed_batch

Array = npt.NDArray[np.float64]
LATENT_DIM = 7


def slow_loss(first: Array, second: Array, user: list[int], temperature: float) -> float:
    """Every one of the 2N views must find the other view of its sample among other users' views."""
    views = np.concatenate([first, second])
    owners = [*user, *user]
    n = len(user)
    total = 0.0
    for a in range(2 * n):
        mate = (a + n) % (2 * n)

        def raised(b: int, a: int = a) -> float:
            lengths = np.linalg.norm(views[a]) * np.linalg.norm(views[b])
            return math.exp(float(views[a] @ views[b]) / lengths / temperature)

        negatives = sum(raised(b) for b in range(2 * n) if owners[b] != owners[a])
        total -= math.log(raised(mate) / (raised(mate) + negatives))
    return total / (2 * n)


def make_cl4srec(**options: float) -> CL4SRec:
    torch.manual_seed(0)
    return CL4SRec(LATENT_DIM, CL4SRecOptions(dim=5, hidden_dim=6, **options))  # type: ignore[arg-type]


@pytest.mark.parametrize("temperature", [0.1, 1.0])
@pytest.mark.parametrize("user", [[2, 3, 4, 5, 6], [2, 3, 2, 2, 3], [2, 2], [2]])
def test_the_loss_equals_slow_loops(user: list[int], temperature: float) -> None:
    regularizer = make_cl4srec(temperature=temperature).double()
    random = torch.Generator().manual_seed(1)
    first, second = torch.randn(2, len(user), LATENT_DIM, generator=random, dtype=torch.float64)

    with torch.no_grad():
        term = regularizer(first, second, torch.tensor(user))
        z_first, z_second = (regularizer.projector(one).numpy() for one in (first, second))
    expected = slow_loss(z_first, z_second, user, temperature)
    assert float(term.value) == pytest.approx(expected, rel=1e-9, abs=1e-12)
    assert float(term.own) == 0.0


def test_no_samples_cost_nothing() -> None:
    nothing = torch.zeros(0, LATENT_DIM)

    term = make_cl4srec()(nothing, nothing, torch.zeros(0, dtype=torch.int64))
    term.value.backward()

    assert float(term.value.detach()) == 0.0


def test_both_views_are_changed_and_have_their_own_dropout() -> None:
    objective = make_objective({"icl": {}})
    step = make_step(objective, mixed_batch())
    regularizer = CL4SRec.create(make_facts(WITH_FIELDS), step.backbone, CL4SRecOptions())
    views: list[Embedded] = []
    seeds: list[int] = []
    original = step.backbone.encode

    def watched(embedded: Embedded) -> Tensor:
        views.append(embedded)
        seeds.append(torch.initial_seed())
        return original(embedded)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(step.backbone, "encode", watched)
        regularizer.loss(step)

    first, second = views
    assert seeds == [7, 8]
    histories = [step.embedded.history, first.history, second.history]
    for one in range(3):
        for other in range(one):
            a, b = histories[one], histories[other]
            assert a.shape != b.shape or not torch.equal(a, b)


@pytest.mark.parametrize("backbone", ["din", "deepfm", "sasrec", "dmr"])
def test_clicks_find_each_other_by_nothing_else(backbone: str) -> None:
    """Another candidate, user, activity or context tells nothing, other clicks do."""
    objective = make_objective({"icl": {}}, backbone_class=BACKBONES[backbone], activity_gates=True)
    step = make_step(objective, mixed_batch())
    regularizer = CL4SRec.create(make_facts(WITH_FIELDS), step.backbone, CL4SRecOptions())
    own = step.embedded

    def loss_of(**changes: Tensor | None) -> float:
        step.generator.manual_seed(1)
        changed = dataclasses.replace(own, scores=None, **changes)  # type: ignore[arg-type]
        with torch.no_grad():
            return float(regularizer.loss(dataclasses.replace(step, embedded=changed)).value)

    output = None if own.item_output is None else own.item_output.flip(0)
    hidden = ("user", "item", "context", "activity")
    others = {name: getattr(own, name).flip(0) for name in hidden}
    assert loss_of(**others, item_output=output) == loss_of()
    assert loss_of(history=own.history.flip(0)) != loss_of()


def test_a_single_click_has_no_views() -> None:
    objective = make_objective({"icl": {}})
    step = make_step(objective, make_batch(WITH_FIELDS, (1, 0, 4, 1, 3)))
    regularizer = CL4SRec.create(make_facts(WITH_FIELDS), step.backbone, CL4SRecOptions())
    seen: list[list[int]] = []
    original = regularizer.forward

    def watched(first: Tensor, second: Tensor, user: Tensor) -> LossTerm:
        seen.append(user.tolist())
        return original(first, second, user)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(regularizer, "forward", watched)
        regularizer.loss(step)
    assert seen == [step.batch.user[[2, 4]].tolist()]


@pytest.mark.parametrize("lengths", [(), (3,), (0, 0)], ids=str)
def test_small_batches_are_legal(lengths: tuple[int, ...]) -> None:
    step = make_step(make_objective(), make_batch(WITH_FIELDS, lengths))
    regularizer = CL4SRec.create(make_facts(WITH_FIELDS), step.backbone, CL4SRecOptions())

    value = regularizer.loss(step).value

    value.backward()
    assert value.isfinite()
