"""What a log of a billion rows would need, from the constants that were measured."""

from collections.abc import Mapping
from typing import Any

ROWS, USERS = 10**9, 10**8
FLOAT_BYTES, DIM = 4, 16
ADAM_COPIES, ROWWISE_EXTRA = 3, 1
"""Weights and two moments for each; or weights, and one number a row."""
GIB = 2**30
SECONDS_IN_AN_HOUR = 3600
NOT_RUN = "*Not run.*"


def extrapolation(records: Mapping[str, dict[str, Any]]) -> str:
    """Time, memory and disk of 10^9 rows and 10^8 users, in Markdown."""
    if "growth" not in records:
        return NOT_RUN
    sizes = records["growth"]["outcome"]["sizes"]
    largest = sizes[max(sizes, key=int)]
    rows = [[what, amount, how] for what, amount, how in needs(largest, max(map(int, sizes)))]
    lines = [["what", "needs", "from"], ["---"] * 3, *rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def needs(measured: Mapping[str, Mapping[str, float]], size: int) -> list[tuple[str, str, str]]:
    """Each need with where its constant comes from.

    Args:
        measured: the stages of the largest log that was measured.
        size: its rows.
    """
    found = []
    for stage in ("prepare", "train", "evaluate"):
        per_row = measured[stage]["microseconds_per_row"]
        hours = per_row * 1e-6 * ROWS / SECONDS_IN_AN_HOUR
        what = {"train": "train an epoch of DIN + AQCL", "evaluate": "evaluate as many rows"}
        found.append(
            (what.get(stage, stage), f"{hours:.1f} h", f"{per_row:.2f} µs a row at {size:,} rows")
        )
    per_row = measured["prepare"]["disk_bytes"] / size
    found.append(("dataset on disk", f"{per_row * ROWS / GIB:.0f} GiB", f"{per_row:.0f} B a row"))
    table = USERS * DIM * FLOAT_BYTES
    for name, total in {
        "user table, `lazy_adam`": table * ADAM_COPIES,
        "user table, `rowwise_adagrad`": table + USERS * ROWWISE_EXTRA * FLOAT_BYTES,
    }.items():
        how = f"{total / USERS:.0f} B a user of width {DIM}"
        found.append((name, f"{total / GIB:.1f} GiB", how))
    return found
