"""What codewords stand for, and the clicks behind a user's score."""

from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch

from aqcl.activity import GROUPS
from aqcl.contracts import Predictor
from aqcl.dataset import Dataset, open_dataset
from aqcl.errors import ConfigError, DataError
from aqcl.interest_tables import codebook_table, effect, user_table
from aqcl.interests import (
    Driver,
    describe_examples,
    describe_interests,
    describe_user,
    leave_one_out,
    names_of,
)
from aqcl.latents import encode_rows, load_interests, load_model
from aqcl.runs import Run
from aqcl.schema import Field
from aqcl.train import train
from tests.click_logs import TEST_FROM, VALID_FROM, prepared
from tests.e2e.commands import aqcl, succeeds
from tests.test_tables import shown
from tests.tiny_runs import N_ITEMS, tiny_dataset, tiny_experiment


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    folder = tmp_path_factory.mktemp("run")
    return train(tiny_experiment(tiny_dataset(folder)), folder / "run")


def test_every_clicked_row_belongs_to_its_nearest_interest(run: Run) -> None:
    dataset = open_dataset(Path(run.experiment.dataset))
    book = describe_interests(run, top=3)
    clicked = np.flatnonzero(dataset.train.columns["label"] == 1)
    latent = encode_rows(load_model(run, dataset), dataset.train, clicked, 50)
    code = load_interests(run, dataset).nearest(latent)
    assert book.rows == len(clicked) == sum(one.rows for one in book.interests)
    assert {one.codeword: one.rows for one in book.interests} == Counter(code.tolist())
    assert book.used == len(set(code.tolist()))
    sizes = [one.rows for one in book.interests]
    assert sizes == sorted(sizes, reverse=True)
    share = np.array(sizes) / book.rows
    assert book.perplexity == pytest.approx(np.exp(-(share * np.log(share)).sum()))
    for one in book.interests:
        items = names_of(
            dataset, "item", dataset.train.columns["item"][clicked[code == one.codeword]]
        )
        counts = Counter(items)
        assert all(counts[name] == count for name, count in one.items)
        assert one.items[0][1] == max(counts.values())
        assert sum(one.activity.values()) == pytest.approx(1)


def test_leaving_one_out_leaves_exactly_one_out(run: Run) -> None:
    dataset = open_dataset(Path(run.experiment.dataset))
    row = int(np.argmax(dataset.valid.columns["history_length"]))
    batch = dataset.valid.batch(np.array([row]), 50)
    many = leave_one_out(batch)
    history = batch.history.tolist()
    assert len(many) == len(history) + 1
    parts = [
        many.history[a:b].tolist() for a, b in zip(many.offsets, many.offsets[1:], strict=False)
    ]
    assert parts[0] == history
    assert parts[1:] == [history[:k] + history[k + 1 :] for k in range(len(history))]
    assert torch.equal(many.segment, torch.repeat_interleave(many.offsets.diff()))
    assert set(many.activity.tolist()) == {float(len(history))}


def test_a_users_drivers_are_changes_of_the_stored_score(run: Run) -> None:
    dataset = open_dataset(Path(run.experiment.dataset))
    columns = dataset.valid.columns
    row = int(np.flatnonzero(columns["label"] == 1)[0])
    user = names_of(dataset, "user", columns["user"][[row]])[0]
    found = describe_user(run, user, top=50)
    assert found.score == pytest.approx(run.predictions("valid").score[row], abs=1e-6)
    assert found.clicks == columns["history_length"][row] == len(found.drivers)
    assert found.clicked
    sizes = [abs(driver.change) for driver in found.drivers]
    assert sizes == sorted(sizes, reverse=True)
    assert sizes[0] > 0
    assert found.nearest is not None
    cosines = [one.cosine for one in found.nearest]
    assert cosines == sorted(cosines, reverse=True)
    assert all(-1.001 <= cosine <= 1.001 for cosine in cosines)


@pytest.fixture(scope="module")
def described(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    """Items with a brand, a list of tags (none for item 5) and a price."""
    items = pl.DataFrame(
        {
            "item": range(N_ITEMS),
            "brand": [f"b{item % 3}" for item in range(N_ITEMS)],
            "tags": [
                [f"t{item % 3}", f"u{item % 2}"] if item != 5 else [] for item in range(N_ITEMS)
            ],
            "price": [float(item) for item in range(N_ITEMS)],
        }
    )
    fields = (
        Field("brand", "categorical", "item"),
        Field("tags", "categories", "item"),
        Field("price", "numeric", "item"),
    )
    rows = [(user, (user * 5 + step) % N_ITEMS, step) for user in range(30) for step in range(7)]
    folder = tmp_path_factory.mktemp("described")
    return prepared(folder / "dataset", rows, items=items, fields=fields)


def test_attributes_of_items_are_counted_every_value_of_a_list(
    described: Dataset, tmp_path: Path
) -> None:
    run = train(tiny_experiment(described.path), tmp_path / "run")
    clicked = np.flatnonzero(described.train.columns["label"] == 1)
    latent = encode_rows(load_model(run, described), described.train, clicked, 50)
    code = load_interests(run, described).nearest(latent)
    item = described.train.columns["item"][clicked]
    book = describe_interests(run, top=99)
    for one in book.interests:
        own = [int(name) for name in names_of(described, "item", item[code == one.codeword])]
        tags = [[f"t{i % 3}", f"u{i % 2}"] if i != 5 else ["unknown"] for i in own]
        assert list(one.attributes) == ["brand", "tags"]
        assert dict(one.attributes["brand"]) == Counter(f"b{i % 3}" for i in own)
        assert dict(one.attributes["tags"]) == Counter(tag for both in tags for tag in both)
    text = shown(codebook_table(describe_interests(run, top=1)))
    assert "…" not in text
    assert "tags" in text


def test_a_model_that_reads_its_interests_can_be_looked_at(run: Run, tmp_path: Path) -> None:
    dataset = Path(run.experiment.dataset)
    reader = train(tiny_experiment(dataset, "regularizer.aqcl.readout=true"), tmp_path / "run")
    assert describe_interests(reader).rows == describe_interests(run).rows
    columns = open_dataset(dataset).valid.columns
    row = int(np.flatnonzero(columns["label"] == 1)[0])
    user = names_of(open_dataset(dataset), "user", columns["user"][[row]])[0]
    # What was stored is the score with the readout in it.
    stored = reader.predictions("valid").score[row]
    assert describe_user(reader, user).score == pytest.approx(stored, abs=1e-6)


def test_a_click_that_raises_the_score_has_a_change_above_zero(run: Run) -> None:
    """Left out of the history, the strongest driver takes its change along."""
    dataset = open_dataset(Path(run.experiment.dataset))
    found = describe_user(run, "1", top=50)
    ids = dataset.vocabularies["user"].encode(pl.Series(["1"]))
    columns = dataset.valid.columns
    (row,) = np.flatnonzero((columns["user"] == ids[0]) & (columns["label"] == 1))[-1:]
    many = leave_one_out(dataset.valid.batch(np.array([row]), 50))
    model = load_model(run, dataset)
    assert isinstance(model, Predictor)
    with torch.no_grad():
        embedded = model.embed(many)
        scores = torch.sigmoid(model.predict(model.encode(embedded), embedded)).tolist()
    strongest = max(scores[1:], key=lambda score: abs(scores[0] - score))
    assert found.drivers[0].change == pytest.approx(scores[0] - strongest, abs=1e-6)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (0.00281, "raises the score by 0.0028"),
        (-0.3, "lowers the score by 0.3000"),
        (-0.00001, "hardly changes the score"),
    ],
)
def test_a_terminal_tells_the_direction_of_a_change(run: Run, change: float, told: str) -> None:
    driver = Driver("x", change)
    assert effect(driver) == told
    text = shown(user_table(replace(describe_user(run, "1"), score=0.5, drivers=[driver])))
    assert told in text
    assert f"{0.5 - change:.4f}" in text  # the score without the click
    assert "A click that lowers the score speaks against this candidate" in text


@pytest.fixture(scope="module")
def impressions(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """Trained on a log with labels, in which some users have clicked nothing.

    Days 0 to 5 are training rows, 6 and 7 validation rows, the others test rows.
    """
    rows = [
        (
            f"u{user}",
            f"i{(user * 5 + day) % N_ITEMS}",
            day,
            int(day < user % 6 or day >= VALID_FROM),
        )
        for user in range(30)
        for day in range(10)
    ]
    rows += [
        ("seen in both", "i1", 2, 0),
        ("seen in both", "i2", 6, 0),
        ("seen in both", "i3", 7, 0),
        ("seen in both", "i4", 9, 1),
    ]
    rows += [("seen in training", "i5", 1, 0), ("seen in training", "i6", 4, 0)]
    rows += [("clicked in training", "i7", 3, 1), ("clicked in training", "i8", 7, 0)]
    rows += [("only tested", "i9", 9, 0)]
    folder = tmp_path_factory.mktemp("impressions")
    split = {"kind": "time", "valid_from": VALID_FROM, "test_from": TEST_FROM}
    dataset = prepared(folder / "dataset", rows, {"split": split})
    experiment = tiny_experiment(dataset.path, "regularizer.aqcl.warmup_steps=1")
    return train(experiment, folder / "run")


@pytest.mark.parametrize(
    ("user", "item", "clicked"),
    [
        ("seen in both", "i3", False),
        ("seen in training", "i6", False),
        ("clicked in training", "i7", True),
    ],
)
def test_a_user_is_looked_at_in_the_latest_click_or_else_the_latest_row(
    impressions: Run, user: str, item: str, clicked: bool
) -> None:
    found = describe_user(impressions, user)
    assert (found.item, found.clicked) == (item, clicked)
    told = f"candidate {item} ({'clicked' if clicked else 'not clicked'})"
    assert told in succeeds("interests", impressions.path, "--user", user).out


def test_a_user_of_test_rows_alone_is_refused(impressions: Run) -> None:
    with pytest.raises(DataError, match="user 'only tested' has only test rows"):
        describe_user(impressions, "only tested")


def test_json_names_what_it_tells_of_a_user(run: Run) -> None:
    found = describe_user(run, "1", top=2)
    told = succeeds("interests", run.path, "--user", "1", "--top", "2", "--json").json
    assert told["clicked"] is True
    near = [{"interest": one.interest, "cosine": one.cosine} for one in found.nearest or ()]
    assert len(near) == 2
    assert told["nearest"] == near
    assert told["drivers"] == [{"item": d.item, "change": d.change} for d in found.drivers]


@pytest.mark.parametrize("thresholds", [(-1, 0), (1, 2), (2, 3), (4, 5)])
def test_examples_are_users_of_the_median_activity_of_each_group(
    impressions: Run, thresholds: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    # Nobody has 0 clicks at the latest validation click, though some had at an earlier one.
    monkeypatch.setattr(Dataset, "thresholds", property(lambda _: thresholds))
    dataset = open_dataset(Path(impressions.experiment.dataset))
    columns = dataset.valid.columns
    clicked = columns["label"] == 1
    latest = dict(zip(columns["user"][clicked], columns["history_length"][clicked], strict=True))
    assert len(latest) < np.count_nonzero(clicked)  # some have several validation clicks
    activity = np.sort(list(latest.values()))
    groups = np.searchsorted(dataset.thresholds, activity)
    found = describe_examples(impressions, dataset=dataset)
    assert list(found) == [GROUPS[number] for number in np.unique(groups)]
    for group, one in found.items():
        own = activity[groups == GROUPS.index(group)]
        assert one.clicks == own[(len(own) - 1) // 2]
        # What the command tells of the same user.
        assert one == describe_user(impressions, one.user, top=3)


def test_a_group_that_nobody_is_in_has_no_example(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Dataset, "thresholds", property(lambda _: (1000, 1001)))
    assert list(describe_examples(run)) == ["non-active"]
    monkeypatch.setattr(Dataset, "thresholds", property(lambda _: (-2, -1)))
    assert list(describe_examples(run)) == ["highly-active"]
    dataset = open_dataset(Path(run.experiment.dataset))
    monkeypatch.setitem(dataset.valid.columns, "label", np.zeros(len(dataset.valid), np.int8))
    assert describe_examples(run, dataset=dataset) == {}


def test_a_row_without_clicks_has_no_drivers(run: Run) -> None:
    dataset = open_dataset(Path(run.experiment.dataset))
    row = int(np.argmin(dataset.train.columns["history_length"]))
    batch = dataset.train.batch(np.array([row]), 50)
    assert len(batch.history) == 0
    assert len(leave_one_out(batch)) == 1
    found = replace(describe_user(run, "1"), clicks=0, drivers=[])
    assert "There is no click before it" in shown(user_table(found))


@pytest.mark.parametrize("top", [0, -1])
def test_less_than_one_of_each_is_refused(run: Run, top: int) -> None:
    for ask in (lambda: describe_interests(run, top), lambda: describe_user(run, "1", top)):
        with pytest.raises(ConfigError, match=f"top: expected 1 or more, got {top}"):
            ask()
    assert aqcl("interests", run.path, "--top", top).code == 2


def test_test_rows_stay_unread(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_: Dataset) -> None:
        raise AssertionError("opened the test rows")

    monkeypatch.setattr(Dataset, "test", property(refuse))
    describe_interests(run)
    describe_user(run, "1")
    describe_examples(run)


def test_an_unknown_user_is_named_with_ids_that_exist(run: Run) -> None:
    with pytest.raises(DataError, match=r"user 'nobody' is not in .*such as 0, 1, 2"):
        describe_user(run, "nobody")


def test_a_run_without_a_codebook_still_tells_the_clicks_behind_a_score(
    run: Run, tmp_path: Path
) -> None:
    dataset = open_dataset(Path(run.experiment.dataset))
    plain = train(tiny_experiment(dataset.path, "regularizer.aqcl.weight=0"), tmp_path / "plain")
    row = int(np.flatnonzero(dataset.valid.columns["label"] == 1)[0])
    user = names_of(dataset, "user", dataset.valid.columns["user"][[row]])[0]

    found = describe_user(plain, user)

    assert found.nearest is None
    assert found.drivers
    assert found.score == pytest.approx(plain.predictions("valid").score[row], abs=1e-6)
    assert "The run has no codebook" in shown(user_table(found))
    told = succeeds("interests", plain.path, "--user", user, "--json").json
    assert told["nearest"] is None
    refused = aqcl("interests", plain.path)
    assert refused.code == 2
    assert "has no codebook" in refused.err


def test_on_the_command_line(run: Run) -> None:
    book = describe_interests(run)
    told = succeeds("interests", run.path)
    assert f"{book.used} of {book.codewords} interests" in told.out
    assert succeeds("interests", run.path, "--json").json["rows"] == book.rows
    user = describe_user(run, "1")
    told = succeeds("interests", run.path, "--user", "1")
    assert f"score {user.score:.4f}" in told.out
    assert succeeds("interests", run.path, "--user", "1", "--json").json["score"] == user.score
    assert aqcl("interests", run.path, "--user", "nobody").code == 2


def test_items_on_the_command_line(run: Run) -> None:
    told = succeeds("evaluate", run.path, "--by", "item-activity")
    assert "cold" in told.out
    compared = succeeds("compare", run.path, "--by", "item-activity", "--json").json
    assert {row["group"] for row in compared["rows"]} >= {"cold", "rare", "known", "popular"}


def test_a_report_on_the_command_line(run: Run, tmp_path: Path) -> None:
    page, figures = tmp_path / "out" / "report.html", tmp_path / "figures"
    told = succeeds("report", run.path, "--out", page, "--figures", figures, "--json").json
    assert page.read_text().startswith("<!doctype html>")
    assert page.stat().st_size > 10_000
    files = [Path(name) for name in told["figures"]]
    assert {file.parent for file in files} == {figures}
    assert {file.suffix for file in files} == {".svg", ".png", ".pdf"}
    assert all(file.stat().st_size > 1000 for file in files)
    assert aqcl("report", tmp_path / "nothing", "--out", page).code == 2
