"""Working ahead: the same items, the same errors, never more than agreed, and an end when nobody takes any more."""

import threading
import time
from collections.abc import Iterator

import pytest

from mmfa.ahead import ahead


def test_same_items_in_another_thread() -> None:
    threads: set[int] = set()

    def items() -> Iterator[int]:
        for number in range(20):
            threads.add(threading.get_ident())
            yield number

    assert list(ahead(items())) == list(range(20))
    assert len(threads) == 1 and threading.get_ident() not in threads
    assert list(ahead([])) == []


def test_an_error_comes_in_its_place() -> None:
    def items() -> Iterator[int]:
        yield from range(3)
        raise OSError("the file breaks off")

    taken = []
    with pytest.raises(OSError, match="breaks off"):
        for item in ahead(items()):
            taken.append(item)
    assert taken == [0, 1, 2]


def test_never_further_ahead_than_agreed_and_closed_when_the_taker_stops() -> None:
    made, closed = [], []

    def items() -> Iterator[int]:
        try:
            for number in range(1000):
                made.append(number)
                yield number
        finally:
            closed.append(True)

    stream = ahead(items(), depth=3)
    assert [next(stream) for _ in range(5)] == list(range(5))
    time.sleep(0.05)
    assert len(made) <= 5 + 3
    stream.close()
    assert closed == [True] and len(made) <= 5 + 3
