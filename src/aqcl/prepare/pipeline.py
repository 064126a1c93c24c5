"""A click log becomes a dataset directory: splits, histories, negatives, vocabularies.

Reference: arXiv 2109.13921, section 5.1 for the splits.
"""

import contextlib
import logging
import shutil
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import numpy.typing as npt
import polars as pl
import pydantic

from aqcl.array_file import ArrayFile
from aqcl.click_log import ClickLog, take_users
from aqcl.config import as_values, build, did_you_mean, settings
from aqcl.directories import write_directory
from aqcl.errors import ConfigError, DataError, StorageError
from aqcl.prepare.attributes import (
    EncodedField,
    TrainingValues,
    encode_field,
    entity_table,
    training_values,
)
from aqcl.prepare.census import Census, take_census
from aqcl.prepare.context import ContextField, encode_context
from aqcl.prepare.partitions import write_partitions
from aqcl.prepare.remarks import (
    check_context,
    crowd_notes,
    repeat_notes,
    untold_notes,
    varying_notes,
    wide_notes,
)
from aqcl.prepare.sample_columns import Recipe
from aqcl.prepare.samples import (
    NegativeSettings,
    Summary,
    chances_of,
    check_labels,
    describe,
    total,
)
from aqcl.prepare.sorted_log import Entities, Numbering, number_rows
from aqcl.schema import FIRST_ID, Field, Schema
from aqcl.splits import SPLITS, SplitSettings, moment
from aqcl.storage import Manifest, fingerprint, is_of_format, read_manifest, write_manifest
from aqcl.workers import in_order

Files = dict[str, ArrayFile]

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

    The log's cuts are dropped where the user chose another kind of split, and chosen anew where
    the user's `split.until` leaves rows out.

    Raises:
        ConfigError: an unknown key or a bad value.
    """
    config = _suited(log, log.protocol.get("split", {}), values)
    until, own = config.split.until, values.get("split", {})
    if until is None or log.suited_split is None or "days" in own:
        return config
    before = pl.col("timestamp") < moment(until, log.time_unit, "split.until")
    ends = log.rows.filter(before).select(
        first=pl.col("timestamp").min(), last=pl.col("timestamp").max()
    )
    first, last = ends.collect(engine="streaming").row(0)
    return config if first is None else _suited(log, log.suited_split(first, last), values)


def _suited(log: ClickLog, split: Mapping[str, Any], values: Mapping[str, Any]) -> PrepareSettings:
    own = values.get("split")
    if isinstance(own, Mapping) and own.get("kind", split.get("kind")) != split.get("kind"):
        split = {key: split[key] for key in ("ties", "until") if key in split}
    return build(PrepareSettings, _merged({**log.protocol, "split": dict(split)}, values))


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
    identifying = _identifying(config, labelled="label" in log.rows.collect_schema())
    if origin is not None:
        identity = fingerprint({"origin": origin.fingerprint, "settings": identifying})
    is_ready = partial(_is_ready, out, identity, overwrite)
    if is_ready():
        return out
    log = take_users(log, config.user_share)
    with write_directory(out, "aqcl-dataset", is_ready) as folder:
        content = _write_dataset(log, config, fields, folder)
        files = sorted(path for path in folder.rglob("*") if path.is_file())
        manifest = Manifest(
            format="aqcl-dataset",
            fingerprint=identity or fingerprint({"settings": identifying}, files),
            settings=as_values(config),
            source=dict(origin.source) if origin else {},
            content=content,
        )
        write_manifest(folder, manifest)
    return out


def _identifying(config: PrepareSettings, *, labelled: bool) -> dict[str, Any]:
    """The settings that a fingerprint is made of.

    Before `negatives.train_items` there was, negatives were drawn from all items: datasets made so,
    and those of a log with labels, where none is drawn, keep their fingerprint. Those whose last
    interaction was a row of several at one time do not: now it is all of them.
    """
    values = as_values(config)
    if (config.split.kind, config.split.ties) == ("last-interaction", "exclude"):
        values["split"]["interaction"] = "moment"
    if labelled or config.negatives.train_items == "all":
        del values["negatives"]["train_items"]
    return values


def _is_ready(out: Path, identity: str | None, overwrite: bool) -> bool:
    if overwrite or not out.exists() or (out.is_dir() and not any(out.iterdir())):
        return False
    try:
        found = read_manifest(out, "aqcl-dataset").fingerprint
    except StorageError as error:
        if not is_of_format(out, "aqcl-dataset"):
            raise
        raise StorageError(f"{error} (prepare --overwrite replaces it)") from None
    if identity is not None and found == identity:
        logger.info("%s is already prepared", out)
        return True
    raise StorageError(
        f"{out}: holds a dataset made from other data or settings; choose another --out, remove "
        "it, or replace it with `aqcl prepare --overwrite`"
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
    partitions = folder / "partitions"
    partitions.mkdir()
    census, recipe, encoded, notes = _read_log(log, config, fields, partitions)
    numbering = recipe.numbering
    _write_entities(folder, numbering, encoded, recipe.context)
    if recipe.chances is not None:
        np.save(folder / "negative_cdf.npy", recipe.chances.train)
    n_clicks, found = _write_samples(folder, recipe)
    shutil.rmtree(partitions)
    facts = describe(numbering, census.n_rows, n_clicks, found)
    if not census.labelled:
        check_context(folder, [one.field for one in recipe.context])
    fitted = {one.field.name: one.field for one in encoded}
    fitted |= {one.field.name: one.field for one in recipe.context}
    schema = _schema(numbering, [fitted[field.name] for field in fields])
    return {
        "name": log.name,
        "simulated": log.simulated,
        "notes": [
            *log.notes,
            *_effects(census, config),
            *notes,
            *repeat_notes(facts, labelled=census.labelled),
        ],
        "time_unit": log.time_unit,
        "schema": schema.to_json(),
        "protocol": _protocol(config, census.labelled),
        "rows_left_out_by_until": census.n_left_out,
        **facts,
    }


def _effects(census: Census, config: PrepareSettings) -> list[str]:
    """What came of settings: rows that they left out, and those that do nothing."""
    notes = []
    if census.n_left_out:
        notes.append(
            f"{census.n_left_out:,} rows from split.until = {config.split.until} on left out"
        )
    if census.labelled and config.negatives != NegativeSettings():
        notes.append("the settings of negatives do nothing: the log has labels, and none is drawn")
    return notes


def _read_log(
    log: ClickLog, config: PrepareSettings, fields: tuple[Field, ...], folder: Path
) -> tuple[Census, Recipe, list[EncodedField], list[str]]:
    """Sort the rows into `folder`, number and encode them; with what to know of columns."""
    context = [field for field in fields if field.side == "context"]
    census = take_census(log, context, config.split)
    numeric = [field.name for field in context if field.kind == "numeric"]
    samples_per_row = 1 if census.labelled else 1 + config.negatives.ratio
    partitions = write_partitions(census, numeric, folder, samples_per_row)
    min_count = config.vocabulary.min_count
    numbering = number_rows(census, partitions, config.split, log.time_unit, min_count)
    entities = {"user": numbering.users, "item": numbering.items}
    notes = [*crowd_notes("user", numbering.users), *crowd_notes("item", numbering.items)]
    encoded = list[EncodedField]()
    for field in fields:
        if field.side == "context":
            continue
        of = entities[field.side]
        found = _values(log, field, census, numbering, of)
        notes += varying_notes(field, found)
        encoded.append(encode_field(field, found.table, of, log.name, min_count))
    of_context = [encode_context(one, census, numbering, min_count, folder) for one in context]
    notes += [*wide_notes(encoded), *untold_notes(one.field for one in encoded if not one.told)]
    notes += untold_notes(one.field for one in of_context if not one.told)
    recipe = Recipe(
        numbering=numbering,
        context=of_context,
        negatives=config.negatives,
        chances=None if census.labelled else chances_of(numbering.items, config.negatives),
    )
    return census, recipe, encoded, notes


def _values(
    log: ClickLog, field: Field, census: Census, numbering: Numbering, entities: Entities
) -> TrainingValues:
    """A table of entities with the column of a user or item field."""
    if log.described is None:
        return TrainingValues(log.users if field.side == "user" else log.items)
    rows = log.described
    if census.until is not None:
        rows = rows.filter(pl.col("timestamp") < census.until)
    users = census.columns["user"].values
    ends = pl.DataFrame({"user": users, "held_out_from": numbering.held_out_from})
    trained = entities.vocabulary.values.filter(entities.train_rows[FIRST_ID:] > 0)
    return training_values(rows, field.side, field.name, ends, trained)


def _write_entities(
    folder: Path,
    log: Numbering,
    encoded: Sequence[EncodedField],
    context: Sequence[ContextField],
) -> None:
    """Vocabularies, attribute tables and the train clicks of each item."""
    for name in ("vocabularies", "attributes"):
        (folder / name).mkdir()
    vocabularies = {"user": log.users.vocabulary, "item": log.items.vocabulary}
    vocabularies |= {one.field.name: one.vocabulary for one in encoded if one.vocabulary}
    vocabularies |= {one.field.name: one.vocabulary for one in context if one.vocabulary}
    for name, vocabulary in vocabularies.items():
        vocabulary.write(folder / "vocabularies" / f"{name}.parquet")
    for one in encoded:
        name = f"{one.field.side}_{one.field.name}.npy"
        np.save(folder / "attributes" / name, entity_table(one))
    np.save(folder / "item_count.npy", log.items.train_clicks)


def _write_samples(folder: Path, recipe: Recipe) -> tuple[int, list[Summary]]:
    """Write the columns of all rows; returns how many clicks there are, and what each split has."""
    n_clicks, n_rows = 0, np.zeros(len(SPLITS), dtype=np.int64)
    summaries: list[list[Summary]] = [[] for _ in SPLITS]
    with contextlib.ExitStack() as stack:

        def files(under: Path, names: Iterable[str]) -> Files:
            return {name: stack.enter_context(ArrayFile(under / f"{name}.npy")) for name in names}

        whole: Files = {}
        splits: list[Files] = []
        for piece in in_order(recipe.make, recipe.numbering.blocks):
            if not whole:
                for name in SPLITS:
                    (folder / name).mkdir()
                whole = files(folder, piece.whole)
                splits = [files(folder / name, piece.columns[0]) for name in SPLITS]
            _write_split(whole, piece.whole)
            for part, columns in enumerate(piece.columns):
                _write_split(splits[part], columns)
                summaries[part].append(piece.summaries[part])
            n_clicks += len(piece.whole["clicks"])
            n_rows += piece.n_rows
    found = [total(of_split) for of_split in summaries]
    for name, summary, count in zip(SPLITS, found, n_rows, strict=True):
        check_labels(name, summary, int(count), recipe.negatives if recipe.chances else None)
    return n_clicks, found


def _write_split(files: Files, columns: Mapping[str, npt.NDArray[Any]]) -> None:
    for name, column in columns.items():
        files[name].append(column)


def _schema(log: Numbering, fields: Iterable[Field]) -> Schema:
    users, items = log.users.vocabulary, log.items.vocabulary
    return Schema(
        n_users=users.size_known,
        n_items=items.size_known,
        n_user_entities=users.size,
        n_item_entities=items.size,
        fields=tuple(fields),
    )


def _protocol(config: PrepareSettings, labelled: bool) -> dict[str, Any]:
    """What a result on this dataset must name."""
    split = {"split": config.split.kind, "ties": config.split.ties}
    if labelled:
        return {**split, "labels": "impressions"}
    return {**split, "labels": "sampled", **as_values(config.negatives)}
