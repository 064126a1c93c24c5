"""The simulator behind the Oncold source: users, items and who clicks what, in NumPy."""

import itertools
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import polars as pl
from scipy.special import expit

from aqcl.streams import derive_seed

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

START = 1_619_827_200
"""1 May 2021, 00:00 UTC, in seconds."""
N_POSITIONS = 10
N_AGE_GROUPS = 6

_ACTIVITY_SPREAD = 1.1
"""Standard deviation of log activity: the most active tenth sees almost half of everything."""
_INTEREST_CONCENTRATION = 0.06
"""Of the Dirichlet over interests: small, so a user has about one to three of them."""
_POPULARITY_EXPONENT = 0.8
"""Of the Zipf law of how often an item is shown."""
_AFFINITY = 3.0
"""Logit between an item of the user's only interest and one of no interest."""
_APPEAL_SPREAD = 0.45
_TEMPER_SPREAD = 0.25
_NOISE_SPREAD = 0.3
_POSITION_DECAY = 0.3
_EARLINESS = 1.5
"""Arrival is this power of a uniform number: above 1, more users arrive early than late."""
_PERSONAL_PART = 0.35
"""Of the impressions, those that the feed picks by the user's interests."""
_TRUE_CATEGORY_PART = 0.85
_TRUE_AGE_PART = 0.5
_PILOT_ROWS = 50_000
_PILOT_USERS = 2_000
_HOURS = np.array([3, 2, 1, 1, 1, 2, 3, 4, 5, 5, 5, 5, 6, 6, 5, 5, 5, 5, 6, 7, 8, 8, 7, 5.0])


@dataclass(frozen=True)
class FeedSize:
    """How much there is of what."""

    n_users: int
    n_items: int
    n_samples: int
    n_days: int
    n_interests: int


@dataclass(frozen=True)
class World:
    """What all chunks share. Items are ordered by interest inside; `item_ids` hides that."""

    size: FeedSize
    seed: int
    arrival: Floats
    """When each user arrives, in days from the start."""
    bounds: Ints
    """The samples of user u (from 0) are bounds[u]:bounds[u+1]."""
    item_ids: Ints
    interest: Ints
    """Of each item, ascending."""
    category: Ints
    """Of each item: mostly its interest."""
    appeal: Floats
    shown: Floats
    """Cumulative probability that the feed shows each item."""
    interest_age: Ints
    """The age group that each interest is typical of."""
    bias: float
    """Logit that makes the expected click-through rate what was asked."""

    def chunks(self, n_rows: int) -> list[range]:
        """Ranges of users with about `n_rows` samples each."""
        n_chunks = -(-self.size.n_samples // n_rows)
        wanted = np.arange(1, n_chunks) * n_rows
        cuts = np.unique([0, *np.searchsorted(self.bounds, wanted), self.size.n_users])
        return [range(int(a), int(b)) for a, b in itertools.pairwise(cuts)]

    def n_rows(self, users: range) -> int:
        """Samples of a range of users."""
        return int(self.bounds[users.stop] - self.bounds[users.start])

    def item_table(self) -> pl.DataFrame:
        """Item ids and categories."""
        table = pl.DataFrame({"item": self.item_ids, "category": _named("c", self.category)})
        return table.sort("item")


@dataclass(frozen=True)
class Impressions:
    """The samples of a range of users, by user and time, with what is hidden in a real log."""

    first_user: int
    age_group: Ints
    """Of each user."""
    user: Ints
    item: Ints
    timestamp: Ints
    position: Ints
    probability: Floats
    """That the user clicks, all but the noise being known."""
    label: npt.NDArray[np.int8]

    def rows(self) -> pl.DataFrame:
        """As in a click log."""
        return pl.DataFrame(
            {
                "user": self.user,
                "item": self.item,
                "timestamp": self.timestamp,
                "label": self.label,
                "position": _named("p", self.position),
            }
        )

    def users(self) -> pl.DataFrame:
        """User ids and age groups."""
        ids = self.first_user + np.arange(len(self.age_group))
        return pl.DataFrame({"user": ids, "age_group": _named("a", self.age_group)})


def _named(letter: str, numbers: Ints) -> pl.Series:
    return pl.Series(numbers).cast(pl.String).str.zfill(2).str.replace("^", letter)


def _stream(seed: int, what: int, number: int = 0) -> np.random.Generator:
    return np.random.default_rng(derive_seed(seed, "simulator", epoch=what, step=number))


def make_world(size: FeedSize, ctr: float, seed: int) -> World:
    """Draw the items and how much each user sees.

    Args:
        size: how much there is of what.
        ctr: expected part of the impressions that are clicked.
        seed: of everything that is drawn.
    """
    rng = _stream(seed, 0)
    k, n = size.n_interests, size.n_items
    shares = rng.dirichlet(np.full(k, 5.0))
    interest = np.sort(np.concatenate([np.arange(k), rng.choice(k, n - k, p=shares)]))
    wrong = rng.random(n) >= _TRUE_CATEGORY_PART
    appeal = rng.normal(0, _APPEAL_SPREAD, n)
    rank = np.argsort(np.argsort(rng.normal(0, _APPEAL_SPREAD, n) - appeal))
    shown = (1.0 + rank) ** -_POPULARITY_EXPONENT
    arrival = size.n_days * rng.random(size.n_users) ** _EARLINESS
    world = World(
        size=size,
        seed=seed,
        arrival=arrival,
        bounds=_sample_bounds(size, arrival, rng),
        item_ids=1 + rng.permutation(n),
        interest=interest,
        category=np.where(wrong, rng.integers(k, size=n), interest),
        appeal=appeal,
        shown=np.cumsum(shown) / shown.sum(),
        interest_age=rng.integers(N_AGE_GROUPS, size=k),
        bias=0.0,
    )
    return replace(world, bias=_calibrated_bias(world, ctr))


def _sample_bounds(size: FeedSize, arrival: Floats, rng: np.random.Generator) -> Ints:
    """One sample for each user; the rest by log-normal activity and the days that are left."""
    per_day = rng.lognormal(0, _ACTIVITY_SPREAD, size.n_users)
    activity = np.cumsum(per_day * (size.n_days - arrival))
    rest = np.rint(activity / activity[-1] * (size.n_samples - size.n_users)).astype(np.int64)
    return np.concatenate([[0], rest + np.arange(1, size.n_users + 1)])


def _calibrated_bias(world: World, ctr: float) -> float:
    """The logit at which a pilot draw has the wanted mean click probability."""
    rng = _stream(world.seed, 1)
    interests = _user_interests(world, _PILOT_USERS, rng)
    owner = rng.integers(_PILOT_USERS, size=_PILOT_ROWS)
    item = _show_items(world, interests, owner, rng)
    position = rng.integers(N_POSITIONS, size=_PILOT_ROWS)
    temper = rng.normal(0, _TEMPER_SPREAD, _PILOT_USERS)
    logit = _logit(world, interests[owner, world.interest[item]], item, position, temper[owner])
    logit += rng.normal(0, _NOISE_SPREAD, _PILOT_ROWS)
    low, high = -20.0, 20.0
    for _ in range(60):
        middle = (low + high) / 2
        if expit(logit + middle).mean() < ctr:
            low = middle
        else:
            high = middle
    return low


def simulate(world: World, users: range, number: int) -> Impressions:
    """Draw the samples of a range of users.

    Args:
        world: what all chunks share.
        users: the users, from 0.
        number: of the chunk, which selects its own random stream.
    """
    rng = _stream(world.seed, 2, number)
    counts = np.diff(world.bounds[users.start : users.stop + 1])
    owner = np.repeat(np.arange(len(users)), counts)
    n_rows = len(owner)
    interests = _user_interests(world, len(users), rng)
    temper = rng.normal(0, _TEMPER_SPREAD, len(users))
    item = _show_items(world, interests, owner, rng)
    position = rng.integers(N_POSITIONS, size=n_rows)
    logit = _logit(world, interests[owner, world.interest[item]], item, position, temper[owner])
    noise = rng.normal(0, _NOISE_SPREAD, n_rows)
    clicked = rng.random(n_rows) < expit(logit + noise)
    timestamp = _moments(world, world.arrival[users.start : users.stop][owner], rng)
    order = np.lexsort((timestamp, owner))
    typical_age = world.interest_age[interests.argmax(axis=1)]
    any_age = rng.integers(N_AGE_GROUPS, size=len(users))
    has_typical_age = rng.random(len(users)) < _TRUE_AGE_PART
    first_user = users.start + 1
    return Impressions(
        first_user=first_user,
        age_group=np.where(has_typical_age, typical_age, any_age),
        user=first_user + owner,
        item=world.item_ids[item[order]],
        timestamp=timestamp[order],
        position=position[order],
        probability=expit(logit[order]),
        label=clicked[order].astype(np.int8),
    )


def _user_interests(world: World, n_users: int, rng: np.random.Generator) -> Floats:
    """How each user's interest is divided: (n_users, n_interests), rows sum to 1."""
    concentration = np.full(world.size.n_interests, _INTEREST_CONCENTRATION)
    return rng.dirichlet(concentration, n_users)


def _show_items(world: World, interests: Floats, owner: Ints, rng: np.random.Generator) -> Ints:
    """The items that the feed shows: by popularity alone, or within an interest of the user."""
    n_rows, k = len(owner), interests.shape[1]
    cumulative = np.cumsum(interests, axis=1)
    ladder = (np.arange(len(interests))[:, None] + cumulative / cumulative[:, -1:]).ravel()
    picked = np.searchsorted(ladder, owner + rng.random(n_rows), side="right")
    picked = np.clip(picked - owner * k, 0, k - 1)
    edges = np.searchsorted(world.interest, np.arange(k + 1))
    reached = np.concatenate([[0.0], world.shown])[edges]
    place = rng.random(n_rows)
    personal = rng.random(n_rows) < _PERSONAL_PART
    within = reached[picked] + place * (reached[picked + 1] - reached[picked])
    item = np.searchsorted(world.shown, np.where(personal, within, place), side="right")
    return np.minimum(item, world.size.n_items - 1)


def _logit(world: World, affinity: Floats, item: Ints, position: Ints, temper: Floats) -> Floats:
    """Of a click, but for noise; affinity is the user's interest in the item's interest."""
    seen_late = _POSITION_DECAY * np.log1p(position)
    return world.bias + _AFFINITY * np.sqrt(affinity) + world.appeal[item] + temper - seen_late


def _moments(world: World, arrival: Floats, rng: np.random.Generator) -> Ints:
    """Seconds since 1970: evenly over the days from arrival on, at hours as people are awake."""
    days = arrival + rng.random(len(arrival)) * (world.size.n_days - arrival)
    day = np.minimum(days, world.size.n_days - 0.5).astype(np.int64)
    hour = rng.choice(24, len(arrival), p=_HOURS / _HOURS.sum())
    return START + (day * 24 + hour) * 3600 + rng.integers(3600, size=len(arrival))
