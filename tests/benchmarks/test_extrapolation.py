"""What larger logs need follows from the constants of the records, and from nothing else."""

import copy
from typing import Any

import pytest
from benchmarks import constants, extrapolation
from benchmarks.constants import GIB, MIB

TABLE = {"adam": 256.0, "lazy_adam": 192.0, "rowwise_adagrad": 68.0}
"""Bytes a user; twice as many at a checkpoint."""
ADDED_MS = {"adam": 4e-6, "lazy_adam": 0.0, "rowwise_adagrad": 0.0}
FEW, MANY = 10**6, 10**7
FIXED, ORDER = 300 * MIB, 4
"""Bytes of training: once, and for each row of the order."""


def growth() -> dict[str, Any]:
    """Two logs with ten rows a user, half of them for training and a tenth for the test."""
    sizes = {}
    for rows in (FEW, MANY):
        users = rows // 10
        held = FIXED + ORDER * rows // 2 + TABLE["lazy_adam"] * users
        sizes[str(rows)] = {
            "prepare": {
                "rows": rows,
                "users": users,
                "microseconds_per_row": 0.36,
                "disk_bytes": 32 * rows,
                "peak_anon_mib": 100 + 8 * rows / MIB,
            },
            "train": {
                "rows": rows // 2,
                "microseconds_per_row": 36.0,
                "peak_anon_mib": held / MIB,
                "optimizer": "lazy_adam",
            },
            "evaluate": {
                "rows": rows // 10,
                "microseconds_per_row": 7.2,
                "peak_anon_mib": 200 + 40 * rows / 10 / MIB,
            },
        }
    return sizes


def optimizers() -> dict[str, Any]:
    return {
        name: {
            str(users): {
                "step_ms": 20 + ADDED_MS[name] * (users - FEW),
                "held_anon_mib": 300 + each * users / MIB,
                "peak_anon_mib": 300 + 2 * each * users / MIB,
            }
            for users in (FEW, MANY)
        }
        for name, each in TABLE.items()
    }


MACHINE = {"memory_gib": 24, "cores": 2, "fingerprint": "abc"}
RECORDS: dict[str, Any] = {
    "growth": {"machine": MACHINE, "outcome": {"sizes": growth()}},
    "optimizers": {"machine": {**MACHINE}, "outcome": {"optimizers": optimizers()}},
}


def needs(records: dict[str, Any]) -> dict[str, str]:
    rows = extrapolation.needs(constants.constants(records))
    return {what: amount for what, amount, _ in rows}


def with_search(microseconds: float) -> dict[str, Any]:
    records = copy.deepcopy(RECORDS)
    for rows, stages in records["growth"]["outcome"]["sizes"].items():
        stages["search"] = {
            "rows": 2 * stages["train"]["rows"],
            "microseconds_per_row": microseconds,
            "peak_anon_mib": 400 + 20 * int(rows) / 2 / MIB,
        }
    return records


def test_what_made_the_memory_grow_is_taken_apart() -> None:
    found = constants.constants(RECORDS)

    assert found.train_fixed == pytest.approx(FIXED)
    assert found.train_row == pytest.approx(ORDER)
    assert found.table_user == pytest.approx(TABLE)
    assert found.checkpoint_user == pytest.approx({name: 2 * n for name, n in TABLE.items()})
    assert found.memory["evaluate"].per_row == pytest.approx(40)
    assert found.memory["evaluate"].per_user == pytest.approx(40)  # a test row a user


def test_time_is_that_of_the_rows_that_a_stage_handles() -> None:
    found = needs(RECORDS)

    assert found["prepare"] == "0.1 h"
    assert found["train an epoch of DIN + AQCL"] == "5.0 h"  # half of them
    assert found["machines for that epoch in an hour"] == "5"
    assert found["evaluate"] == "0.2 h"
    assert found["a step of DIN, `adam`"] == "416 ms"  # 16, and 4 ns a user
    assert found["a step of DIN, `lazy_adam`"] == "20 ms"


def test_memory_is_that_of_rows_and_users() -> None:
    found = needs(RECORDS)
    apart = FIXED + ORDER * 5 * 10**8

    assert found["dataset on disk"] == f"{32e9 / GIB:.1f} GiB"
    assert found["memory to train, tables apart"] == f"{apart / GIB:.1f} GiB"
    assert found["user table, `lazy_adam`"] == f"{19.2e9 / GIB:.1f} GiB"
    in_all = (apart + 38.4e9) / GIB
    assert found["memory to train in all, `lazy_adam`"] == f"{in_all:.1f} GiB"
    assert found["machines for that memory, `lazy_adam`"] == str(int(in_all // 24 + 1))
    assert found["machines for that memory, `rowwise_adagrad`"] == "1"


def test_memory_is_a_range_where_rows_or_users_may_be_why() -> None:
    records = copy.deepcopy(RECORDS)
    for rows, stages in records["growth"]["outcome"]["sizes"].items():
        stages["prepare"]["users"] = int(rows) // 100
    low, high = constants.constants(records).stage_bytes("prepare")

    assert low == pytest.approx(100 * MIB + 8 * 10**9)
    # 800 bytes for each user, who has ten times fewer rows in the billion.
    assert high == pytest.approx(100 * MIB + 800 * 10**8)


def test_a_search_is_told_where_it_was_measured() -> None:
    assert not any("trial" in what for what in needs(RECORDS))

    found = needs(with_search(72.0))
    assert found["a trial of a search, an epoch each"] == "10.0 h"
    assert found["machines for 24 trials in a day"] == "10"
    held = (400 * MIB + 20 * 5 * 10**8) / GIB
    assert found["memory to search"] == f"{held:.1f} to {held:.1f} GiB"


def test_each_end_names_what_takes_over_the_nearest_first() -> None:
    found = constants.constants(with_search(72.0))
    ends = extrapolation.ends(found)
    reach = {what: amount for what, amount, *_ in ends}

    # From 16 to 40 ms at 4 ns a user.
    assert reach["a step of `adam` within twice that of `lazy_adam`"] == "6,000,000 users"
    per_user = 2 * TABLE["rowwise_adagrad"] + ORDER * 5
    users = (24 * GIB - FIXED) / per_user
    assert reach["tables of `rowwise_adagrad`"] == f"{extrapolation.about(users)} users"
    assert reach["an epoch in a day"] == "4,800,000,000 rows"
    assert reach["24 trials of a search in a day, an epoch each"] == "100,000,000 rows"
    rows = [
        float(amount.split()[0].replace(",", "")) * (10 if amount.endswith("users") else 1)
        for amount in reach.values()
    ]
    assert rows == sorted(rows)
    assert all(takes_over for *_, takes_over in ends)


def test_nothing_is_told_without_the_constants() -> None:
    without = copy.deepcopy(RECORDS)
    del without["optimizers"]["outcome"]["optimizers"]["adam"][str(FEW)]["held_anon_mib"]

    for records in ({}, {"growth": RECORDS["growth"]}, without):
        assert extrapolation.extrapolation(records) == extrapolation.NOT_RUN
        assert extrapolation.limits(records) == extrapolation.NOT_RUN
    assert "as long as in the largest log" in extrapolation.extrapolation(RECORDS)
    assert "with 2 cores and 24 GiB" in extrapolation.limits(RECORDS)


def test_constants_of_two_machines_are_not_put_together() -> None:
    records = copy.deepcopy(RECORDS)
    records["optimizers"]["machine"]["fingerprint"] = "xyz"

    assert extrapolation.extrapolation(records) == extrapolation.TWO_MACHINES
    assert extrapolation.limits(records) == extrapolation.TWO_MACHINES


def test_the_line_of_step_times_is_the_one_that_is_least_off() -> None:
    def line(*step_ms: float) -> tuple[float, float]:
        users = (10**5, 10**6, 10**7)
        return constants.step_time(
            {n: {"step_ms": ms} for n, ms in zip(users, step_ms, strict=True)}
        )

    assert line(20.4, 24, 60) == pytest.approx((20, 4e-6))
    # No line is exact: each time counts by its own length.
    fixed, each = line(44, 32, 43)
    offs = [(fixed + each * users) / ms - 1 for users, ms in ((1e5, 44), (1e6, 32), (1e7, 43))]
    assert sum(offs_ / ms for offs_, ms in zip(offs, (44, 32, 43), strict=True)) == pytest.approx(0)
    fixed, each = line(44, 40, 30)
    assert 32 < fixed < 40
    assert each == 0


def test_two_digits_count() -> None:
    assert extrapolation.about(123_456) == "120,000"
    assert extrapolation.about(9.96) == "10"
    assert extrapolation.about(float("inf")) == "any number of"
