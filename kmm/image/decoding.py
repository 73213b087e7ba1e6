"""Decoding ahead of use: large films in threads, small ones in the calling thread; in order, and only a few ahead.

The decoders and the resizing of a large film release Python's interpreter lock, so that threads share the work. Reading
a small film is mostly Python code: threads would only compete for the lock and cost more CPU time than they save.
"""

import os
import re
from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")

AHEAD = 16  # items that are decoded or waiting at a time
LARGE_BYTES = 32_000  # PNG films of 256 x 256 pixels, JPEG of 384 x 384; a thread adds .15 ms of CPU time per film


def decode_ahead(
    decode: Callable[[Item], Result],
    items: Iterable[Item],
    *,
    size: Callable[[Item], int],
    ahead: int = AHEAD,
    threads: int | None = None,
) -> Generator[tuple[Item, Result], None, None]:
    """Applies a function to items in order, to those with large files in threads before they are asked for.

    Memory holds the results of at most `ahead` items, however many follow. No thread is started while all files are
    small. If the iteration ends early, by `close`, an error or Ctrl-C, waiting items are dropped and the threads end
    with the items that they are decoding.

    Args:
        decode: function of an item. It must not change what another item depends on. An error that it raises is raised
            at the item's turn and ends the iteration; an error for one item alone should be returned as its result.
        items: iterable of items, read at most `ahead` items before they are returned.
        size: function of an item to the bytes of its film file; 0 if no file is decoded.
        ahead: int >= 1. Most items that are decoded or waiting at a time.
        threads: int >= 1; with 1, everything runs in the calling thread. None: `count_threads()`.

    Yields:
        each item and the result of the function.

    Example:
        >>> list(decode_ahead(str.upper, ["a", "b"], size=lambda item: 10**6, threads=2))
        [('a', 'A'), ('b', 'B')]
    """
    threads = count_threads() if threads is None else threads
    waiting: deque[tuple[Item, Future[Result] | None]] = deque()
    pool = ThreadPoolExecutor(threads, thread_name_prefix="kmm-decode")  # starts a thread when one is needed
    remaining = iter(items)
    try:
        while True:
            for item in islice(remaining, ahead - len(waiting)):
                large = threads > 1 and size(item) >= LARGE_BYTES
                waiting.append((item, pool.submit(decode, item) if large else None))
            if not waiting:
                return
            item, future = waiting.popleft()
            yield item, decode(item) if future is None else future.result()
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def count_cores() -> int:
    """Returns the number of cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def count_threads() -> int:
    """Returns the number of threads that decode films: one per core, or fewer if the variable OMP_NUM_THREADS says so.

    Worker processes set the variable to their share of the cores, as do schedulers of clusters; numerical libraries
    read it too.

    Example:
        >>> 1 <= count_threads() <= count_cores()
        True
    """
    share = re.match(r"\d+", os.environ.get("OMP_NUM_THREADS", ""))
    return max(1, min(count_cores(), int(share[0]) if share else count_cores()))
