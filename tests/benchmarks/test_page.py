"""The page on performance holds what the records hold, and says what was not run."""

import json
from pathlib import Path
from typing import Any

import pytest
from benchmarks import extrapolation, page, plots

STAGE: dict[str, float] = {
    "seconds": 2.0,
    "microseconds_per_row": 2.5,
    "peak_anon_mib": 100.0,
    "peak_file_mib": 20.0,
    "disk_bytes": 3_000,
}
GROWTH: dict[str, Any] = {
    "sizes": {
        size: {key: {**STAGE, "rows": int(size)} for key in plots.STAGES}
        for size in ("100", "1000")
    },
    "ratios": {"train": {"1000": 1.25}},
}
OPTIMIZERS: dict[str, Any] = {
    "optimizers": {
        "lazy_adam": {
            "100": {"step_ms": 12.34, "peak_rss_mib": 400.0},
            "1000": {"step_ms": 12.5, "peak_rss_mib": 500.0},
        }
    },
    "growth": {"lazy_adam": 1.013},
}
ITEM = {"flops": 2e6, "bytes": 3e6, "operations": 4, "predicted_ms": 1.0, "measured_ms": 1.5}
MODEL = {"items": {"attention unit": ITEM}, "step_ms": 9.5, "predicted_ms": 8.0, "profiler_ms": 0.5}
ROOFLINE: dict[str, Any] = {"threads": {"2": {"DIN": MODEL, "DIN+AQCL": MODEL}}}


def record(outcome: dict[str, Any]) -> dict[str, Any]:
    return {
        "command": "python benchmarks/run.py",
        "machine": {"processor": "P", "cores": 2, "memory_gib": 8},
        "versions": {"torch": "2"},
        "load_before": 0.1,
        "outcome": outcome,
    }


RECORDS = {
    "growth": record(GROWTH),
    "optimizers": record(OPTIMIZERS),
    "roofline": record(ROOFLINE),
}


def test_the_page_is_what_the_records_make_of_it() -> None:
    text = page.PAGE.read_text(encoding="utf-8")

    assert page.rendered(text, page.stored()) == text
    assert {match[2] for match in page.MARKED.finditer(text)} == set(page.BLOCKS)


def test_what_was_not_run_says_so() -> None:
    for make in page.BLOCKS.values():
        assert make({}) == page.NOT_RUN
    assert page.BLOCKS["oncold"]({"oncold": record({"skipped": "long"})}) == page.NOT_RUN


def test_tables_hold_the_figures_of_the_records() -> None:
    assert "| 1,000 | train | 2.0 | 2.50 | 1.25 | 100 | 20 |" in page.BLOCKS["growth"](RECORDS)
    assert "| `lazy_adam` | 12.3 (400 MiB) | 12.5 (500 MiB) | 1.01 |" in page.BLOCKS["optimizers"](
        RECORDS
    )
    assert "| attention unit | 2 | 3.0 | 4 | 1.00 | 1.50 |" in page.BLOCKS["roofline"](RECORDS)
    assert "load before 0.1" in page.BLOCKS["roofline"](RECORDS)


def test_needs_follow_from_the_constants() -> None:
    small = {**STAGE, "rows": 100, "peak_anon_mib": 10.0}
    large = {**STAGE, "rows": 1000, "peak_anon_mib": 10.0 + 900 * 64 / 2**20}
    sizes = {
        size: dict.fromkeys(plots.STAGES, of) for size, of in (("100", small), ("1000", large))
    }
    found = {what: amount for what, amount, _ in extrapolation.needs(sizes)}

    assert found["prepare"] == "0.7 h"  # 2.5 microseconds for each of 10^9 rows
    assert found["machines for that epoch in an hour"] == "1"
    assert found["dataset on disk"] == f"{3 * 10**9 / 2**30:.0f} GiB"
    # 64 bytes for each row beyond what a process has anyway.
    assert found["memory to evaluate"] == f"{(10 * 2**20 + 64 * (10**9 - 100)) / 2**30:.1f} GiB"
    assert found["memory to prepare"] == found["memory to evaluate"]
    assert found["user table, `lazy_adam`"] == f"{10**8 * 16 * 4 * 3 / 2**30:.1f} GiB"


def test_plots_are_drawn_for_the_records_there_are(tmp_path: Path) -> None:
    drawn = plots.draw(RECORDS, tmp_path)

    assert sorted(path.name for path in drawn) == sorted(
        f"performance-{name}.svg" for name in plots.PLOTS
    )
    again = plots.draw(RECORDS, tmp_path / "again")
    assert [a.read_bytes() for a in drawn] == [b.read_bytes() for b in again]
    assert plots.draw({}, tmp_path / "none") == []


def test_records_are_read_where_they_are(tmp_path: Path) -> None:
    (tmp_path / "benchmarks").mkdir()
    (tmp_path / "benchmarks" / "growth.json").write_text(json.dumps(record(GROWTH)))
    (tmp_path / "beauty-cheaper.json").write_text("{}")

    assert set(page.stored(tmp_path / "benchmarks")) == {"growth", "beauty-cheaper"}


@pytest.mark.parametrize("name", sorted(plots.PLOTS))
def test_the_page_shows_the_plots_that_are_there(name: str) -> None:
    shown = f"figures/performance-{name}.svg" in page.PAGE.read_text(encoding="utf-8")

    assert shown == (page.FIGURES / f"performance-{name}.svg").exists()
