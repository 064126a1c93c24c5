import json
from pathlib import Path
from typing import get_args

import pytest

from aqcl.config import settings
from aqcl.describe import KINDS, Kind, Option, describe, describe_directory, names, options_of
from aqcl.errors import ConfigError, StorageError
from tests.run_directories import scored_run, small_dataset

PARTS = [(kind, name) for kind in KINDS for name in names(kind)]


@settings
class Inner:
    depth: int = 3
    """How deep."""


@settings
class Outer:
    inner: Inner
    """Not shown, its keys are."""
    path: str
    """Where,
    over two lines."""
    rate: float | None = None
    """How often."""
    exact: bool = True
    """Whether exact."""
    ratio: float = 1.0
    """A number that equals true."""


def test_kinds_are_listed_once() -> None:
    assert get_args(Kind) == KINDS


@pytest.mark.parametrize(("kind", "name"), PARTS)
def test_every_option_has_a_type_a_meaning_and_a_place(kind: Kind, name: str) -> None:
    found = describe(kind, name)
    assert found.name == name
    assert found.summary
    assert found.options
    prefix = {"backbone": "backbone.", "dataset": "source.", "prepare": ""}.get(kind, f"{kind}.")
    for option in found.options:
        assert option.meaning.endswith("."), option.key
        assert option.type != "value", option.key
        assert option.key.startswith(prefix)


def test_the_parts_of_each_kind_are_those_of_the_tables() -> None:
    assert "din" in names("backbone")
    assert {"aqcl", "icl"} <= set(names("regularizer"))
    assert {"table", "oncold"} <= set(names("dataset"))
    assert names("train") == ["train"]


def test_keys_types_defaults_and_bounds() -> None:
    options = {option.key: option for option in describe("train").options}
    assert options["train.lr"] == Option("train.lr", "float > 0", "0.001", "Learning rate of Adam.")
    assert options["train.epochs"].type == "integer >= 1"
    assert options["train.monitor"].type == "auc | logloss"
    nested = {option.key: option for option in describe("regularizer", "aqcl").options}
    assert nested["regularizer.aqcl.view.mask_rate"].type == "float >= 0, < 1"
    assert nested["regularizer.aqcl.constant_alpha"].default == "not set"


def test_nested_classes_have_dotted_keys_and_required_keys_no_default() -> None:
    assert options_of(Outer, "x.") == (
        Option("x.inner.depth", "integer", "3", "How deep."),
        Option("x.path", "text", "", "Where, over two lines."),
        Option("x.rate", "float", "not set", "How often."),
        Option("x.exact", "boolean", "true", "Whether exact."),
        Option("x.ratio", "float", "1.0", "A number that equals true."),
    )


@pytest.mark.parametrize(
    ("kind", "name", "near"),
    [("backbone", "dinn", "din"), ("regularizer", "aqlc", "aqcl"), ("dataset", "tabel", "table")],
)
def test_an_unknown_part_names_a_near_one(kind: Kind, name: str, near: str) -> None:
    with pytest.raises(ConfigError, match=f"'{name}' does not exist; did you mean '{near}'"):
        describe(kind, name)


def test_a_part_may_be_an_import_path() -> None:
    named = describe("backbone", "din").options
    assert describe("backbone", "aqcl.backbones.din:DIN").options == named


def test_directories_are_described(tmp_path: Path) -> None:
    dataset = small_dataset(tmp_path / "data")
    found = describe_directory(dataset.path)
    assert found["format"] == "aqcl-dataset"
    assert found["fingerprint"] == dataset.manifest.fingerprint
    assert found["counts"]["users"] == 40
    run = scored_run(tmp_path / "run", dataset)
    told = describe_directory(run.path)
    assert told["format"] == "aqcl-run"
    assert told["metrics"] == run.metrics()
    json.dumps(found, allow_nan=False)


def test_the_manifest_says_what_a_directory_is(tmp_path: Path) -> None:
    run = scored_run(tmp_path / "run", small_dataset(tmp_path / "data"))
    (run.path / "config.toml").unlink()
    with pytest.raises(StorageError, match=r"run/config\.toml: this file is missing"):
        describe_directory(run.path)


def test_a_word_that_is_nothing_says_what_there_is(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="neither a directory nor one of: backbone, regularizer"):
        describe_directory(tmp_path / "backbon")
    with pytest.raises(StorageError, match=r"has no manifest\.json"):
        describe_directory(tmp_path)


def test_an_unfinished_run_says_how_to_continue(tmp_path: Path) -> None:
    (tmp_path / "config.toml").write_text('dataset = "x"\n')
    with pytest.raises(StorageError, match=r"has not finished; continue it with"):
        describe_directory(tmp_path)


def test_types_are_told_once_and_without_the_bounds_of_64_bits() -> None:
    options = {option.key: option for option in describe("prepare").options}
    assert options["split.until"].type == "integer or text"
    assert options["split.days"].type == "integer >= 2"
