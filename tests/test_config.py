import copy
import dataclasses
import pickle
from pathlib import Path
from typing import Annotated

import pytest
from pydantic import Field

from aqcl.config import (
    as_values,
    build,
    check_keys,
    choose,
    did_you_mean,
    options_of,
    override,
    read_toml,
    settings,
    to_toml,
)
from aqcl.errors import ConfigError
from aqcl.prepare.pipeline import PrepareSettings


@settings
class Inner:
    rate: Annotated[float, Field(ge=0, lt=1)] = 0.2
    """A rate."""
    sizes: tuple[int, ...] = (3, 2)
    """Sizes."""


@settings
class Outer:
    name: str
    """A name."""
    count: Annotated[int, Field(ge=1)] = 1
    """A count."""
    inner: Inner = dataclasses.field(default_factory=Inner)
    """Nested."""
    extra: float | None = None
    """Optional."""


def test_values_become_typed_and_defaults_fill_in() -> None:
    outer = build(Outer, {"name": "x", "inner": {"sizes": [5]}})
    assert outer == Outer(name="x", inner=Inner(sizes=(5,)))


def test_a_round_trip_through_toml_keeps_everything(tmp_path: Path) -> None:
    outer = Outer(name='quote " and \U0001f600', count=3, inner=Inner(rate=0.1))
    (tmp_path / "c.toml").write_text(to_toml(as_values(outer)), encoding="utf-8")
    assert build(Outer, read_toml(tmp_path / "c.toml")) == outer


def test_none_is_left_out_of_the_values() -> None:
    assert "extra" not in as_values(Outer(name="x"))


def test_all_problems_are_reported_at_once_with_path_value_and_fix() -> None:
    values = {"count": 0, "inner": {"rat": 1, "sizes": ["a"]}}
    with pytest.raises(ConfigError) as error:
        build(Outer, values, "train")
    lines = str(error.value).splitlines()
    assert len(lines) == 4
    text = "\n".join(lines)
    assert "train.name: this key is required" in text
    assert "train.count: Input should be greater than or equal to 1, got 0" in text
    assert "train.inner.rat: unknown key; did you mean 'rate'? known: rate, sizes" in text
    assert "train.inner.sizes.0" in text


def test_a_wrong_choice_names_the_nearest() -> None:
    with pytest.raises(ConfigError, match=r"split.kind: .*, got 'last-dayz'; did you mean 'last-"):
        build(PrepareSettings, {"split": {"kind": "last-dayz"}})
    with pytest.raises(ConfigError, match=r"split.kind: .*, got 'x'$"):
        build(PrepareSettings, {"split": {"kind": "x"}})


def test_keys_are_checked_one_by_one_before_the_rules_between_them() -> None:
    check_keys(PrepareSettings, {"split": {"kind": "last-days"}})  # its days may come later
    with pytest.raises(ConfigError, match=r"split.kind: .*\nsplit.dayz: unknown key; did you mean"):
        check_keys(PrepareSettings, {"split": {"kind": "x", "dayz": 3}})


def test_a_value_in_place_of_a_table_is_told_plainly() -> None:
    with pytest.raises(ConfigError) as error:
        build(Outer, {"name": "x", "inner": 3}, "train")
    assert str(error.value) == (
        "train.inner: expected a table, got 3; set its keys, as train.inner.KEY = ..."
    )


@pytest.mark.parametrize("value", [float("inf"), float("-inf"), float("nan")])
def test_a_number_must_be_finite(value: float) -> None:
    with pytest.raises(ConfigError, match=r"^train\.extra: .*finite number, got -?(inf|nan)$"):
        build(Outer, {"name": "x", "extra": value}, "train")


def test_true_and_false_are_no_numbers() -> None:
    values = {"name": "x", "count": True, "extra": False, "inner": {"sizes": [3, True]}}
    with pytest.raises(ConfigError) as error:
        build(Outer, values)
    assert str(error.value).splitlines() == [
        "count: expected a number, got True",
        "extra: expected a number, got False",
        "inner.sizes.1: expected a number, got True",
    ]


def test_settings_made_by_hand_tell_mistakes_alike() -> None:
    with pytest.raises(ConfigError, match="nam: unknown key; did you mean 'name'"):
        Outer(nam="x")  # type: ignore[call-arg]
    with pytest.raises(ConfigError, match=r"^count: Input should be greater .*, got 0$"):
        dataclasses.replace(Outer(name="x"), count=0)
    made = Outer("x", inner=Inner(sizes=(5,)))
    assert pickle.loads(pickle.dumps(made)) == copy.deepcopy(made) == made


def test_options_are_those_given_or_the_defaults() -> None:
    assert options_of(Inner, None) == Inner()
    given = Inner(rate=0.5)
    assert options_of(Inner, given) is given
    with pytest.raises(
        ConfigError, match=r"options: expected Inner, got Outer; make them as Inner"
    ):
        options_of(Inner, Outer(name="x"))


def test_settings_are_frozen() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        Outer(name="x").count = 2  # type: ignore[misc]


def test_choose_finds_or_suggests() -> None:
    assert choose({"din": 1}, "din", "backbone.name") == 1
    with pytest.raises(ConfigError, match=r"backbone\.name = 'dim' does not exist; did you mean"):
        choose({"din": 1, "fm": 2}, "dim", "backbone.name")


def test_did_you_mean_without_a_near_word_lists_all() -> None:
    assert did_you_mean("zzz", ["b", "a"]) == "known: a, b"


@pytest.mark.parametrize(
    ("text", "value"),
    [("3", 3), ("1e-3", 1e-3), ("true", True), ('"3"', "3"), ("[1, 2]", [1, 2]), ("a b", "a b")],
)
def test_an_override_is_toml_or_a_bare_string(text: str, value: object) -> None:
    assert override({}, [f"a.b={text}"]) == {"a": {"b": value}}


def test_overrides_leave_the_original_alone_and_apply_in_order() -> None:
    values = {"train": {"lr": 1, "epochs": 2}}
    changed = override(values, ["train.lr=5", "train.lr=6", "seed=1"])
    assert changed == {"train": {"lr": 6, "epochs": 2}, "seed": 1}
    assert values == {"train": {"lr": 1, "epochs": 2}}


@pytest.mark.parametrize("assignment", ["train.lr", "=3"])
def test_an_override_without_key_or_value_is_refused(assignment: str) -> None:
    with pytest.raises(ConfigError, match="expected key=value"):
        override({}, [assignment])


def test_an_override_through_a_plain_value_is_refused() -> None:
    with pytest.raises(ConfigError, match="'lr' is a value, not a table"):
        override({"train": {"lr": 1}}, ["train.lr.x=2"])


def test_files_that_are_not_toml_are_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no such file"):
        read_toml(tmp_path / "none.toml")
    (tmp_path / "bad.toml").write_text("a = = 1")
    with pytest.raises(ConfigError, match=r"bad\.toml: not a TOML file: .*line 1"):
        read_toml(tmp_path / "bad.toml")
    with pytest.raises(ConfigError, match=r"is a directory; give a TOML file, such as experiment"):
        read_toml(tmp_path)


def test_a_quoted_part_of_a_key_keeps_its_dots() -> None:
    assignment = 'regularizer."my_package.losses:C".weight=0.1'
    assert override({}, [assignment]) == {"regularizer": {"my_package.losses:C": {"weight": 0.1}}}
