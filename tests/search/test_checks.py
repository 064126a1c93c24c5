"""What cannot work in a search, before anything is written."""

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from aqcl.activity import GROUPS, user_groups
from aqcl.dataset import Dataset, open_dataset
from aqcl.errors import ConfigError
from aqcl.objective import Objective
from aqcl.search import checks
from aqcl.search.checks import FEW, check_alpha_keys, check_models, check_objective
from aqcl.search.plan import plan_search
from aqcl.train import build_objective
from tests.searches import search_values
from tests.tiny_runs import tiny_dataset

DATA = Path("nowhere")
L2 = "train.embedding_l2"


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    return open_dataset(tiny_dataset(tmp_path_factory.mktemp("data")), closed=("test",))


def autoint(dataset: Dataset, space: dict[str, Any]) -> dict[str, Any]:
    """A search of a backbone whose heads, two of them, must share the width of an embedding."""
    values = search_values(dataset.path, space=space)
    return values | {"regularizer": {}, "backbone": {"name": "autoint"}}


def test_an_objective_must_be_defined_on_the_validation_rows(dataset: Dataset) -> None:
    def check(objective: str, monitor: str, label: Any) -> None:
        values = search_values(dataset.path, objective=objective)
        values["train"] = {**values["train"], "monitor": monitor}
        columns = {**dataset.valid.columns, "label": label}
        split = dataclasses.replace(dataset.valid, columns=columns)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(Dataset, "valid", property(lambda _: split))
            check_objective(plan_search(values), dataset)

    columns = dataset.valid.columns
    groups = user_groups(columns["user"], columns["history_length"], dataset.thresholds)
    one_sided = np.where(groups == GROUPS.index("highly-active"), 1, columns["label"])
    for objective in ("auc", "auc:non-active", "logloss"):
        check(objective, "auc", one_sided)
    for objective in ("auc:highly-active", "constrained"):
        with pytest.raises(ConfigError, match=r"search\.objective: no AUC of highly-active users"):
            check(objective, "logloss", one_sided)
    check("logloss", "logloss", np.zeros_like(one_sided))
    with pytest.raises(ConfigError, match=r"train\.monitor: no AUC of all users: .* 0 of them cl"):
        check("logloss", "auc", np.zeros_like(one_sided))


def test_every_end_must_fit_a_model(dataset: Dataset) -> None:
    space = {
        "backbone.embedding_dim": {"choices": [8, 15, 17]},
        "backbone.sizes": {"choices": [[4], [8]]},
    }
    with pytest.raises(ConfigError) as caught:
        check_models(plan_search(autoint(dataset, space)), dataset)
    lines = str(caught.value).splitlines()
    assert [line.split(" fits no model: ")[0] for line in lines] == [
        "search.space.backbone.embedding_dim: 15",
        "search.space.backbone.embedding_dim: 17",
    ]


def test_a_value_may_fit_beside_others_of_the_space_alone(dataset: Dataset) -> None:
    # Three heads do not share the 16 of the experiment.
    space = {
        "backbone.n_heads": {"choices": [1, 3]},
        "backbone.embedding_dim": {"choices": [12, 24]},
    }
    check_models(plan_search(autoint(dataset, space)), dataset)


def test_no_model_of_all_users_and_items_is_built(
    dataset: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    built: list[Objective] = []

    def keep(*arguments: Any) -> Objective:
        built.append(build_objective(*arguments))
        return built[-1]

    monkeypatch.setattr(checks, "build_objective", keep)
    check_models(plan_search(search_values(dataset.path)), dataset)
    assert len(built) == 1 + 2 + 2 + 2 + 3  # the experiment, and each end of the default space
    assert dataset.schema.n_users > FEW
    for objective in built:
        rows = {len(table) for table in objective.parts.backbone.embedding_tables()}
        assert rows == {FEW}


def test_a_range_of_w1_that_nothing_reads_is_a_mistake() -> None:
    w1, alpha = "regularizer.aqcl.w1", "regularizer.aqcl.alpha"
    groups = {"regularizer": {"aqcl": {"alpha": "groups"}}}
    constant = {"regularizer.aqcl.constant_alpha": {"choices": [0.2, 0.8]}}
    given = {L2: {"choices": [0.1, 1]}, w1: {"choices": [1, 2]}}
    message = "aqcl.w1 does nothing where alpha is not the curve; leave it out, or set regularizer."
    for search in (
        {"space": given, "methods": {"a": groups}},
        {"space": {**given, **constant}},
    ):
        with pytest.raises(ConfigError, match=message):
            check_alpha_keys(plan_search(search_values(DATA, **search)))
    # The form of alpha may be searched beside it.
    forms = {**given, alpha: {"choices": ["curve", "groups"]}}
    plan = plan_search(search_values(DATA, space=forms, methods={"a": groups, "b": {}}))
    assert w1 in plan.methods[1].space.searched
    check_alpha_keys(plan)
