"""The page on performance holds what the records hold, and says what was not run."""

import json
import sys
from pathlib import Path
from typing import Any

import pytest
from benchmarks import page, plots

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
            "100": {"step_ms": 12.34, "held_anon_mib": 400.0, "peak_anon_mib": 450.0},
            "1000": {"step_ms": 12.5},
        }
    },
    "growth": {"lazy_adam": 1.013},
    "threads": "1 thread",
    "items": 5_000,
    "batch_size": 64,
    "mean_history": 10,
}
ITEM = {"flops": 2e6, "bytes": 3e6, "operations": 4, "predicted_ms": 1.0, "measured_ms": 1.5}
ITEM |= {"products_ms": 0.2}
RATES = {"copy_gb_per_second": 60.0, "memory_gb_per_second": 12.0}
RATES |= {"gemm_gflops": 150.0, "gemm_gflops_by_torch": 100.0}
MODEL = {
    "items": {"attention unit": ITEM, "contrast": ITEM},
    "rates": RATES,
    "step_ms": 9.5,
    "predicted_ms": 8.0,
    "profiler_ms": 0.5,
}
TWICE = {**MODEL, "step_ms": 19.0, "predicted_ms": 24.0}
REPRODUCTION = {
    "command": "aqcl reproduce all --quick",
    "wall_seconds": 1200.0,
    "cpu_seconds": 2100.0,
    "peak_anon_mib": 1500.4,
    "cells": 30,
    "finished": 20,
}
ROOFLINE: dict[str, Any] = {"threads": {"2": {"DIN": MODEL, "DIN+AQCL": TWICE}}}


def record(outcome: dict[str, Any]) -> dict[str, Any]:
    return {
        "command": "python benchmarks/run.py",
        "machine": {"processor": "P", "cores": 2, "memory_gib": 8, "fingerprint": "abc"},
        "versions": {"torch": "2"},
        "load_before": 0.1,
        "outcome": outcome,
    }


RECORDS = {
    "growth": record(GROWTH),
    "optimizers": record(OPTIMIZERS),
    "roofline": record(ROOFLINE),
    "reproduction": record(REPRODUCTION),
}


def test_the_page_is_what_the_records_make_of_it() -> None:
    text = page.PAGE.read_text(encoding="utf-8")

    assert page.rendered(text, page.stored()) == text
    assert {match[2] for match in page.MARKED.finditer(text)} == set(page.BLOCKS)


def test_other_records_make_a_page_beside_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "growth.json").write_text(json.dumps(record(GROWTH)))
    published = page.PAGE.read_text(encoding="utf-8")
    monkeypatch.setattr(sys, "argv", ["page.py", str(tmp_path)])

    page.main()

    assert page.PAGE.read_text(encoding="utf-8") == published
    made = (tmp_path / "performance.md").read_text(encoding="utf-8")
    assert "| 1,000 | train | 2.0 | 2.50 |" in made
    assert list((tmp_path / "figures").glob("*.svg"))


def test_what_was_not_run_says_so() -> None:
    for make in page.BLOCKS.values():
        assert make({}) == page.NOT_RUN
    assert page.BLOCKS["oncold"]({"oncold": record({"skipped": "long"})}) == page.NOT_RUN


def test_tables_hold_the_figures_of_the_records() -> None:
    assert "| 1,000 | train | 2.0 | 2.50 | 1.25 | 100 | 20 |" in page.BLOCKS["growth"](RECORDS)
    optimizers = page.BLOCKS["optimizers"](RECORDS)
    assert "| `lazy_adam` | 12.3 (400 MiB) | 12.5 | 1.01 |" in optimizers
    assert "batches of 64 rows, mean history 10, 5,000 items, 1 thread." in optimizers
    roofline = page.BLOCKS["roofline"](RECORDS)
    assert "| attention unit | 2 | 3.0 | 4 | 1.00 | 1.20 | 1.30 | 1.50 | +0.20 |" in roofline
    assert "| contrast | 2 | 3.0 | 4 | 1.00 | 1.20 | 1.20 | 1.50 | +0.30 |" in roofline
    assert (
        "DIN+AQCL over DIN, 2 threads: a step takes 2.00 times as long, predicted 3.00, "
        "uncached 1.00." in roofline
    )
    assert "load before 0.1" in roofline
    look = page.BLOCKS["reproduction"](RECORDS)
    assert "took 20 minutes, 35 of processor, and 1,500 MiB of its own" in look
    assert "20 of 30 cells have finished" in look


def test_the_paper_sized_log_names_its_sittings() -> None:
    training = {
        "rows": 4_000,
        "step": 10,
        "step_seconds": 2.0,
        "rows_per_second": 2_000,
        "data_wait": 0.003,
        "evaluations": 4,
    }
    measures = {"wall_seconds": 9, "cpu_seconds": 8, "peak_rss_mib": 70, "peak_anon_mib": 60}
    outcome = {"rows": 6_000, "threads": 1, "train": {}, "regularizer": {}, "training": training}

    def text(sittings: int) -> str:
        stages = {"train": {**measures, "sittings": sittings}}
        return page.BLOCKS["oncold"]({"oncold": record({**outcome, "stages": stages})})

    assert "| train | 9 | 8 | 70 | 60 |" in text(1)
    assert "(2,000 rows/s), of which 0.3% was waiting for data, and 4 evaluations;" in text(1)
    assert "4 evaluations, in 3 sittings; 1 thread" in text(3)


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
