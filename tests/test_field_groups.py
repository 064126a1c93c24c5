"""Rows by the values of a field of the dataset."""

from dataclasses import replace
from typing import Any

import numpy as np
import polars as pl
import pytest

from aqcl.assessment import assess_by, compare_runs
from aqcl.dataset import Dataset, open_dataset
from aqcl.errors import ConfigError
from aqcl.evaluate import ALL
from aqcl.field_groups import MOST_VALUES, field_masks
from aqcl.metrics import auc
from aqcl.predictions import Predictions
from aqcl.prepare.pipeline import merge_protocol, prepare
from aqcl.runs import Run
from aqcl.schema import FIRST_ID, UNKNOWN, Field, Kind
from aqcl.tables import evaluation_table
from aqcl.vocab import Vocabulary
from tests.click_logs import make_log
from tests.e2e.commands import fails, succeeds
from tests.run_directories import scored_run
from tests.test_tables import shown

N_USERS, N_ITEMS, DAYS = 60, 30, 8
FIELDS = (
    Field("age", "categorical", "user"),
    Field("tags", "categories", "item"),
    Field("price", "numeric", "item"),
    Field("place", "categorical", "context"),
)


def age(user: int) -> str | None:
    return None if user % 5 == 0 else ("old" if user % 3 else "young")


def tags(item: int) -> list[str]:
    """A rare tag for each of the first items, beside two that are common."""
    return [*(["even"] if item % 2 == 0 else []), *([f"rare{item}"] if item < MOST_VALUES else [])]


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    rows = [
        (user, (user * 7 + day * 5) % N_ITEMS, day, int((user + day) % 3 == 0))
        for user in range(N_USERS)
        for day in range(DAYS)
    ]
    users = pl.DataFrame({"user": range(N_USERS), "age": [age(u) for u in range(N_USERS)]})
    items = pl.DataFrame(
        {
            "item": range(N_ITEMS),
            "tags": [tags(i) for i in range(N_ITEMS)],
            "price": [float(i // 3) for i in range(N_ITEMS)],
        }
    )
    place = {"place": [f"p{(row[0] + 2 * row[2]) % 12:02}" for row in rows]}
    log = make_log(rows, fields=FIELDS, context=place, users=users, items=items)
    settings = merge_protocol(log, {"split": {"kind": "last-days", "days": 4}})
    return open_dataset(prepare(log, settings, tmp_path_factory.mktemp("data") / "dataset"))


@pytest.fixture(scope="module")
def run(dataset: Dataset, tmp_path_factory: pytest.TempPathFactory) -> Run:
    return scored_run(tmp_path_factory.mktemp("run") / "run", dataset)


@pytest.fixture(scope="module")
def predictions(run: Run) -> Predictions:
    return run.predictions("test")


def ids(dataset: Dataset, column: str) -> list[int]:
    """The users or items of the test rows, as the log has them."""
    names = dataset.vocabularies[column].decode(dataset.test.columns[column])
    return [int(name) for name in names]


def groups(dataset: Dataset, predictions: Predictions, name: str) -> dict[str, list[int]]:
    (field,) = dataset.schema.select([name]).fields
    masks = field_masks(predictions, dataset, "test", field)
    return {group: np.flatnonzero(mask).tolist() for group, mask in masks.items()}


def rows_where(flags: list[bool]) -> list[int]:
    return [row for row, flag in enumerate(flags) if flag]


def test_values_of_users(dataset: Dataset, predictions: Predictions) -> None:
    of_rows = [age(user) for user in ids(dataset, "user")]
    found = groups(dataset, predictions, "age")
    assert list(found) == [ALL, "age: old", "age: young", "age, unknown"]  # by their rows
    for name, value in (("age: old", "old"), ("age: young", "young"), ("age, unknown", None)):
        assert found[name] == rows_where([own == value for own in of_rows])


def test_a_row_of_several_categories_is_in_the_group_of_each(
    dataset: Dataset, predictions: Predictions
) -> None:
    of_rows = [tags(item) for item in ids(dataset, "item")]
    found = groups(dataset, predictions, "tags")
    assert found["tags: even"] == rows_where(["even" in own for own in of_rows])
    assert found["tags, unknown"] == rows_where([own == [] for own in of_rows])
    rare = [name for name in found if name.startswith("tags: rare")]
    assert len(rare) == MOST_VALUES - 2
    for name in rare:
        assert found[name] == rows_where([name.removeprefix("tags: ") in own for own in of_rows])
    told = set().union(*(found[name] for name in found if name not in (ALL, "tags, 2 others")))
    assert found["tags, 2 others"] == [row for row in found[ALL] if row not in told]


def test_values_of_impressions(dataset: Dataset, predictions: Predictions) -> None:
    days = dataset.test.columns["timestamp"].tolist()
    of_rows = [
        f"p{(u + 2 * day) % 12:02}" for u, day in zip(ids(dataset, "user"), days, strict=True)
    ]
    found = groups(dataset, predictions, "place")
    own = [name.removeprefix("place: ") for name in found][1:-1]
    assert len(own) == MOST_VALUES
    for value in own:
        assert found[f"place: {value}"] == rows_where([place == value for place in of_rows])
    assert found["place, 4 others"] == rows_where([place not in own for place in of_rows])


def test_a_numeric_field_is_cut_into_ranges(dataset: Dataset, predictions: Predictions) -> None:
    prices = np.array([float(item // 3) for item in ids(dataset, "item")])
    found = groups(dataset, predictions, "price")
    assert list(found)[1:] == [
        "price: at most 2",
        "price: above 2 and at most 4",
        "price: above 4 and at most 7",
        "price: above 7",
    ]
    for (low, high), name in zip(((-1, 2), (2, 4), (4, 7), (7, 99)), list(found)[1:], strict=True):
        assert found[name] == np.flatnonzero((prices > low) & (prices <= high)).tolist()


def test_one_value_more_than_have_a_group_is_told_by_its_name(
    dataset: Dataset, predictions: Predictions, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("aqcl.field_groups.MOST_VALUES", 2)
    assert list(groups(dataset, predictions, "age"))[3] == "age, unknown"


def test_runs_are_measured_and_compared_by_a_field(dataset: Dataset, run: Run) -> None:
    _, evaluation = assess_by(run.path, "test", "age")
    found = run.predictions("test")
    old = np.array([age(user) == "old" for user in ids(dataset, "user")])
    assert evaluation["age: old"].auc == pytest.approx(auc(found.label[old], found.score[old]))
    assert evaluation["age: old"].gauc is not None  # all rows of these users
    result = compare_runs([run.path], by="place", replicates=100)
    named = {row.group for row in result.comparison.rows}
    assert len(named) == MOST_VALUES + 2


def test_a_table_of_many_groups_has_a_line_for_each(run: Run) -> None:
    _, evaluation = assess_by(run.path, "test", "place")
    lines = shown(evaluation_table(run, "test", evaluation)).splitlines()
    group = evaluation[ALL]
    number, line = next((k, one) for k, one in enumerate(lines) if one.startswith(group.group))
    counts = [str(group.rows), str(group.users), str(group.positives)]
    assert line.split()[1:5] == [*counts, f"{group.auc:.4f}"]
    assert lines[number + 1].strip() == f"{group.auc_low:.4f}-{group.auc_high:.4f}"


def test_commands_take_a_field(run: Run) -> None:
    found = succeeds("evaluate", run.path, "--by", "age", "--json").json[str(run.path)]
    assert [group["group"] for group in found["groups"]][:2] == [ALL, "age: old"]
    text = succeeds("compare", run.path, "--by", "age", "--replicates", 100).out
    assert "age: old: " in text
    assert "clicks are ranked against rows of the same group" in text


def test_what_is_no_field_is_refused_before_anything_is_scored(run: Run) -> None:
    with pytest.raises(ConfigError, match="by: expected user-activity, item-activity or a field"):
        assess_by(run.path, "valid", "pirce")  # its valid rows are not scored, it has no weights
    for command in ("evaluate", "compare"):
        assert "did you mean 'price'?" in fails(command, run.path, "--by", "pirce")


def named(dataset: Dataset, predictions: Predictions, kind: Kind, values: list[Any]) -> list[str]:
    """The groups of a context field with these values, one for each test row in turn; all rows are
    in one of them."""
    of_rows = np.array([values[k % len(values)] for k in range(len(predictions))])
    field = Field("f", kind, "context", size=int(max(values)) + 1 if kind != "numeric" else 0)
    split = replace(dataset.test, context={"f": of_rows})
    words = pl.Series(["(unknown)", "2 others", *"abcdefghijk"])
    vocabulary = Vocabulary(words, len(words) + FIRST_ID)
    made = replace(dataset)
    made.__dict__.update(test=split, vocabularies={"f": vocabulary})
    masks = field_masks(predictions, made, "test", field)
    assert np.logical_or.reduce([mask for name, mask in masks.items() if name != ALL]).all()
    return list(masks)[1:]


def test_ranges_of_close_and_of_large_numbers_have_names_of_their_own(
    dataset: Dataset, predictions: Predictions
) -> None:
    seconds = [np.float32(1_620_000_000 + 128 * k) for k in range(8)]
    assert named(dataset, predictions, "numeric", seconds) == [
        "f: at most 1620000100",
        "f: above 1620000100 and at most 1620000400",
        "f: above 1620000400 and at most 1620000600",
        "f: above 1620000600",
    ]
    assert named(dataset, predictions, "numeric", [np.float32(2e-9), np.float32(4e12)]) == [
        "f: at most 2e-09",
        "f: above 2e-09",
    ]
    assert named(dataset, predictions, "numeric", [np.float32(7)]) == ["f: all"]


def test_values_that_are_called_like_a_group_are_told_from_it(
    dataset: Dataset, predictions: Predictions
) -> None:
    found = named(dataset, predictions, "categorical", list(range(UNKNOWN, UNKNOWN + 10)))
    assert len(set(found)) == 9
    assert {"f, unknown", "f: (unknown)", "f: 2 others", "f, 2 others"} <= set(found)


@pytest.mark.parametrize("width", [80, 100])
@pytest.mark.parametrize("by", ["age", "tags", "place", "price", "item-activity"])
def test_nothing_of_a_table_of_groups_is_cut(run: Run, by: str, width: int) -> None:
    _, evaluation = assess_by(run.path, "test", by)
    group = evaluation.groups[-1]
    many = replace(evaluation, groups=(*evaluation.groups, replace(group, rows=1_123_456)))
    for one in (evaluation, many):
        text = shown(evaluation_table(run, "test", one), width)
        assert "…" not in text
        for found in one.groups:
            assert found.auc_low is None or f"{found.auc_low:.4f}-{found.auc_high:.4f}" in text
    assert ("unknown: " in text.lower()) == (by in ("age", "tags"))
