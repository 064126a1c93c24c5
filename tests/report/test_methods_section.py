"""What a report says of its methods: in which settings they differ."""

from pathlib import Path

import pytest

from aqcl.report.methods_section import MOST_TOLD, _difference, _differences, settings_body
from aqcl.runs import open_run
from aqcl.source_code import code_fingerprint
from aqcl.train import train
from tests.tiny_runs import tiny_dataset, tiny_experiment

PLAIN = {"train.lr": "0.1", "backbone.name": "din"}
AQCL = {"regularizer.aqcl.weight": "0.1", "regularizer.aqcl.view.rate": "0.3"}


@pytest.mark.parametrize(
    ("first", "other", "told"),
    [
        (PLAIN, PLAIN, ""),
        (PLAIN, PLAIN | {"train.lr": "0.2"}, "train.lr = 0.2"),
        (PLAIN, PLAIN | AQCL, "with regularizer.aqcl"),
        (PLAIN | AQCL, PLAIN, "without regularizer.aqcl"),
        (PLAIN | AQCL, PLAIN | {"regularizer.icl.dim": "8"}, None),
        (PLAIN | {"train.clip": "1"}, PLAIN, "without train.clip"),
        (PLAIN, PLAIN | {"train.clip": "1"}, "train.clip = 1"),
    ],
)
def test_a_difference_names_settings_and_whole_tables(
    first: dict[str, str], other: dict[str, str], told: str | None
) -> None:
    both = "without regularizer.aqcl; with regularizer.icl"
    assert _difference(first, other) == (both if told is None else told)


def test_many_differences_are_counted() -> None:
    first = {f"train.{k}": "0" for k in range(MOST_TOLD + 3)}
    told = _difference(first, dict.fromkeys(first, "1"))
    assert told.count("=") == MOST_TOLD
    assert told.endswith("; 3 more")


def test_methods_are_held_against_the_first(tmp_path: Path) -> None:
    data, runs = tiny_dataset(tmp_path), {}
    for number, name in enumerate(("din", "din #2")):
        settings = ("train.epochs=1", f"train.lr=0.0{number + 1}")
        train(tiny_experiment(data, *settings), tmp_path / name)
        runs[name] = [open_run(tmp_path / name)]
    assert _differences(runs) == {"din": "", "din #2": "train.lr = 0.02"}
    assert _differences({"din": runs["din"]}) == {}
    assert settings_body(runs).count(f"code of aqcl {code_fingerprint()}") == len(runs)
