"""Who works on which trial, and where a study stands, from its journal alone."""

from pathlib import Path

import pytest
from optuna.trial import TrialState

from aqcl.errors import TrainingError
from aqcl.search.plan import ONLY
from aqcl.search.space import Range
from aqcl.search.standing import Standing
from aqcl.search.study import JOURNAL, Task
from tests.searches import DIN_AND_AQCL, claimed, end, journal

L2 = "train.embedding_l2"


def place(task: Task) -> tuple[str, int]:
    return task.method.name, task.slot


def test_methods_are_searched_one_after_the_other_with_equal_budgets(tmp_path: Path) -> None:
    opened = journal(tmp_path, trials=2, methods=DIN_AND_AQCL, widen=0)
    places, parameters = [], []
    for number in range(4):
        task = claimed(opened)
        places.append(place(task))
        parameters.append(task.parameters)
        end(opened, task, float(number))
    assert places == [("din", 0), ("din", 1), ("din+aqcl", 0), ("din+aqcl", 1)]
    # The first trials of all methods draw what they share from one stream.
    assert parameters[0][L2] == parameters[2][L2]
    over = opened.claim()
    assert isinstance(over, Standing)
    assert over.is_over
    best = {name: over.best(name) for name in over.records}
    assert {name: record and record.slot for name, record in best.items()} == {
        "din": 0,
        "din+aqcl": 0,
    }


def test_a_trial_is_told_by_its_method_where_there_are_several(tmp_path: Path) -> None:
    several = claimed(journal(tmp_path / "several", trials=2, methods=DIN_AND_AQCL, widen=0))
    alone = claimed(journal(tmp_path / "alone", trials=2, widen=0))
    assert (several.title, alone.title) == ("din, trial 0", "trial 0")
    several.release()
    alone.release()


def test_a_trial_belongs_to_one_process_and_an_abandoned_one_to_the_next(tmp_path: Path) -> None:
    mine, theirs = (journal(tmp_path, trials=2, widen=0) for _ in range(2))
    first, second = claimed(mine), claimed(theirs)
    assert (first.slot, second.slot) == (0, 1)
    assert first.parameters != second.parameters
    waiting = mine.claim()
    assert isinstance(waiting, Standing)
    assert not waiting.is_over
    second.release()  # as the system does when its process is killed
    again = claimed(mine)
    assert (again.slot, again.parameters) == (1, second.parameters)
    end(mine, again, 0.5)
    end(mine, first, 0.4)
    over = theirs.claim()
    assert isinstance(over, Standing)
    assert over.is_over


def test_an_abandoned_trial_comes_before_a_new_one(tmp_path: Path) -> None:
    opened = journal(tmp_path, trials=5)
    first, second = claimed(opened), claimed(opened)
    first.release()
    assert claimed(journal(tmp_path, trials=5)).slot == first.slot
    second.release()


def test_a_killed_writer_leaves_nothing_behind(tmp_path: Path) -> None:
    opened = journal(tmp_path, trials=3)
    first = claimed(opened)
    with (tmp_path / JOURNAL).open("ab") as file:
        file.write(b'{"op_code":4,"worker_id":"half')
    (tmp_path / f"{JOURNAL}.lock").symlink_to(tmp_path / JOURNAL)
    again = journal(tmp_path, trials=3)
    assert claimed(again).slot == first.slot + 1
    end(again, first, 1.0)
    with opened.locked():
        records = opened.standing().records[ONLY]
    assert [record.trial.state.name for record in records] == ["COMPLETE", "RUNNING"]


@pytest.mark.parametrize("again", [False, True], ids=["then inside", "then at the edge again"])
@pytest.mark.parametrize("killed", [False, True], ids=["whole", "killed while copying"])
def test_a_winner_at_the_edge_widens_the_range(tmp_path: Path, killed: bool, again: bool) -> None:
    space = {L2: {"low": 0.1, "high": 1, "log": True}, "train.lr": {"low": 0.1, "high": 1}}
    settings = {"trials": 3, "widen_trials": 2, "widen": 2, "space": space, "seed": 14}
    opened = journal(tmp_path, **settings)
    tasks = []
    for _ in range(3):
        task = claimed(opened)
        tasks.append(task)
        end(opened, task, None if len(tasks) == 2 else -task.parameters[L2])
    best = max(tasks[0].parameters[L2], tasks[2].parameters[L2])
    if killed:
        copies = opened.study(f"{ONLY}/1")
        assert copies.trials == []
        opened = journal(tmp_path, **settings)
    fourth = claimed(opened)
    with opened.locked():
        standing = opened.standing()
    assert best > 10**-0.1  # of this seed
    assert (fourth.slot, standing.round, standing.target) == (3, 1, 5)
    dimension = standing.plan.methods[0].space.searched[L2]
    assert isinstance(dimension, Range)
    assert (dimension.low, dimension.high) == (0.1, 10)
    assert [r.trial.params for r in standing.records[ONLY][:3]] == [t.parameters for t in tasks]
    assert standing.records[ONLY][1].trial.state == TrialState.PRUNED
    assert len(standing.notes) == 1
    assert "widened by a factor of 10 on the high side, 2 more trials" in standing.notes[0]
    end(opened, fourth, -2.0)
    fifth = claimed(opened)
    end(opened, fifth, -3.0 if again else -1.0)
    # What won now decides whether there is a third round.
    assert 10**-0.8 < fourth.parameters[L2] < 10**0.8 < fifth.parameters[L2]  # of this seed
    following = opened.claim()
    if again:
        assert isinstance(following, Task)
        assert following.slot == 5
        following.release()
    else:
        assert isinstance(following, Standing)
        assert following.is_over
        assert following.notes == standing.notes


def test_rounds_are_bounded(tmp_path: Path) -> None:
    space = {L2: {"low": 0.1, "high": 1, "log": True}}
    opened = journal(tmp_path, trials=24, widen_trials=6, widen=1, space=space, sampler="random")
    count = 0
    while isinstance(task := opened.claim(), Task):
        end(opened, task, -task.parameters[L2])
        count += 1
    assert count == 30
    assert task.is_over
    assert len(task.notes) == 1


def test_trial_0_of_a_constrained_search_has_no_auxiliary_loss(tmp_path: Path) -> None:
    opened = journal(tmp_path, trials=4, objective="constrained", widen=0)
    reference = claimed(opened)
    assert reference.is_reference
    assert reference.parameters == {}
    waiting = journal(tmp_path, trials=4, objective="constrained", widen=0).claim()
    assert isinstance(waiting, Standing)  # others have to be held against it
    end(opened, reference, 0.6)
    for value, lost in ((0.9, 0.01), (0.7, 0.0), (0.8, 0.1)):
        task = claimed(opened)
        assert not task.is_reference
        assert task.slot == task.number + 1
        end(opened, task, value, lost)
    over = opened.claim()
    assert isinstance(over, Standing)
    assert over.is_over
    best = over.best(ONLY)
    assert best is not None
    assert best.slot == 2
    assert [record.is_candidate for record in over.records[ONLY]] == [True, False, True, False]


def test_a_constrained_search_ends_where_trial_0_fails(tmp_path: Path) -> None:
    opened = journal(tmp_path, trials=4, objective="constrained")
    task = claimed(opened)
    with opened.locked():
        trial = opened.trial(task)
        trial.set_user_attr("error", "it exploded")
        trial.study.tell(task.number, state=TrialState.FAIL)
    task.release()
    with pytest.raises(TrainingError, match=r"trial 0, which the others .* failed: it exploded"):
        opened.claim()


def test_runs_of_named_methods_have_a_folder_of_their_own(tmp_path: Path) -> None:
    opened = journal(tmp_path)
    assert opened.folder_of(ONLY, 7) == tmp_path / "trials" / "0007"
    assert opened.folder_of("din", 7) == tmp_path / "trials" / "din" / "0007"
