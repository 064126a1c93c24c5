"""What a log of a billion rows would need, and where one machine ends, from what was measured."""

import math
from collections.abc import Callable
from typing import NamedTuple

from benchmarks.constants import (
    GIB,
    MIB,
    ROWS,
    USERS,
    Measured,
    Records,
    are_of_one_machine,
    constants,
    is_measured,
)

HOUR, DAY = 3600, 86_400
SHARE = USERS / ROWS
NOT_RUN = "*Not run.*"
TWO_MACHINES = "*Not computed: `growth` and `optimizers` are of two machines.*"


class End(NamedTuple):
    """How far one machine goes in some respect, and what takes over there."""

    rows: float
    """Of a log that has so many rows for each user as the one of a billion."""
    what: str
    why: str
    then: str
    of_users: bool = False
    """Whether users are what counts."""


def extrapolation(records: Records) -> str:
    """Time, memory and disk of 10^9 rows and 10^8 users, in Markdown."""
    reason = why_not(records)
    if reason is not None:
        return reason
    found = constants(records)
    assumed = (
        f"Assumed: a row takes as long as in the largest log measured ({found.size:,} rows); "
        f"{found.shares['train']:.0%} of the rows are for training and "
        f"{found.shares['evaluate']:.0%} for the test, as there; memory goes on growing as it did "
        "between the two largest logs, in which rows and users grow together, so that a range is "
        "given where either may be why; several machines do not wait for each other. Training's "
        "memory is without evaluations, which that of a search has."
    )
    return f"{markdown(['what', 'needs', 'from'], needs(found))}\n\n{assumed}"


def why_not(records: Records) -> str | None:
    """Why nothing is computed; None if it can be."""
    if not is_measured(records):
        return NOT_RUN
    return None if are_of_one_machine(records) else TWO_MACHINES


def limits(records: Records) -> str:
    """How far one machine goes and what takes over there, in Markdown."""
    reason = why_not(records)
    if reason is not None:
        return reason
    machine = records["growth"]["machine"]
    head = ["what ends", f"with {machine['cores']} cores and {machine['memory_gib']} GiB"]
    return markdown([*head, "from", "what takes over"], ends(constants(records)))


def needs(found: Measured) -> list[list[str]]:
    """What 10^9 rows and 10^8 users need, and where each number comes from."""
    rows = [
        ["prepare", hours(found.seconds("prepare")), per_row(found, "prepare")],
        stage_memory(found, "prepare"),
        ["dataset on disk", gib(found.disk_row * ROWS), f"{found.disk_row:.0f} B a row"],
        ["train an epoch of DIN + AQCL", hours(found.seconds("train")), per_row(found, "train")],
        [
            "machines for that epoch in an hour",
            str(math.ceil(found.seconds("train") / HOUR)),
            "the epoch's time",
        ],
        [
            "memory to train, tables apart",
            gib(found.train_bytes(ROWS)),
            f"{found.train_fixed / MIB:,.0f} MiB, and {found.train_row:.1f} B a training row",
        ],
    ]
    for name in found.table_user:
        rows += table_needs(found, name)
    if "search" in found.row_seconds:
        trial, trials = found.seconds("search"), default_trials()
        how = per_row(found, "search")
        rows.append(["a trial of a search, an epoch each", hours(trial), how])
        rows.append(stage_memory(found, "search"))
        count = str(math.ceil(trials * trial / DAY))
        rows.append([f"machines for {trials} trials in a day", count, "the trial's time"])
    rows.append(["evaluate", hours(found.seconds("evaluate")), per_row(found, "evaluate")])
    return [*rows, stage_memory(found, "evaluate")]


def table_needs(found: Measured, name: str) -> list[list[str]]:
    """What the tables of the users need under an optimizer."""
    each, at_most = found.table_user[name], found.checkpoint_user[name]
    in_all = found.train_bytes(ROWS) + at_most * USERS
    first, added = found.step_ms[name]
    return [
        [f"user table, `{name}`", gib(each * USERS), f"{each:.0f} B a user"],
        [
            f"memory to train in all, `{name}`",
            gib(in_all),
            f"{at_most:.0f} B a user while a checkpoint is written",
        ],
        [
            f"machines for that memory, `{name}`",
            str(math.ceil(in_all / found.machine)),
            "the same, tables sharded",
        ],
        [
            f"a step of DIN, `{name}`",
            f"{first + added * USERS:,.0f} ms",
            f"{first:.1f} ms, and {added * 1e6:.1f} ns a user",
        ],
    ]


def stage_memory(found: Measured, stage: str) -> list[str]:
    """The memory of a stage: from what grew by rows to what grew by users, or the reverse."""
    memory, (low, high) = found.memory[stage], found.stage_bytes(stage)
    return [
        f"memory to {stage}",
        f"{low / GIB:.1f} to {gib(high)}",
        f"{memory.measured / MIB:,.0f} MiB at {about(memory.rows)} rows and "
        f"{about(memory.users)} users; grew by {memory.per_row:.1f} B a row or "
        f"{memory.per_user:.0f} B a user",
    ]


def ends(found: Measured) -> list[list[str]]:
    """Where one machine ends, the nearest first: rows of a log of 10 rows a user, or users."""
    found_ends = [*ends_of_memory(found), *ends_of_time(found)]
    found_ends.sort(key=lambda end: end.rows)
    return [
        [
            end.what,
            f"{about(end.rows * (SHARE if end.of_users else 1))} "
            f"{'users' if end.of_users else 'rows'}",
            end.why,
            end.then,
        ]
        for end in found_ends
    ]


def ends_of_memory(found: Measured) -> list[End]:
    """What no longer fits."""

    def tables_end(name: str) -> float:
        each = found.checkpoint_user[name] * SHARE
        return most_rows(lambda n: found.train_bytes(n) + each * n, found.machine)

    smallest = found.table_user["rowwise_adagrad"] * SHARE
    mapped = most_rows(
        lambda n: found.train_bytes(n) + (found.disk_row + smallest) * n, found.machine
    )
    prepare = most_rows(lambda n: found.stage_bytes("prepare", n)[1], found.machine)
    evaluate = most_rows(lambda n: found.stage_bytes("evaluate", n)[1], found.machine)
    return [
        End(
            tables_end("lazy_adam"),
            "tables of `lazy_adam`",
            "memory, with a checkpoint",
            "`rowwise_adagrad`",
            of_users=True,
        ),
        End(
            tables_end("rowwise_adagrad"),
            "tables of `rowwise_adagrad`",
            "memory, with a checkpoint",
            "TorchRec, which shards them over machines; this is its usual optimizer",
            of_users=True,
        ),
        End(
            mapped,
            "the dataset in memory beside training",
            "size on disk, memory with `rowwise_adagrad`",
            "the disk, a fast one, as a batch is random rows of mapped files; or a range of users "
            "for each machine",
        ),
        End(
            prepare,
            "`prepare` (polars, streaming)",
            "memory, the larger figure",
            "a cluster's own engine up to a Parquet log by user ranges, then `prepare` for each",
        ),
        End(
            evaluate,
            "`evaluate`",
            "memory, the larger figure",
            "a machine with more memory, for the tables of users and what is counted of each",
        ),
    ]


def ends_of_time(found: Measured) -> list[End]:
    """What takes too long."""
    (dense, dense_user), (lazy, lazy_user) = found.step_ms["adam"], found.step_ms["lazy_adam"]
    slower_by = dense_user - 2 * lazy_user
    twice = max(2 * lazy - dense, 0) / slower_by if slower_by > 0 else math.inf
    epoch = found.row_seconds["train"] * found.shares["train"]
    found_ends = [
        End(
            twice / SHARE,
            "a step of `adam` within twice that of `lazy_adam`",
            "its time with more users",
            "`lazy_adam` or `rowwise_adagrad` on the same machine: other methods, see above",
            of_users=True,
        ),
        End(
            DAY / epoch,
            "an epoch in a day",
            "its time a row",
            "PyTorch distributed under `torchrun`, or a GPU with `runtime.device`",
        ),
    ]
    if "search" in found.row_seconds:
        trials = default_trials()
        found_ends.append(
            End(
                DAY / (trials * found.row_seconds["search"] * found.shares["search"]),
                f"{trials} trials of a search in a day, an epoch each",
                "their time a row",
                "`aqcl search` with more workers on a shared disk",
            )
        )
    return found_ends


def most_rows(bytes_of: Callable[[float], float], available: float) -> float:
    """Rows at which a straight line of bytes reaches what is there."""
    fixed = bytes_of(0)
    per_row = (bytes_of(ROWS) - fixed) / ROWS
    return (available - fixed) / per_row if per_row > 0 else math.inf


def default_trials() -> int:
    """Trials of a search where nothing else is said."""
    from aqcl.search.space import SearchOptions

    return SearchOptions().trials


def markdown(head: list[str], rows: list[list[str]]) -> str:
    """A table."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def per_row(found: Measured, stage: str) -> str:
    """Where the time of a stage comes from."""
    return f"{found.row_seconds[stage] * 1e6:.2f} µs for each of {about(found.stage_rows(stage))}"


def hours(seconds: float) -> str:
    """In hours."""
    return f"{seconds / HOUR:.1f} h"


def gib(size: float) -> str:
    """In GiB."""
    return f"{size / GIB:.1f} GiB"


def about(number: float) -> str:
    """Two digits that count."""
    if not 0 < number < math.inf:
        return "any number of" if number else "0"
    return f"{round(number, 1 - math.floor(math.log10(number))):,.0f}"
