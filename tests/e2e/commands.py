"""The command line as tests call it, and small data and models for it."""

import contextlib
import hashlib
import io
import json
import logging
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import torch

from aqcl.cli import main

TINY_MODEL = """
[backbone]
name = "din"
embedding_dim = 4
attention_sizes = [8]
sizes = [16, 8]
[train]
epochs = 2
batch_size = 256
evaluations_per_epoch = 2
max_history = 10
[runtime]
threads = 1
"""


@dataclass(frozen=True)
class Outcome:
    """What a command left behind."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


def aqcl(*arguments: object) -> Outcome:
    """Run a command in this process; anything but an exit code fails the test."""
    out, err, code = io.StringIO(), io.StringIO(), 0
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err), _untouched():
        try:
            main([str(argument) for argument in arguments])
        except SystemExit as exit_:
            code = exit_.code if isinstance(exit_.code, int) else 1
    return Outcome(code, out.getvalue(), err.getvalue())


def succeeds(*arguments: object) -> Outcome:
    """Run a command that must end well."""
    outcome = aqcl(*arguments)
    assert outcome.code == 0, outcome.err
    return outcome


def fails(*arguments: object) -> str:
    """The message of a command that must end as a user's mistake does."""
    outcome = aqcl(*arguments)
    assert outcome.code == 2, f"exit code {outcome.code}\n{outcome.out}{outcome.err}"
    assert outcome.out == ""
    lines = [line for line in outcome.err.splitlines() if not line.startswith("INFO ")]
    text = "\n".join(lines)
    assert text.startswith("error: ")
    assert sum(line.startswith("error: ") for line in lines) == 1, text
    assert "Traceback" not in text
    return text.removeprefix("error: ")


@contextlib.contextmanager
def _untouched() -> Iterator[None]:
    """Put back what belongs to a whole process: environment, logging, threads."""
    n_threads = torch.get_num_threads()
    environment, root, package = dict(os.environ), logging.getLogger(), logging.getLogger("aqcl")
    handlers, levels = root.handlers[:], (root.level, package.level)
    root.handlers.clear()
    try:
        yield
    finally:
        torch.set_num_threads(n_threads)
        root.handlers[:] = handlers
        root.setLevel(levels[0])
        package.setLevel(levels[1])
        os.environ.clear()
        os.environ.update(environment)


def interrupted(*arguments: object, once: Callable[[], bool]) -> Outcome:
    """Run a command in processes of its own and press Ctrl-C as soon as something holds."""
    ours = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)"
    command = [sys.executable, "-c", f"{ours}; from aqcl.cli import main; main()"]
    with subprocess.Popen(
        [*command, *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as process:
        deadline = time.monotonic() + 120
        try:
            while not once() and process.poll() is None:
                assert time.monotonic() < deadline
                time.sleep(0.01)
            os.killpg(process.pid, signal.SIGINT)
            out, err = process.communicate(timeout=60)
        finally:
            process.kill()
    return Outcome(process.returncode, out, err)


def click_log(n_users: int = 240, each: int = 12) -> pl.DataFrame:
    """Impressions over 24 days of users who like one kind of item, and the labels."""
    rng = np.random.default_rng(0)
    n_rows = n_users * each
    user = np.repeat(np.arange(n_users), each)
    item = rng.integers(0, 40, n_rows)
    day = np.tile(np.arange(each) * 24 // each, n_users)
    clicked = rng.random(n_rows) < np.where(item % 4 == user % 4, 0.7, 0.15)
    timestamp = 1_700_006_400 + day * 86_400 + rng.integers(0, 86_400, n_rows)
    return pl.DataFrame(
        {
            "user": user,
            "item": item,
            "timestamp": timestamp,
            "label": clicked.astype(np.int64),
            "age": rng.choice(["young", "old"], n_users)[user],
        }
    )


def write_experiment(path: Path, dataset: Path, text: str = TINY_MODEL) -> Path:
    """An experiment on a dataset, for `aqcl train`."""
    path.write_text(f"dataset = {json.dumps(str(dataset))}\n{text}")
    return path


def digest(path: Path) -> str:
    """Of a file's bytes."""
    return hashlib.sha256(path.read_bytes()).hexdigest()
