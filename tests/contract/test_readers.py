"""What every regularizer that the prediction reads must do, on every backbone."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from aqcl.backbones import BACKBONES
from aqcl.batch import Batch
from aqcl.contracts import Predictor, Reader
from aqcl.objective import Moment, Objective
from aqcl.readers import Reading, is_read
from aqcl.regularizers import REGULARIZERS
from tests.model_inputs import take_rows
from tests.objectives import make_objective, mixed_batch, train

READERS: dict[str, dict[str, Any]] = {"aqcl": {"readout": True}}
"""Regularizers that can be read, with the options that ask for it."""

pytestmark = [
    pytest.mark.parametrize("name", READERS),
    pytest.mark.parametrize("backbone", BACKBONES),
]


def made(name: str, backbone: str, **changes: Any) -> Objective:
    return make_objective({name: READERS[name] | changes}, backbone_class=BACKBONES[backbone])


def logits(model: nn.Module, batch: Batch) -> Tensor:
    assert isinstance(model, Predictor)
    model.eval()
    with torch.no_grad():
        embedded = model.embed(batch)
        return model.predict(model.encode(embedded), embedded)


def test_the_first_step_is_that_of_the_plain_model(name: str, backbone: str) -> None:
    plain = make_objective(backbone_class=BACKBONES[backbone])
    moment = Moment(3, 0, 0, 0)

    losses = made(name, backbone)(mixed_batch(), moment)

    assert torch.equal(losses.logs["logloss"], plain(mixed_batch(), moment).logs["logloss"])


def test_the_prediction_uses_it_once_it_is_trained(name: str, backbone: str) -> None:
    objective = made(name, backbone)
    own = objective.regularizers
    before = {key: value.clone() for key, value in own.named_parameters()}
    train(objective, 8)

    model = objective.model()

    assert isinstance(model, Reading)
    assert not torch.equal(logits(model, mixed_batch()), logits(objective.backbone, mixed_batch()))
    assert not [key for key, value in own.named_parameters() if value.equal(before[key])]


def test_a_row_is_scored_as_in_any_batch(name: str, backbone: str) -> None:
    objective, batch = made(name, backbone), mixed_batch()
    train(objective, 8)
    model = objective.model()
    order = list(reversed(range(len(batch))))

    whole = logits(model, batch)

    torch.testing.assert_close(logits(model, take_rows(batch, order)), whole[order])
    for row in (0, 1, len(batch) - 1):
        torch.testing.assert_close(logits(model, take_rows(batch, [row])), whole[[row]])


@pytest.mark.parametrize("training", [True, False])
def test_the_model_shares_weights_and_mode(name: str, backbone: str, training: bool) -> None:
    objective = made(name, backbone).train(training)

    model = objective.model()

    assert model.training == training
    assert all(module.training == training for module in model.modules())
    assert {id(p) for p in model.parameters()} == {id(p) for p in objective.parameters()}
    prefixes = {key.partition(".")[0] for key in objective.state_dict()}
    assert prefixes == {"backbone", "regularizers"}


def test_without_being_asked_or_with_weight_0_it_is_not_read(name: str, backbone: str) -> None:
    silent = make_objective({name: {}}, backbone_class=BACKBONES[backbone])
    weightless = made(name, backbone, weight=0.0)

    for objective in (silent, weightless):
        assert objective.model() is objective.backbone
        assert not is_read(objective.regularizers[0])
    assert issubclass(REGULARIZERS[name], Reader)
    assert is_read(made(name, backbone).regularizers[0])
