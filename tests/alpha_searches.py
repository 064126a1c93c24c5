"""Searches for the alpha of tiny runs, and what two equal ones have in common."""

import json
from pathlib import Path
from typing import Any

from tests.searches import findings, untimed
from tests.tiny_runs import VALUES

METHODS: dict[str, dict[str, Any]] = {
    "one-run": {"method": "one-run"},
    "halving": {"method": "halving", "halving": {"n_candidates": 4}},
}


def values_of(data: Path, method: str, **aqcl: Any) -> dict[str, Any]:
    """The tiny experiment in 4 epochs with a table `search`."""
    table = {**VALUES["regularizer"]["aqcl"], "learn_alpha": {"every": 2, "lr": 0.1}, **aqcl}
    changed = {"regularizer": {"aqcl": table}, "train": {**VALUES["train"], "epochs": 4}}
    return {"dataset": str(data), **VALUES, **changed, "search": METHODS[method]}


def assert_same_search(mine: Path, other: Path) -> None:
    """The same findings, winners and logs."""
    assert findings(mine) == findings(other)
    for name in ("study.toml", "best.toml"):
        assert (mine / name).read_bytes() == (other / name).read_bytes()
    names = sorted(path.relative_to(other) for path in other.glob("trials/*/log.jsonl"))
    assert len(names) > 0
    for log in names:
        assert _lines(mine / log) == _lines(other / log), log


def _lines(log: Path) -> list[Any]:
    lines = [untimed(json.loads(text)) for text in log.read_text().splitlines()]
    return [{**line, "data_wait": 0} for line in lines]
