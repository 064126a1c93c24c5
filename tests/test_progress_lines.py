"""Output that no terminal shows, such as a log file, gets lines in place of a bar."""

import io
import re
from collections.abc import Iterable
from contextlib import AbstractContextManager
from typing import Any

from rich.console import Console

from aqcl import train
from aqcl.progress import training_bar
from aqcl.reproduce.bar import work_bar
from aqcl.reproduce.work import Standing
from aqcl.search.bar import SearchProgress, study_bar


def told(bar: Any, states: Iterable[Any], **options: Any) -> list[str]:
    """Lines of a file, their times checked and taken off."""
    file = io.StringIO()
    made: AbstractContextManager[Any] = bar(console=Console(file=file, width=80), **options)
    with made as listen:
        for state in states:
            listen(state)
    lines = file.getvalue().splitlines()
    assert all(re.match(r"\d:\d\d:\d\d  ", line) for line in lines), lines
    return [line[9:] for line in lines]


def test_a_search_tells_each_trial_that_has_ended_once() -> None:
    states = [
        SearchProgress(0, 8, {"din": None}, "din, trial 0"),
        SearchProgress(0, 8, {"din": None}, "din, trial 0, epoch 2"),
        SearchProgress(1, 8, {"din": 0.61234}, "din, trial 1[/]"),
    ]
    assert told(study_bar, states) == [
        "0/8 trials; din, trial 0",
        "1/8 trials; best: 0.6123; din, trial 1[/]",
    ]
    assert told(study_bar, states, quiet=True) == []


def test_work_tells_each_run_and_the_time_left_on_one_long_line() -> None:
    what = "trained a method that has a very long name, with changes of its settings, on beauty"
    states = [
        Standing("training 5 runs", 0, 5, 1.0),
        Standing("training 5 runs", 0, 5, 2.0),
        Standing(what, 1, 5, 3600.0),
    ]
    assert told(work_bar, states) == [
        "0/5 trials and runs; training 5 runs",
        f"1/5 trials and runs; 4 h 00 min left; {what}",
    ]
    assert told(work_bar, states, quiet=True) == []


def test_training_tells_each_evaluation() -> None:
    scores = {"valid_auc": 0.71234, "valid_logloss": 0.5}
    states = [
        train.Progress(number=number, last=last, seconds=1.0, rows_per_step=100.0)
        for number, last in [
            (1, {}),
            (20, {"epoch": 0, "step": 20, **scores}),
            (21, {"epoch": 0, "step": 20, **scores}),
            (1040, {"epoch": 1, "step": 1040, **scores}),
        ]
    ]
    assert told(training_bar, states, label="DIN") == [
        "DIN: epoch 1, step 20, AUC 0.7123, logloss 0.5000, 2,000 rows/s",
        "DIN: epoch 2, step 1,040, AUC 0.7123, logloss 0.5000, 104,000 rows/s",
    ]
    assert told(training_bar, states, label="DIN", quiet=True) == []
