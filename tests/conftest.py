"""Set-up that tests share: types and shapes checked, one thread, no time limits."""

import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import jaxtyping
import pytest

os.environ.setdefault("OMP_NUM_THREADS", "1")  # read when torch is imported
# Threads that wait do so without a core, which the tests of another worker need.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import torch
from hypothesis import settings

import tests.checking  # noqa: F401, the hook names it

jaxtyping.install_import_hook("aqcl", "tests.checking.check")  # before anything imports aqcl
torch.set_num_threads(1)
settings.register_profile("aqcl", deadline=None)  # a busy machine is not a failure
settings.load_profile("aqcl")
MEMORY = Path("/dev/shm")
"""Files in memory, where it is mounted."""


def pytest_configure() -> None:
    """Let tests write and remove their thousands of small files in memory where there is plenty."""
    if MEMORY.is_dir() and shutil.disk_usage(MEMORY).free > 1 << 30:
        os.environ.setdefault("TMPDIR", str(MEMORY))
        tempfile.tempdir = None  # where it has been asked for before


WHOLE_PROGRAMS = ("benchmarks", "e2e", "report", "reproduce", "search")
"""Directories of tests that train and search at length. Types and shapes of what they call are
checked by the tests of its parts: here that would take half the time again."""


@pytest.fixture(scope="module", autouse=True)
def _checked_types(request: pytest.FixtureRequest) -> None:
    jaxtyping.config.update("jaxtyping_disable", request.path.parent.name in WHOLE_PROGRAMS)


@pytest.fixture(autouse=True)
def _no_terminal_width(monkeypatch: pytest.MonkeyPatch) -> None:
    """Output is as wide as it is without a terminal; test runners may set a width of their own."""
    monkeypatch.delenv("COLUMNS", raising=False)


@pytest.fixture(scope="session", autouse=True)
def no_fsync() -> Iterator[Callable[[int], None]]:
    """Writes do not wait for the disk; gives the real function, which test_storage.py needs."""
    real = os.fsync
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", lambda _: None)
        yield real


@pytest.fixture(scope="module")
def no_study_figures() -> Iterator[None]:
    """No study draws: test_work.py and test_alpha_study.py look at figures."""
    from tests.searches import draw_no_study_figures  # after the hook above

    with pytest.MonkeyPatch.context() as patch:
        draw_no_study_figures(patch)
        yield


@pytest.fixture
def two_threads() -> Iterator[None]:
    """Torch has two threads, among which it splits work on some 30,000 numbers and more."""
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)
