"""An opened dataset directory, and the batches that are cut from it."""

import dataclasses
import itertools
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from aqcl import negatives
from aqcl.batch import Batch
from aqcl.errors import DataError, StorageError
from aqcl.schema import Schema
from aqcl.shuffling import Order, shuffled
from aqcl.splits import SPLITS, SplitName, utc_date
from aqcl.storage import Manifest, read_manifest
from aqcl.streams import derive_seed, numpy_stream
from aqcl.vocab import Vocabulary

Array = npt.NDArray[Any]
Int64s = npt.NDArray[np.int64]

COLUMNS = ("user", "item", "label", "timestamp", "history_start", "history_length")


@dataclass(frozen=True)
class Resampling:
    """What it takes to redraw the negatives of a batch."""

    cdf: negatives.Floats
    seen: Int64s


@dataclass(frozen=True)
class Split:
    """The samples of one split as memory-mapped columns, and the clicks of all users."""

    name: SplitName
    columns: dict[str, Array]
    context: dict[str, Array]
    clicks: npt.NDArray[np.int32]
    resampling: Resampling | None = None
    """None where the stored items are used."""

    def __len__(self) -> int:
        return len(self.columns["user"])

    def batch(self, rows: Array, max_history: int, epoch: int = 0, seed: int = 0) -> Batch:
        """Cut a batch.

        Args:
            rows: numbers of the samples, in the order wanted.
            max_history: the most clicks that a history keeps, the latest ones.
            epoch: of the negatives, where they are redrawn in every epoch.
            seed: of the run, for the same.

        Raises:
            DataError: they are no numbers of samples, such as a mask.
        """
        if rows.dtype.kind not in "iu":
            raise DataError(
                f"rows: expected numbers of samples, got {rows.dtype}; np.flatnonzero gives those "
                "of a mask"
            )
        if len(rows) and not 0 <= rows.min() <= rows.max() < len(self):
            raise DataError(
                f"rows: expected numbers from 0 to {len(self) - 1}, got {rows.min()} to "
                f"{rows.max()}"
            )
        rows = rows.astype(np.int64, copy=False)
        user = self.columns["user"][rows]
        label = self.columns["label"][rows]
        item = self.columns["item"][rows].astype(np.int64)
        if self.resampling is not None:
            redrawn = np.flatnonzero(label == 0)
            item[redrawn] = self._redraw(user[redrawn], rows[redrawn], epoch, seed)
        activity = self.columns["history_length"][rows].astype(np.int64)
        length = np.minimum(activity, max_history)
        offsets = np.zeros(len(rows) + 1, dtype=np.int64)
        np.cumsum(length, out=offsets[1:])
        segment = np.repeat(np.arange(len(rows)), length)
        first = self.columns["history_start"][rows] + activity - length - offsets[:-1]
        history = self.clicks[first[segment] + np.arange(offsets[-1])]
        return Batch(
            user=torch.from_numpy(user.astype(np.int64)),
            item=torch.from_numpy(item),
            label=torch.from_numpy(label.astype(np.float32)),
            activity=torch.from_numpy(activity.astype(np.float32)),
            history=torch.from_numpy(history.astype(np.int64)),
            offsets=torch.from_numpy(offsets),
            segment=torch.from_numpy(segment),
            context={name: _context(column[rows]) for name, column in self.context.items()},
        )

    def _redraw(self, user: Array, rows: Int64s, epoch: int, seed: int) -> Int64s:
        assert self.resampling is not None
        drawn = negatives.draw(
            user,
            rows,
            self.resampling.cdf,
            self.resampling.seen,
            derive_seed(seed, "negatives"),
            epoch,
        )
        return drawn.astype(np.int64)

    def order(self, seed: int, epoch: int) -> Order:
        """The shuffled row numbers of an epoch, of which slices are taken."""
        return shuffled(len(self), numpy_stream(seed, "order", epoch))

    def batches(self, batch_size: int, max_history: int) -> Iterator[Batch]:
        """All samples as they are stored, for evaluation: no negative is redrawn."""
        stored = replace(self, resampling=None)
        bounds = batch_bounds(len(self), batch_size)
        for start, stop in itertools.pairwise(bounds):
            yield stored.batch(np.arange(start, stop), max_history)


@dataclass(frozen=True)
class Dataset:
    """A dataset directory; its parts are read when they are first asked for."""

    path: Path
    manifest: Manifest = dataclasses.field(repr=False)
    closed: tuple[SplitName, ...] = ()
    """Splits that nobody may read: a search promises never to open the test rows."""

    @property
    def name(self) -> str:
        """The name of the click log."""
        return str(self.manifest.content["name"])

    @property
    def simulated(self) -> bool:
        """Whether the clicks come from a simulator."""
        return bool(self.manifest.content["simulated"])

    @property
    def notes(self) -> tuple[str, ...]:
        """Facts that a reader of a result must know, such as rows left out and why."""
        return tuple(self.manifest.content["notes"])

    def dates(self) -> dict[str, tuple[str, str]]:
        """The UTC dates of the first and the last row, of `all` and of each split.

        Nothing where times are positions.
        """
        unit = self.manifest.content["time_unit"]
        if unit == "position":
            return {}
        times = [getattr(self, name).columns["timestamp"] for name in SPLITS]
        ends = [(int(time.min()), int(time.max())) for time in times]
        firsts, lasts = zip(*ends, strict=True)
        named = zip(("all", *SPLITS), ((min(firsts), max(lasts)), *ends), strict=True)
        return {name: (utc_date(a, unit), utc_date(b, unit)) for name, (a, b) in named}

    @property
    def mean_activity(self) -> float:
        """Mean number of train clicks over the users who have any."""
        return float(self.manifest.content["mean_activity"])

    @property
    def protocol(self) -> dict[str, Any]:
        """What a result on this dataset must name: split, ties, labels, negatives."""
        return dict(self.manifest.content["protocol"])

    @property
    def thresholds(self) -> tuple[int, int]:
        """The largest activity of non-active and of slightly active users."""
        low, high = self.manifest.content["activity_thresholds"]
        return int(low), int(high)

    @cached_property
    def schema(self) -> Schema:
        """The columns and their sizes."""
        return Schema.from_json(self.manifest.content["schema"])

    @cached_property
    def attributes(self) -> dict[str, Array]:
        """The attribute table of each user and item field, indexed by entity id."""
        return {
            field.name: _map(self.path / "attributes" / f"{field.side}_{field.name}.npy")
            for field in self.schema.fields
            if field.side != "context"
        }

    @cached_property
    def vocabularies(self) -> dict[str, Vocabulary]:
        """The vocabularies of `user`, `item` and every field that is not numeric."""
        known: dict[str, int | None] = {"user": self.schema.n_users, "item": self.schema.n_items}
        known |= {field.name: None for field in self.schema.fields if field.kind != "numeric"}
        return {
            name: Vocabulary.read(self.path / "vocabularies" / f"{name}.parquet", size)
            for name, size in known.items()
        }

    @cached_property
    def item_count(self) -> npt.NDArray[np.int64]:
        """Train clicks of each item entity."""
        return _map(self.path / "item_count.npy")

    @cached_property
    def clicks(self) -> npt.NDArray[np.int32]:
        """Item entity ids of all clicks by user, time and file order."""
        return _map(self.path / "clicks.npy")

    @cached_property
    def train(self) -> Split:
        """The training samples."""
        return self._open("train", self._resampling())

    @cached_property
    def valid(self) -> Split:
        """The validation samples."""
        return self._open("valid", None)

    @cached_property
    def test(self) -> Split:
        """The test samples; only evaluation reads them."""
        return self._open("test", None)

    def _open(self, name: SplitName, resampling: Resampling | None) -> Split:
        if name in self.closed:
            raise DataError(
                f"{self.path}: the {name} rows are closed here: a search must not see them; "
                "`aqcl evaluate` scores them"
            )
        folder = self.path / name
        return Split(
            name=name,
            columns={column: _map(folder / f"{column}.npy") for column in COLUMNS},
            context={
                field.name: _map(folder / f"context_{field.name}.npy")
                for field in self.schema.on("context")
            },
            clicks=self.clicks,
            resampling=resampling,
        )

    def _resampling(self) -> Resampling | None:
        if self.protocol.get("train") != "resampled":
            return None
        return Resampling(
            cdf=_map(self.path / "negative_cdf.npy"),
            seen=_map(self.path / "seen.npy"),
        )


def open_dataset(
    path: Path | str, verify: bool = False, closed: tuple[SplitName, ...] = ()
) -> Dataset:
    """Open a dataset directory.

    Args:
        path: the directory that `prepare` wrote.
        verify: compare the checksum of every file, not only its size.
        closed: splits that must not be read; asking for one is an error.

    Raises:
        StorageError: the directory is missing, incomplete, damaged or of another version.
    """
    path = Path(path)
    return Dataset(path, read_manifest(path, "aqcl-dataset", verify), closed)


def steps_per_epoch(n_rows: int, batch_size: int) -> int:
    """The fewest batches of at most `batch_size` rows that hold `n_rows`."""
    return -(-n_rows // batch_size)


def batch_bounds(n_rows: int, batch_size: int) -> Int64s:
    """Cut `n_rows` into the fewest batches of at most `batch_size`, all of nearly one size.

    Returns:
        Batch b holds the rows from element b to element b + 1.
    """
    n_batches = steps_per_epoch(n_rows, batch_size)
    return np.arange(n_batches + 1) * n_rows // max(n_batches, 1)


def _map(path: Path) -> Array:
    """A column as a plain array over the mapped file: a `memmap` is slower to index."""
    try:
        return np.asarray(np.load(path, mmap_mode="r", allow_pickle=False))
    except (OSError, ValueError) as error:
        raise StorageError(
            f"{path}: cannot be read as an array: {error}; prepare it again"
        ) from None


def _context(values: Array) -> torch.Tensor:
    wide = np.float32 if np.issubdtype(values.dtype, np.floating) else np.int64
    return torch.from_numpy(values.astype(wide))
