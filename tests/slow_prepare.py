"""Preparation as it is meant, in memory and a row at a time: what `prepare` must equal."""

import collections
import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from aqcl import negatives
from aqcl.click_log import ClickLog, take_users
from aqcl.config import as_values
from aqcl.prepare.attributes import EncodedField, encode_column, entity_table
from aqcl.prepare.pipeline import PrepareSettings
from aqcl.prepare.remarks import repeat_notes, untold_notes
from aqcl.prepare.samples import NegativeSettings
from aqcl.schema import FIRST_ID, PADDING, Field, Schema
from aqcl.splits import SPLITS, TRAIN, assign, moment
from aqcl.storage import Manifest, fingerprint, write_manifest
from aqcl.streams import derive_seed
from aqcl.vocab import Vocabulary

Row = dict[str, Any]


def slow_prepare(log: ClickLog, config: PrepareSettings, out: Path) -> Path:
    """Write the dataset of a log that has no faults."""
    log = take_users(log, config.user_share)
    rows, n_left_out = _sorted_rows(log, config)
    labelled = "label" in log.rows.collect_schema()
    names = {side: _number(rows, side, config) for side in ("user", "item")}
    for row in rows:
        row["user id"], row["item id"] = (names[side][1][row[side]] for side in ("user", "item"))
    rows.sort(key=lambda row: row["user id"])
    clicks = _add_histories(rows, config.split.ties)
    for folder in ("", "vocabularies", "attributes", *SPLITS):
        (out / folder).mkdir()
    wanted = [f for f in log.fields if config.fields is None or f.name in config.fields]
    encoded = [_encode(field, log, rows, names, config) for field in wanted]
    _write_entities(out, rows, names, encoded)
    np.save(out / "clicks.npy", np.array(clicks, dtype=np.int32))
    sampler = None if labelled else _make_sampler(out, rows, names, config)
    samples = [_samples(rows, part, sampler, config) for part in range(len(SPLITS))]
    facts = _facts(rows, clicks, names, samples)
    facts |= _repeats(rows, clicks, labelled=labelled)
    for name, found in zip(SPLITS, samples, strict=True):
        _write_columns(out / name, found, encoded)
    protocol = {"split": config.split.kind, "ties": config.split.ties}
    sampled = {"labels": "sampled", **as_values(config.negatives)}
    left_out = f"{n_left_out:,} rows from split.until = {config.split.until} on left out"
    notes = [left_out] if n_left_out else []
    if labelled and config.negatives != NegativeSettings():
        notes.append("the settings of negatives do nothing: the log has labels, and none is drawn")
    # Those of users and items come first.
    by_side = sorted(encoded, key=lambda one: one.field.side == "context")
    notes += untold_notes(one.field for one in by_side if not one.told)
    content = {
        "name": log.name,
        "simulated": log.simulated,
        "notes": [*log.notes, *notes, *repeat_notes(facts, labelled=labelled)],
        "time_unit": log.time_unit,
        "schema": _schema(names, encoded),
        "protocol": {**protocol, **({"labels": "impressions"} if labelled else sampled)},
        "rows_left_out_by_until": n_left_out,
        **facts,
    }
    files = sorted(path for path in out.rglob("*") if path.is_file())
    settings = as_values(config)
    without_choice = labelled or config.negatives.train_items == "all"  # as before there was one
    kept = {k: v for k, v in settings["negatives"].items() if k != "train_items"}
    identifying = {**settings, "negatives": kept} if without_choice else settings
    if (config.split.kind, config.split.ties) == ("last-interaction", "exclude"):
        moments = {**settings["split"], "interaction": "moment"}  # once it was one row of several
        identifying = {**identifying, "split": moments}
    made_of = fingerprint({"settings": identifying}, files)
    write_manifest(out, Manifest("aqcl-dataset", made_of, settings, content=content))
    return out


def _sorted_rows(log: ClickLog, config: PrepareSettings) -> tuple[list[Row], int]:
    """By user, time and place in the file, with the split of each."""
    every_row = log.rows.collect().to_dicts()
    rows = every_row
    if config.split.until is not None:
        until = moment(config.split.until, log.time_unit, "until")
        rows = [row for row in rows if row["timestamp"] < until]
    rows = sorted(rows, key=lambda row: (row["user"], row["timestamp"]))
    users = sorted({row["user"] for row in rows})
    user = np.array([users.index(row["user"]) for row in rows])
    timestamp = np.array([row["timestamp"] for row in rows])
    parts = assign(user, timestamp, config.split, log.time_unit)
    for row, part in zip(rows, parts, strict=True):
        row["part"] = int(part)
        row.setdefault("label", 1)
    return rows, len(every_row) - len(rows)


def _number(rows: list[Row], side: str, config: PrepareSettings) -> tuple[Vocabulary, Any]:
    """The vocabulary, known values first, and the id of each value."""
    counts = collections.Counter(row[side] for row in rows if row["part"] == TRAIN)
    values = sorted({row[side] for row in rows})
    known = [value for value in values if counts[value] >= config.vocabulary.min_count]
    values = known + [value for value in values if value not in known]
    ids = {value: FIRST_ID + place for place, value in enumerate(values)}
    return Vocabulary(pl.Series(side, values), len(known) + FIRST_ID), ids


def _add_histories(rows: list[Row], ties: str) -> list[int]:
    """Where each row's clicks stand among all clicks, which are returned."""
    clicks: list[int] = []
    start, user = 0, None
    for number, row in enumerate(rows):
        if row["user"] != user:
            start, user = len(clicks), row["user"]
        earlier = [
            one
            for one in rows[:number]
            if one["user"] == user and (ties == "order" or one["timestamp"] < row["timestamp"])
        ]
        row["history start"] = start
        row["history length"] = sum(one["label"] for one in earlier)
        if row["label"]:
            clicks.append(row["item id"])
    return clicks


def _encode(
    field: Field, log: ClickLog, rows: list[Row], names: Any, config: PrepareSettings
) -> EncodedField:
    trains = [row for row in rows if row["part"] == TRAIN]
    if field.side == "context":
        dtype = log.rows.collect_schema()[field.name]
        values = pl.Series(field.name, [row[field.name] for row in rows], dtype=dtype)
        counts = np.array([int(row["part"] == TRAIN) for row in rows])
    else:
        table = log.users if field.side == "user" else log.items
        assert table is not None
        entities = names[field.side][0].values.alias(field.side).to_frame()
        values = entities.join(table, on=field.side, how="left", maintain_order="left")[field.name]
        found = collections.Counter(row[field.side] for row in trains)
        counts = np.array([found[value] for value in entities[field.side]])
    return encode_column(field, values, counts, config.vocabulary.min_count)


def _write_entities(out: Path, rows: list[Row], names: Any, encoded: list[EncodedField]) -> None:
    for side, (vocabulary, _) in names.items():
        vocabulary.write(out / "vocabularies" / f"{side}.parquet")
    for one in encoded:
        if one.vocabulary is not None:
            one.vocabulary.write(out / "vocabularies" / f"{one.field.name}.parquet")
        if one.field.side != "context":
            file = out / "attributes" / f"{one.field.side}_{one.field.name}.npy"
            np.save(file, entity_table(one))
    np.save(out / "item_count.npy", _train_clicks(rows, "item", names))


def _train_clicks(rows: list[Row], side: str, names: Any) -> Any:
    counts = np.zeros(names[side][0].size, dtype=np.int64)
    for row in rows:
        counts[row[f"{side} id"]] += row["part"] == TRAIN and row["label"]
    return counts


def _make_sampler(out: Path, rows: list[Row], names: Any, config: PrepareSettings) -> Any:
    """Weights, the pairs that training avoids and those that the rest avoids."""

    def seen(of: list[Row]) -> Any:
        return np.array(sorted({(row["user id"] << 32) + row["item id"] for row in of}))

    train_only = config.negatives.exclude == "train"
    counts = _train_clicks(rows, "item", names)
    cdf = negatives.cumulative_weights(counts, config.negatives.beta)
    clicked = config.negatives.train_items == "clicked"
    train_cdf = negatives.cumulative_weights(counts, config.negatives.beta, clicked=clicked)
    in_train = seen([row for row in rows if row["part"] == TRAIN or not train_only])
    np.save(out / "negative_cdf.npy", train_cdf)
    np.save(out / "seen.npy", in_train)
    return train_cdf, cdf, in_train, seen(rows)


def _samples(rows: list[Row], part: int, sampler: Any, config: PrepareSettings) -> list[Row]:
    chosen = [dict(row, row=n) for n, row in enumerate(rows) if row["part"] == part]
    if sampler is None:
        return chosen
    samples = []
    train_cdf, cdf, in_train, seen = sampler
    seed = derive_seed(config.negatives.seed, "negatives", step=part)
    for row in chosen:
        samples.append(row)
        for _ in range(config.negatives.ratio):
            user, place = np.array([row["user id"]]), np.array([len(samples)])
            chances, avoided = (train_cdf, in_train) if part == TRAIN else (cdf, seen)
            item = int(negatives.draw(user, place, chances, avoided, seed)[0])
            samples.append({**row, "item id": item, "label": 0})
    return samples


def _write_columns(folder: Path, samples: list[Row], encoded: list[EncodedField]) -> None:
    legal = [sample for sample in samples if sample["item id"] != PADDING]
    columns = {
        "user": ("user id", np.int32),
        "item": ("item id", np.int32),
        "label": ("label", np.int8),
        "timestamp": ("timestamp", np.int64),
        "history_start": ("history start", np.int64),
        "history_length": ("history length", np.int32),
    }
    for name, (key, dtype) in columns.items():
        np.save(folder / f"{name}.npy", np.array([one[key] for one in legal], dtype=dtype))
    for field in encoded:
        if field.field.side == "context":
            values = field.table[[one["row"] for one in legal]].ravel()
            np.save(folder / f"context_{field.field.name}.npy", values)


def _schema(names: Any, encoded: list[EncodedField]) -> Any:
    users, items = names["user"][0], names["item"][0]
    fields = tuple(one.field for one in encoded)
    return dataclasses.asdict(
        Schema(users.size_known, items.size_known, users.size, items.size, fields)
    )


def _facts(rows: list[Row], clicks: list[int], names: Any, samples: list[list[Row]]) -> Any:
    legal = [[one for one in of if one["item id"] != PADDING] for of in samples]
    active = [count for count in _train_clicks(rows, "user", names) if count]
    tested: dict[int, int] = {}
    for one in legal[2]:
        tested.setdefault(one["user id"], one["history length"])
    activity = sorted(tested.values())
    n_known = names["item"][0].size_known

    def unknown(of: list[Row], label: int) -> float:
        items = [one["item id"] for one in of if one["label"] == label]
        return float(np.mean([item >= n_known for item in items]))

    return {
        "counts": {
            "users": len(names["user"][1]),
            "items": len(names["item"][1]),
            "rows": len(rows),
            "clicks": len(clicks),
            "splits": {
                name: {
                    "rows": len(of),
                    "positives": sum(one["label"] for one in of),
                    "users": len({one["user id"] for one in of}),
                }
                for name, of in zip(SPLITS, legal, strict=True)
            },
        },
        "mean_activity": sum(map(int, active)) / len(active) if active else 0.0,
        "unknown_items": {
            name: {"positives": unknown(of, 1), "negatives": unknown(of, 0)}
            for name, of in zip(SPLITS, legal, strict=True)
        },
        "users_without_negative": len(
            {one["user id"] for of in samples for one in of if one["item id"] == PADDING}
        ),
        "activity_thresholds": [
            next(a for n, a in enumerate(activity, 1) if 100 * n >= share * len(activity))
            for share in (60, 90)
        ],
    }


def _repeats(rows: list[Row], clicks: list[int], *, labelled: bool) -> Any:
    seen: list[Any] = []
    copies = 0
    for row in rows:
        told = [row[key] for key in ("user", "item", "timestamp", "label")]
        copies += told in seen
        seen.append(told)
    again = {}
    for part, name in enumerate(SPLITS):
        of = [row for row in rows if row["part"] == part and row["label"]]
        before = [clicks[row["history start"] :][: row["history length"]] for row in of]
        found = [row["item id"] in one for row, one in zip(of, before, strict=True)]
        again[name] = 0.0 if labelled else float(np.mean(found))
    return {"copies": copies, "clicked_again": again}
