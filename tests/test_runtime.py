import ctypes
import os
import subprocess
import sys
from types import SimpleNamespace

import pytest
import torch

from aqcl.runtime import BRIEF_SPIN, keep_freed_memory, settle_threads

BUSY, FREE = 1000.0, 0.0


@pytest.fixture(autouse=True)
def _clean(monkeypatch: pytest.MonkeyPatch) -> None:
    """No traces in the environment or in torch."""
    n_threads = torch.get_num_threads()
    for key in ("OMP_NUM_THREADS", "OMP_WAIT_POLICY", "GOMP_SPINCOUNT"):
        monkeypatch.setenv(key, "")  # so that it is put back after the test
        monkeypatch.delenv(key)
    monkeypatch.setattr(os, "getloadavg", lambda: (FREE, FREE, FREE))
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)), raising=False)
    torch.set_num_threads(n_threads)


@pytest.fixture
def set_threads(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """What torch was told, in place of telling it."""
    told: list[int] = []
    monkeypatch.setattr(torch, "set_num_threads", told.append)
    return told


def test_zero_is_a_thread_for_each_core(set_threads: list[int]) -> None:
    settle_threads(0)
    assert os.environ["OMP_NUM_THREADS"] == "8"
    assert set_threads == [8]


@pytest.mark.parametrize(
    ("given", "threads", "expected"),
    [("3", 0, 3), ("3", 2, 2), ("3,2", 0, 3), ("0", 0, 8), ("many", 0, 8), ("", 0, 8)],
)
def test_a_number_of_the_environment_stays_unless_one_is_asked_for(
    given: str,
    threads: int,
    expected: int,
    set_threads: list[int],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", given)
    settle_threads(threads)
    assert os.environ["OMP_NUM_THREADS"] == str(expected)
    assert set_threads == [expected]


def test_torch_that_is_there_already_is_told(set_threads: list[int]) -> None:
    settle_threads(3)
    assert os.environ["OMP_NUM_THREADS"] == "3"
    assert set_threads == [3]
    assert "OMP_WAIT_POLICY" not in os.environ  # too late for it


@pytest.mark.parametrize("threads", [-1, "four", 2.5, True, None])
def test_what_is_no_number_of_threads_is_left_for_validation(
    threads: object, set_threads: list[int]
) -> None:
    settle_threads(threads, "sometimes")
    assert os.environ["OMP_NUM_THREADS"] == "8"


@pytest.mark.parametrize(
    ("asked", "load", "policy"),
    [
        ("auto", FREE, "ACTIVE"),
        ("auto", BUSY, "PASSIVE"),
        ("active", BUSY, "ACTIVE"),
        ("passive", FREE, "PASSIVE"),
        ("sometimes", FREE, None),
    ],
)
def test_the_policy_is_settled_before_torch_is_there(
    asked: str, load: float, policy: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delitem(sys.modules, "torch")
    monkeypatch.setattr(os, "getloadavg", lambda: (load, load, load))
    settle_threads(1, asked)
    assert os.environ.get("OMP_WAIT_POLICY") == policy


def test_a_policy_of_the_environment_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "torch")
    monkeypatch.setenv("OMP_WAIT_POLICY", "PASSIVE")
    settle_threads(1, "active")
    assert os.environ["OMP_WAIT_POLICY"] == "PASSIVE"


def test_torch_takes_the_number_when_it_is_imported_afterwards() -> None:
    code = (
        "import sys; from aqcl.runtime import settle_threads; assert 'torch' not in sys.modules; "
        "settle_threads(1); import torch; print(torch.get_num_threads())"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "1\n"


@pytest.mark.parametrize(
    ("policy", "given", "spin"),
    [("passive", None, str(BRIEF_SPIN)), ("passive", "7", "7"), ("active", None, None)],
)
def test_a_thread_sleeps_after_a_brief_wait(
    policy: str, given: str | None, spin: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delitem(sys.modules, "torch")
    if given is not None:
        monkeypatch.setenv("GOMP_SPINCOUNT", given)
    settle_threads(1, policy)
    assert os.environ.get("GOMP_SPINCOUNT") == spin


@pytest.mark.skipif(sys.platform != "linux", reason="glibc alone can be told")
def test_freed_memory_is_kept_for_the_next_step() -> None:
    code = (
        "import resource, torch; from aqcl.runtime import keep_freed_memory\n"
        "faults = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_minflt\n"
        "def step(): torch.ones(2_000_000).exp_()\n"
        "assert keep_freed_memory()\n"
        "for _ in range(30): step()\n"
        "before = faults()\n"
        "for _ in range(20): step()\n"
        "print(faults() - before)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    pages_of_a_step = 2_000_000 * 4 / os.sysconf("SC_PAGE_SIZE")
    assert int(done.stdout) < pages_of_a_step


@pytest.mark.skipif(sys.platform != "linux", reason="glibc alone can be told")
@pytest.mark.parametrize("most", [2**30, 2**25, 0])
def test_memory_that_is_freed_is_kept_only_if_large_blocks_are_taken_from_it(
    most: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An older glibc has a limit; to trim less without larger blocks would slow each step."""
    trim, mapped, taken = -1, -3, dict[int, int]()

    def mallopt(key: int, value: int) -> int:
        if key == mapped and value > most:
            return 0
        taken[key] = value
        return 1

    monkeypatch.setattr(ctypes, "CDLL", lambda _: SimpleNamespace(mallopt=mallopt))
    assert keep_freed_memory() == bool(most)
    assert taken == ({mapped: most, trim: 2**30} if most else {})
