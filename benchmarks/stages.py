"""A stage in a process of its own: how long it takes, and the memory of it and its children."""

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
SECONDS_BETWEEN_SAMPLES = 0.05
KIB = 1024
TAIL = 1500
"""Characters of what a failed process said."""


class StageError(RuntimeError):
    """A stage failed; the end of what it said."""


@dataclass
class Usage:
    """What a process and all its children took."""

    wall_seconds: float = 0.0
    cpu_seconds: float = 0.0
    """User and system time."""
    peak_rss_mib: float = 0.0
    """The largest VmHWM of one process: file-backed pages count, though the system may drop them.
    """
    peak_anon_mib: float = 0.0
    """The most that RssAnon was at one moment, over all processes: what a machine must have."""
    peak_file_mib: float = 0.0
    """The same for RssFile: pages of mapped files that happened to be resident."""
    peak_processes: int = 0

    def to_json(self) -> dict[str, float]:
        """Plain numbers, rounded."""
        return {key: round(value, 3) for key, value in vars(self).items()}


@dataclass
class Running:
    """A started stage that is being watched."""

    process: subprocess.Popen[bytes]
    started: float
    usage: Usage = field(default_factory=Usage)

    def sample(self) -> None:
        """Read the memory of the process and its children."""
        statuses = [status(pid) for pid in family(self.process.pid)]
        usage = self.usage
        usage.peak_processes = max(usage.peak_processes, len(statuses))
        usage.wall_seconds = time.perf_counter() - self.started
        for found in statuses:
            usage.peak_rss_mib = max(usage.peak_rss_mib, found.get("VmHWM", 0) / KIB)
        anonymous = sum(found.get("RssAnon", 0) for found in statuses) / KIB
        of_files = sum(found.get("RssFile", 0) for found in statuses) / KIB
        usage.peak_anon_mib = max(usage.peak_anon_mib, anonymous)
        usage.peak_file_mib = max(usage.peak_file_mib, of_files)

    def ended(self) -> bool:
        """Whether the process is over; its times are known then."""
        pid, code, used = os.wait4(self.process.pid, os.WNOHANG)
        if pid == 0:
            return False
        self.process.returncode = os.waitstatus_to_exitcode(code)
        self.usage.wall_seconds = time.perf_counter() - self.started
        self.usage.cpu_seconds = used.ru_utime + used.ru_stime
        return True


def run_stage(
    arguments: Sequence[str | Path],
    environment: Mapping[str, str] | None = None,
    watch: Callable[[Usage], object] | None = None,
) -> tuple[Any, Usage]:
    """Run Python with these arguments from the project's root.

    Args:
        arguments: of Python, such as `-m benchmarks.growth prepare`.
        environment: variables to set beside those of this process.
        watch: called after each sample, such as to keep what is known so far.

    Returns:
        The last line that it prints, which must be JSON, and what it took.

    Raises:
        StageError: it fails or prints no JSON.
    """
    command = [sys.executable, *map(str, arguments)]
    with tempfile.TemporaryFile() as said, tempfile.TemporaryFile() as complained:
        started = time.perf_counter()
        process = subprocess.Popen(
            command,
            cwd=ROOT,
            env={**os.environ, **(environment or {})},
            stdout=said,
            stderr=complained,
        )
        running = Running(process, started)
        try:
            while not running.ended():
                running.sample()
                if watch is not None:
                    watch(running.usage)
                time.sleep(SECONDS_BETWEEN_SAMPLES)
        finally:
            if process.returncode is None:
                process.terminate()
                process.wait()
        said.seek(0)
        complained.seek(0)
        output, errors = said.read().decode(), complained.read().decode()
    if process.returncode != 0:
        raise StageError(f"{' '.join(command)}: {(errors.strip() or output.strip())[-TAIL:]}")
    return last_json(output, command), running.usage


def last_json(output: str, command: Sequence[str]) -> Any:
    """The JSON that a process prints: all of it, or its last line.

    Raises:
        StageError: it printed none.
    """
    for text in (output, output.strip().rpartition("\n")[2]):
        try:
            return json.loads(text)
        except ValueError:
            continue
    raise StageError(f"{' '.join(command)}: printed no JSON but {output[-TAIL:]!r}")


def family(pid: int) -> list[int]:
    """A process and all that it started, directly or not."""
    found = [pid]
    for parent in found:
        for listing in Path(f"/proc/{parent}/task").glob("*/children"):
            try:
                found += [int(word) for word in listing.read_text().split()]
            except OSError:  # the thread has ended
                continue
    return found


def status(pid: int) -> dict[str, int]:
    """The sizes in KiB of /proc/PID/status; empty if the process has ended."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return {}
    pairs = (line.split(":", 1) for line in lines if line.endswith(" kB"))
    return {name: int(value.split()[0]) for name, value in pairs}
