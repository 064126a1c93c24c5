"""What the other libraries get to train on, and how their speeds are put together."""

from pathlib import Path

import numpy as np
import pytest
from benchmarks import peers
from benchmarks.data import VARIABLE, described
from benchmarks.data import dataset as given_dataset
from benchmarks.peer_rows import MAX_HISTORY, Rows, read_rows, write_rows
from benchmarks.steps import make_trainer

from aqcl.dataset import open_dataset
from tests.tiny_runs import tiny_dataset


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_dataset(tmp_path_factory.mktemp("peers"))


def rows_of(histories: list[list[int]]) -> Rows:
    count = np.arange(len(histories))
    length = np.array([len(history) for history in histories])
    clicks = np.array([click for history in histories for click in history])
    return Rows(count, count + 1, count % 2, length, clicks, 9, 30)


@pytest.mark.parametrize("left", [True, False])
def test_padding_keeps_the_order_of_the_clicks(left: bool) -> None:
    histories = [[3, 4, 5], [], [7], list(range(1, 1 + MAX_HISTORY))]
    padded = rows_of(histories).padded(left=left)
    for row, history in zip(padded, histories, strict=True):
        zeros = [0] * (MAX_HISTORY - len(history))
        assert row.tolist() == (zeros + history if left else history + zeros)


def test_rows_are_the_same_after_writing(tmp_path: Path) -> None:
    rows = rows_of([[3, 4], [5], [6, 7, 8]])
    write_rows(tmp_path, "warm", rows)
    found = read_rows(tmp_path, "warm")
    for name, value in rows._asdict().items():
        np.testing.assert_array_equal(getattr(found, name), value)
    assert found.first(2).clicks.tolist() == [3, 4, 5]
    assert found.first(2).n_items == 30


def test_the_rows_are_those_of_our_own_first_steps(
    dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(peers, "BATCH", 48)
    assert peers.export(dataset, tmp_path, 2, 3) == len(read_rows(tmp_path, "timed").user)
    trainer = make_trainer(dataset, {})
    split = open_dataset(dataset).train
    bounds = np.arange(0, 10) * len(split) // -(-len(split) // 48)
    order = trainer.dataset.train.order(0, 0)
    for name, first, last in (("warm", 0, 2), ("timed", 2, 5)):
        batch = split.batch(order[bounds[first] : bounds[last]], MAX_HISTORY)
        rows = read_rows(tmp_path, name)
        assert rows.user.tolist() == batch.user.tolist()
        assert rows.label.tolist() == batch.label.tolist()
        assert rows.length.sum() == len(rows.clicks) == len(batch.history)
        assert max(rows.item.max(), rows.clicks.max()) < rows.n_items


def test_what_is_not_installed_is_said(tmp_path: Path) -> None:
    fuxictr, deepctr = peers.PEERS[:2]
    assert peers.missing(deepctr, tmp_path) == "not installed"
    for peer in (fuxictr, deepctr):
        python = peer.python(tmp_path)
        python.parent.mkdir(parents=True)
        python.touch()
    assert peers.missing(deepctr, tmp_path) is None
    assert "checkout" in str(peers.missing(fuxictr, tmp_path))
    (tmp_path / "FuxiCTR" / "model_zoo").mkdir(parents=True)
    assert peers.missing(fuxictr, tmp_path) is None


def test_the_fastest_library_is_what_ours_is_compared_with() -> None:
    def reports(*seconds: float) -> list[dict[str, object]]:
        return [{"rows": 1000, "seconds": s, "logloss": [0.7, 0.6]} for s in seconds]

    found = peers.summary(
        {"aqcl": reports(1, 2, 9), "a": reports(4, 4, 4), "b": reports(20, 10, 10), "c": []},
        ["aqcl", "a", "b"],
    )
    assert found["rows_per_second"] == {"aqcl": 500, "a": 250, "b": 100}
    assert (found["fastest"], found["ours_to_fastest"]) == ("a", 2.0)
    alone = peers.summary({"aqcl": reports(1)}, ["aqcl"])
    assert "ours_to_fastest" not in alone


def test_every_library_has_a_driver() -> None:
    folder = Path(peers.__file__).parent
    for name in [peers.OURS, *(peer.name for peer in peers.PEERS)]:
        assert (folder / f"peer_{name.replace('-', '_')}.py").exists()


def test_the_environment_names_the_dataset(
    dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(VARIABLE, str(dataset))
    assert given_dataset(tmp_path) == dataset
    assert described(dataset)["rows"] == len(open_dataset(dataset).train)
