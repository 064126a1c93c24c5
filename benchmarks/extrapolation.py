"""What a log of a billion rows would need, from the constants that were measured."""

import math
from collections.abc import Mapping
from typing import Any

ROWS, USERS = 10**9, 10**8
FLOAT_BYTES, DIM = 4, 16
ADAM_COPIES, ROWWISE_EXTRA = 3, 1
"""Weights and two moments for each; or weights, and one number a row."""
MIB, GIB = 2**20, 2**30
SECONDS_IN_AN_HOUR = 3600
NOT_RUN = "*Not run.*"


def extrapolation(records: Mapping[str, dict[str, Any]]) -> str:
    """Time, memory and disk of 10^9 rows and 10^8 users, in Markdown."""
    if "growth" not in records:
        return NOT_RUN
    sizes = records["growth"]["outcome"]["sizes"]
    rows = [list(need) for need in needs(sizes)]
    lines = [["what", "needs", "from"], ["---"] * 3, *rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def needs(sizes: Mapping[str, Mapping[str, Mapping[str, float]]]) -> list[tuple[str, str, str]]:
    """Each need with where its constant comes from.

    Args:
        sizes: the stages of each log that was measured, by its rows.
    """
    *_, before, size = sorted(map(int, sizes))
    measured, smaller = sizes[str(size)], sizes[str(before)]
    found = []
    for stage in ("prepare", "train", "evaluate"):
        per_row = measured[stage]["microseconds_per_row"]
        hours = per_row * 1e-6 * ROWS / SECONDS_IN_AN_HOUR
        what = {"train": "train an epoch of DIN + AQCL", "evaluate": "evaluate as many rows"}
        found.append(
            (what.get(stage, stage), f"{hours:.1f} h", f"{per_row:.2f} µs a row at {size:,} rows")
        )
        if stage == "train":
            machines = f"{max(math.ceil(hours), 1)}"
            found.append(
                ("machines for that epoch in an hour", machines, "if none waits for others")
            )
    per_row = measured["prepare"]["disk_bytes"] / size
    found.append(("dataset on disk", f"{per_row * ROWS / GIB:.0f} GiB", f"{per_row:.0f} B a row"))
    return found + _memory(measured, smaller, size)


def _memory(
    measured: Mapping[str, Mapping[str, float]],
    smaller: Mapping[str, Mapping[str, float]],
    size: int,
) -> list[tuple[str, str, str]]:
    """What each stage holds, by how it grew between the two largest logs; and the user table."""
    found = []
    for stage in ("prepare", "evaluate"):
        # Per row that the stage handles: the whole log, or the test rows.
        rows = measured[stage]["rows"] - smaller[stage]["rows"]
        now = measured[stage]["peak_anon_mib"]
        per_row = max(now - smaller[stage]["peak_anon_mib"], 0) * MIB / rows
        total = now * MIB + per_row * (ROWS - measured[stage]["rows"])
        how = f"{now:,.0f} MiB at {size:,} rows, and {per_row:.1f} B for each further row"
        found.append((f"memory to {stage}", f"{total / GIB:.1f} GiB", how))
    held = measured["train"]["peak_anon_mib"] * MIB
    how = f"at {size:,} rows; the same at all sizes but for the tables"
    found.append(("memory to train, tables apart", f"{held / GIB:.1f} GiB", how))
    table = USERS * DIM * FLOAT_BYTES
    for name, total in {
        "user table, `lazy_adam`": table * ADAM_COPIES,
        "user table, `rowwise_adagrad`": table + USERS * ROWWISE_EXTRA * FLOAT_BYTES,
    }.items():
        how = f"{total / USERS:.0f} B a user of width {DIM}"
        found.append((name, f"{total / GIB:.1f} GiB", how))
    return found
