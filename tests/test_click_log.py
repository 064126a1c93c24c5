import polars as pl

from aqcl.click_log import ClickLog, take_users


def make_log(users: list[str]) -> ClickLog:
    rows = pl.DataFrame({"user": users, "item": ["a"] * len(users), "timestamp": range(len(users))})
    return ClickLog("log", rows.lazy(), "second", notes=("first note",))


def kept_users(log: ClickLog) -> set[str]:
    return set(log.rows.collect()["user"])


def test_all_users_leave_the_log_as_it_is() -> None:
    log = make_log(["u", "v"])
    assert take_users(log, 1.0) is log


def test_a_share_keeps_whole_users_and_says_so() -> None:
    log = make_log([f"u{i % 100}" for i in range(1000)])
    part = take_users(log, 0.3, seed=1)
    rows = part.rows.collect()
    assert len(kept_users(part)) == 30
    assert len(rows) == 300
    assert rows["timestamp"].is_sorted()
    assert part.notes == ("first note", "a random 30 of the 100 users (share 0.3, seed 1)")


def test_the_choice_depends_on_the_seed_and_not_on_the_order_of_rows() -> None:
    users = [f"u{i}" for i in range(100)]
    chosen = kept_users(take_users(make_log(users), 0.3))
    assert kept_users(take_users(make_log(users[::-1]), 0.3)) == chosen
    assert kept_users(take_users(make_log(users), 0.3, seed=1)) != chosen


def test_a_tiny_share_keeps_one_user() -> None:
    assert len(kept_users(take_users(make_log(["u", "v"]), 0.001))) == 1
