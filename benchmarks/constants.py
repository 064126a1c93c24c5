"""The constants of the records from which larger logs are computed."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

ROWS, USERS = 10**9, 10**8
MIB, GIB = 2**20, 2**30
Records = Mapping[str, dict[str, Any]]
Sizes = Mapping[str, Mapping[str, Mapping[str, float]]]


@dataclass(frozen=True)
class Memory:
    """Of a stage in the largest log, and what it grew by since the one before."""

    measured: float
    """Bytes."""
    rows: float
    """That the stage handled."""
    users: float
    per_row: float
    """Bytes, if rows alone make it grow; log and users were made to grow together."""
    per_user: float
    """The same for users."""

    def range(self, rows: float, users: float) -> tuple[float, float]:
        """Bytes for so many rows handled and users: the least and the most."""
        both = (
            self.measured + self.per_row * (rows - self.rows),
            self.measured + self.per_user * (users - self.users),
        )
        return min(both), max(both)


@dataclass(frozen=True)
class Measured:
    """The constants of the records."""

    size: int
    """Rows of the largest log."""
    shares: dict[str, float]
    """Rows that a stage handles, of those of the log."""
    row_seconds: dict[str, float]
    """For each row handled, in the largest log."""
    memory: dict[str, Memory]
    train_fixed: float
    """Bytes of training without tables, for a log without rows."""
    train_row: float
    """Bytes for each training row: none where the order of an epoch is computed."""
    disk_row: float
    table_user: dict[str, float]
    """Bytes that an optimizer's tables have for each user, with its state."""
    checkpoint_user: dict[str, float]
    """The same at most, while a checkpoint is written."""
    step_ms: dict[str, tuple[float, float]]
    """A step without users, and what each user adds to it."""
    machine: float
    """Bytes of memory."""

    def stage_rows(self, stage: str, log_rows: float = ROWS) -> float:
        """Rows that a stage handles in a log of so many."""
        return self.shares[stage] * log_rows

    def seconds(self, stage: str) -> float:
        """Of a stage for the billion rows."""
        return self.row_seconds[stage] * self.stage_rows(stage)

    def train_bytes(self, log_rows: float) -> float:
        """Of training, tables apart."""
        return self.train_fixed + self.train_row * self.stage_rows("train", log_rows)

    def stage_bytes(self, stage: str, log_rows: float = ROWS) -> tuple[float, float]:
        """Of a stage: the least and the most."""
        return self.memory[stage].range(self.stage_rows(stage, log_rows), log_rows * (USERS / ROWS))


def is_measured(records: Records) -> bool:
    """Whether all constants are there."""
    if "growth" not in records or "optimizers" not in records:
        return False
    found = records["optimizers"]["outcome"]["optimizers"].values()
    return all("held_anon_mib" in last for by_users in found for last in by_users.values())


def are_of_one_machine(records: Records) -> bool:
    """Whether the constants can be put together; only where all are there."""
    growth, optimizers = (records[part]["machine"] for part in ("growth", "optimizers"))
    return bool(growth["fingerprint"] == optimizers["fingerprint"])


def constants(records: Records) -> Measured:
    """What the records of growth and of the optimizers say."""
    sizes: Sizes = records["growth"]["outcome"]["sizes"]
    *_, before, size = sorted(map(int, sizes))
    large, small = sizes[str(size)], sizes[str(before)]
    users = large["prepare"]["users"], small["prepare"]["users"]
    tables = {
        name: {int(n): found for n, found in by_users.items()}
        for name, by_users in records["optimizers"]["outcome"]["optimizers"].items()
    }
    # Between its sizes nothing but the tables differs.
    table_user = {name: last_slope(of, "held_anon_mib") * MIB for name, of in tables.items()}
    train = large["train"], small["train"]
    table = table_user[str(large["train"]["optimizer"])]
    held = [found["peak_anon_mib"] * MIB - table * n for found, n in zip(train, users, strict=True)]
    train_row = max(held[0] - held[1], 0) / (train[0]["rows"] - train[1]["rows"])
    stages = [s for s in ("prepare", "train", "evaluate", "search") if s in large and s in small]
    # Of a search, for each trial: its own rows are those of all trials.
    handled = {s: "train" if s == "search" else s for s in stages}
    return Measured(
        size=size,
        shares={stage: large[handled[stage]]["rows"] / size for stage in stages},
        row_seconds={stage: large[stage]["microseconds_per_row"] * 1e-6 for stage in stages},
        memory={
            stage: memory_of(
                [found[stage]["peak_anon_mib"] * MIB for found in (large, small)],
                [found[handled[stage]]["rows"] for found in (large, small)],
                users,
            )
            for stage in stages
            if stage != "train"
        },
        train_fixed=held[0] - train_row * train[0]["rows"],
        train_row=train_row,
        disk_row=large["prepare"]["disk_bytes"] / size,
        table_user=table_user,
        checkpoint_user={n: last_slope(of, "peak_anon_mib") * MIB for n, of in tables.items()},
        step_ms={name: step_time(of) for name, of in tables.items()},
        machine=records["growth"]["machine"]["memory_gib"] * GIB,
    )


def last_slope(by_users: Mapping[int, Mapping[str, float]], key: str) -> float:
    """What a user adds, between the two largest numbers of users."""
    *_, few, many = sorted(by_users)
    return (by_users[many][key] - by_users[few][key]) / (many - few)


def step_time(by_users: Mapping[int, Mapping[str, float]]) -> tuple[float, float]:
    """Milliseconds of a step without users, and what each adds, which is not below nothing.

    The line that is least off in all sizes, each time against its own length.
    """
    users, times = (np.array(found) for found in zip(*sorted(_times(by_users)), strict=True))
    each, fixed = np.polyfit(users, times, 1, w=1 / times)
    if each < 0:
        return float(np.average(times, weights=1 / times**2)), 0.0
    return float(fixed), float(each)


def _times(by_users: Mapping[int, Mapping[str, float]]) -> list[tuple[float, float]]:
    return [(float(users), found["step_ms"]) for users, found in by_users.items()]


def memory_of(held: Sequence[float], rows: Sequence[float], users: Sequence[float]) -> Memory:
    """Of a stage.

    Args:
        held: bytes in the largest log, and in the one before.
        rows: that the stage handled in each.
        users: of each.
    """
    grown = max(held[0] - held[1], 0)
    return Memory(
        measured=held[0],
        rows=rows[0],
        users=users[0],
        per_row=grown / (rows[0] - rows[1]),
        per_user=grown / (users[0] - users[1]),
    )
