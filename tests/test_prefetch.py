"""Items made ahead: the same, in order, never too many, and no thread is left behind."""

import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aqcl import prefetch
from aqcl.dataset import Split
from aqcl.errors import StorageError
from aqcl.prefetch import prefetched, prefetched_if_slow
from aqcl.train import Progress, train
from tests.tiny_runs import assert_same_run, tiny_dataset, tiny_experiment


def threads() -> list[threading.Thread]:
    return [one for one in threading.enumerate() if one.name == "aqcl-prefetch"]


@given(st.lists(st.none() | st.integers()), st.integers(1, 5))
def test_the_items_are_the_same_in_order(items: list[int | None], depth: int) -> None:
    with prefetched(items, depth) as ahead:
        assert list(ahead) == items
    assert not threads()


def test_another_thread_makes_them() -> None:
    with prefetched((threading.get_ident() for _ in range(3)), 2) as ahead:
        assert threading.get_ident() not in set(ahead)


def test_so_many_are_made_before_they_are_asked_and_no_more() -> None:
    begun = [threading.Event() for _ in range(6)]

    def items() -> Iterator[int]:
        for number, event in enumerate(begun):
            event.set()
            yield number

    with prefetched(items(), 3) as ahead:
        assert begun[2].wait(10)
        assert not begun[3].wait(0.05)
        assert next(ahead) == 0
        assert begun[3].wait(10)
        assert not begun[4].wait(0.05)


def test_an_error_is_raised_where_its_item_is_asked_for() -> None:
    def items() -> Iterator[int]:
        yield 1
        raise OSError("the disk is gone")

    with prefetched(items(), 4) as ahead:
        assert next(ahead) == 1
        with pytest.raises(OSError, match="the disk is gone") as caught:
            next(ahead)
    assert "items" in {entry.name for entry in caught.traceback}
    assert not threads()


@pytest.mark.parametrize("taken", [0, 1, 5])
@pytest.mark.parametrize("error", [KeyboardInterrupt, ValueError, GeneratorExit])
def test_leaving_early_ends_the_thread(taken: int, error: type[BaseException]) -> None:
    def endless() -> Iterator[int]:
        while True:
            yield 0

    def left() -> None:
        with prefetched(endless(), 2) as ahead:
            for _ in range(taken):
                next(ahead)
            assert len(threads()) == 1
            raise error

    with pytest.raises(error):
        left()
    assert not threads()


def test_what_was_begun_is_finished_before_the_block_is_left() -> None:
    """A file that is being read may be closed after the block."""
    begun, done = threading.Event(), list[bool]()
    go = threading.Event()

    def slow() -> Iterator[int]:
        begun.set()
        go.wait(10)
        done.append(True)
        yield 0

    with prefetched(slow(), 1):
        assert begun.wait(10)
        threading.Timer(0.05, go.set).start()
    assert done
    assert not threads()


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_dataset(tmp_path_factory.mktemp("data"))


@pytest.fixture
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """A thread takes over after the first item, however fast that was."""
    monkeypatch.setattr(prefetch, "TRIAL", 1)
    monkeypatch.setattr(prefetch, "SHARE", -1.0)


PAUSE = 0.02
"""Seconds; long beside what a busy machine may add to them."""


@pytest.mark.parametrize(
    ("slow", "ahead_from"), [(range(12), 4), (range(4, 12), 8), (range(0), 99), (range(1), 99)]
)
def test_a_thread_takes_over_where_items_are_slow(
    monkeypatch: pytest.MonkeyPatch, slow: range, ahead_from: int
) -> None:
    """Four at a time are timed; a slow stretch may come later, and one slow item is no stretch."""
    monkeypatch.setattr(prefetch, "TRIAL", 4)
    monkeypatch.setattr(prefetch, "SHARE", 0.25)

    def items() -> Iterator[tuple[int, int]]:
        for number in range(12):
            if number in slow:
                time.sleep(PAUSE * (5 if number == 0 else 1))
            yield number, threading.get_ident()

    taken = []
    with prefetched_if_slow(items(), 2) as made:
        for item in made:
            taken.append(item)
            time.sleep(PAUSE)

    assert [number for number, _ in taken] == list(range(12))
    elsewhere = [ident != threading.get_ident() for _, ident in taken]
    assert elsewhere == [number >= ahead_from for number in range(12)]
    assert not threads()


@given(st.lists(st.integers(), max_size=9), st.integers(1, 4), st.sampled_from([-1.0, 2.0]))
def test_either_way_the_items_are_the_same(items: list[int], trial: int, share: float) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(prefetch, "TRIAL", trial)
        patch.setattr(prefetch, "SHARE", share)
        with prefetched_if_slow(items, 2) as made:
            assert list(made) == items
    assert not threads()


def test_a_run_is_the_one_without_a_thread(
    data: Path, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    alive = []
    direct = train(tiny_experiment(data), tmp_path / "direct")
    request.getfixturevalue("at_once")

    ahead = train(
        tiny_experiment(data), tmp_path / "ahead", listen=lambda _: alive.append(len(threads()))
    )

    assert alive[:8] == [0] + [1] * 7
    assert_same_run(ahead, direct)
    assert not threads()


@pytest.mark.usefixtures("at_once")
def test_batches_that_cannot_be_read_stop_a_run(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    original, seen = Split.batch, list[int]()

    def failing(self: Split, rows: Any, *arguments: Any) -> Any:
        if self.name == "train" and len(seen) == 6:
            raise StorageError("train/user.npy: the disk is gone")
        return original(self, rows, *arguments)

    monkeypatch.setattr(Split, "batch", failing)

    with pytest.raises(StorageError, match="the disk is gone"):
        train(tiny_experiment(data), tmp_path / "run", listen=lambda p: seen.append(p.number))

    assert not threads()


@pytest.mark.usefixtures("at_once")
@pytest.mark.parametrize("number", [1, 2, 16])
def test_an_interrupted_run_leaves_no_thread(data: Path, tmp_path: Path, number: int) -> None:
    def listen(progress: Progress) -> None:
        # It begins with the second batch, and has nothing left to do towards the end.
        assert len(threads()) == (progress.number > 1) or progress.number > 10
        if progress.number == number:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(tiny_experiment(data), tmp_path / "run", listen=listen)

    assert not threads()


def test_waiting_for_data_is_logged_over_all_sessions(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Here the batches are as slow as the time that a run then waits."""
    original = Split.batch

    def slow(self: Split, *arguments: Any) -> Any:
        time.sleep(0.05 * (self.name == "train"))
        return original(self, *arguments)

    def interrupt(progress: Progress) -> None:
        if progress.number == 5:
            raise KeyboardInterrupt

    experiment = tiny_experiment(data, regularizer={})
    with monkeypatch.context() as patch:
        patch.setattr(Split, "batch", slow)
        with pytest.raises(KeyboardInterrupt):
            train(experiment, tmp_path / "run", listen=interrupt)

    log = train(experiment, tmp_path / "run", resume=True).log()

    assert log[0]["data_wait"] > 0.5
    # Four slow steps of sixteen: the rest are far shorter.
    assert log[-1]["data_wait"] > 0.25
