"""The top network is a plain MLP, which activity gates change only where they are asked for."""

import dataclasses

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from aqcl.backbones import BACKBONES
from aqcl.contracts import Backbone
from aqcl.layers import MLP, Activation
from aqcl.tower import ActivityGates, Tower, TowerOptions
from tests.model_inputs import WITH_FIELDS, make_backbone, make_batch, make_facts, predict

DEEP = [name for name, cls in BACKBONES.items() if issubclass(cls.Options, TowerOptions)]
ACTIVITIES = (0, 1, 2, 3, 6, 7, 14, 15, 1000, 32766, 32767, 10**9)
BUCKETS = (0, 1, 1, 2, 2, 3, 3, 4, 9, 14, 15, 15)


def make_tower(*, gates: bool, dropout: float = 0.0, activation: Activation = "relu") -> Tower:
    torch.manual_seed(0)
    options = TowerOptions(
        sizes=(6, 4, 3), dropout=dropout, activity_gates=gates, activation=activation
    )
    return Tower(5, options)


def make_inputs(n_rows: int = len(ACTIVITIES)) -> tuple[Tensor, Tensor]:
    inputs = torch.randn(n_rows, 5, generator=torch.Generator().manual_seed(1))
    return inputs, torch.tensor(ACTIVITIES[:n_rows], dtype=torch.float32)


def made(name: str, *, gates: bool) -> tuple[nn.Module, Backbone]:
    return make_backbone(BACKBONES[name], make_facts(WITH_FIELDS), activity_gates=gates)


def test_gates_are_off_by_default() -> None:
    assert not TowerOptions().activity_gates


@pytest.mark.parametrize("dropout", [0.0, 0.3])
def test_without_gates_it_is_the_plain_network_bit_for_bit(dropout: float) -> None:
    tower = make_tower(gates=False, dropout=dropout)
    drawn_after_tower = torch.rand(3)
    torch.manual_seed(0)
    plain = MLP(5, (6, 4, 3), "relu", dropout)
    drawn_after_plain = torch.rand(3)
    inputs, activity = make_inputs()

    torch.manual_seed(2)
    latent = tower(inputs, activity)
    torch.manual_seed(2)
    expected = plain(inputs)

    assert torch.equal(latent, expected)
    assert torch.equal(drawn_after_tower, drawn_after_plain)
    state = {f"layers.{key}": value for key, value in plain.state_dict().items()}
    assert tower.state_dict().keys() == state.keys()
    assert all(torch.equal(value, state[key]) for key, value in tower.state_dict().items())


def test_the_layers_start_the_same_with_gates() -> None:
    plain, gated = make_tower(gates=False), make_tower(gates=True)

    state = gated.state_dict()
    assert all(torch.equal(value, state[key]) for key, value in plain.state_dict().items())


def slow_linear(layer: nn.Linear, x: np.ndarray) -> np.ndarray:
    return np.asarray(layer.weight.detach().numpy() @ x + layer.bias.detach().numpy())


def slow_gates(gates: ActivityGates, bucket: int) -> list[np.ndarray]:
    """The gates of one sample, layer by layer."""
    code = gates.codes.weight.detach().numpy()[bucket]
    layers = []
    for network in gates.networks:
        first, last = (m for m in network.modules() if isinstance(m, nn.Linear))
        hidden = np.maximum(slow_linear(first, code), 0.0)
        layers.append(2 / (1 + np.exp(-slow_linear(last, hidden))))
    return layers


@pytest.mark.parametrize("dropout", [0.0, 0.3])
def test_gates_are_their_equation(dropout: float) -> None:
    # Not ReLU: it would not tell a gate before the activation from one behind it.
    tower = make_tower(gates=True, dropout=dropout, activation="sigmoid").double().eval()
    for parameter in tower.parameters():
        nn.init.normal_(parameter)
    inputs, activity = make_inputs()

    latent = tower(inputs.double(), activity.double())

    assert isinstance(tower.gates, ActivityGates)
    linears = [m for m in tower.layers if isinstance(m, nn.Linear)]
    for row, bucket in enumerate(BUCKETS):
        hidden = inputs[row].double().numpy()
        for layer, gates in zip(linears, slow_gates(tower.gates, bucket), strict=True):
            hidden = gates / (1 + np.exp(-slow_linear(layer, hidden)))
        np.testing.assert_allclose(latent[row].detach().numpy(), hidden, rtol=0, atol=1e-9)


def test_gates_that_say_nothing_change_nothing() -> None:
    plain, gated = make_tower(gates=False), make_tower(gates=True)
    assert isinstance(gated.gates, ActivityGates)
    for network in gated.gates.networks:
        for parameter in network.parameters():
            nn.init.zeros_(parameter)
    inputs, activity = make_inputs()

    assert torch.equal(gated(inputs, activity), plain(inputs, activity))


@pytest.mark.parametrize("n_rows", [0, 1])
def test_small_batches(n_rows: int) -> None:
    assert make_tower(gates=True)(*make_inputs(n_rows)).shape == (n_rows, 3)


def test_every_backbone_with_a_tower_has_the_option() -> None:
    facts = make_facts(WITH_FIELDS)
    models = {name: make_backbone(cls, facts)[0] for name, cls in BACKBONES.items()}

    towers = {
        n for n, model in models.items() if any(isinstance(m, Tower) for m in model.modules())
    }
    assert towers == set(DEEP)
    assert "din" in towers


@pytest.mark.parametrize("gates", [False, True])
@pytest.mark.parametrize("name", DEEP)
def test_activity_matters_only_with_gates(name: str, gates: bool) -> None:
    module, backbone = made(name, gates=gates)
    module.eval()
    batch = make_batch(WITH_FIELDS)
    before = predict(backbone, batch)

    after = predict(backbone, dataclasses.replace(batch, activity=batch.activity + 100))

    assert (after != before).all() if gates else torch.equal(after, before)


@pytest.mark.parametrize("name", DEEP)
def test_gradients_reach_the_gates(name: str) -> None:
    module, backbone = made(name, gates=True)
    module.eval()

    predict(backbone, make_batch(WITH_FIELDS)).square().sum().backward()

    found = {key: value for key, value in module.named_parameters() if ".gates." in key}
    assert len(found) == 1 + 4 * 2  # a table, and a network for each of two layers
    for key, parameter in found.items():
        assert parameter.grad is not None, key
        assert parameter.grad.isfinite().all(), key
        assert parameter.grad.any(), key


@pytest.mark.parametrize("name", DEEP)
def test_without_gates_a_backbone_has_no_trace_of_them(name: str) -> None:
    plain, gated = made(name, gates=False)[0].state_dict(), made(name, gates=True)[0].state_dict()

    assert plain.keys() == {key for key in gated if ".gates." not in key}
    assert plain.keys() != gated.keys()
