"""Logs that are odd or wrong: each ends in a sensible result or in a message that says why."""

from pathlib import Path
from typing import Any

import polars as pl
import pytest

from aqcl.dataset import open_dataset
from tests.e2e.commands import click_log, fails, succeeds, write_experiment

ROW = 17
"""The row that is changed, counted from 0; messages count from 1."""
LABELS = ("--label", "label")
LARGEST_ID = 2**63 - 1
FUTURE = 4_000_000_000
"""In the year 2096; the log ends in December 2023."""


@pytest.fixture(scope="module")
def log() -> pl.DataFrame:
    return click_log(n_users=60)


def with_value(frame: pl.DataFrame, column: str, value: Any) -> pl.DataFrame:
    """One value of a column changed, in whatever type holds it."""
    values: list[Any] = frame[column].to_list()
    values[ROW] = value
    return frame.with_columns(pl.Series(column, values, strict=False))


def prepare_fails(frame: pl.DataFrame, place: Path, *options: object) -> str:
    """The message for a log, without the place where it lies; nothing is left on disk."""
    frame.write_parquet(place / "log.parquet")
    message = fails("prepare", place / "log.parquet", "--out", place / "data", *options)
    assert [path.name for path in place.iterdir()] == ["log.parquet"]
    return message.replace(f"{place}/", "")


def prepare_succeeds(frame: pl.DataFrame, place: Path, *options: object) -> dict[str, Any]:
    frame.write_parquet(place / "log.parquet")
    arguments = ("prepare", place / "log.parquet", "--out", place / "data", *options)
    made: dict[str, Any] = succeeds(*arguments, "--json").json
    return made


def train_and_evaluate(place: Path) -> dict[str, Any]:
    """What a model makes of the test rows of a prepared log."""
    experiment = write_experiment(place / "x.toml", place / "data")
    succeeds("train", experiment, "--out", place / "run", "--json")
    measured = succeeds("evaluate", place / "run", "--json").json
    everyone: dict[str, Any] = measured[str(place / "run")]["groups"][0]
    return everyone


# columns


def test_a_wrong_column_is_an_error_that_names_a_near_one(
    log: pl.DataFrame, tmp_path: Path
) -> None:
    message = prepare_fails(log.rename({"user": "user_id"}), tmp_path, *LABELS)
    assert message == (
        "log.parquet: column 'user' is missing; name it with --user COLUMN; "
        "did you mean 'user_id'? known: age, item, label, timestamp, user_id"
    )
    renamed = ("--user", "user_id", *LABELS)
    assert prepare_succeeds(log.rename({"user": "user_id"}), tmp_path, *renamed)


@pytest.mark.parametrize(("character", "spelled"), [("\t", r"\t"), (";", ";"), ("|", "|")])
def test_another_delimiter_is_told_and_taken(
    log: pl.DataFrame, tmp_path: Path, character: str, spelled: str
) -> None:
    log.write_csv(tmp_path / "log.csv", separator=character)
    command = ("prepare", tmp_path / "log.csv", "--out", tmp_path / "data", *LABELS)
    advice = ("--set", f"source.delimiter={spelled}")
    assert f"column 'user' is missing; set the delimiter with --set '{advice[1]}'; known: " in (
        fails(*command)
    )
    assert succeeds(*command, *advice, "--json").json["counts"]["users"] == 60


def test_a_label_that_nobody_mapped_is_an_error(log: pl.DataFrame, tmp_path: Path) -> None:
    message = prepare_fails(log, tmp_path)
    assert "there is a column 'label'; learn from it with `--label label`" in message


# values


@pytest.mark.parametrize(("label", "shown"), [(2, "2"), (-1, "-1"), (None, "nothing")])
def test_a_label_other_than_0_and_1_is_an_error_with_its_row(
    label: int | None, shown: str, log: pl.DataFrame, tmp_path: Path
) -> None:
    message = prepare_fails(with_value(log, "label", label), tmp_path, *LABELS)
    assert f"row 18, column 'label': expected 0 or 1, got {shown};" in message


def test_in_csv_too(log: pl.DataFrame, tmp_path: Path) -> None:
    with_value(log, "label", 2).write_csv(tmp_path / "log.csv")
    message = fails("prepare", tmp_path / "log.csv", "--out", tmp_path / "data", *LABELS)
    assert "log.csv: row 18, column 'label': expected 0 or 1, got '2';" in message


@pytest.mark.parametrize("column", ["user", "item", "timestamp"])
def test_a_missing_value_is_an_error_with_its_row(
    column: str, log: pl.DataFrame, tmp_path: Path
) -> None:
    message = prepare_fails(with_value(log, column, None), tmp_path, *LABELS)
    assert f"row 18, column '{column}': expected " in message
    assert ", got nothing;" in message


def test_a_timestamp_that_is_not_a_number_is_an_error(log: pl.DataFrame, tmp_path: Path) -> None:
    frame = with_value(log.cast({"timestamp": pl.Float64}), "timestamp", float("nan"))
    message = prepare_fails(frame, tmp_path, *LABELS)
    assert "column 'timestamp' has type Float64, but a timestamp must be an integer" in message


def test_the_largest_user_id_is_a_user_like_any(log: pl.DataFrame, tmp_path: Path) -> None:
    frame = log.with_columns(
        user=pl.when(user=ROW).then(pl.lit(LARGEST_ID)).otherwise(pl.col("user"))
    )
    made = prepare_succeeds(frame, tmp_path, *LABELS)
    assert made["counts"]["users"] == 60
    dataset = open_dataset(tmp_path / "data")
    ids = dataset.vocabularies["user"].encode(pl.Series([LARGEST_ID, LARGEST_ID - 1]))
    assert dataset.vocabularies["user"].decode(ids)[0] == LARGEST_ID
    assert ids[1] == 1  # unknown, and not confused with its neighbour
    assert train_and_evaluate(tmp_path)["users"] == 60
    frame.write_csv(tmp_path / "log.csv")
    arguments = ("prepare", tmp_path / "log.csv", "--out", tmp_path / "csv", *LABELS, "--json")
    assert succeeds(*arguments).json["counts"] == made["counts"]


def test_a_user_id_beyond_it_is_an_error(log: pl.DataFrame, tmp_path: Path) -> None:
    frame = with_value(log.cast({"user": pl.UInt64}), "user", LARGEST_ID + 1)
    message = prepare_fails(frame, tmp_path, *LABELS)
    assert f"row 18, column 'user': expected an integer below 2^63, got {LARGEST_ID + 1};" in (
        message
    )


@pytest.mark.parametrize("suffix", ["parquet", "csv"])
def test_an_emoji_is_an_item_like_any(suffix: str, log: pl.DataFrame, tmp_path: Path) -> None:
    items = [f"i{item}" if item else "🧴👩‍👩‍👧" for item in log["item"]]
    frame = log.with_columns(pl.Series("item", items))
    path = tmp_path / f"log.{suffix}"
    _ = frame.write_csv(path) if suffix == "csv" else frame.write_parquet(path)
    arguments = ("prepare", path, "--out", tmp_path / "data", *LABELS, "--json")
    assert succeeds(*arguments).json["counts"]["items"] == 40
    items_known = open_dataset(tmp_path / "data").vocabularies["item"]
    ids = items_known.encode(pl.Series(["🧴👩‍👩‍👧", "🧴"]))
    assert items_known.decode(ids)[0] == "🧴👩‍👩‍👧"
    assert ids[1] == 1
    assert train_and_evaluate(tmp_path)["auc"] is not None


# time


def test_one_far_timestamp_leaves_no_validation_and_is_named(
    log: pl.DataFrame, tmp_path: Path
) -> None:
    frame = with_value(log, "timestamp", FUTURE)
    message = prepare_fails(frame, tmp_path, *LABELS)
    assert "split valid would be empty" in message
    assert "the largest are 2096-10-02 07:06:40 (1 rows)" in message
    assert "far too late out with split.until and choose the cuts anew" in message
    advice = ("--set", "split.until=2024-01-01", "--set", "split.days=4")
    made = prepare_succeeds(frame, tmp_path, *LABELS, *advice)
    assert made["rows_left_out_by_until"] == 1
    assert sum(split["rows"] for split in made["counts"]["splits"].values()) == len(log) - 1


def test_milliseconds_taken_for_seconds_are_an_error_whose_advice_helps(
    log: pl.DataFrame, tmp_path: Path
) -> None:
    frame = log.with_columns(pl.col("timestamp") * 1000)
    message = prepare_fails(frame, tmp_path, *LABELS)
    latest = int(frame["timestamp"].to_numpy().max())
    assert message == (
        f"log.parquet: column 'timestamp': the latest time, {latest}, lies beyond the year 5000 in "
        "seconds; if it is in milliseconds, use --set source.time_unit=millisecond, else correct "
        "or remove such rows"
    )
    prepare_succeeds(frame, tmp_path, *LABELS, "--set", "source.time_unit=millisecond")


def test_a_timestamp_after_the_cuts_tests_and_nothing_else(
    log: pl.DataFrame, tmp_path: Path
) -> None:
    cuts = ("kind=time", "valid_from=2023-12-01", "test_from=2023-12-04")
    options = [word for cut in cuts for word in ("--set", f"split.{cut}")]
    frame = with_value(log, "timestamp", FUTURE)
    prepare_succeeds(frame, tmp_path, *LABELS, *options)
    dataset = open_dataset(tmp_path / "data")
    assert (dataset.test.columns["timestamp"] == FUTURE).sum() == 1
    for split in (dataset.train, dataset.valid):
        assert split.columns["timestamp"].max() < FUTURE


def test_a_cut_after_the_last_row_is_an_error(log: pl.DataFrame, tmp_path: Path) -> None:
    cuts = ("kind=time", "valid_from=2023-12-01", "test_from=2050-01-01")
    options = [word for cut in cuts for word in ("--set", f"split.{cut}")]
    message = prepare_fails(log, tmp_path, *LABELS, *options)
    assert message.startswith("split test would be empty (720 rows, split.kind = 'time')")
    assert "test_from = 2050-01-01; move the cuts with split.valid_from and split.test_from" in (
        message
    )


# files


@pytest.mark.parametrize("kept", [0.0, 0.3, 0.99])
def test_a_truncated_parquet_file_is_an_error_that_names_it(
    kept: float, log: pl.DataFrame, tmp_path: Path
) -> None:
    path = tmp_path / "log.parquet"
    log.write_parquet(path)
    path.write_bytes(path.read_bytes()[: int(kept * path.stat().st_size)])
    message = fails("prepare", path, "--out", tmp_path / "data", *LABELS)
    assert message.startswith(f"{path}: cannot be read, is it whole?")
    assert not (tmp_path / "data").exists()


def test_a_parquet_file_that_is_damaged_inside_is_an_error(
    log: pl.DataFrame, tmp_path: Path
) -> None:
    path = tmp_path / "log.parquet"
    log.write_parquet(path)
    content = path.read_bytes()
    path.write_bytes(content[:100] + bytes(400) + content[500:])
    message = fails("prepare", path, "--out", tmp_path / "data", *LABELS)
    assert message.startswith(f"{path}: cannot be read, is it whole?")
    assert not (tmp_path / "data").exists()


@pytest.mark.parametrize("row", [0, 500])
def test_text_in_another_encoding_is_an_error_that_says_how_to_write_it_anew(
    row: int, log: pl.DataFrame, tmp_path: Path
) -> None:
    path = tmp_path / "log.csv"
    lines = log.write_csv().encode().splitlines(keepends=True)
    lines[1 + row] = "né".encode("latin1") + lines[1 + row]
    path.write_bytes(b"".join(lines))
    message = fails("prepare", path, "--out", tmp_path / "data", *LABELS)
    assert message.startswith(f"{path}: expected UTF-8 text, got bytes of another encoding")
    assert f"`iconv -f latin1 -t utf-8 {path} > {tmp_path}/utf8-log.csv`" in message
    assert not (tmp_path / "data").exists()


def test_utf_16_is_told_from_other_encodings(log: pl.DataFrame, tmp_path: Path) -> None:
    path = tmp_path / "log.csv"
    path.write_bytes(log.write_csv().encode("utf-16"))
    message = fails("prepare", path, "--out", tmp_path / "data", *LABELS)
    assert f"`iconv -f utf-16 -t utf-8 {path} > {tmp_path}/utf8-log.csv`" in message


def test_an_empty_file_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "log.csv").write_text("")
    message = fails("prepare", tmp_path / "log.csv", "--out", tmp_path / "data")
    assert "log.csv: the file is empty; a header and rows are expected" in message


# rows


@pytest.mark.parametrize("suffix", ["parquet", "csv"])
def test_no_rows_are_an_error(suffix: str, log: pl.DataFrame, tmp_path: Path) -> None:
    path = tmp_path / f"log.{suffix}"
    _ = log[:0].write_csv(path) if suffix == "csv" else log[:0].write_parquet(path)
    message = fails("prepare", path, "--out", tmp_path / "data", *LABELS)
    assert message == f"{path}: no rows"


def test_one_row_cannot_be_split(log: pl.DataFrame, tmp_path: Path) -> None:
    message = prepare_fails(log[:1].drop("label"), tmp_path)
    assert message.startswith("split valid and test would be empty (1 rows")
    assert "use split.kind = 'time' or a longer log" in message


def test_one_labelled_row_has_one_kind_of_label(log: pl.DataFrame, tmp_path: Path) -> None:
    assert "column label: every row is" in prepare_fails(log[:1], tmp_path, *LABELS)


def test_all_positives_are_an_error_whose_advice_helps(log: pl.DataFrame, tmp_path: Path) -> None:
    frame = log.with_columns(label=pl.lit(1))
    message = prepare_fails(frame, tmp_path, *LABELS)
    assert "every row is 1 (a click); drop the label column to have negatives drawn" in message
    assert "source.label = ''" in message
    made = prepare_succeeds(frame, tmp_path, "--set", "source.label=''")
    assert made["protocol"]["labels"] == "sampled"
    train = made["counts"]["splits"]["train"]
    assert train["rows"] == 2 * train["positives"]
    assert train_and_evaluate(tmp_path)["auc"] is not None


def test_all_negatives_are_an_error(log: pl.DataFrame, tmp_path: Path) -> None:
    message = prepare_fails(log.with_columns(label=pl.lit(0)), tmp_path, *LABELS)
    assert "every row is 0 (no click); check how clicks are marked" in message


def test_a_split_of_one_kind_of_label_is_an_error(log: pl.DataFrame, tmp_path: Path) -> None:
    last = pl.col("timestamp") >= pl.col("timestamp").max() - 86_400
    frame = log.with_columns(label=pl.when(last).then(1).otherwise(pl.col("label")))
    message = prepare_fails(frame, tmp_path, *LABELS, "--set", "split.days=4")
    assert "all of them clicks; it needs both labels" in message
