"""A click log becomes a dataset directory: splits, histories, negatives, vocabularies.

Reference: arXiv 2109.13921, section 5.1 for the splits.
"""

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import numpy.typing as npt
import pydantic

from aqcl.attributes import EncodedField, encode_field, entity_table
from aqcl.click_log import ClickLog, take_users
from aqcl.config import as_values, build, did_you_mean, settings
from aqcl.dataset import COLUMNS
from aqcl.errors import ConfigError, DataError, StorageError
from aqcl.samples import (
    Histories,
    NegativeSettings,
    Samples,
    describe,
    histories,
    make_sampler,
    take_samples,
)
from aqcl.schema import Field, Schema
from aqcl.sorted_log import SortedLog, read_rows, sort_log
from aqcl.splits import SPLITS, SplitSettings
from aqcl.storage import Manifest, fingerprint, read_manifest, write_directory, write_manifest

logger = logging.getLogger(__name__)

RESERVED = {"user", "item", "timestamp", "label"}


@settings
class VocabularySettings:
    """Which values get an id of their own."""

    min_count: Annotated[int, pydantic.Field(ge=1)] = 1
    """Training rows that a user, an item or a value needs; others share the unknown id."""


@settings
class PrepareSettings:
    """How a click log is made into a dataset."""

    split: SplitSettings = pydantic.Field(default_factory=SplitSettings)
    """How the rows are cut into train, valid and test."""
    negatives: NegativeSettings = pydantic.Field(default_factory=NegativeSettings)
    """How negatives are drawn where the log has none."""
    vocabulary: VocabularySettings = pydantic.Field(default_factory=VocabularySettings)
    """Which values get an id of their own."""
    fields: list[str] | None = None
    """The columns to keep beside user and item: all of the log's, or none with []."""
    user_share: Annotated[float, pydantic.Field(gt=0, le=1)] = 1.0
    """Part of the users to keep, chosen at random; results say so."""


@dataclass(frozen=True)
class Origin:
    """Where a click log comes from, as its source tells."""

    fingerprint: str
    """Of the source's files and settings."""
    source: Mapping[str, Any]
    """Plain values for the manifest, such as the source's kind and its files."""


def merge_protocol(log: ClickLog, values: Mapping[str, Any]) -> PrepareSettings:
    """The user's settings over those that suit the log.

    The log's cuts are dropped where the user chose another kind of split.

    Raises:
        ConfigError: an unknown key or a bad value.
    """
    split = dict(log.protocol.get("split", {}))
    own = values.get("split")
    if isinstance(own, Mapping) and own.get("kind", split.get("kind")) != split.get("kind"):
        split = {key: split[key] for key in ("ties", "until") if key in split}
    suited = {**log.protocol, "split": split}
    return build(PrepareSettings, _merged(suited, values))


def _merged(low: Mapping[str, Any], high: Mapping[str, Any]) -> dict[str, Any]:
    both = dict(low)
    for key, value in high.items():
        under = both.get(key)
        nested = isinstance(value, Mapping) and isinstance(under, Mapping)
        both[key] = _merged(under, value) if nested else value  # type: ignore[arg-type]
    return both


def prepare(
    log: ClickLog,
    config: PrepareSettings,
    out: Path,
    *,
    origin: Origin | None = None,
    overwrite: bool = False,
) -> Path:
    """Write a click log as a dataset directory.

    Args:
        log: the clicks or impressions.
        config: see `merge_protocol`.
        out: the directory to write.
        origin: with it, a directory that already holds this dataset is left as it is.
        overwrite: replace another dataset that lies at `out`.

    Returns:
        `out`.

    Raises:
        ConfigError: settings that do not fit the log.
        DataError: a log that cannot be split, or from which nothing can be learnt.
        StorageError: `out` holds something else or cannot be written.
    """
    fields = _chosen_fields(log, config)
    identity = None
    if origin is not None:
        identity = fingerprint({"origin": origin.fingerprint, "settings": as_values(config)})
    if _is_ready(out, identity, overwrite):
        logger.info("%s is already prepared", out)
        return out
    log = take_users(log, config.user_share)
    with write_directory(out, "aqcl-dataset") as folder:
        content = _write_dataset(log, config, fields, folder)
        files = sorted(path for path in folder.rglob("*") if path.is_file())
        manifest = Manifest(
            format="aqcl-dataset",
            fingerprint=identity or fingerprint({"settings": as_values(config)}, files),
            settings=as_values(config),
            source=dict(origin.source) if origin else {},
            content=content,
        )
        write_manifest(folder, manifest)
    return out


def _is_ready(out: Path, identity: str | None, overwrite: bool) -> bool:
    if overwrite or not out.exists() or (out.is_dir() and not any(out.iterdir())):
        return False
    found = read_manifest(out, "aqcl-dataset").fingerprint
    if identity is not None and found == identity:
        return True
    raise StorageError(
        f"{out}: holds a dataset made from other data or settings; choose another directory or "
        "ask to overwrite it"
    )


def _chosen_fields(log: ClickLog, config: PrepareSettings) -> tuple[Field, ...]:
    names = [field.name for field in log.fields]
    for name in names:
        if name in RESERVED or names.count(name) > 1 or any(c in name for c in "/\\\0"):
            raise DataError(
                f"log {log.name}, field {name!r}: a name must be unique, without slashes and "
                f"none of {', '.join(sorted(RESERVED))}; rename the column"
            )
    if config.fields is None:
        return log.fields
    for name in config.fields:
        if name not in names:
            raise ConfigError(f"fields: no field '{name}'; {did_you_mean(name, names)}")
    return tuple(field for field in log.fields if field.name in config.fields)


def _write_dataset(
    log: ClickLog, config: PrepareSettings, fields: tuple[Field, ...], folder: Path
) -> dict[str, Any]:
    """Write everything but the manifest; returns the manifest's content."""
    context = [field.name for field in fields if field.side == "context"]
    rows, n_left_out = read_rows(log, context, config.split)
    labelled = "label" in rows.columns
    sorted_log = sort_log(rows, config.split, log, config.vocabulary.min_count)
    encoded = [encode_field(f, log, rows, sorted_log, config.vocabulary.min_count) for f in fields]
    _write_entities(folder, sorted_log, encoded)
    past = histories(sorted_log, config.split.ties)
    np.save(folder / "clicks.npy", past.clicks)
    sampler = None if labelled else make_sampler(sorted_log, config.negatives)
    if sampler is not None:
        np.save(folder / "negative_cdf.npy", sampler.cdf)
        np.save(folder / "seen.npy", sampler.seen_in_train)
    samples = [
        take_samples(sorted_log, part, sampler, config.negatives) for part in range(len(SPLITS))
    ]
    for name, sample in zip(SPLITS, samples, strict=True):
        (folder / name).mkdir()
        _write_split(folder / name, sample, sorted_log, past, encoded)
    return {
        "name": log.name,
        "simulated": log.simulated,
        "notes": list(log.notes),
        "time_unit": log.time_unit,
        "schema": _schema(sorted_log, encoded).to_json(),
        "protocol": _protocol(config, labelled),
        "rows_left_out_by_until": n_left_out,
        **describe(sorted_log, samples, past),
    }


def _write_entities(folder: Path, log: SortedLog, encoded: list[EncodedField]) -> None:
    """Vocabularies, attribute tables and the train clicks of each item."""
    for name in ("vocabularies", "attributes"):
        (folder / name).mkdir()
    log.users.write(folder / "vocabularies" / "user.parquet")
    log.items.write(folder / "vocabularies" / "item.parquet")
    for one in encoded:
        if one.vocabulary is not None:
            one.vocabulary.write(folder / "vocabularies" / f"{one.field.name}.parquet")
        if one.field.side != "context":
            name = f"{one.field.side}_{one.field.name}.npy"
            np.save(folder / "attributes" / name, entity_table(one))
    np.save(folder / "item_count.npy", log.train_clicks(log.item, log.items))


def _write_split(
    folder: Path,
    samples: Samples,
    log: SortedLog,
    past: Histories,
    encoded: list[EncodedField],
) -> None:
    columns: dict[str, npt.NDArray[Any]] = {
        "user": log.user[samples.row],
        "item": samples.item,
        "label": samples.label,
        "timestamp": log.timestamp[samples.row],
        "history_start": past.start[samples.row],
        "history_length": past.length[samples.row],
    }
    assert tuple(columns) == COLUMNS
    for one in encoded:
        if one.field.side == "context":
            columns[f"context_{one.field.name}"] = one.table[samples.row].ravel()
    for name, column in columns.items():
        np.save(folder / f"{name}.npy", column)


def _schema(log: SortedLog, encoded: list[EncodedField]) -> Schema:
    return Schema(
        n_users=log.users.size_known,
        n_items=log.items.size_known,
        n_user_entities=log.users.size,
        n_item_entities=log.items.size,
        fields=tuple(one.field for one in encoded),
    )


def _protocol(config: PrepareSettings, labelled: bool) -> dict[str, Any]:
    """What a result on this dataset must name."""
    split = {"split": config.split.kind, "ties": config.split.ties}
    if labelled:
        return {**split, "labels": "impressions"}
    return {**split, "labels": "sampled", **as_values(config.negatives)}
