"""Oncold, simulated: a young recommendation feed, in place of the paper's private log.

NOTE[DIFF]: the paper's Oncold log is not public, so results on this source are simulated.

Each user has a few latent interests and each item belongs to one. A click depends on how much
of the user's interest is the item's, on the item's appeal, the user's temper, the position on
the page, and noise. Users arrive over the months and most of them see little.
"""

import logging
from functools import partial
from pathlib import Path
from typing import Annotated

import polars as pl
import pydantic

from aqcl.cache import cache_directory, whole_file
from aqcl.click_log import ClickLog
from aqcl.config import as_values, settings
from aqcl.errors import ConfigError
from aqcl.feed import FeedSize, World, make_world, simulate
from aqcl.schema import Field
from aqcl.storage import fingerprint
from aqcl.workers import N_THREADS, in_order

logger = logging.getLogger(__name__)

CITATION = "simulated after arXiv 2109.13921, section 5.1"
FIELDS = (
    Field("age_group", "categorical", "user"),
    Field("category", "categorical", "item"),
    Field("position", "categorical", "context"),
)
VERSION = 1
"""Of the simulator: another one makes another log of the same settings."""
CHUNK_ROWS = 1_000_000
"""About as many rows are simulated at once; like the seed, it is part of what is made."""

_PARALLEL_ROWS = 4_000_000
"""Logs of fewer are made by one thread, chunk after chunk: a second one is not worth its memory."""

Count = Annotated[int, pydantic.Field(ge=1)]


@settings
class OncoldSettings:
    """How large a log to simulate.

    The paper's has 908,400 users, 21,078 items and 53,754,238 samples.
    """

    users: Count = 20_000
    """Users, each with at least one sample."""
    items: Count = 2_000
    """Items of the feed."""
    samples: Count = 400_000
    """Impressions, clicked or not."""
    days: Annotated[int, pydantic.Field(ge=4)] = 92
    """Days from 1 May 2021 (UTC)."""
    n_interests: Annotated[int, pydantic.Field(ge=2)] = 24
    """Latent interests that the items are divided into."""
    ctr: Annotated[float, pydantic.Field(ge=0.01, le=0.9)] = 0.2
    """Expected part of the impressions that are clicked."""
    seed: Annotated[int, pydantic.Field(ge=0)] = 0
    """Of everything random: the same seed and sizes give the same log."""
    cache: str | None = None
    """Directory of simulated logs; by default that of AQCL_CACHE, else `~/.cache/aqcl`."""


def open_oncold(settings: OncoldSettings) -> ClickLog:
    """Simulate the log, or find it in the cache, whole or in part.

    Raises:
        ConfigError: fewer samples than users, or fewer items than interests.
    """
    _check(settings)
    made_of = {**as_values(settings), "version": VERSION, "chunk_rows": CHUNK_ROWS}
    made_of.pop("cache", None)
    size = FeedSize(
        settings.users, settings.items, settings.samples, settings.days, settings.n_interests
    )
    folder = cache_directory(settings.cache) / "oncold" / fingerprint(made_of)[:16]
    world = make_world(size, settings.ctr, settings.seed)
    chunks = world.chunks(CHUNK_ROWS)
    threads = N_THREADS if settings.samples >= _PARALLEL_ROWS else 1
    parts = list(in_order(partial(_part, world, folder), enumerate(chunks), threads))
    return ClickLog(
        name="oncold (simulated)",
        rows=pl.scan_parquet([rows for rows, _ in parts], glob=False),
        time_unit="second",
        fields=FIELDS,
        users=pl.read_parquet([users for _, users in parts], glob=False),
        items=world.item_table(),
        simulated=True,
        protocol={
            "split": {
                "kind": "last-days",
                "days": min(20, settings.days // 4 * 2),
                "ties": "exclude",
            }
        },
        notes=("simulated: the paper's Oncold log is not public",),
    )


def oncold_files(_settings: OncoldSettings) -> list[Path]:
    """None: the settings say all."""
    return []


def _check(settings: OncoldSettings) -> None:
    problems = []
    if settings.samples < settings.users:
        problems.append(
            f"source.samples: expected at least source.users = {settings.users:,}, as each user "
            f"has a sample, got {settings.samples:,}"
        )
    if settings.items < settings.n_interests:
        problems.append(
            f"source.items: expected at least source.n_interests = {settings.n_interests}, as "
            f"each interest has an item, got {settings.items}"
        )
    if problems:
        raise ConfigError("\n".join(problems))


def _part(world: World, folder: Path, numbered: tuple[int, range]) -> tuple[Path, Path]:
    """The files of rows and users of one chunk, made unless they are there."""
    number, chunk = numbered
    rows = folder / f"rows-{number:05d}.parquet"
    users = folder / f"users-{number:05d}.parquet"
    if _n_rows(rows) == world.n_rows(chunk) and _n_rows(users) == len(chunk):
        return rows, users
    logger.info("simulating users %d to %d into %s", chunk.start, chunk.stop - 1, rows)
    impressions = simulate(world, chunk, number)
    for path, frame in ((rows, impressions.rows()), (users, impressions.users())):
        with whole_file(path) as temporary:
            frame.write_parquet(temporary)
    return rows, users


def _n_rows(path: Path) -> int:
    """Rows of a Parquet file, -1 if there is none or it is damaged."""
    try:
        return int(pl.scan_parquet(path, glob=False).select(pl.len()).collect().item())
    except (OSError, pl.exceptions.PolarsError):
        return -1
