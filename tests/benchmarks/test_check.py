"""What counts as slower, and what is not compared at all."""

import copy
import json
import sys
from pathlib import Path
from typing import Any, ClassVar

import pytest
from benchmarks import check, machine, run
from benchmarks.kept import OtherConditionsError
from benchmarks.part import Better

RECORD: dict[str, Any] = {
    "machine": machine.describe(),
    "threads": 1,
    "wait_policy": "PASSIVE",
    "outcome": {"dataset": {"fingerprint": "abc"}, "ratio": {"x": 2.0}, "speed": 10.0},
}


class FakePart:
    """A part whose successive measurements are given."""

    RATIOS: ClassVar[dict[str, Better]] = {"ratio.*": "lower", "speed": "higher"}

    def __init__(self, *outcomes: dict[str, Any]) -> None:
        self.outcomes = list(outcomes)

    def measure(self, full: bool, work: Path) -> dict[str, Any]:
        assert not full
        assert work.is_dir()
        return {"dataset": {"fingerprint": "abc"}, **self.outcomes.pop(0)}


@pytest.mark.parametrize(
    ("better", "now", "slower"),
    [
        ("lower", 2.39, False),
        ("lower", 2.41, True),
        ("lower", 0.1, False),
        ("higher", 2 / 1.19, False),
        ("higher", 2 / 1.21, True),
        ("higher", 0.0, True),
        ("higher", 9.0, False),
    ],
)
def test_twenty_percent_slower_is_slower(better: Better, now: float, slower: bool) -> None:
    (found,) = check.compare({"a": {"b": 2.0}}, {"a": {"b": now}}, {"a.b": better})
    assert found.slower == slower
    assert "2 before" in check.line(found)
    assert f"{now:.3g} now" in check.line(found)


def test_what_was_not_measured_is_said_and_is_not_slower() -> None:
    ratios: dict[str, Better] = {"a.*": "lower"}
    gone, kept = check.compare({"a": {"b": 2.0, "c": 1.0}}, {"a": {"c": 1.0, "d": 5.0}}, ratios)
    assert (gone.path, kept.path) == ("a.b", "a.c")
    assert not gone.slower
    assert "not measured" in check.line(gone)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"machine": {**RECORD["machine"], "cores": 99, "fingerprint": "x"}}, "99 cores"),
        ({"threads": 2}, "2 threads, PASSIVE, measured with 1 threads, PASSIVE"),
        ({"wait_policy": "ACTIVE"}, "--wait-policy"),
        ({"outcome": {"dataset": {"fingerprint": "xyz"}}}, "xyz, measured on abc"),
    ],
)
def test_other_machines_settings_and_data_are_refused(change: dict[str, Any], message: str) -> None:
    check.require_comparable("steps", RECORD, copy.deepcopy(RECORD))
    with pytest.raises(check.NotComparableError, match=message):
        check.require_comparable("steps", {**RECORD, **change}, RECORD)


def checked(
    monkeypatch: pytest.MonkeyPatch, folder: Path, stored: Any, part: FakePart, *others: str
) -> Any:
    """The exit code of check.py on the part `steps`, and on others whose records are there."""
    (folder / "steps.json").write_text(json.dumps(stored))
    monkeypatch.setattr(check, "load", lambda name: part)
    command = ["check.py", "steps", *others, "--stored", folder, "--work", folder / "work"]
    monkeypatch.setattr(sys, "argv", [*map(str, command), "--threads", "1"])
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.setenv("OMP_WAIT_POLICY", "PASSIVE")
    try:
        check.main()
    except SystemExit as stopped:
        return stopped.code
    return 0


SAME = {"ratio": {"x": 2.0}, "speed": 10.0}


@pytest.mark.parametrize(
    ("outcomes", "code"),
    [
        ([SAME], 0),
        ([{"ratio": {"x": 2.6}, "speed": 10.0}, {"ratio": {"x": 2.5}, "speed": 10.0}], 1),
        ([{"ratio": {"x": 2.0}, "speed": 8.0}] * 2, 1),
        # Another figure is slow each time: noise.
        ([{"ratio": {"x": 2.6}, "speed": 10.0}, {"ratio": {"x": 2.0}, "speed": 8.0}], 0),
    ],
)
def test_slower_twice_ends_with_exit_code_one(
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    outcomes: list[dict[str, Any]],
    code: int,
) -> None:
    part = FakePart(*outcomes)
    assert checked(monkeypatch, tmp_path, RECORD, part) == code
    assert part.outcomes == []
    printed = capsys.readouterr().out
    last = printed.partition("slower by more than 20%:")[2]
    if "2.5" in printed:
        assert "steps: ratio.x: 2 before, 2.5 now (25% slower)" in last
        assert "speed" not in last
    assert json.loads((tmp_path / "steps.json").read_text()) == RECORD


def test_another_machine_is_refused_before_anything_is_measured(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    stored = {**RECORD, "machine": {**RECORD["machine"], "fingerprint": "x"}}
    part = FakePart(SAME)
    assert checked(monkeypatch, tmp_path, stored, part) == check.NOT_COMPARABLE
    assert len(part.outcomes) == 1
    assert "another machine" in capsys.readouterr().out


def test_a_part_of_another_machine_does_not_hide_what_got_slower(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    stored = {**RECORD, "machine": {**RECORD["machine"], "fingerprint": "x"}}
    (tmp_path / "evaluation.json").write_text(json.dumps(RECORD))
    part = FakePart(*[{"ratio": {"x": 2.6}, "speed": 10.0}] * 2)
    assert checked(monkeypatch, tmp_path, stored, part, "evaluation") == check.SLOWER
    printed = capsys.readouterr().out
    assert "steps: stored on another machine" in printed
    assert "evaluation: ratio.x: 2 before, 2.6 now" in printed


def test_kept_measures_of_another_machine_end_a_check(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def refuse(self: FakePart, full: bool, work: Path) -> dict[str, Any]:
        raise OtherConditionsError("simulate.json: measured with machine x, now y")

    monkeypatch.setattr(FakePart, "measure", refuse)
    assert checked(monkeypatch, tmp_path, RECORD, FakePart()) == check.NOT_COMPARABLE
    assert "measured with machine x" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("outcome", "reason"),
    [({"skipped": "long: --full"}, "long: --full"), ({}, "has no ratios")],
)
def test_a_part_without_ratios_is_not_called_as_fast_as_before(
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    outcome: dict[str, Any],
    reason: str,
) -> None:
    assert checked(monkeypatch, tmp_path, RECORD, FakePart(outcome)) == 0
    printed = capsys.readouterr().out
    assert "not compared:\nsteps: " + reason in printed
    assert "nothing got slower" not in printed


def test_a_part_not_stored_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert not check.is_stored(tmp_path, "steps")
    assert "steps: nothing stored" in capsys.readouterr().out
    run.store(tmp_path / "steps.json", RECORD)
    assert check.is_stored(tmp_path, "steps")
