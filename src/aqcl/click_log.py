"""A normalised click log: what every data source yields and `prepare` reads."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import polars as pl

from aqcl.schema import Field
from aqcl.streams import numpy_stream

TimeUnit = Literal["position", "day", "second"]

BELOW_SECOND = "__below_second__"
"""An optional column of rows, Int64: the order within one timestamp, before that of the file."""


@dataclass(frozen=True)
class ClickLog:
    """One row per click, or per impression when there is a `label`.

    `rows` has the columns
      - `user`, `item`: Int64 or String, no nulls;
      - `timestamp`: Int64, in `time_unit`, no nulls;
      - `label` (optional): Int8, 0 or 1; without it every row is a click and `prepare` draws
        the negatives;
      - one column for each field of side `context`.
    Row order is the file's order and breaks ties of `timestamp` where a protocol asks for it;
    where times finer than `time_unit` are known, a column `BELOW_SECOND` comes before it.
    `users` and `items` hold one row per entity (column `user` or `item`, as in `rows`) and a
    column for each field of that side: String for `categorical`, List(String) for
    `categories`, Float64 for `numeric`; null means unknown. They may lack entities of `rows`.
    Where these columns stand in the rows, and may change there, `described` has them instead:
    `user`, `item`, `timestamp`, `BELOW_SECOND` where `rows` have it, and the fields of both sides,
    row by row in file order. `prepare` then takes the value of each entity from its training rows.
    """

    name: str
    rows: pl.LazyFrame
    time_unit: TimeUnit
    fields: tuple[Field, ...] = ()
    users: pl.DataFrame | None = None
    items: pl.DataFrame | None = None
    described: pl.LazyFrame | None = None
    simulated: bool = False
    protocol: dict[str, Any] = field(default_factory=dict)
    """Settings of `prepare` that suit this source where the user gave none, as nested values."""
    suited_split: Callable[[int, int], dict[str, Any]] | None = None
    """The `split` of `protocol` for rows from a first to a last timestamp, where it depends on
    them and `split.until` leaves some out."""
    notes: tuple[str, ...] = ()
    """Facts for the reader of a result, such as rows left out and why."""


def take_users(log: ClickLog, share: float, seed: int = 0) -> ClickLog:
    """The clicks of a random share of the users, with a note that says so.

    Args:
        log: a click log.
        share: part of the users to keep, above 0; 1 keeps the log as it is.
        seed: of the choice, which does not depend on the order of the rows.
    """
    if share >= 1:
        return log
    users = log.rows.select(pl.col("user").unique().sort()).collect()["user"]
    count = max(round(share * len(users)), 1)
    chosen = numpy_stream(seed, "subset").choice(len(users), count, replace=False)
    kept = users.gather(chosen).implode()
    note = f"a random {count:,} of the {len(users):,} users (share {share:g}, seed {seed})"
    of_kept = pl.col("user").is_in(kept)
    described = None if log.described is None else log.described.filter(of_kept)
    return replace(
        log, rows=log.rows.filter(of_kept), described=described, notes=(*log.notes, note)
    )
