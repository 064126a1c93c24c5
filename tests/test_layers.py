"""Building blocks: dropout, normalisation, Dice, activations, MLP."""

import dataclasses
import math
from typing import Any

import pytest
import torch
from torch import nn

from aqcl.backbones import BACKBONES
from aqcl.config import build
from aqcl.errors import ConfigError
from aqcl.layers import (
    MLP,
    Activation,
    BatchNorm,
    Dice,
    Dropout,
    activation,
    dropout_mask,
    seed_dropout,
    statistics_held,
    tanh_mlp,
)
from aqcl.regularizers import REGULARIZERS

ACTIVATIONS: list[Activation] = ["dice", "relu", "prelu", "sigmoid", "leaky_relu"]
STANDARD_ERRORS = 5
NETWORKS = [
    (options, field.name)
    for options in (
        *(backbone.Options for backbone in BACKBONES.values()),
        *(regularizer.Options for regularizer in REGULARIZERS.values()),
    )
    for field in dataclasses.fields(options)
    if field.name.endswith("sizes")
]


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("rate", [0.1, 0.3, 0.5, 0.9])
def test_dropout_masks_have_the_rate_in_every_lane(rate: float) -> None:
    """Four numbers are cut from one 64-bit draw: each must have the rate, and they must differ."""
    n_draws = 100_000

    kept = (dropout_mask(torch.empty(n_draws, 4), rate, seeded()) > 0).double()

    error = STANDARD_ERRORS * math.sqrt(rate * (1 - rate) / n_draws)
    torch.testing.assert_close(
        kept.mean(0), torch.full((4,), 1 - rate, dtype=torch.float64), rtol=0, atol=error
    )
    lanes = torch.corrcoef(kept.T) - torch.eye(4)
    assert lanes.abs().max() < STANDARD_ERRORS / math.sqrt(n_draws)
    following = torch.corrcoef(torch.stack([kept[:-1, 0], kept[1:, 0]]))[0, 1]
    assert abs(following) < STANDARD_ERRORS / math.sqrt(n_draws)


def test_dropout_masks_scale_what_they_keep() -> None:
    values = dropout_mask(torch.empty(64, dtype=torch.float64), 0.2, seeded()).unique()

    assert values.tolist() == [0.0, 1.25]


@pytest.mark.parametrize("shape", [(0,), (1,), (3, 0, 2), (5, 3), (2, 2, 3)])
def test_dropout_masks_have_the_shape_asked_for(shape: tuple[int, ...]) -> None:
    assert dropout_mask(torch.empty(shape), 0.5, seeded()).shape == shape


def test_dropout_masks_follow_their_generator() -> None:
    first, again, other = (dropout_mask(torch.empty(64), 0.5, seeded(seed)) for seed in (0, 0, 1))

    assert torch.equal(first, again)
    assert not torch.equal(first, other)


@pytest.mark.parametrize("rate", [0.0, 1e-6, 0.999_999])
def test_dropout_masks_at_extreme_rates_are_finite(rate: float) -> None:
    mask = dropout_mask(torch.empty(1000), rate, seeded())

    assert mask.isfinite().all()
    assert (mask > 0).double().mean() == pytest.approx(1 - rate, abs=0.01)


def test_dropout_acts_in_training_only_and_reads_the_seeded_stream() -> None:
    layer, x = Dropout(0.5), torch.ones(64)
    seed_dropout(3)
    first = layer(x)
    seed_dropout(3)

    assert torch.equal(layer(x), first)
    assert not torch.equal(layer(x), first)
    assert torch.equal(layer.eval()(x), x)
    assert torch.equal(Dropout(0.0)(x), x)


@pytest.mark.parametrize("n_rows", [2, 3, 17])
def test_batch_norm_is_that_of_torch(n_rows: int) -> None:
    ours, theirs = BatchNorm(3, eps=1e-5), nn.BatchNorm1d(3, affine=False)
    for seed in range(3):
        x = torch.randn(n_rows, 3, generator=seeded(seed)) * 4 + 1
        torch.testing.assert_close(ours(x), theirs(x))
    ours.eval()
    theirs.eval()

    assert theirs.running_mean is not None
    assert theirs.running_var is not None
    torch.testing.assert_close(ours.mean, theirs.running_mean)
    torch.testing.assert_close(ours.var, theirs.running_var)
    torch.testing.assert_close(ours(x), theirs(x))


@pytest.mark.parametrize("n_rows", [0, 1])
def test_batch_norm_of_fewer_than_two_rows_uses_the_running_statistics(n_rows: int) -> None:
    norm = BatchNorm(3, eps=1e-5)
    norm(torch.randn(9, 3, generator=seeded()) + 5)
    before = {key: value.clone() for key, value in norm.state_dict().items()}
    x = torch.randn(n_rows, 3, generator=seeded(1))

    ours = norm(x)

    torch.testing.assert_close(ours, (x - norm.mean) / (norm.var + 1e-5).sqrt())
    assert all(torch.equal(norm.state_dict()[key], value) for key, value in before.items())


def test_held_statistics_stay_and_the_batch_is_normalised_by_its_own() -> None:
    module = nn.Sequential(nn.Linear(3, 3), Dice(3))
    norm = next(m for m in module.modules() if isinstance(m, BatchNorm))
    x = torch.randn(9, 3, generator=seeded()) + 5
    with statistics_held(module):
        held = module(x)
    assert norm.mean.tolist() == [0.0] * 3

    assert torch.equal(module(x), held)
    assert norm.mean.tolist() != [0.0] * 3


def test_statistics_are_released_after_an_error() -> None:
    module = nn.Sequential(Dice(3))

    with pytest.raises(KeyError), statistics_held(module):
        raise KeyError

    assert [m.hold for m in module.modules() if isinstance(m, BatchNorm)] == [False]


def test_dice_is_its_equation() -> None:
    dice = Dice(2)
    dice.slope.data = torch.tensor([0.3, -0.2])
    x = torch.randn(8, 2, generator=seeded()) * 3

    p = torch.sigmoid((x - x.mean(0)) / (x.var(0, unbiased=False) + 1e-8).sqrt())

    torch.testing.assert_close(dice(x), p * x + (1 - p) * dice.slope * x)


@pytest.mark.parametrize("name", ACTIVATIONS)
@pytest.mark.parametrize("n_rows", [0, 1, 4])
def test_activations_take_any_number_of_rows(name: Activation, n_rows: int) -> None:
    layer = activation(name, 3)

    assert layer(torch.ones(n_rows, 3)).shape == (n_rows, 3)


@pytest.mark.parametrize("sizes", [(3,), (5, 3)])
def test_a_tanh_mlp_ends_with_tanh(sizes: tuple[int, ...]) -> None:
    network, x = tanh_mlp(4, sizes), torch.randn(6, 4)

    expected = x
    *hidden, last = (layer for layer in network.modules() if isinstance(layer, nn.Linear))
    for layer in hidden:
        expected = torch.relu(layer(expected))
    assert torch.equal(network(x), torch.tanh(last(expected)))
    assert network(x).shape == (6, 3)


def test_an_mlp_ends_with_an_activation() -> None:
    mlp = MLP(4, (5, 3), "relu", 0.5)

    assert [type(layer) for layer in mlp] == [nn.Linear, nn.ReLU, Dropout] * 2
    assert (mlp(torch.randn(9, 4, generator=seeded())) >= 0).all()
    assert [type(layer) for layer in MLP(4, (5,), "relu")] == [nn.Linear, nn.ReLU]


@pytest.mark.parametrize(("options", "key"), NETWORKS)
def test_a_network_has_layers_and_each_has_units(options: type[Any], key: str) -> None:
    with pytest.raises(ConfigError, match=rf"{key}\.1: .*greater than or equal to 1, got 0"):
        build(options, {key: [8, 0]})
    with pytest.raises(ConfigError, match=rf"{key}: .*at least 1 item"):
        build(options, {key: []})
