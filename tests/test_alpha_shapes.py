"""Shapes of alpha: what they give, what they refuse, and their free parameters."""

import math
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from aqcl.activity import alpha, group_alpha, spline_alpha
from aqcl.alpha_shapes import LOGIT_LIMIT, W1_RANGE, W2_RANGE, AlphaShape
from aqcl.config import build
from aqcl.errors import ConfigError
from aqcl.regularizers.aqcl import AQCL, AQCLOptions

MEAN = 6.9
CLICKS = torch.tensor([0.0, 1.0, 4.0, 7.0, 13.0, 20.0, 500.0])
SHAPES = [
    AlphaShape("curve", (0.7, 1.3)),
    AlphaShape("groups", (0.6, 0.3, 0.1), (1.0, 2.0)),
    AlphaShape("spline", (0.95, 0.6, 0.3, 0.05), (0.0, 0.5, 1.0, 3.0)),
]
SHAPE = pytest.mark.parametrize("shape", SHAPES, ids=lambda shape: shape.kind)


def test_each_shape_is_its_function() -> None:
    curve, groups, spline = (shape.of(CLICKS, MEAN) for shape in SHAPES)

    assert torch.equal(curve, alpha(CLICKS, MEAN, 0.7, 1.3))
    assert torch.equal(groups, group_alpha(CLICKS, MEAN, (1.0, 2.0), torch.tensor([0.6, 0.3, 0.1])))
    assert torch.equal(
        spline,
        spline_alpha(CLICKS, MEAN, (0.0, 0.5, 1.0, 3.0), torch.tensor([0.95, 0.6, 0.3, 0.05])),
    )


@SHAPE
def test_free_parameters_give_the_same_alpha(shape: AlphaShape) -> None:
    free = shape.free()

    again = shape.at(free, CLICKS, MEAN)

    assert again.dtype == CLICKS.dtype
    torch.testing.assert_close(again, shape.of(CLICKS, MEAN))
    assert shape.moved(free).values == pytest.approx(shape.values)
    assert shape.moved(free).grid == shape.grid


@SHAPE
def test_the_gradient_to_the_free_parameters_is_that_of_differences(shape: AlphaShape) -> None:
    clicks = CLICKS.double()

    assert torch.autograd.gradcheck(
        lambda free: shape.at(free, clicks, MEAN), shape.free().requires_grad_()
    )


@given(st.lists(st.floats(-20, 20), min_size=4, max_size=4))
def test_whatever_is_learned_is_a_valid_shape(numbers: list[float]) -> None:
    for shape in SHAPES:
        free = shape.limited(torch.tensor(numbers[: len(shape.values)], dtype=torch.float64))
        moved = shape.moved(free)  # would raise
        values = moved.of(torch.arange(0.0, 60.0), MEAN)
        assert ((values >= 0) & (values <= 1)).all()
        if shape.kind != "groups":
            assert (values.diff() <= 1e-7).all()


def test_free_parameters_stay_where_alpha_is_looked_for() -> None:
    curve, groups, _ = SHAPES
    for direction, place in ((-99.0, 0), (99.0, 1)):
        far = torch.full((2,), direction, dtype=torch.float64)
        limits = [math.log(W1_RANGE[place]), math.log(W2_RANGE[place])]
        np.testing.assert_allclose(curve.limited(far).numpy(), limits, rtol=1e-14)
        assert groups.limited(far).abs().tolist() == [LOGIT_LIMIT] * 2


@pytest.mark.parametrize("kind", ["groups", "spline"])
def test_certainties_can_still_be_learned(kind: str) -> None:
    shape = AlphaShape("groups", (1.0, 0.0, 0.0), (1.0, 2.0))
    if kind == "spline":
        shape = AlphaShape("spline", (1.0, 0.0, 0.0), (0.0, 1.0, 2.0))
    free = shape.free().requires_grad_()
    assert free.isfinite().all()

    value = shape.at(free, CLICKS, MEAN)
    value.sum().backward()

    assert free.grad is not None
    assert free.grad.isfinite().all()
    torch.testing.assert_close(value.detach(), shape.of(CLICKS, MEAN), atol=2e-3, rtol=0)


@SHAPE
def test_the_options_of_a_shape_give_it_again(shape: AlphaShape) -> None:
    grid: dict[str, Any] = {"groups": {"group_bounds": shape.grid}}.get(shape.kind, {})
    grid = {"spline": {"spline_knots": shape.grid}}.get(shape.kind, grid)

    options = build(AQCLOptions, {**shape.options(), **grid})

    assert options.shape() == shape
    assert shape.named().keys() >= ({"w1", "w2"} if shape.kind == "curve" else {"alpha_0"})
    assert tuple(shape.named().values()) == shape.values


def test_the_default_groups_are_near_the_default_curve() -> None:
    clicks = torch.arange(0.0, 30.0)
    curve, groups, spline = (
        AQCL(4, MEAN, build(AQCLOptions, {"alpha": kind})).alpha(clicks)
        for kind in ("curve", "groups", "spline")
    )

    assert (groups - curve).abs().max() < 0.36
    assert (spline - curve).abs().max() < 0.03


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"alpha": "groups", "group_bounds": [2.0, 1.0]}, "group_bounds: expected ascending"),
        ({"alpha": "groups", "group_bounds": [-1.0, 1.0]}, "group_bounds: expected ascending"),
        ({"alpha": "groups", "group_bounds": [1.0]}, "group_values: expected 2 numbers"),
        ({"alpha": "groups", "group_values": [0.1, 0.2, 1.2]}, "group_values: expected 3 numbers"),
        ({"alpha": "spline", "spline_knots": [0.0, 0.0, 1, 2, 4]}, "spline_knots: expected asc"),
        ({"alpha": "spline", "spline_knots": [1.0]}, "spline_knots: expected two knots"),
        ({"alpha": "spline", "spline_values": [1.0, 0.5]}, "spline_values: expected 5 numbers"),
        (
            {"alpha": "spline", "spline_values": [1.0, 0.5, 0.6, 0.1, 0.0]},
            "spline_values: expected numbers that never rise",
        ),
    ],
)
def test_what_gives_no_alpha_is_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        build(AQCLOptions, options)


@pytest.mark.parametrize("alpha", ["curve", "groups", "spline"])
def test_a_learned_alpha_takes_no_gradient_of_the_training_loss(alpha: str) -> None:
    options = {"alpha": alpha, "learn_alpha": {"enabled": True}, "warmup_steps": 0}
    module = AQCL(7, MEAN, build(AQCLOptions, options))
    free = module.free_alpha
    assert free is not None

    latent = torch.randn(len(CLICKS), 7, requires_grad=True)
    term = module(latent, latent + 0.1, CLICKS)
    (term.value + term.own).backward()

    assert not free.requires_grad
    assert free.grad is None
    assert not any(parameter is free for parameter in module.parameters())


@pytest.mark.parametrize("learned", [False, True])
@pytest.mark.parametrize("kind", ["curve", "groups", "spline"])
def test_whole_numbers_of_clicks_have_the_alpha_of_floats(kind: str, learned: bool) -> None:
    options = {"alpha": kind, "learn_alpha": {"enabled": learned}, "warmup_steps": 0}
    module = AQCL(7, MEAN, build(AQCLOptions, options))
    latent = torch.randn(len(CLICKS), 7)

    assert torch.equal(module.alpha(CLICKS.long()), module.alpha(CLICKS))
    assert module(latent, latent, CLICKS.long()).value.isfinite()


@pytest.mark.parametrize("mean", [0.0, -1.0, math.nan])
@pytest.mark.parametrize("kind", ["curve", "groups", "spline"])
def test_a_mean_activity_of_none_is_refused(kind: str, mean: float) -> None:
    with pytest.raises(ConfigError, match=f"mean_activity: expected .* above 0, got {mean}"):
        AQCL(7, mean, build(AQCLOptions, {"alpha": kind}))


@pytest.mark.parametrize(("key", "value"), [("w1", 8.0), ("w1", 0.01), ("w2", 5.1), ("w2", 0.1)])
def test_a_curve_is_learned_from_where_it_is_looked_for(key: str, value: float) -> None:
    learning = {"learn_alpha": {"enabled": True}}
    with pytest.raises(ConfigError, match=rf"{key}: expected .* with learn_alpha.*, got {value}"):
        build(AQCLOptions, {key: value, **learning})
    build(AQCLOptions, {key: value})
    build(AQCLOptions, {key: value, "alpha": "groups", **learning})


def test_a_constant_alpha_cannot_be_learned() -> None:
    with pytest.raises(ConfigError, match=r"learn_alpha.* constant_alpha = 0\.3: leave one"):
        build(AQCLOptions, {"constant_alpha": 0.3, "learn_alpha": {"enabled": True}})


@pytest.mark.parametrize("alpha", ["groups", "spline"])
def test_a_constant_alpha_takes_the_place_of_the_curve_alone(alpha: str) -> None:
    with pytest.raises(
        ConfigError, match=rf"constant_alpha = 0\.3 .* alpha = '{alpha}': leave one"
    ):
        build(AQCLOptions, {"constant_alpha": 0.3, "alpha": alpha})
