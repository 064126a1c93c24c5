"""A lock is held by one, freed by the end of its process; half lines are dropped."""

import errno
import fcntl
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from aqcl.errors import StorageError
from aqcl.file_locks import complete_lines, lock_file

HOLD = """
import sys, time
from pathlib import Path
from aqcl.file_locks import lock_file
assert lock_file(Path(sys.argv[1]), wait=True) is not None
print("locked", flush=True)
time.sleep(60)
"""


def test_a_lock_is_held_by_one(tmp_path: Path) -> None:
    first = lock_file(tmp_path / "lock", wait=False)
    assert first is not None
    assert lock_file(tmp_path / "lock", wait=False) is None
    os.close(first)
    second = lock_file(tmp_path / "lock", wait=True)
    assert second is not None
    os.close(second)


def test_a_killed_process_frees_its_lock(tmp_path: Path) -> None:
    command = [sys.executable, "-c", HOLD, str(tmp_path / "lock")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "locked\n"
        assert lock_file(tmp_path / "lock", wait=False) is None
        process.send_signal(signal.SIGKILL)
    lock = lock_file(tmp_path / "lock", wait=False)
    assert lock is not None
    os.close(lock)


def test_a_disk_without_locks_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", refuse)
    with pytest.raises(StorageError, match="No locks available; a study needs a disk with file"):
        lock_file(tmp_path / "lock", wait=False)


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (b"", b""),
        (b"one\ntwo\n", b"one\ntwo\n"),
        (b"one\ntw", b"one\n"),
        (b"on", b""),
        (b"x" * 100_000 + b"\n" + b"y" * 70, b"x" * 100_000 + b"\n"),
    ],
)
def test_half_a_line_is_dropped(tmp_path: Path, before: bytes, after: bytes) -> None:
    (tmp_path / "lines").write_bytes(before)
    complete_lines(tmp_path / "lines")
    assert (tmp_path / "lines").read_bytes() == after


def test_a_file_that_is_not_there_needs_nothing(tmp_path: Path) -> None:
    complete_lines(tmp_path / "lines")
    assert not (tmp_path / "lines").exists()
