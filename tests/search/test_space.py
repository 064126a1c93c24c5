"""Ranges and choices as they are read, and when a range was too narrow."""

import math
import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aqcl.config import build
from aqcl.errors import ConfigError
from aqcl.search.space import (
    FACTOR,
    Choices,
    Range,
    SearchOptions,
    Space,
    contradictions,
    default_space,
    end_values,
    flatten,
    misplaced,
    parse_space,
    shown,
    touched_ends,
    touched_side,
    widened,
)

PENALTY = Range(low=1e-6, high=1e-1, log=True)


def test_nested_tables_and_dotted_keys_are_the_same() -> None:
    nested = {
        "train": {"lr": {"low": 0.1, "high": 1}, "epochs": 3},
        "regularizer": {"a:B": {"w": 1}},
    }
    dotted = {"train.lr": {"low": 0.1, "high": 1}, "train.epochs": 3, 'regularizer."a:B".w': 1}

    assert dict(flatten(nested)) == dotted
    assert parse_space(nested, "search.space") == parse_space(dotted, "search.space")
    assert parse_space(dotted, "search.space") == Space(
        {"train.lr": Range(low=0.1, high=1)}, {"train.epochs": 3, 'regularizer."a:B".w': 1}
    )


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ({"low": 0.1, "hihg": 1}, r"search\.space\.k\.hihg: unknown key; did you mean 'high'"),
        ({"low": 0.1}, r"search\.space\.k\.high: this key is required"),
        ({"low": "a", "high": 1}, r"search\.space\.k\.low: .*got 'a'"),
        ({"low": 1, "high": 1}, "expected low < high, got 1 and 1"),
        ({"low": 0, "high": math.inf}, r"search\.space\.k\.high: .* finite number, got inf"),
        ({"low": math.nan, "high": 1}, r"search\.space\.k\.low: .* finite number, got nan"),
        ({"low": 0, "high": 1, "log": True}, "log = true needs low > 0, got 0"),
        ({"low": 1, "high": 2, "log": True, "step": 0.1}, r"step: expected .* not with log = true"),
        ({"low": 1, "high": 2, "step": 3}, r"step: expected more than 0, no more than high - low"),
        ({"low": 1, "high": 2, "step": 0}, r"step: expected more than 0"),
        ({"low": 1, "high": 2, "integer": True}, r"k\.integer: leave it out: it follows"),
        ({"choices": [1]}, r"choices: expected two or more different values, got \[1\]"),
        ({"choices": [1, 2, 1]}, "expected two or more different values"),
        (
            {"choices": [{"mask_rate": 0.1}, {"mask_rate": 0.2}]},
            r"k\.choices: expected .* table \{'mask_rate': 0.1\}; a table cannot be a choice: give",
        ),
        ({"choices": [1, 2], "log": True}, r"search\.space\.k\.log: unknown key"),
    ],
)
def test_a_bad_dimension_is_named(value: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        parse_space({"k": value}, "search.space")


@pytest.mark.parametrize(
    ("low", "high", "step", "last"),
    [
        (0.1, 1.0, 0.2, 0.9),
        (8, 30, 8, 24),
        (0, 1, 0.1, 1.0),
        (0.1, 0.7, 0.3, 0.7),
        (0.1, 0.3, 0.2, 0.3),
    ],
)
def test_a_range_with_steps_ends_at_the_last_of_them(
    low: float, high: float, step: float, last: float
) -> None:
    values = {"a.b": {"low": low, "high": high, "step": step}}
    searched = parse_space(values, "search.space").searched
    (dimension,) = searched.values()
    assert end_values(dimension) == (low, last)
    (note,) = touched_ends(searched, {"a.b": last})
    assert note == f"a.b = {last:g} lies in the outer tenth of {low:g} to {last:g}: " + (
        "the best may be beyond it"
    )


def test_all_problems_of_a_space_come_at_once() -> None:
    values = {
        "a": {"low": 2, "high": 1},
        "b": {"choices": []},
        "c": {"d": 1},
        "c.d": 2,
    }
    with pytest.raises(ConfigError) as caught:
        parse_space(values, "s")
    assert [line.partition(":")[0] for line in str(caught.value).splitlines()] == [
        "s.a",
        "s.b.choices",
        "s.c.d",
    ]


def test_a_space_of_its_own_stands_on_top_of_the_shared_one() -> None:
    shared = parse_space({"a": {"low": 0, "high": 1}, "b": {"choices": [1, 2]}, "c": 3}, "s")
    own = parse_space({"a": 5, "c": {"low": 1, "high": 2}}, "s")
    assert own.on_top_of(shared) == Space(
        {"b": Choices(choices=(1, 2)), "c": Range(low=1, high=2)}, {"a": 5}
    )


def test_the_ends_are_what_a_dimension_is_checked_by() -> None:
    assert end_values(Range(low=1, high=3, integer=True)) == (1, 3)
    assert [type(v) for v in end_values(Range(low=1, high=3, integer=True))] == [int, int]
    assert end_values(Choices(choices=("a", "b", "c"))) == ("a", "b", "c")


@pytest.mark.parametrize(
    ("dimension", "value", "side"),
    [
        (PENALTY, 1e-6, "low"),
        (PENALTY, 10**-5.51, "low"),
        (PENALTY, 10**-5.5, None),
        (PENALTY, 3e-4, None),
        (PENALTY, 10**-1.5, None),
        (PENALTY, 10**-1.49, "high"),
        (PENALTY, 1e-1, "high"),
        (PENALTY, 1.0, "high"),
        (PENALTY, 0.0, "low"),
        (Range(low=0, high=1), 0.05, None),
        (Range(low=0, high=1), 0.0, None),
        (Range(low=0.1, high=1), 0.15, "low"),
        (Range(low=0, high=1), 0.5, None),
        (Range(low=0, high=1), 0.95, "high"),
        (Choices(choices=(0.1, 0.01, 0.5)), 0.01, "low"),
        (Choices(choices=(0.1, 0.01, 0.5)), 0.1, None),
        (Choices(choices=(0.1, 0.01, 0.5)), 0.5, "high"),
        (Choices(choices=(0, 1e-3)), 0.0, None),
        (Choices(choices=(0, 1e-3)), 1e-3, "high"),
    ],
)
def test_the_outer_tenth_of_a_range_touches_its_end(
    dimension: Any, value: float, side: str | None
) -> None:
    assert touched_side(dimension, value) == side


def test_settings_at_the_ends_of_what_was_tried_are_told() -> None:
    searched: dict[str, Any] = {
        "train.embedding_l2": PENALTY,
        "backbone.dropout": Choices(choices=(0.2, 0.4)),
        "a.weight": Choices(choices=(0.01, 0.05, 0.1)),
        "a.mode": Choices(choices=("x", "y", "z")),
        "a.on": Choices(choices=(True, False, 2)),
        "a.w1": Range(low=0.1, high=1),
        "a.w2": Range(low=0.1, high=1),
        "a.group_values": Range(low=0, high=1),
    }
    drawn = {
        "train.embedding_l2": 1e-6,
        "backbone.dropout": 0.2,
        "a.weight": 0.1,
        "a.mode": "x",
        "a.on": True,
        "a.w1": 0.12,
        "a.w2": 0.5,
        "a.group_values": [1.0, 1.0],
    }
    assert touched_ends(searched, drawn) == [
        "a.weight = 0.1 is the highest of 0.01, 0.05, 0.1: the best may be beyond it",
        "a.w1 = 0.12 lies in the outer tenth of 0.1 to 1: the best may be beyond it",
    ]
    assert touched_ends({}, drawn) == []


def test_whole_numbers_are_told_whole() -> None:
    batch_size = Range(low=512, high=4096, integer=True)
    (note,) = touched_ends({"train.batch_size": batch_size}, {"train.batch_size": 4096})
    assert note.startswith("train.batch_size = 4096 lies in the outer tenth of 512 to 4096: ")
    assert shown(Range(low=0, high=2000)) == "0 to 2000"
    assert shown(Range(low=1e-6, high=0.12345, log=True)) == "1e-06 to 0.123"


@given(
    low=st.floats(1e-8, 1e-3), ratio=st.floats(10, 1e6), share=st.floats(0, 1), log=st.booleans()
)
def test_a_range_that_was_widened_is_not_touched_there_any_more(
    low: float, ratio: float, share: float, log: bool
) -> None:
    """Ten times as far, a value in the outer tenth has the old end and more beyond it."""
    dimension = Range(low=low, high=low * ratio, log=log)
    value = low * ratio**share if log else low + share * (low * ratio - low)
    side = touched_side(dimension, value)
    wider = widened(dimension, [side]) if side is not None else None
    if side is None:
        inside = 0.1 - 1e-9 <= share <= 0.9 + 1e-9
        assert inside
        return
    assert wider is not None
    assert isinstance(wider, Range)
    assert (wider.low, wider.high) == (
        (low / FACTOR, dimension.high) if side == "low" else (low, dimension.high * FACTOR)
    )
    assert wider.log == log
    if log and side == "high" and ratio < 1e5:
        assert touched_side(wider, value) is None


def test_both_sides_can_be_widened() -> None:
    assert widened(PENALTY, ["low", "high"]) == Range(low=1e-7, high=1.0, log=True)


@pytest.mark.parametrize(
    "dimension",
    [
        Choices(choices=(0.1, 1.0)),
        Range(low=0.1, high=1, step=0.1),
        Range(low=1, high=9, integer=True),
        Range(low=0, high=1),
    ],
)
def test_a_grid_and_zero_stay_as_they_are(dimension: Any) -> None:
    assert widened(dimension, ["low"]) is None


def test_the_default_space_is_the_papers() -> None:
    assert parse_space(default_space(["aqcl"], ["aqcl"]), "s").searched == {
        "train.embedding_l2": PENALTY,
        "regularizer.aqcl.w1": Range(low=0.05, high=5, log=True),
        "regularizer.aqcl.w2": Range(low=0.2, high=5, log=True),
        "regularizer.aqcl.weight": Choices(choices=(0.01, 0.05, 0.1)),
    }
    assert list(default_space([], [])) == ["train.embedding_l2"]
    assert 'regularizer."m:C".w1' in default_space(["m:C"], ["m:C"])
    both = default_space(["aqcl", "m:C"], ["aqcl"])
    assert list(both)[-2:] == ["regularizer.aqcl.weight", 'regularizer."m:C".weight']


@pytest.mark.parametrize(
    ("settings", "problem"),
    [
        ({"pruning": "median", "objective": "auc:non-active"}, "measure logloss and auc alone"),
        ({"pruning": "asha", "sampler": "gp"}, "learns from whole trials alone"),
        ({"methods": {"a/b": {}}}, "a method's name is a file's name"),
        ({"methods": {"study": {}}}, "a method's name is a file's name"),
        ({"pruning": "none", "sampler": "gp", "methods": {"din+aqcl": {}}}, None),
        ({"pruning": "asha", "sampler": "random"}, None),
        ({"confirm": 2, "objective": "constrained"}, "against trial 0, which has one seed"),
        ({"confirm": 2}, None),
    ],
)
def test_what_does_not_go_together(settings: dict[str, Any], problem: str | None) -> None:
    found = contradictions(SearchOptions(**settings))
    assert len(found) == (problem is not None)
    assert problem is None or problem in found[0]


@pytest.mark.parametrize(
    ("settings", "problems"),
    [
        ({"method": "one-run"}, []),
        ({"method": "one-run", "objective": "logloss"}, []),
        ({"method": "halving", "halving": {"n_candidates": 4}}, []),
        ({"trials": 4, "space": {"train.lr": 0.1}}, []),
        ({"method": "one-run", "trials": 24}, ["search.trials: the method one-run has no such"]),
        ({"method": "one-run", "halving": {}}, ['search.halving: .*search.method = "halving"']),
        ({"halving": {}}, ["search.halving: the method black-box has no such setting"]),
        (
            {"method": "halving", "methods": {"din": {}}, "space": {"train.lr": 0.1}},
            ["search.methods: the method halving", "search.space: .*search.method = .black-box"],
        ),
        (
            {"method": "halving", "objective": "auc"},
            ["search.objective = 'auc': the method halving lowers the validation logloss"],
        ),
    ],
)
def test_what_a_method_does_not_take(settings: dict[str, Any], problems: list[str]) -> None:
    found = misplaced(build(SearchOptions, settings), settings)
    assert len(found) == len(problems)
    assert all(re.search(*pair) for pair in zip(problems, found, strict=True))
