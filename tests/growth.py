"""Is work linear in the size of its input? Ratios of sizes, never seconds: the machine may be busy."""

import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")
_FACTOR = 8
_MOST = 24  # linear work gives 8, quadratic 64
_TRIES = 5


def is_linear(make: Callable[[int], T], work: Callable[[T], object], size: int) -> bool:
    """Does `work` take at most three times its share for an input that is eight times as large?

    The least processor time of several tries counts, and one try that is good is enough: nothing but the
    work itself can make all of them slow.
    """
    small, large = make(size), make(_FACTOR * size)
    return any(_taken(work, large) <= _MOST * max(_taken(work, small), 1e-4) for _ in range(_TRIES))


def _taken(work: Callable[[T], object], given: T) -> float:
    best = float("inf")
    for _ in range(3):
        begun = time.process_time()
        work(given)
        best = min(best, time.process_time() - begun)
    return best
