"""Work on threads comes back in order, is bounded, and stops at the first error."""

import threading
import time

import pytest

from aqcl.workers import in_order


@pytest.mark.parametrize("n_threads", [1, 2, 5])
def test_results_have_the_order_of_the_tasks(n_threads: int) -> None:
    def slower_first(task: int) -> int:
        time.sleep(0.002 * (7 - task))
        return task * task

    assert list(in_order(slower_first, range(7), n_threads)) == [n * n for n in range(7)]
    assert list(in_order(slower_first, [], n_threads)) == []


def test_two_tasks_run_at_once() -> None:
    meeting = threading.Barrier(2, timeout=20)

    assert sorted(in_order(lambda _: meeting.wait(), range(2), 2)) == [0, 1]


def test_the_reader_holds_the_work_back() -> None:
    begun: list[int] = []
    results = in_order(begun.append, range(100), 2)
    for _ in range(3):
        next(results)
        time.sleep(0.02)
        assert len(begun) <= 3 + 2 + 1
    results.close()  # type: ignore[attr-defined]
    assert len(begun) < 10


def test_an_error_comes_in_its_turn_and_ends_the_work() -> None:
    begun: list[int] = []

    def fails_at_two(task: int) -> int:
        begun.append(task)
        if task == 2:
            raise ValueError("two")
        return task

    results = in_order(fails_at_two, range(100), 1)
    assert [next(results), next(results)] == [0, 1]
    with pytest.raises(ValueError, match="two"):
        next(results)
    assert len(begun) < 6
