"""Threads and their waiting, settled before torch is imported."""

import ctypes
import os
import sys
from typing import Any

BRIEF_SPIN = 20_000
"""Rounds that an idle thread waits before it sleeps under `passive`: some tens of microseconds, the
time between two operations of a step. So a free machine loses little and a busy one nothing."""
_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3
"""Numbers of glibc's `mallopt`."""
_KEPT_BYTES = 2**30
"""Freed memory that a process keeps: more than a training step allocates."""


def keep_freed_memory() -> bool:
    """Let the allocator keep what is freed for the next step; whether it can be told to.

    A step frees tens of megabytes, which glibc would return to the system and ask for again page by
    page. Other systems are left as they are.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if sys.platform == "linux" else None
    if mallopt is None:
        return False
    # An older glibc takes 32 MiB at most; without either, less trimming has it map large blocks.
    mapped = any(mallopt(_MMAP_THRESHOLD, size) == 1 for size in (_KEPT_BYTES, 2**25))
    return mapped and mallopt(_TRIM_THRESHOLD, _KEPT_BYTES) == 1


def count_cores() -> int:
    """Cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def settle_threads(threads: Any = 0, wait_policy: Any = "auto") -> None:
    """Set the number of CPU threads and whether idle ones spin or sleep.

    Spinning threads are many times slower on a busy machine; sleeping at once takes longer on a
    free one. OpenMP reads the policy once, when torch is imported.

    Args:
        threads: CPU threads; 0 for those that OMP_NUM_THREADS gives, else one per core; anything
            else is left for validation to refuse.
        wait_policy: `active`, `passive`, which sleeps after a brief wait, or `auto`: passive where
            other work keeps the cores busy.
    """
    keep_freed_memory()
    n_cores = count_cores()
    asked = threads if type(threads) is int and threads > 0 else 0
    # a number for each level of nesting; torch has one level
    given = os.environ.get("OMP_NUM_THREADS", "").partition(",")[0].strip()
    n_threads = asked or (int(given) if given.isdecimal() else 0) or n_cores
    os.environ["OMP_NUM_THREADS"] = str(n_threads)
    if wait_policy == "auto":
        busy = hasattr(os, "getloadavg") and os.getloadavg()[0] > 0.5 * n_cores
        wait_policy = "passive" if busy else "active"
    if "torch" not in sys.modules and wait_policy in ("active", "passive"):
        os.environ.setdefault("OMP_WAIT_POLICY", str(wait_policy).upper())
        if os.environ["OMP_WAIT_POLICY"] == "PASSIVE":
            os.environ.setdefault("GOMP_SPINCOUNT", str(BRIEF_SPIN))
    if "torch" in sys.modules:
        import torch

        torch.set_num_threads(n_threads)
