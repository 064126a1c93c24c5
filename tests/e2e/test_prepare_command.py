"""prepare as a user calls it."""

import json
from pathlib import Path
from typing import Any

import pytest

from aqcl.config import to_toml
from tests.e2e.commands import Outcome, click_log, digest, fails, succeeds


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("prepare") / "log.parquet"
    click_log().write_parquet(path)
    return path


def counts_of(outcome: Outcome) -> dict[str, Any]:
    counts: dict[str, Any] = outcome.json["counts"]
    return counts


def test_prepare_tells_what_it_made(log: Path, tmp_path: Path) -> None:
    outcome = succeeds("prepare", log, "-o", tmp_path / "data", "--label", "label")
    text = " ".join(outcome.out.split())
    assert "dataset log in" in text
    assert "users 240 items 40" in text
    assert "protocol split last-days, ties exclude, labels impressions" in text
    assert "2880 rows in 1 files" in outcome.err


def test_prepare_reads_csv_and_parquet_alike(log: Path, tmp_path: Path) -> None:
    click_log().write_csv(tmp_path / "log.csv")
    options = ("--label", "label", "--json")
    parquet = succeeds("prepare", log, "--out", tmp_path / "p", *options)
    csv = succeeds("prepare", tmp_path / "log.csv", "--out", tmp_path / "c", *options)
    assert counts_of(csv) == counts_of(parquet)
    for name in ("clicks.npy", "test/item.npy", "train/history_length.npy"):
        assert digest(tmp_path / "p" / name) == digest(tmp_path / "c" / name)


def test_prepare_reads_several_files(log: Path, tmp_path: Path) -> None:
    frame = click_log()
    frame[:1000].write_parquet(tmp_path / "part-1.parquet")
    frame[1000:].write_parquet(tmp_path / "part-2.parquet")
    options = ("--label", "label", "--json")
    whole = succeeds("prepare", log, "--out", tmp_path / "whole", *options)
    named = sorted(tmp_path.glob("part-*"))
    parts = succeeds("prepare", *named, "--out", tmp_path / "parts", *options)
    pattern = succeeds("prepare", tmp_path / "part-*.parquet", "--out", tmp_path / "all", *options)
    assert counts_of(whole) == counts_of(parts) == counts_of(pattern)


def test_prepare_maps_columns_by_name_and_takes_settings_by_flag(tmp_path: Path) -> None:
    renamed = {"user": "uid", "item": "sku", "timestamp": "ts", "label": "clicked"}
    click_log().rename(renamed).write_parquet(tmp_path / "log.parquet")
    columns = [word for role, name in renamed.items() for word in (f"--{role}", name)]
    settings = ("--set", "source.user_columns.age=categorical", "--set", "vocabulary.min_count=2")
    arguments = (tmp_path / "log.parquet", "--out", tmp_path / "data", *columns, *settings)
    made = succeeds("prepare", *arguments, "--json").json
    assert [field["name"] for field in made["schema"]["fields"]] == ["age"]
    assert (tmp_path / "data" / "vocabularies" / "age.parquet").exists()
    manifest = json.loads((tmp_path / "data" / "manifest.json").read_text())
    assert manifest["settings"]["vocabulary"]["min_count"] == 2


def test_prepare_takes_settings_from_a_file_and_overrides_them(log: Path, tmp_path: Path) -> None:
    (tmp_path / "settings.toml").write_text(
        to_toml(
            {
                "source": {"name": "table", "path": str(log), "label": "label"},
                "split": {"kind": "last-interaction"},
                "user_share": 0.5,
            }
        )
    )
    file = tmp_path / "settings.toml"
    made = succeeds("prepare", file, "--out", tmp_path / "a", "--json").json
    assert made["protocol"]["split"] == "last-interaction"
    assert made["counts"]["users"] == 120
    changed = ("--set", "user_share=1", "--set", "split.kind=last-day")
    made = succeeds("prepare", file, "--out", tmp_path / "b", *changed, "--json").json
    assert made["protocol"]["split"] == "last-day"
    assert made["counts"]["users"] == 240


def test_prepare_draws_negatives_where_there_are_no_labels(tmp_path: Path) -> None:
    click_log().filter(label=1).drop("label").write_csv(tmp_path / "clicks.csv")
    arguments = (tmp_path / "clicks.csv", "--out", tmp_path / "data")
    made = succeeds("prepare", *arguments, "--set", "negatives.beta=0.75", "--json").json
    assert made["protocol"]["labels"] == "sampled"
    assert made["protocol"]["beta"] == 0.75
    train = made["counts"]["splits"]["train"]
    assert train["rows"] == 2 * train["positives"]


def test_prepare_does_the_same_work_once(log: Path, tmp_path: Path) -> None:
    out = tmp_path / "data"
    arguments = ("prepare", log, "--out", out, "--label", "label")
    first = succeeds(*arguments, "--json")
    inode = (out / "manifest.json").stat().st_ino
    again = succeeds(*arguments, "--json")
    assert again.json == first.json
    assert (out / "manifest.json").stat().st_ino == inode
    assert "is already prepared" in again.err
    other = (*arguments, "--set", "vocabulary.min_count=3")
    message = fails(*other)
    assert "made from other data or settings; choose another --out, remove it, or" in message
    assert "with `aqcl prepare --overwrite`" in message
    assert (out / "manifest.json").stat().st_ino == inode
    replaced = succeeds(*other, "--overwrite", "--json")
    assert replaced.json["fingerprint"] != first.json["fingerprint"]


# train


def test_all_mistakes_of_a_preparation_are_told_at_once(log: Path, tmp_path: Path) -> None:
    wrong = {
        "negatives.beta=-1": "negatives.beta: Input should be greater than or equal to 0, got -1",
        "user_share=2": "user_share: Input should be less than or equal to 1, got 2",
        "vocabulary.min_cuont=2": "vocabulary.min_cuont: unknown key; did you mean 'min_count'?",
        "split.kind=first-days": "split.kind: Input should be 'last-interaction', 'last-day'",
    }
    settings = [word for assignment in wrong for word in ("--set", assignment)]
    message = fails("prepare", log, "--label", "label", "--out", tmp_path / "data", *settings)
    assert [text for text in wrong.values() if text not in message] == []
