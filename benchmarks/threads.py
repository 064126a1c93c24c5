"""The thread settings that are measured, each in a process of its own.

OpenMP reads its policy once, when torch is imported. A spinning thread takes a core for itself even
while its process waits, so the process that starts the others must not have any.
"""

import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from aqcl.runtime import BRIEF_SPIN
from benchmarks.machine import cores
from benchmarks.part import ROOT


class Threads(NamedTuple):
    """How many threads, and what they do while they wait."""

    n_threads: int
    wait_policy: str
    spin_count: int | None = None
    """Rounds of waiting before a sleep; None leaves it to the policy."""


SETTINGS: Mapping[str, Threads] = {
    "1 thread": Threads(1, "PASSIVE"),
    "2 threads, spinning": Threads(2, "ACTIVE"),
    "2 threads, sleeping": Threads(2, "PASSIVE"),
    "2 threads, brief wait": Threads(2, "PASSIVE", BRIEF_SPIN),
}


class FreshProcessError(RuntimeError):
    """The process failed; the end of what it said."""


def settings() -> dict[str, Threads]:
    """Those that this machine has the cores for."""
    return {name: threads for name, threads in SETTINGS.items() if threads.n_threads <= cores()}


def variables(threads: Threads) -> dict[str, str]:
    """The environment variables of a setting."""
    count = str(threads.n_threads)
    found = {"OMP_NUM_THREADS": count, "MKL_NUM_THREADS": count}
    found["OMP_WAIT_POLICY"] = threads.wait_policy
    if threads.spin_count is not None:
        found["GOMP_SPINCOUNT"] = str(threads.spin_count)
    return found


def fresh(
    arguments: Sequence[str | Path],
    threads: Threads,
    *,
    python: str | Path = sys.executable,
    timeout: float = 900,
) -> Any:
    """What a Python process prints as its last line, which is JSON.

    Args:
        arguments: of Python, such as `-m benchmarks.steps`.
        threads: its setting.
        python: the interpreter.
        timeout: in seconds.

    Raises:
        FreshProcessError: it fails, prints something else or takes too long.
    """
    environment = {key: value for key, value in os.environ.items() if key != "GOMP_SPINCOUNT"}
    environment |= variables(threads)
    command = [str(python), *map(str, arguments)]
    try:
        done = subprocess.run(
            command,
            cwd=ROOT,
            env=environment,
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise FreshProcessError(f"took more than {timeout:.0f} s") from None
    if done.returncode != 0:
        raise FreshProcessError((done.stderr.strip() or done.stdout.strip())[-600:])
    try:
        return json.loads(done.stdout.strip().splitlines()[-1])
    except (IndexError, ValueError):
        raise FreshProcessError(f"printed no JSON: {done.stdout[-300:]!r}") from None
