"""Oncold: exact sizes, the same from any cache, skewed, and worth learning."""

from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from sklearn.metrics import roc_auc_score

from aqcl import feed
from aqcl.datasets import oncold
from aqcl.datasets.oncold import OncoldSettings, open_oncold
from aqcl.errors import ConfigError, StorageError
from aqcl.feed import FeedSize, Impressions, World, make_world, simulate

DAY = 86_400
SIZE = FeedSize(n_users=8_000, n_items=600, n_samples=160_000, n_days=92, n_interests=24)


def _settings(tmp_path: Path, **values: Any) -> OncoldSettings:
    small = {"users": 300, "items": 60, "samples": 3_001, "n_interests": 5}
    return OncoldSettings(**{**small, "cache": str(tmp_path), **values})


@pytest.fixture(scope="module")
def world() -> World:
    return make_world(SIZE, 0.2, seed=3)


@pytest.fixture(scope="module")
def impressions(world: World) -> Impressions:
    return simulate(world, range(SIZE.n_users), 0)


def test_every_user_and_exactly_the_samples_in_the_days_asked_for(tmp_path: Path) -> None:
    log = open_oncold(_settings(tmp_path, days=40))

    rows = log.rows.collect()
    assert len(rows) == 3_001
    assert sorted(rows["user"].unique()) == list(range(1, 301))
    assert set(rows["item"]) <= set(range(1, 61))
    days = set((rows["timestamp"] - feed.START) // DAY)
    assert 30 < max(days) < 40
    assert 0 <= min(days) < 10
    assert set(rows["label"]) == {0, 1}
    assert (log.name, log.simulated) == ("oncold (simulated)", True)
    assert log.users is not None
    assert log.users["user"].to_list() == list(range(1, 301))
    assert log.items is not None
    assert log.items["item"].to_list() == list(range(1, 61))


def test_the_same_seed_gives_the_same_log_and_another_seed_another(tmp_path: Path) -> None:
    first = open_oncold(_settings(tmp_path / "a"))
    again = open_oncold(_settings(tmp_path / "b"))
    other = open_oncold(_settings(tmp_path / "a", seed=1))

    assert first.rows.collect().equals(again.rows.collect())
    assert first.users is not None
    assert first.users.equals(again.users)  # type: ignore[arg-type]
    assert not first.rows.collect().equals(other.rows.collect())


def test_finished_chunks_are_reused_and_damaged_ones_made_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(oncold, "CHUNK_ROWS", 1_000)
    made: list[int] = []

    def counted(world: World, users: range, number: int) -> Impressions:
        made.append(number)
        return simulate(world, users, number)

    monkeypatch.setattr(oncold, "simulate", counted)
    whole = open_oncold(_settings(tmp_path)).rows.collect()
    assert made == [0, 1, 2, 3]
    parts = sorted(tmp_path.rglob("*.parquet"))
    assert len(parts) == 8

    made.clear()
    rows = [part for part in parts if part.name.startswith("rows")]
    rows[1].unlink()
    rows[2].write_bytes(rows[2].read_bytes()[:100])
    pl.read_parquet(rows[3]).clear().write_parquet(rows[3])
    assert open_oncold(_settings(tmp_path)).rows.collect().equals(whole)
    assert made == [1, 2, 3]
    assert sorted(p for p in tmp_path.rglob("*") if p.is_file()) == parts


def test_a_killed_write_leaves_no_chunk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(self: pl.DataFrame, path: Path) -> None:
        path.write_bytes(b"PAR1 half")
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(pl.DataFrame, "write_parquet", fails)
        with pytest.raises(KeyboardInterrupt):
            open_oncold(_settings(tmp_path))

    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []
    assert len(open_oncold(_settings(tmp_path)).rows.collect()) == 3_001


def test_chunks_do_not_depend_on_their_order(world: World) -> None:
    chunks = world.chunks(50_000)
    assert [user for chunk in chunks for user in chunk] == list(range(SIZE.n_users))
    assert sum(world.n_rows(chunk) for chunk in chunks) == SIZE.n_samples

    forward = [simulate(world, chunk, n).rows() for n, chunk in enumerate(chunks)]
    numbered = list(enumerate(chunks))[::-1]
    backward = [simulate(world, chunk, n).rows() for n, chunk in numbered][::-1]
    assert all(one.equals(other) for one, other in zip(forward, backward, strict=True))
    assert [len(part) for part in forward] == [world.n_rows(chunk) for chunk in chunks]


def test_chunks_of_fewer_rows_than_one_user_has(world: World) -> None:
    chunks = world.chunks(1)

    assert [user for chunk in chunks for user in chunk] == list(range(SIZE.n_users))


@pytest.mark.parametrize("ctr", [0.05, 0.2, 0.5])
def test_click_through_rate_is_the_one_asked_for(ctr: float) -> None:
    size = FeedSize(n_users=2_000, n_items=300, n_samples=40_000, n_days=92, n_interests=24)
    labels = simulate(make_world(size, ctr, 0), range(2_000), 0).label

    assert labels.mean() == pytest.approx(ctr, rel=0.1)


def _late(impressions: Impressions) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Rows before the last 20 days and in the last 10, with the true probability."""
    rows = impressions.rows().with_columns(probability=impressions.probability)
    day = (pl.col("timestamp") - feed.START) // DAY
    return rows.filter(day < 72), rows.filter(day >= 82)


def test_interest_tells_much_more_than_popularity(impressions: Impressions, world: World) -> None:
    before, after = _late(impressions)
    counts = before.group_by("item").agg(clicks=pl.col("label").sum(), shown=pl.len())
    liked = before.filter(pl.col("label") == 1).join(world.item_table(), on="item")
    taste = liked.group_by("user", "category").len("same")
    after = (
        after.join(counts, on="item", how="left")
        .join(world.item_table(), on="item")
        .join(taste, on=["user", "category"], how="left")
        .join(liked.group_by("user").len("all"), on="user", how="left")
        .fill_null(0)
    )
    popularity = ((pl.col("clicks") + 4) / (pl.col("shown") + 20)).log()
    history = ((pl.col("same") + 0.2) / (pl.col("all") + 4.8)).log()

    def auc(score: pl.Expr, rows: pl.DataFrame = after) -> float:
        return float(roc_auc_score(rows["label"], rows.select(score).to_series()))

    assert 0.75 < auc(pl.col("probability")) < 0.81
    assert 0.57 < auc(popularity) < 0.63
    assert 0.55 < auc(pl.col("clicks")) < 0.63
    assert auc(popularity + history) > auc(popularity) + 0.05
    active = after.filter(pl.col("all") >= 10)
    assert auc(popularity + history, active) > auc(popularity, active) + 0.1


def test_activity_is_skewed_and_users_arrive_over_time(impressions: Impressions) -> None:
    rows = impressions.rows()
    samples = np.sort(np.bincount(impressions.user)[1:])
    clicks = np.bincount(impressions.user, weights=impressions.label)[1:]
    share = samples[-len(samples) // 10 :].sum() / samples.sum()
    assert 0.35 < share < 0.6
    assert np.quantile(clicks, 0.6) <= 4
    assert np.quantile(clicks, 0.9) >= 8

    first = (rows.group_by("user").agg(pl.col("timestamp").min())["timestamp"] - feed.START) // DAY
    arrived = [np.mean(first.to_numpy() < day) for day in (10, 46, 82)]
    assert 0.1 < arrived[0] < 0.3 < arrived[1] < 0.8 < arrived[2] < 0.99


def test_attributes_are_noisy_hints(impressions: Impressions, world: World) -> None:
    assert 0.8 < np.mean(world.category == world.interest) < 0.92
    ages = impressions.users()["age_group"]
    assert sorted(ages.unique()) == [f"a{n:02d}" for n in range(feed.N_AGE_GROUPS)]
    assert sorted(impressions.rows()["position"].unique()) == [
        f"p{n:02d}" for n in range(feed.N_POSITIONS)
    ]


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"samples": 299}, r"source\.samples: expected at least source\.users = 300.*got 299"),
        ({"items": 4}, r"source\.items: expected at least source\.n_interests = 5.*got 4"),
    ],
)
def test_sizes_that_cannot_be(tmp_path: Path, values: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        open_oncold(_settings(tmp_path, **values))


def test_the_cache_is_that_of_the_setting_or_the_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AQCL_CACHE", str(tmp_path / "named"))
    open_oncold(_settings(tmp_path, cache=None))
    open_oncold(_settings(tmp_path, cache=str(tmp_path / "set")))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["named", "set"]

    (tmp_path / "file").touch()
    with pytest.raises(StorageError, match=r"file: cannot be made a cache directory.*AQCL_CACHE"):
        open_oncold(_settings(tmp_path, cache=str(tmp_path / "file")))


def test_the_least_sizes(tmp_path: Path) -> None:
    log = open_oncold(_settings(tmp_path, users=1, items=2, samples=1, n_interests=2, days=4))

    assert log.rows.collect().height == 1


def test_chunks_made_on_threads_are_those_made_in_turn(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(oncold, "CHUNK_ROWS", 400)
    in_turn = open_oncold(_settings(tmp_path / "in turn"))
    monkeypatch.setattr(oncold, "_PARALLEL_ROWS", 1)
    at_once = open_oncold(_settings(tmp_path / "at once"))

    assert at_once.rows.collect().equals(in_turn.rows.collect())
    assert at_once.users is not None
    assert at_once.users.equals(in_turn.users)  # type: ignore[arg-type]
    names = {
        frozenset(path.name for path in (tmp_path / how).rglob("*.parquet"))
        for how in ("in turn", "at once")
    }
    assert len(names) == 1


def test_a_kill_among_threads_keeps_whole_chunks_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(oncold, "CHUNK_ROWS", 400)
    monkeypatch.setattr(oncold, "_PARALLEL_ROWS", 1)

    def dies(world: World, users: range, number: int) -> Impressions:
        if number == 3:
            raise KeyboardInterrupt
        return simulate(world, users, number)

    with monkeypatch.context() as patch:
        patch.setattr(oncold, "simulate", dies)
        with pytest.raises(KeyboardInterrupt):
            open_oncold(_settings(tmp_path))
    left = {path.name for path in tmp_path.rglob("*") if path.is_file()}
    assert {"rows-00000.parquet", "rows-00002.parquet"} <= left
    assert all(name.endswith(".parquet") and "00003" not in name for name in left)
    assert len(open_oncold(_settings(tmp_path)).rows.collect()) == 3_001
