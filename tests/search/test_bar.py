"""The progress bar of a search, and the table of what it has found."""

import io
from pathlib import Path
from typing import Any

from rich.console import Console

from aqcl.search.bar import SearchProgress, study_bar
from aqcl.tables import study_table
from tests.test_tables import shown


def trial(number: int, value: float | None, **changes: Any) -> dict[str, Any]:
    row = {"number": number, "value": value, "state": "complete", "feasible": value is not None}
    return row | {"parameters": {"train.lr": 0.1 / (number + 1), "a.flag": True}} | changes


def summary(**method: Any) -> dict[str, Any]:
    trials = [trial(k, 0.5 - k / 100) for k in range(7)] + [trial(7, None, state="pruned")]
    best: dict[str, Any] = {"number": 6, "penalty": None, "alpha": {}, "experiment": "din.toml"}
    found = {"space": {"train.lr": "", "a.flag": ""}, "trials": trials, "best": best, "rows": 12345}
    found |= {"seconds": 6.0, "importance": {}}
    return {
        "objective": "logloss",
        "minimizes": True,
        "notes": [],
        "methods": {"din": found | method, "other": found},
    }


def text(values: dict[str, Any]) -> str:
    return " ".join(shown(study_table(Path("study"), values), 200).split())


def test_the_best_trials_come_first() -> None:
    told = text(summary())
    assert "din: 7 complete, 1 pruned; 12,345 training rows, 6 s" in told
    assert "trial logloss lr flag" in told
    assert "6 0.44000 0.01429 True 5 0.45000 0.01667 True" in told
    assert " 1 0.49000" not in told  # five are enough
    assert "Winner: trial 6; `aqcl train study/din.toml`." in told
    sizes = text(summary(trials=[trial(6, 0.5, parameters={"train.lr": 16384, "a.flag": 0.12346})]))
    assert "6 0.50000 16384 0.1235" in sizes
    most = text({**summary(), "minimizes": False, "objective": "auc"})
    assert "trial AUC lr flag" in most
    assert "0 0.50000 0.1 True 1 0.49000" in most


def test_the_winner_is_always_among_the_trials_that_are_shown() -> None:
    # Better ones that break a constraint stand below those that may win.
    trials = [trial(k, 0.9, feasible=False) for k in range(5)] + [trial(k, 0.5) for k in (5, 6)]
    told = text({**summary(trials=trials), "minimizes": False, "objective": "constrained"})
    assert "5 0.50000 0.01667 True 6 0.50000 0.01429 True 0 * 0.90000" in told
    # The best mean of several seeds may be that of a trial whose own value is the seventh.
    trials = [trial(k, 0.4 + k / 100) for k in range(8)]
    told = text(summary(trials=trials))
    assert "4 0.44000 0.02 True 6 0.46000 0.01429 True" in told


def test_the_only_method_is_not_named() -> None:
    both = summary()
    alone = both | {"methods": {"best": both["methods"]["din"]}}
    assert text(alone).startswith("7 complete, 1 pruned; 12,345 training rows, 6 s")
    assert text(alone | {"method": "one-run"}).startswith("one-run: 7 complete, 1 pruned; ")
    assert text(both | {"method": "one-run"}).startswith("din, one-run: 7 complete, 1 pruned; ")


def test_what_was_found_is_told_in_words() -> None:
    penalty = {"inside": True, "range": "1e-06 to 0.1", "value": 0.01, "touches": None}
    alpha = {"aqcl": {"0": 1.0, "mean": 0.37, "10x mean": 0.0001}}
    best = {"number": 6, "penalty": penalty, "alpha": alpha, "experiment": "din.toml"}
    trials = [trial(6, 0.5), trial(2, 0.4, feasible=False)]
    told = text(summary(best=best, trials=trials, importance={"train.lr": 0.75, "a.flag": 0.25}))
    assert "Importance: train.lr 75%, a.flag 25%; where nothing matters, chance alone" in told
    assert "Alpha of aqcl: 1.000 at 0 clicks, 0.370 at mean clicks, 0.000 at 10x mean" in told
    assert "The penalty lies inside its range, 1e-06 to 0.1." in told
    assert "2 * 0.40000" in told
    assert "* the AUC of highly active users is below that of trial 0" in told
    assert "Note: it is so." in text({**summary(), "notes": ["it is so"]})
    assert "No trial was trained to its end." in text(summary(best=None, trials=[]))


def test_the_bar_tells_trials_done_the_best_and_what_runs() -> None:
    file = io.StringIO()
    console = Console(file=file, width=120, force_terminal=True, color_system=None)
    with study_bar(console=console) as listen:
        listen(SearchProgress(0, 8, {"din": None}, "din, trial 0"))
        listen(SearchProgress(3, 8, {"din": 0.61234, "x[red]": None}, "din, trial 3, epoch 2"))
    last = [line for line in file.getvalue().splitlines() if "trials" in line][-1]
    assert "3/8 trials" in last
    assert "best: din 0.6123; din, trial 3, epoch 2" in last


def test_the_only_method_has_no_name_in_the_bar() -> None:
    file = io.StringIO()
    with study_bar(console=Console(file=file, width=120)) as listen:
        listen(SearchProgress(0, 2, {"best": None}, "trial 0"))
        listen(SearchProgress(1, 2, {"best": 0.6932}, "trial 1"))
    told = [line.partition("  ")[2] for line in file.getvalue().splitlines()]
    assert told == ["0/2 trials; trial 0", "1/2 trials; best: 0.6932; trial 1"]


def test_a_quiet_bar_and_one_that_hears_nothing_say_nothing() -> None:
    file = io.StringIO()
    console = Console(file=file, width=120, force_terminal=True, color_system=None)
    with study_bar(console=console):
        pass
    with study_bar(quiet=True, console=console) as listen:
        listen(SearchProgress(1, 2, {"din": 0.5}))
    assert file.getvalue().strip() == ""
