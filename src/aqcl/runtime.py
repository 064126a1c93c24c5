"""Threads and their waiting, settled before torch is imported."""

import os
import sys
from typing import Any


def settle_threads(threads: Any = 0, wait_policy: Any = "auto") -> None:
    """Set the number of CPU threads and whether idle ones spin or sleep.

    Spinning threads are about twice as fast on a free machine and many times slower on a busy
    one; OpenMP reads the policy once, when torch is imported.

    Args:
        threads: CPU threads, 0 for one per core; anything else is left for validation to refuse.
        wait_policy: `active`, `passive` or `auto`: passive where other work keeps the cores busy.
    """
    n_cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    asked = threads if type(threads) is int and threads > 0 else 0
    n_threads = asked or n_cores or 1
    os.environ["OMP_NUM_THREADS"] = str(n_threads)
    if wait_policy == "auto":
        busy = hasattr(os, "getloadavg") and os.getloadavg()[0] > 0.5 * (n_cores or 1)
        wait_policy = "passive" if busy else "active"
    if "torch" not in sys.modules and wait_policy in ("active", "passive"):
        os.environ.setdefault("OMP_WAIT_POLICY", str(wait_policy).upper())
    if "torch" in sys.modules:
        import torch

        torch.set_num_threads(n_threads)
