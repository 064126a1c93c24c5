"""Records of measurements, and processes with their own thread settings."""

import json
import sys
from pathlib import Path
from typing import Any, ClassVar

import pytest
from benchmarks import run
from benchmarks.part import Better
from benchmarks.threads import SETTINGS, FreshProcessError, Threads, fresh

KEYS = {
    "command",
    "version",
    "code",
    "machine",
    "versions",
    "threads",
    "wait_policy",
    "load_before",
    "full",
    "outcome",
}


class FakePart:
    """A part that measures nothing."""

    RATIOS: ClassVar[dict[str, Better]] = {"ratio": "lower"}

    def measure(self, full: bool, work: Path) -> dict[str, Any]:
        return {"ratio": 1.5, "full": full, "work": work.is_dir()}


def run_main(monkeypatch: pytest.MonkeyPatch, *arguments: object) -> None:
    monkeypatch.setattr(run, "load", lambda name: FakePart())
    monkeypatch.setattr(sys, "argv", ["run.py", *map(str, arguments), "--threads", "1"])
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.setenv("OMP_WAIT_POLICY", "PASSIVE")
    run.main()


@pytest.mark.parametrize("full", [False, True])
def test_a_record_says_what_was_measured_how_and_where(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str], full: bool
) -> None:
    out = tmp_path / "results"
    flags = ["--full"] if full else []
    run_main(monkeypatch, "steps", "--out", out, "--work", tmp_path / "work", *flags)
    stored = json.loads((out / "steps.json").read_text())
    assert set(stored) == KEYS
    assert stored["outcome"] == {"ratio": 1.5, "full": full, "work": True}
    assert stored["command"] == "python benchmarks/run.py steps" + (" --full" if full else "")
    assert (stored["threads"], stored["wait_policy"], stored["full"]) == (1, "PASSIVE", full)
    assert [path.name for path in out.iterdir()] == ["steps.json"]
    printed = capsys.readouterr().out
    assert "1 threads, PASSIVE, load" in printed
    assert "torch" in printed
    assert "ratio: 1.5" in printed


def test_a_record_that_is_no_json_leaves_the_old_one(tmp_path: Path) -> None:
    file = tmp_path / "results" / "steps.json"
    run.store(file, {"a": 1.0})
    with pytest.raises(ValueError, match="JSON"):
        run.store(file, {"a": float("nan")})
    assert json.loads(file.read_text()) == {"a": 1.0}
    assert [path.name for path in file.parent.iterdir()] == ["steps.json"]


def test_a_part_that_is_skipped_leaves_the_stored_record(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "steps.json"
    monkeypatch.setattr(FakePart, "measure", lambda self, full, work: {"skipped": "long: --full"})
    run.store(file, {"outcome": "of an hour"})
    run_main(monkeypatch, "steps", "--out", tmp_path, "--work", tmp_path / "work")

    assert json.loads(file.read_text()) == {"outcome": "of an hour"}
    assert "skipped (long: --full)" in capsys.readouterr().out


def test_an_unknown_part_is_refused(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        run_main(monkeypatch, "stepps", "--out", tmp_path)
    assert "no part 'stepps'" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("threads", SETTINGS.values(), ids=list(SETTINGS))
def test_a_fresh_process_has_its_own_threads(threads: Threads) -> None:
    program = (
        "import json, os; print('noise'); "
        "print(json.dumps([os.environ['OMP_NUM_THREADS'], os.environ['OMP_WAIT_POLICY']]))"
    )
    assert fresh(["-c", program], threads) == [str(threads.n_threads), threads.wait_policy]


@pytest.mark.parametrize(
    ("program", "message"),
    [
        ("raise SystemExit('no such file')", "no such file"),
        ("print('no json')", "printed no JSON"),
        ("pass", "printed no JSON"),
        ("import time; time.sleep(9)", "took more than"),
    ],
)
def test_a_process_that_fails_says_why(program: str, message: str) -> None:
    with pytest.raises(FreshProcessError, match=message):
        fresh(["-c", program], Threads(1, "PASSIVE"), timeout=0.5 if "sleep" in program else 60)


@pytest.mark.parametrize("full", [False, True])
def test_a_quick_look_leaves_what_is_published(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, full: bool
) -> None:
    monkeypatch.setattr(run, "ROOT", tmp_path)
    monkeypatch.setattr(run, "RESULTS", tmp_path / "results" / "benchmarks")
    run_main(monkeypatch, "steps", "--work", tmp_path / "work", *(["--full"] if full else []))

    folder = "results/benchmarks" if full else "runs/benchmarks/quick"
    found = [path.relative_to(tmp_path) for path in tmp_path.rglob("*.json")]
    assert found == [Path(folder, "steps.json")]
