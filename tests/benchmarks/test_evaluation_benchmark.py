import json
import math

import numpy as np
import pytest
from benchmarks import evaluation
from benchmarks.part import figures

ROWS = 2_000


def test_a_size_is_measured_in_a_process_of_its_own() -> None:
    outcome = evaluation.measured((ROWS,))
    assert json.loads(json.dumps(outcome, allow_nan=False)) == outcome
    found = outcome["sizes"][str(ROWS)]
    assert found["rows"] == ROWS
    assert 0 < found["users"] <= ROWS // evaluation.ROWS_PER_USER
    assert 0.6 < found["auc"] < 0.9
    assert 0 < found["cpu_seconds"] < 60
    assert found["wall_seconds"] > 0
    assert found["cpu_microseconds_per_row"] == pytest.approx(found["cpu_seconds"] / ROWS * 1e6)
    assert found["peak_rss_mib"] > found["peak_anon_mib"] > 20
    assert found["peak_bytes_per_row"] > 33
    assert outcome["growth"] == {}
    over_sort = found["cpu_seconds"] / found["sort_seconds"]
    assert outcome["over_sort"] == {str(ROWS): pytest.approx(over_sort, abs=1e-3)}
    assert over_sort > 1
    assert len(evaluation.lines(outcome)) == 1


def test_predictions_are_made_from_a_fixed_seed() -> None:
    first, again = (evaluation.made_predictions(ROWS) for _ in range(2))
    for column in ("user", "item", "label", "activity", "score"):
        np.testing.assert_array_equal(getattr(first, column), getattr(again, column))
    assert first.label.mean() == pytest.approx(0.2, abs=0.04)
    assert len(np.unique(first.score)) == ROWS


def test_growth_is_the_ratio_of_times_per_row() -> None:
    times = {"10": 2.0, "100": 3.0, "1000": 1.5}
    sizes = {rows: {"cpu_microseconds_per_row": time} for rows, time in times.items()}
    ratios = evaluation.growth(sizes)
    assert ratios == {"100": 1.5, "1000": 0.5}
    assert math.prod(ratios.values()) == 0.75


def test_the_compared_figures_are_there() -> None:
    sizes = map(str, evaluation.FULL_SIZES)
    growth = evaluation.growth({s: {"cpu_microseconds_per_row": 1.0} for s in sizes})
    outcome = {"growth": growth, "over_sort": {str(s): 1.0 for s in evaluation.FULL_SIZES}}
    for pattern in evaluation.RATIOS:
        assert [figure.value for figure in figures(outcome, pattern)] == [1.0]
