"""The data that parts measure on: a dataset directory that is given, or one like Amazon Beauty."""

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from aqcl.click_log import ClickLog

VARIABLE = "AQCL_BENCH_DATASET"
"""Environment variable with a dataset directory, such as `aqcl prepare` writes."""
USERS, ITEMS, INTERESTS = 22_363, 12_101, 50
LEAST_CLICKS = 5
CLICKS_MU, CLICKS_SIGMA = 0.49, 1.34
"""Logarithm of the clicks beyond the fewest: about 200,000 clicks, mean history about 8."""
OWN_INTEREST = 0.7
"""Share of a user's clicks that fall on the user's interest."""
SEED = 20
VERSION = 1
"""Of the log that is made; another one has another fingerprint."""


def dataset(work: Path) -> Path:
    """The directory that the environment names, or the made one, which is kept under `work`."""
    if os.environ.get(VARIABLE):
        return Path(os.environ[VARIABLE]).resolve()
    from aqcl.prepare import Origin, merge_protocol, prepare
    from aqcl.storage import fingerprint

    made_of = {"users": USERS, "items": ITEMS, "seed": SEED, "version": VERSION}
    log = made_log()
    origin = Origin(fingerprint(made_of), {"name": "benchmarks/data.py", **made_of})
    out = work / f"like-beauty-{VERSION}"
    return prepare(log, merge_protocol(log, {}), out, origin=origin)


def made_log() -> "ClickLog":
    """Users with one interest each click items of it and popular ones, as many as in Beauty."""
    import polars as pl

    from aqcl.click_log import ClickLog

    random = np.random.default_rng(SEED)
    extra = random.lognormal(CLICKS_MU, CLICKS_SIGMA, USERS)
    counts = LEAST_CLICKS + np.minimum(extra, 300).round().astype(np.int64)
    user = np.repeat(np.arange(USERS), counts)
    position = np.arange(len(user)) - np.repeat(np.cumsum(counts) - counts, counts)
    # Items are ranks of popularity, falling a little less than Zipf's law; interests alternate.
    popularity = 1 / np.arange(10, ITEMS + 10) ** 0.7
    anything = random.choice(ITEMS, len(user), p=popularity / popularity.sum())
    interest = random.integers(0, INTERESTS, USERS)[user]
    own = anything // INTERESTS * INTERESTS + interest
    item = np.where((random.random(len(user)) < OWN_INTEREST) & (own < ITEMS), own, anything)
    rows = pl.DataFrame({"user": user, "item": item, "timestamp": position})
    return ClickLog("like Beauty (made)", rows.lazy(), "position", simulated=True)


def described(path: Path) -> dict[str, Any]:
    """What a figure on a dataset must name."""
    from aqcl.dataset import open_dataset

    opened = open_dataset(path)
    return {
        "name": opened.name,
        "fingerprint": opened.manifest.fingerprint[:12],
        "rows": len(opened.train),
        "users": opened.schema.n_users,
        "items": opened.schema.n_items,
        "mean_history": round(float(opened.train.columns["history_length"].mean()), 2),
    }
