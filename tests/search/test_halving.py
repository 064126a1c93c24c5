"""Finding alpha in the time of one training: successive halving, and learning it."""

import math
from itertools import pairwise
from pathlib import Path

import pytest

from aqcl.alpha_shapes import W1_RANGE, W2_RANGE, HalvingOptions
from aqcl.config import build
from aqcl.dataset import Dataset, Split, open_dataset
from aqcl.errors import ConfigError, StorageError
from aqcl.experiment import Experiment
from aqcl.runs import LOG
from aqcl.search.alpha_search import AlphaOutcome, alpha_owner, learn_alpha, with_options
from aqcl.search.halving import Plan, candidates, halve_alpha, make_plan
from aqcl.train import Progress, Trainer
from tests.tiny_runs import AQCL, tiny_dataset, tiny_experiment

OPTIONS = build(HalvingOptions, {"n_candidates": 4})


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_dataset(tmp_path_factory.mktemp("data"))


@pytest.fixture(scope="module")
def experiment(data: Path) -> Experiment:
    return tiny_experiment(data, "train.epochs=4")


@pytest.fixture(scope="module")
def whole(experiment: Experiment, tmp_path_factory: pytest.TempPathFactory) -> AlphaOutcome:
    return halve_alpha(experiment, tmp_path_factory.mktemp("halving") / "whole", OPTIONS)


@pytest.mark.parametrize("n_candidates", [2, 3, 4, 5, 8, 16])
@pytest.mark.parametrize("budget", [1.5, 2.0, 3.0])
def test_a_plan_stays_within_its_budget(n_candidates: int, budget: float) -> None:
    options = build(HalvingOptions, {"n_candidates": n_candidates, "budget": budget})

    plan = make_plan(options, 100, 301)

    assert 0.9 * (budget - 1) * 12 * 301 <= plan.steps <= (budget - 1) * 12 * 301
    counts = [count for count, _ in plan.rungs]
    assert counts[0] == n_candidates
    assert counts[-1] == 2
    assert all(after == math.ceil(before / 2) for before, after in pairwise(counts))
    assert all(
        count * steps <= plan.rungs[0][0] * (plan.rungs[0][1] + 1) for count, steps in plan.rungs
    )


def test_a_plan_has_no_more_epochs_than_a_training() -> None:
    assert make_plan(OPTIONS, 4, 8) == Plan(6, ((4, 3), (2, 6)))


def test_a_budget_that_is_too_small_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"budget = 1\.01: leaves 0 steps, too few for 3 rungs"):
        make_plan(build(HalvingOptions, {"budget": 1.01}), 1, 8)


def test_a_budget_that_candidates_cannot_spend_is_refused() -> None:
    options = build(HalvingOptions, {"budget": 5})
    message = (
        r"^budget = 5\.0: the last candidates would take 1570 steps, and a training has 1200 at"
    )
    with pytest.raises(ConfigError, match=message):
        make_plan(options, 12, 100)
    assert make_plan(options, 16, 100).rungs == ((8, 190), (4, 380), (2, 760))


def test_candidates_fill_the_space_and_begin_with_the_given() -> None:
    points = candidates((1.0, 2.0), 33, 7)

    assert points[0] == (1.0, 2.0)
    assert points == candidates((1.0, 2.0), 33, 7) != candidates((1.0, 2.0), 33, 8)
    for place, (low, high) in enumerate((W1_RANGE, W2_RANGE)):
        shares = sorted(math.log(p[place] / low) / math.log(high / low) for p in points[1:])
        # A Sobol sequence of 32 points has one in each 32nd, whatever the scrambling.
        assert [int(share * 32) for share in shares] == list(range(32))


def test_the_better_half_goes_on(whole: AlphaOutcome) -> None:
    first, second = ([line for line in whole.history if line["rung"] == n] for n in (1, 2))

    assert [len(first), len(second)] == [4, 2]
    assert (first[0]["w1"], first[0]["w2"]) == (1, 1)
    assert [line["step"] for line in whole.history] == [9] * 4 + [15] * 2
    values = sorted(line["valid_logloss"] for line in first)
    assert [line["valid_logloss"] <= values[1] for line in first] == [
        line["kept"] for line in first
    ]
    kept = [(line["w1"], line["w2"]) for line in first if line["kept"]]
    assert kept == [(line["w1"], line["w2"]) for line in second]
    best = min(second, key=lambda line: float(line["valid_logloss"]))
    assert whole.value == best["valid_logloss"]
    assert whole.options == {"alpha": "curve", "w1": best["w1"], "w2": best["w2"]}


def test_the_rows_of_all_branches_are_counted(data: Path, whole: AlphaOutcome) -> None:
    n_rows = len(open_dataset(data).train)

    # 6 steps together, 4 times 3, 2 times 6: 30 of 32, of which 8 are an epoch.
    assert abs(whole.rows - 30 * n_rows / 8) < 16
    assert whole.rows <= 4 * n_rows
    assert whole.seconds > 0


@pytest.mark.parametrize(
    ("killed_after", "left"), [(3, 30), (6, 24), (8, 22), (12, 18), (20, 12), (27, 3), (29, 3)]
)
def test_a_killed_search_ends_as_an_uninterrupted_one(
    experiment: Experiment, whole: AlphaOutcome, tmp_path: Path, killed_after: int, left: int
) -> None:
    seen: list[int] = []

    def kill(progress: Progress) -> None:
        seen.append(progress.number)
        if len(seen) == killed_after:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        halve_alpha(experiment, tmp_path, OPTIONS, listen=kill)
    seen.clear()
    again = halve_alpha(experiment, tmp_path, OPTIONS, listen=lambda p: seen.append(p.number))

    assert (again.options, again.value) == (whole.options, whole.value)
    assert (again.rows, again.history) == (whole.rows, whole.history)
    assert len(seen) == left  # from the latest evaluation on


def test_a_finished_search_is_only_read(
    experiment: Experiment, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = halve_alpha(experiment, tmp_path, OPTIONS)

    def forbidden(self: Trainer, batch: object) -> None:
        raise AssertionError("a step was trained again")

    monkeypatch.setattr(Trainer, "step", forbidden)
    assert halve_alpha(experiment, tmp_path, OPTIONS) == first


def test_the_common_start_is_common(experiment: Experiment, tmp_path: Path) -> None:
    numbers: list[int] = []
    halve_alpha(experiment, tmp_path, OPTIONS, listen=lambda p: numbers.append(p.number))

    expected = [*range(1, 7), *[7, 8, 9] * 4, *range(10, 16), *range(10, 16)]
    assert numbers == expected
    start = (tmp_path / "warm" / "log.jsonl").read_text()
    for number in range(4):
        log = (tmp_path / f"candidate-{number}" / "log.jsonl").read_text()
        assert log.startswith(start)


def test_there_need_be_no_common_start(experiment: Experiment, tmp_path: Path) -> None:
    options = build(HalvingOptions, {"n_candidates": 2, "warm_share": 0.0, "budget": 1.25})

    outcome = halve_alpha(experiment, tmp_path, options)

    assert [line["step"] for line in outcome.history] == [4, 4]


def test_early_stopping_does_not_end_a_candidate(data: Path, tmp_path: Path) -> None:
    hasty = tiny_experiment(data, "train.epochs=4", "train.patience=1", "train.lr=1e-9")

    outcome = halve_alpha(hasty, tmp_path, OPTIONS)

    assert outcome.history[-1]["step"] == 15


def test_another_search_is_not_continued(experiment: Experiment, tmp_path: Path) -> None:
    options = build(HalvingOptions, {"n_candidates": 2, "budget": 1.5})
    halve_alpha(experiment, tmp_path, options)

    other = with_options(experiment, "aqcl", w1=0.5)
    with pytest.raises(ConfigError, match=r"regularizer\.aqcl\.w1: the run was started with 1\.0"):
        halve_alpha(other, tmp_path, options)


@pytest.mark.parametrize(
    ("regularizer", "message"),
    [
        ({}, "expected one with an alpha and a weight above 0, got none"),
        ({"aqcl": {"weight": 0}}, "expected one .*, got none"),
        ({"aqcl": {"constant_alpha": 0.5}}, r"aqcl\.constant_alpha = 0\.5 leaves nothing"),
        ({"aqcl": {"alpha": "groups"}}, r"aqcl\.alpha = 'groups': halving looks for w1 and w2"),
    ],
)
def test_an_experiment_without_a_curve_is_refused(
    data: Path, tmp_path: Path, regularizer: dict[str, dict[str, object]], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        halve_alpha(tiny_experiment(data, regularizer=regularizer), tmp_path / "out")

    assert not (tmp_path / "out").exists()


def test_learning_is_one_training_and_can_be_continued(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def forbidden(self: Dataset) -> Split:
        raise AssertionError("test rows were asked for")

    monkeypatch.setattr(Dataset, "test", property(forbidden))
    table = {**AQCL, "learn_alpha": {"every": 2}}
    given = tiny_experiment(data, regularizer={"aqcl": table})

    outcome = learn_alpha(given, tmp_path / "run")

    assert learn_alpha(given, tmp_path / "run") == outcome
    assert [line["step"] for line in outcome.history] == [4, 8, 12, 16]
    measured = {"step", "rows", "valid_auc", "valid_logloss"}
    assert outcome.history[0].keys() == {"w1", "w2", *measured}
    assert outcome.history[-1]["rows"] == outcome.rows
    best = max(outcome.history, key=lambda line: float(line["valid_auc"]))
    assert outcome.value == best["valid_logloss"]
    assert outcome.options == pytest.approx({"alpha": "curve", "w1": best["w1"], "w2": best["w2"]})
    assert outcome.rows > 2 * len(open_dataset(data).train)
    afresh = with_options(given, "aqcl", **outcome.options)
    assert not afresh.regularizer["aqcl"]["learn_alpha"]["enabled"]
    (tmp_path / "run" / LOG).unlink()  # what a finished run can do without elsewhere
    with pytest.raises(StorageError, match=r"log\.jsonl: expected the log of the run, which tells"):
        learn_alpha(given, tmp_path / "run")
    assert alpha_owner(afresh) == "aqcl"
