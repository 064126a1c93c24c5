"""The simulated Oncold log in any size: users and samples in the paper's proportion."""

from pathlib import Path
from typing import Any

PAPER_USERS, PAPER_ITEMS, PAPER_SAMPLES = 908_400, 21_078, 53_754_238
"""Reference: arXiv 2109.13921, table 1."""


def source(n_rows: int, cache: Path) -> dict[str, Any]:
    """Settings of the source `oncold` with that many samples; `cache` keeps the simulated log."""
    return {
        "name": "oncold",
        "users": max(1, round(n_rows * PAPER_USERS / PAPER_SAMPLES)),
        "items": PAPER_ITEMS,
        "samples": n_rows,
        "cache": str(cache),
    }


def cached(work: Path) -> Path:
    """Where simulated logs are kept between runs."""
    return work / "simulated"


def disk_bytes(folder: Path) -> int:
    """Size of all files below a folder."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
