"""Work on a few threads, with the results in the order of the tasks."""

import collections
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

Task = TypeVar("Task")
Result = TypeVar("Result")

N_THREADS = 2
"""Work in NumPy is bound by memory: more threads gain little and each holds its own arrays."""


def in_order(
    work: Callable[[Task], Result], tasks: Iterable[Task], n_threads: int = N_THREADS
) -> Iterator[Result]:
    """Yield `work(task)` of each task, at most `n_threads` tasks ahead of the reader.

    An error of a task is raised in its turn; tasks that have not begun are then left undone.
    """
    waiting: collections.deque[Future[Result]] = collections.deque()
    with ThreadPoolExecutor(n_threads) as pool:
        try:
            for task in tasks:
                waiting.append(pool.submit(work, task))
                if len(waiting) > n_threads:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            for left in waiting:
                left.cancel()
