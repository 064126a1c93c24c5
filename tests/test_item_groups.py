"""Rows by how well known their item is."""

from pathlib import Path

import numpy as np
import pytest

from aqcl.assessment import assess_by, compare_runs
from aqcl.dataset import open_dataset
from aqcl.evaluate import ALL
from aqcl.item_groups import ITEM_GROUPS, item_masks, item_thresholds
from aqcl.metrics import auc
from aqcl.predictions import Predictions
from aqcl.train import train
from tests.tiny_runs import tiny_dataset, tiny_experiment


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("run")
    train(tiny_experiment(tiny_dataset(folder)), folder / "run")
    return folder / "run"


def predictions(item: list[int]) -> Predictions:
    rows = np.arange(len(item))
    return Predictions(rows, np.array(item), rows % 2, rows, rows / len(item))


def test_thresholds_are_the_smallest_that_reach_their_share() -> None:
    clicks = np.array([0, 0, 0, 1, 1, 1, 1, 1, 1, 2, 3, 4, 50])
    assert item_thresholds(clicks) == (1, 4)
    assert item_thresholds(np.zeros(5, dtype=np.int64)) == (0, 0)


def test_rows_go_by_their_own_item_and_unseen_items_are_cold() -> None:
    clicks = np.array([0, 0, 0, 1, 2, 9])
    masks = item_masks(predictions([2, 3, 4, 5, 6, 99]), clicks, (1, 4))
    assert list(masks) == [ALL, *ITEM_GROUPS]
    assert masks[ALL].all()
    assert np.flatnonzero(masks["cold"]).tolist() == [0, 4, 5]
    assert np.flatnonzero(masks["rare"]).tolist() == [1]
    assert np.flatnonzero(masks["known"]).tolist() == [2]
    assert np.flatnonzero(masks["popular"]).tolist() == [3]


def test_each_group_is_measured_on_its_rows_alone(run: Path) -> None:
    made, evaluation = assess_by(run, "test", "item-activity")
    found, dataset = made.predictions("test"), open_dataset(run.parent / "dataset")
    columns = dataset.train.columns
    clicked = columns["item"][columns["label"] == 1].tolist()
    own = np.array([clicked.count(item) for item in found.item.tolist()])
    low, high = item_thresholds(dataset.item_count)
    bounds = {
        "cold": (0, 0),
        "rare": (1, low),
        "known": (low + 1, high),
        "popular": (high + 1, 999),
    }
    assert sum(evaluation[name].rows for name in ITEM_GROUPS) == len(found) == evaluation[ALL].rows
    for name, (first, last) in bounds.items():
        rows = (own >= first) & (own <= last)
        assert evaluation[name].rows == rows.sum()
        if evaluation[name].auc is not None:
            assert evaluation[name].auc == pytest.approx(auc(found.label[rows], found.score[rows]))


def test_gauc_is_told_only_where_users_are_whole(run: Path) -> None:
    _, evaluation = assess_by(run, "test", "item-activity")
    assert evaluation[ALL].gauc is not None
    assert evaluation["rare"].gauc is None


def test_users_are_the_default(run: Path) -> None:
    made, evaluation = assess_by(run, "test", "user-activity")
    assert evaluation.to_json() == made.metrics()["test"]


def test_a_comparison_has_the_same_groups(run: Path) -> None:
    result = compare_runs([run], by="item-activity", replicates=100)
    assert [row.group for row in result.comparison.rows if row.verdict == "base"] == [
        ALL,
        *ITEM_GROUPS,
    ]
