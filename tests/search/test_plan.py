"""A search resolved: methods, spaces, and all mistakes before anything runs."""

import datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from aqcl.errors import ConfigError
from aqcl.search.checks import check_alpha_keys
from aqcl.search.plan import (
    ONLY,
    SearchPlan,
    plan_search,
    with_settings,
    without_auxiliary_losses,
)
from aqcl.search.space import Choices, Range
from tests.searches import DIN_AND_AQCL, search_values

DATA = Path("nowhere")
L2 = "train.embedding_l2"


def planned(**search: Any) -> SearchPlan:
    return plan_search(search_values(DATA, **search))


def test_without_a_table_the_papers_space_is_searched() -> None:
    values = search_values(DATA)
    del values["search"]
    plan = plan_search(values)
    (method,) = plan.methods
    assert method.name == ONLY
    assert method.experiment == plan.experiment
    assert list(method.space.searched) == [
        L2,
        "regularizer.aqcl.w1",
        "regularizer.aqcl.w2",
        "regularizer.aqcl.weight",
    ]
    assert Path(plan.experiment.dataset).is_absolute()


OTHER_FORMS: list[dict[str, Any]] = [
    {"alpha": "groups"},
    {"alpha": "spline"},
    {"constant_alpha": 0.3},
]


@pytest.mark.parametrize("options", OTHER_FORMS)
def test_w1_and_w2_are_not_searched_where_alpha_is_not_the_curve(options: dict[str, Any]) -> None:
    weight, w1 = "regularizer.aqcl.weight", "regularizer.aqcl.w1"
    values = search_values(DATA)
    values["regularizer"] = {"aqcl": {**values["regularizer"]["aqcl"], **options}}
    plan = plan_search(values)
    assert list(plan.methods[0].space.searched) == list(plan.options.space) == [L2, weight]
    check_alpha_keys(plan)
    # Of several methods, those with the curve have it.
    methods = {"other": {"regularizer": {"aqcl": options}}, "curve": {}}
    for search in ({}, {"space": {L2: {"choices": [0.1, 1]}, w1: {"choices": [1, 2]}}}):
        plan = planned(methods=methods, **search)
        other, curve = plan.methods
        assert w1 not in other.space.searched
        assert w1 in curve.space.searched
        check_alpha_keys(plan)


@pytest.mark.parametrize("turned", [False, True])
def test_fixed_values_that_belong_together_are_set_together(*, turned: bool) -> None:
    keys = {"alpha": "groups", "group_bounds": [1.0], "group_values": [0.5, 0.2]}
    fixed = {f"regularizer.aqcl.{key}": value for key, value in keys.items()}
    if turned:
        fixed = dict(reversed(fixed.items()))
    (only,) = planned(space={L2: {"choices": [0.1, 1]}, **fixed}).methods
    assert only.experiment.regularizer["aqcl"]["group_values"] == [0.5, 0.2]
    with pytest.raises(ConfigError, match=r"search\.space\.backbone\.dropout: .*got 5"):
        planned(space={L2: {"choices": [0.1, 1]}, **fixed, "backbone.dropout": 5})


def test_a_list_that_should_be_choices_is_told() -> None:
    with pytest.raises(ConfigError, match=r"dropout: .*write \{ choices = \[0\.1, 0\.2\] \}"):
        planned(space={L2: {"choices": [0.1, 1]}, "backbone.dropout": [0.1, 0.2]})
    for value in ([0.1, "high"], []):  # nothing that choices could mend
        with pytest.raises(ConfigError, match=r"search\.space\.backbone\.dropout: .*") as caught:
            planned(space={L2: {"choices": [0.1, 1]}, "backbone.dropout": value})
        assert "choices" not in str(caught.value)


@pytest.mark.parametrize("value", [datetime.date(1979, 5, 27), np.int64(3)])
def test_a_value_that_no_setting_has_is_named(value: object) -> None:
    for space in ({"train.lr": value}, {"train.lr": {"choices": [0.1, value]}}):
        message = r"train\.lr: expected a number, text, true or false, or a list"
        with pytest.raises(ConfigError, match=message):
            planned(space={L2: {"choices": [0.1, 1]}, **space})


def test_a_range_that_cannot_be_read_is_the_only_mistake() -> None:
    with pytest.raises(ConfigError) as caught:
        planned(space={"train.lr": {"choices": [0.1, 0.1]}})
    (line,) = str(caught.value).splitlines()
    assert line.startswith("search.space.train.lr.choices: ")


def test_icl_has_the_weights_of_aqcl() -> None:
    methods = {"icl": {"regularizer.aqcl.weight": 0, "regularizer.icl.dim": 8}, "aqcl": {}}
    icl, aqcl = planned(methods=methods).methods
    assert list(icl.space.searched) == [L2, "regularizer.icl.weight"]
    grid = aqcl.space.searched["regularizer.aqcl.weight"]
    assert icl.space.searched["regularizer.icl.weight"] == grid


def test_a_method_whose_regularizer_is_off_does_not_get_it_by_default() -> None:
    values = search_values(DATA, methods={"din": {}, "aqcl": {"regularizer.aqcl.weight": 0.05}})
    values["regularizer"] = {"aqcl": {**values["regularizer"]["aqcl"], "weight": 0}}
    din, aqcl = plan_search(values).methods
    assert list(din.space.searched) == [L2]
    assert list(aqcl.space.searched) == [L2, "regularizer.aqcl.w1", "regularizer.aqcl.w2"]


def test_a_regularizer_that_no_method_has_is_not_searched() -> None:
    shared = {L2: {"low": 0.1, "high": 1}, "regularizer.icl.weight": {"choices": [0.1, 0.2]}}
    message = (
        r"^search\.space\.regularizer\.icl\.weight: no method has this regularizer; switch it on "
        r"in those that shall, as search\.methods\.NAME\.regularizer\.icl = \{\}$"
    )
    with pytest.raises(ConfigError, match=message):
        planned(space=shared, methods=DIN_AND_AQCL)
    (only,) = planned(space=shared).methods
    assert list(only.space.searched) == list(shared)
    # One that a method's own space has is that method's.
    own = {"icl": {"space": {"regularizer.icl.weight": 0.3}}}
    shared = {L2: {"low": 0.1, "high": 1}, "regularizer.icl.dim": 8}
    din, icl = planned(space=shared, methods={"din": {}, **own}).methods
    assert "icl" not in din.experiment.regularizer
    assert icl.experiment.regularizer["icl"]["dim"] == 8


def test_without_aqcl_the_penalty_is_searched() -> None:
    values = search_values(DATA) | {"regularizer": {}}
    assert list(plan_search(values).methods[0].space.searched) == [L2]


def test_methods_share_what_they_have_in_common() -> None:
    plan = planned(methods=DIN_AND_AQCL)
    din, aqcl = plan.methods
    assert list(din.space.searched) == [L2]
    assert din.space.searched[L2] == aqcl.space.searched[L2]
    assert len(aqcl.space.searched) == 4
    assert [method.experiment.label for method in plan.methods] == ["din", "din+aqcl"]
    assert din.experiment.regularizer["aqcl"]["weight"] == 0
    assert din.experiment.seed == aqcl.experiment.seed
    assert din.experiment.train == aqcl.experiment.train


def test_a_method_may_have_a_space_of_its_own() -> None:
    shared = {L2: {"low": 0.1, "high": 1}, "regularizer.aqcl.w1": {"choices": [1, 2]}}
    methods = {
        "din": {"regularizer.aqcl.weight": 0},
        "wide": {
            "regularizer.aqcl.w1": 3,
            "space": {"backbone.dropout": {"low": 0, "high": 0.5}, L2: 0.5},
        },
    }
    din, wide = planned(space=shared, methods=methods).methods
    assert din.space.searched == {L2: Range(low=0.1, high=1)}
    assert wide.space.searched == {"backbone.dropout": Range(low=0, high=0.5)}
    assert wide.experiment.train.embedding_l2 == 0.5
    assert wide.experiment.regularizer["aqcl"]["w1"] == 3


def test_a_weight_in_a_methods_own_space_switches_the_shared_options_on() -> None:
    shared = {
        L2: {"low": 0.1, "high": 1},
        "regularizer.aqcl.w1": {"choices": [1, 2]},
        "regularizer.aqcl.top_k": 1,
    }
    own = {"regularizer.aqcl.weight": {"choices": [0.01, 0.05]}}
    methods = {"din": {}, "aqcl": {"space": own}}
    values = search_values(DATA, space=shared, methods=methods)
    values["regularizer"] = {"aqcl": {**values["regularizer"]["aqcl"], "weight": 0.0}}
    din, aqcl = plan_search(values).methods
    assert list(din.space.searched) == [L2]
    assert list(aqcl.space.searched) == [L2, "regularizer.aqcl.w1", "regularizer.aqcl.weight"]
    assert aqcl.experiment.regularizer["aqcl"]["top_k"] == 1


def test_a_nested_option_is_searched_with_its_regularizer_alone() -> None:
    key, weight = "regularizer.aqcl.view.mask_rate", "regularizer.aqcl.weight"
    shared = {L2: {"low": 0.1, "high": 1}, key: {"choices": [0.1, 0.2]}}
    methods = {"din": {}, "aqcl": {"space": {weight: {"choices": [0.01, 0.05]}}}}
    values = search_values(DATA, space=shared, methods=methods)
    values["regularizer"] = {"aqcl": {**values["regularizer"]["aqcl"], "weight": 0.0}}
    din, aqcl = plan_search(values).methods
    assert list(din.space.searched) == [L2]
    assert list(aqcl.space.searched) == [L2, key, weight]


def test_a_regularizer_that_only_one_method_has_is_left_out_elsewhere() -> None:
    values = search_values(
        DATA,
        space={L2: {"low": 0.1, "high": 1}, "regularizer.icl.weight": {"choices": [0.1, 0.2]}},
        methods={"din": {}, "icl": {"regularizer": {"icl": {"dim": 8}}}},
    ) | {"regularizer": {}}
    din, icl = plan_search(values).methods
    assert list(din.space.searched) == [L2]
    assert list(icl.space.searched) == [L2, "regularizer.icl.weight"]


def test_another_backbone_has_its_own_defaults() -> None:
    """DIN's attention and activation are no options of another; what was set stays."""
    values = search_values(DATA, methods={"din": {}, "dcn": {"backbone.name": "dcn-v2"}})
    del values["backbone"]["attention_sizes"]
    din, dcn = (method.experiment.backbone for method in plan_search(values).methods)
    assert din["activation"] != dcn["activation"] == "relu"
    assert "attention_sizes" not in dcn
    assert (dcn["embedding_dim"], dcn["sizes"]) == (din["embedding_dim"], din["sizes"])

    values["search"] = {"space": {"backbone.name": {"choices": ["din", "dcn-v2"]}}}
    assert list(plan_search(values).methods[0].space.searched) == ["backbone.name"]

    values["backbone"]["attention_sizes"] = [6]
    with pytest.raises(ConfigError) as caught:
        plan_search(values)
    (line,) = str(caught.value).splitlines()
    assert "backbone.attention_sizes: unknown key" in line


def test_an_empty_table_switches_a_regularizer_on_for_its_method_alone() -> None:
    weight = "regularizer.icl.weight"
    values = search_values(
        DATA,
        space={L2: {"low": 0.1, "high": 1}, weight: {"choices": [0.1, 0.2]}},
        methods={"din": {}, "icl": {"regularizer": {"icl": {}}}},
    ) | {"regularizer": {}}
    din, icl = plan_search(values).methods
    assert (din.experiment.regularizer, list(din.space.searched)) == ({}, [L2])
    assert list(icl.experiment.regularizer) == ["icl"]
    assert list(icl.space.searched) == [L2, weight]
    # Of one that the experiment has it changes nothing.
    plain, same = planned(methods={"plain": {}, "same": {"regularizer": {"aqcl": {}}}}).methods
    assert same.experiment.regularizer == plain.experiment.regularizer
    with pytest.raises(
        ConfigError, match=r"plain\.regularizer: an empty table leaves.*aqcl\.weight"
    ):
        planned(methods={"plain": {"regularizer": {}}})


def test_a_weight_of_zero_may_be_searched() -> None:
    space = {"regularizer.aqcl.weight": {"choices": [0, 0.1]}}
    (method,) = planned(space=space).methods
    assert method.space.searched["regularizer.aqcl.weight"] == Choices(choices=(0, 0.1))


def test_whole_numbers_are_searched_where_the_setting_is_one() -> None:
    space = {
        "regularizer.aqcl.top_k": {"low": 1, "high": 4},
        "regularizer.aqcl.w1": {"low": 1, "high": 4},
    }
    searched = planned(space=space).methods[0].space.searched
    assert searched["regularizer.aqcl.top_k"] == Range(low=1, high=4, integer=True)
    assert searched["regularizer.aqcl.w1"] == Range(low=1, high=4)
    with pytest.raises(ConfigError, match=r"aqcl\.top_k: expected whole numbers"):
        planned(space={"regularizer.aqcl.top_k": {"low": 1, "high": 4.5}})


def test_an_end_that_no_step_reaches_is_not_tried() -> None:
    """A dropout of 1 does not exist, and the last that is drawn is 0.9."""
    space = {"backbone.dropout": {"low": 0.1, "high": 1.0, "step": 0.2}}
    plan = planned(space=space)
    searched = plan.methods[0].space.searched
    assert searched["backbone.dropout"] == Range(low=0.1, high=0.9, step=0.2)
    assert plan_search(plan.to_values()) == plan


def test_whole_numbers_are_searched_where_the_setting_has_none_yet() -> None:
    key, constant = "regularizer.aqcl.block_size", "regularizer.aqcl.constant_alpha"
    space = {key: {"low": 128, "high": 512}, constant: {"low": 0.6, "high": 1}}
    searched = planned(space=space).methods[0].space.searched
    assert searched[key] == Range(low=128, high=512, integer=True)
    assert searched[constant] == Range(low=0.6, high=1)
    steps = planned(space={key: {"low": 128, "high": 512, "step": 128}}).methods[0].space
    assert steps.searched[key] == Range(low=128, high=512, step=128, integer=True)
    with pytest.raises(ConfigError, match=r"block_size: expected whole numbers"):
        planned(space={key: {"low": 128, "high": 512, "step": 0.5}})
    with pytest.raises(ConfigError, match=r"block_sise: unknown key"):
        planned(space={"regularizer.aqcl.block_sise": {"low": 128, "high": 512}})


def test_all_mistakes_come_at_once() -> None:
    values = search_values(DATA, trails=3) | {"train": {"lr": -1}}
    with pytest.raises(ConfigError) as caught:
        plan_search(values)
    text = str(caught.value)
    assert "train.lr" in text
    assert "search.trails: unknown key; did you mean 'trials'" in text

    wrong: dict[str, Any] = {
        "space": {
            "train.embeding_l2": {"low": 0.1, "high": 1},
            "train.lr": {"low": -1, "high": 1},
            "backbone.dropout": {"choices": [0.1, 1.5]},
            "train.epochs": {"low": 5, "high": 1},
            "train.patience": -3,
        },
        "methods": {"a": {"regularizer.aqcl.weigth": 1}, "b": {"space": {"seed": {"choices": []}}}},
        "objective": "auc:non-active",
        "pruning": "median",
    }
    with pytest.raises(ConfigError) as caught:
        planned(**wrong)
    text = str(caught.value)
    assert "search.methods.a: regularizer.aqcl.weigth: unknown key; did you mean 'weight'" in text
    assert "search.methods.b.space.seed.choices: " in text
    assert "search.space.train.epochs: expected low < high" in text
    assert "search.pruning = 'median'" in text
    del wrong["methods"], wrong["pruning"], wrong["space"]["train.epochs"]
    with pytest.raises(ConfigError) as caught:
        planned(**wrong)
    text = str(caught.value)
    assert "search.space.train.embeding_l2: train.embeding_l2: unknown key; did you mean" in text
    assert "search.space.train.lr: train.lr: " in text
    assert "search.space.backbone.dropout: backbone.dropout: " in text
    assert "search.space.train.patience: train.patience: " in text


def test_dataset_seed_and_name_are_not_searched() -> None:
    for key in ("dataset", "seed", "name"):
        space = {key: {"choices": [3, 4]}, L2: {"low": 1e-4, "high": 1e-2, "log": True}}
        with pytest.raises(ConfigError, match=rf"search\.space\.{key}: leave it out: "):
            plan_search(search_values(DATA, space=space))
        methods = {"din": {"space": {key: {"choices": [3, 4]}}}}
        with pytest.raises(ConfigError, match=rf"methods\.din\.space\.{key}: leave it out: "):
            plan_search(search_values(DATA, methods=methods))
        with pytest.raises(ConfigError, match=rf"^search\.methods\.din\.{key}: leave it out: "):
            plan_search(search_values(DATA, methods={"din": {key: 3}}))


@pytest.mark.parametrize(
    ("search", "message"),
    [
        (3, r"^search: expected a table, got 3; set its keys, such as search\.trials = 24$"),
        ({"space": 3}, r"^search\.space: expected a table, got 3"),
        ({"methods": {"din": 3}}, r"^search\.methods\.din: expected a table, got 3"),
        (
            {"methods": {"din": {"space": 3}}},
            r"^search\.methods\.din\.space: expected a table .*, got 3; set its keys, such as",
        ),
    ],
)
def test_what_is_no_table_is_named(search: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        plan_search(search_values(DATA) | {"search": search})


def test_a_search_needs_something_to_search() -> None:
    with pytest.raises(ConfigError, match=r"search\.space: nothing is left to search for best"):
        planned(space={"train.lr": 0.1})


def test_no_trial_is_stopped_early_unless_that_is_asked_for() -> None:
    assert planned().options.pruning == "none"
    assert planned(sampler="gp").options.pruning == "none"
    assert planned(sampler="random", pruning="asha").options.pruning == "asha"


@pytest.mark.parametrize(
    "search", [{}, {"methods": DIN_AND_AQCL}, {"space": {L2: {"low": 1, "high": 2}}}]
)
def test_a_plan_written_and_read_is_the_same(search: dict[str, Any]) -> None:
    plan = planned(**search)
    assert plan_search(plan.to_values()) == plan


def test_without_its_auxiliary_losses_an_experiment_is_the_backbone() -> None:
    plan = planned()
    bare = without_auxiliary_losses(plan.experiment)
    assert bare.regularizer == {}
    assert with_settings(bare, [("seed", 3)]).backbone == plan.experiment.backbone
