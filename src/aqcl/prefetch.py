"""Items made ahead of their use, in a thread, where that pays."""

import logging
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from queue import SimpleQueue
from typing import TypeVar

logger = logging.getLogger(__name__)
T = TypeVar("T")

TRIAL = 50
"""Items over which their cost is measured, again and again."""
SHARE = 0.1
"""Of the time that making them takes, beyond which a thread makes them: it competes for the
processors and costs more than it gains where batches are cut from memory, in 1% of a step."""


@contextmanager
def prefetched_if_slow(items: Iterable[T], depth: int) -> Iterator[Iterator[T]]:
    """Inside, the same items in the same order, made by a thread once making them proves slow.

    They are slow where columns come from a disk, and where steps run on a fast device.
    """
    source = iter(items)

    def taken(stack: ExitStack) -> Iterator[T]:
        while True:
            making, started = list[float](), time.perf_counter()
            for _ in range(TRIAL):
                asked = time.perf_counter()
                try:
                    item = next(source)
                except StopIteration:
                    return
                making.append(time.perf_counter() - asked)
                yield item
            # The first item of an epoch has all rows put in order, once.
            dearest = max(making)
            others = sum(making) - dearest
            elapsed = time.perf_counter() - started - dearest
            if others > SHARE * elapsed:
                share = 100 * others / elapsed
                logger.info("waiting for data takes %.0f%%: batches are now cut ahead", share)
                yield from stack.enter_context(prefetched(source, depth))
                return

    with ExitStack() as stack:
        yield taken(stack)


@contextmanager
def prefetched(items: Iterable[T], depth: int) -> Iterator[Iterator[T]]:
    """Inside, the same items in the same order, at most `depth` of them made before they are asked.

    What making an item raises is raised where that item is asked for. The thread has ended when
    the block is left, however it is left.
    """
    made: SimpleQueue[tuple[T] | BaseException | None] = SimpleQueue()
    free = threading.Semaphore(depth)
    ended = threading.Event()

    def make() -> None:
        try:
            source = iter(items)
            while True:
                free.acquire()
                if ended.is_set():
                    return
                made.put((next(source),))
        except StopIteration:
            made.put(None)
        except BaseException as error:
            made.put(error)

    def taken() -> Iterator[T]:
        while (item := made.get()) is not None:
            if isinstance(item, BaseException):
                raise item
            free.release()
            yield item[0]

    # A daemon, so that a killed interpreter need not wait; the block does wait.
    thread = threading.Thread(target=make, name="aqcl-prefetch", daemon=True)
    thread.start()
    try:
        yield taken()
    finally:
        ended.set()
        free.release()
        thread.join()
