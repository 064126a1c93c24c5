"""What codewords stand for, and the clicks behind a user's score."""

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch

from aqcl.dataset import open_dataset
from aqcl.errors import DataError
from aqcl.interests import describe_interests, describe_user, leave_one_out, names_of
from aqcl.latents import encode_rows, load_interests, load_model
from aqcl.runs import Run
from aqcl.train import train
from tests.e2e.commands import aqcl, succeeds
from tests.tiny_runs import tiny_dataset, tiny_experiment

pytestmark = pytest.mark.usefixtures("no_fsync")


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory, no_fsync: None) -> Run:
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
    falls = [abs(fall) for _, fall in found.drivers]
    assert falls == sorted(falls, reverse=True)
    assert falls[0] > 0
    cosines = [cosine for _, cosine in found.nearest]
    assert cosines == sorted(cosines, reverse=True)
    assert all(-1.001 <= cosine <= 1.001 for cosine in cosines)


def test_test_rows_stay_unread(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    from aqcl.dataset import Dataset

    def refuse(_: Dataset) -> None:
        raise AssertionError("opened the test rows")

    monkeypatch.setattr(Dataset, "test", property(refuse))
    describe_interests(run)
    describe_user(run, "1")


def test_an_unknown_user_is_named_with_ids_that_exist(run: Run) -> None:
    with pytest.raises(DataError, match=r"user 'nobody' is not in .*such as 0, 1, 2"):
        describe_user(run, "nobody")


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
    page, figures = tmp_path / "report.html", tmp_path / "figures"
    told = succeeds("report", run.path, "--out", page, "--figures", figures, "--json").json
    assert page.read_text().startswith("<!doctype html>")
    assert {Path(name).parent for name in told["figures"]} == {figures}
    assert aqcl("report", tmp_path / "nothing", "--out", page).code == 2
