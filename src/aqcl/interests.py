"""What the codewords of a trained run stand for, and which of them a user is near to."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import polars as pl
import torch
from jaxtyping import Int

from aqcl.activity import GROUPS
from aqcl.assessment import dataset_of
from aqcl.batch import Batch
from aqcl.contracts import Predictor
from aqcl.dataset import Dataset, Split
from aqcl.errors import ConfigError, DataError
from aqcl.latents import (
    Interests,
    NoCodebookError,
    choose_rows,
    encode_rows,
    load_interests,
    load_model,
)
from aqcl.runs import Run
from aqcl.schema import PADDING, UNKNOWN

MOST_ROWS = 50_000
"""Clicked training rows that are looked at."""


@dataclass(frozen=True)
class Interest:
    """A codeword, by the clicked training rows whose latent is nearest to it."""

    codeword: int
    rows: int
    share: float
    activity: dict[str, float]
    """Share of each activity group among its rows, each by the clicks its user had by then."""
    items: list[tuple[str, int]]
    """The most frequent items, and how often each was clicked."""
    attributes: dict[str, list[tuple[str, int]]]
    """The same for each field of items that is not numeric; of lists, every value counts."""


@dataclass(frozen=True)
class Codebook:
    """All interests of a run, the largest first."""

    rows: int
    """Rows that were looked at."""
    codewords: int
    used: int
    """Codewords that are nearest to any row."""
    perplexity: float
    """How many codewords are used evenly."""
    interests: tuple[Interest, ...]

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self)


@dataclass(frozen=True)
class NearInterest:
    """An interest, and how near a latent is to it."""

    interest: int
    """Its codeword, as `Interest` has it."""
    cosine: float


@dataclass(frozen=True)
class Driver:
    """An earlier click, and what it does to a score."""

    item: str
    change: float
    """The score minus that without the click: above 0, the click raises it."""


@dataclass(frozen=True)
class UserInterests:
    """A training or validation row of a user: nearest interests, and what drove its score."""

    user: str
    item: str
    """The candidate of that row."""
    clicked: bool
    """Whether the user clicked it."""
    clicks: int
    """Clicks of the user before it."""
    score: float
    nearest: list[NearInterest] | None
    """The nearest first; None where the run has learned none."""
    drivers: list[Driver]
    """The strongest first."""

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self)


def describe_interests(
    run: Run, top: int = 5, seed: int = 0, dataset: Dataset | None = None
) -> Codebook:
    """What each codeword of a run stands for.

    Args:
        run: trained with AQCL.
        top: items and attributes of each.
        seed: of the choice of rows where there are too many.
        dataset: the run's dataset, if it is open already or has moved.

    Raises:
        ConfigError: the run has no codebook, or `top` is below 1.
        StorageError: its dataset is missing or another one.
    """
    _check_top(top)
    dataset = dataset_of(run, dataset)
    interests, model = load_interests(run, dataset), load_model(run, dataset)
    split = dataset.train
    rows = choose_rows(np.flatnonzero(split.columns["label"] == 1), MOST_ROWS, seed)
    latent = encode_rows(model, split, rows, run.experiment.train.max_history)
    code = interests.nearest(latent)
    count = len(interests.regularizer.codebook)
    sizes = np.bincount(code, minlength=count)
    share = sizes[sizes > 0] / len(rows)
    found = [
        _interest(dataset, split, rows[code == number], int(number), len(rows), top)
        for number in np.argsort(-sizes, kind="stable")
        if sizes[number]
    ]
    return Codebook(
        rows=len(rows),
        codewords=count,
        used=len(found),
        perplexity=float(np.exp(-(share * np.log(share)).sum())),
        interests=tuple(found),
    )


def _interest(
    dataset: Dataset, split: Split, rows: Int[np.ndarray, " N"], number: int, total: int, top: int
) -> Interest:
    item = split.columns["item"][rows]
    groups = np.searchsorted(dataset.thresholds, split.columns["history_length"][rows])
    mix = np.bincount(groups, minlength=len(GROUPS)) / len(rows)
    return Interest(
        codeword=number,
        rows=len(rows),
        share=len(rows) / total,
        activity=dict(zip(GROUPS, mix.tolist(), strict=True)),
        items=_most(names_of(dataset, "item", item), top),
        attributes={
            field.name: _most(_values_of(dataset, field.name, item), top)
            for field in dataset.schema.on("item")
            if field.kind != "numeric"
        },
    )


def names_of(dataset: Dataset, vocabulary: str, ids: Int[np.ndarray, " N"]) -> list[str]:
    """Raw values of ids as text."""
    raw = dataset.vocabularies[vocabulary].decode(ids)
    return raw.cast(pl.String).fill_null("unknown").to_list()


def _values_of(dataset: Dataset, field: str, item: Int[np.ndarray, " N"]) -> list[str]:
    """All raw values that items have in a field, one or a list each."""
    ids = dataset.attributes[field][item].ravel()
    return names_of(dataset, field, ids[ids != PADDING])


def _check_top(top: int) -> None:
    if top < 1:
        raise ConfigError(f"top: expected 1 or more, got {top}")


def _most(names: list[str], top: int) -> list[tuple[str, int]]:
    # Ties by name, so that the same run tells the same.
    return sorted(Counter(names).items(), key=lambda pair: (-pair[1], pair[0]))[:top]


def describe_user(
    run: Run, user: str, top: int = 5, dataset: Dataset | None = None
) -> UserInterests:
    """The interests nearest to a user, and the clicks that drove a score.

    It is looked at in the user's latest validation click, or training click where there is none;
    of a user who clicked nothing there, in the latest validation row, or training row where there
    is none. Test rows are not read. What drove the score is found by leaving out one click at a
    time, which works for every backbone and tells nothing of clicks that stand in for each other.

    Args:
        run: of any model; only one with AQCL has interests.
        user: the raw id.
        top: interests and clicks.
        dataset: the run's dataset, if it is open already or has moved.

    Raises:
        ConfigError: `top` is below 1.
        DataError: the dataset does not know the user, or has test rows alone of them.
        StorageError: the run's dataset is missing or another one.
    """
    _check_top(top)
    dataset = dataset_of(run, dataset)
    return _Describer(run, dataset, top).row(*_latest_row(dataset, user))


def describe_examples(
    run: Run, top: int = 3, dataset: Dataset | None = None
) -> dict[str, UserInterests]:
    """A user of each activity group as `describe_user` has one, by group.

    It is the user with the median number of clicks before the latest validation click, by which
    users are grouped here too; a group without a user who has one is left out.

    Args:
        run: of any model; only one with AQCL has interests.
        top: interests and clicks.
        dataset: the run's dataset, if it is open already or has moved.

    Raises:
        ConfigError: `top` is below 1.
        StorageError: the run's dataset is missing or another one.
    """
    _check_top(top)
    dataset = dataset_of(run, dataset)
    describer, columns = _Describer(run, dataset, top), dataset.valid.columns
    rows = _latest_rows(dataset.valid, np.flatnonzero(columns["label"] == 1))
    rows = rows[np.argsort(columns["history_length"][rows], kind="stable")]
    groups = np.searchsorted(dataset.thresholds, columns["history_length"][rows])
    parts = {group: rows[groups == number] for number, group in enumerate(GROUPS)}
    return {
        group: describer.row(dataset.valid, int(part[(len(part) - 1) // 2]))
        for group, part in parts.items()
        if len(part)
    }


class _Describer:
    """Tells what stands behind rows of a run's dataset; the model is loaded once."""

    def __init__(self, run: Run, dataset: Dataset, top: int) -> None:
        self.dataset = dataset
        self.top = top
        self.model = load_model(run, dataset)
        self.max_history = run.experiment.train.max_history
        try:
            self.interests: Interests | None = load_interests(run, dataset)
        except NoCodebookError:
            self.interests = None

    def row(self, split: Split, row: int) -> UserInterests:
        batch = split.batch(np.array([row]), self.max_history)
        scores = _scores(self.model, leave_one_out(batch))
        clicks = names_of(self.dataset, "item", batch.history.numpy())
        changes = (scores[0] - scores[1:]).tolist()
        drivers = [Driver(*pair) for pair in zip(clicks, changes, strict=True)]
        return UserInterests(
            user=names_of(self.dataset, "user", batch.user.numpy())[0],
            item=names_of(self.dataset, "item", batch.item.numpy())[0],
            clicked=bool(batch.label[0]),
            clicks=int(batch.activity[0]),
            score=float(scores[0]),
            nearest=self._nearest(split, row),
            drivers=sorted(drivers, key=lambda driver: -abs(driver.change))[: self.top],
        )

    def _nearest(self, split: Split, row: int) -> list[NearInterest] | None:
        if self.interests is None:
            return None
        latent = encode_rows(self.model, split, np.array([row]), self.max_history)
        similarity = self.interests.similarities(torch.from_numpy(latent))[0]
        values, codes = similarity.topk(min(self.top, len(similarity)))
        return [NearInterest(*pair) for pair in zip(codes.tolist(), values.tolist(), strict=True)]


def _latest_rows(split: Split, rows: Int[np.ndarray, " N"]) -> Int[np.ndarray, " M"]:
    """Of some rows the latest of each user, by user id; of those at one time the last stored."""
    user, timestamp = (split.columns[name][rows] for name in ("user", "timestamp"))
    order = np.lexsort((rows, timestamp, user))
    last = np.flatnonzero(np.diff(user[order], append=-1))  # no id is below 0
    return np.asarray(rows[order][last])


def _latest_row(dataset: Dataset, user: str) -> tuple[Split, int]:
    ids = dataset.vocabularies["user"].encode(pl.Series("user", [user]))
    if ids[0] == UNKNOWN:
        known = dataset.vocabularies["user"].values.head(3).cast(pl.String).to_list()
        raise DataError(
            f"user '{user}' is not in {dataset.path}; ids are as in the log, such as "
            f"{', '.join(known)}"
        )
    for label in (1, 0):
        for split in (dataset.valid, dataset.train):
            columns = split.columns
            rows = np.flatnonzero((columns["user"] == ids[0]) & (columns["label"] == label))
            if len(rows):
                return split, int(_latest_rows(split, rows)[0])
    raise DataError(
        f"user '{user}' has only test rows in {dataset.path}, which are not read here; name a user "
        "who has training or validation rows"
    )


def leave_one_out(batch: Batch) -> Batch:
    """A sample as it is, and then once without each of its S clicks.

    Args:
        batch: one sample.
    """
    clicks = len(batch.history)
    whole = torch.arange(clicks)
    kept = torch.cat([whole, *(whole[whole != left_out] for left_out in range(clicks))])
    length = torch.tensor([clicks] + [clicks - 1] * clicks)
    rows = clicks + 1

    def repeated(column: torch.Tensor) -> torch.Tensor:
        return column.expand(rows, *column.shape[1:])

    context: Mapping[str, torch.Tensor] = batch.context
    return Batch(
        user=repeated(batch.user),
        item=repeated(batch.item),
        label=repeated(batch.label),
        # The activity stays: alpha and gates see the user as they are.
        activity=repeated(batch.activity),
        history=batch.history[kept],
        offsets=torch.cat([torch.zeros(1, dtype=torch.int64), length.cumsum(0)]),
        segment=torch.repeat_interleave(torch.arange(rows), length),
        context={name: repeated(column) for name, column in context.items()},
    )


@torch.no_grad()
def _scores(model: torch.nn.Module, batch: Batch) -> torch.Tensor:
    assert isinstance(model, Predictor)
    embedded = model.embed(batch)
    return torch.sigmoid(model.predict(model.encode(embedded), embedded))
