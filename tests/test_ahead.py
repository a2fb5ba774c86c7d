"""Reading ahead: the same items, the same errors, bounded, and nothing left behind."""

import threading

import pytest

from data.video.ahead import read_ahead
from tests.waiting import until


def test_items_come_in_order():
    assert list(read_ahead(range(100), 4)) == list(range(100))
    assert list(read_ahead([], 4)) == []


def test_an_error_comes_after_the_items_before_it():
    def broken():
        yield 1
        raise ValueError("no more")

    items = read_ahead(broken(), 4)
    assert next(items) == 1
    with pytest.raises(ValueError, match="no more"):
        next(items)


def test_it_reads_ahead_and_no_further():
    ahead, given = [], []

    def numbers():
        for i in range(100):
            ahead.append(i - len(given))
            yield i

    for item in read_ahead(numbers(), 3):
        given.append(item)
        until(lambda: len(ahead) >= min(100, len(given) + 4))  # three waiting, one in hand
    assert given == list(range(100))
    assert max(ahead) <= 4, "one more while the one that was just taken is not counted yet"


def test_the_thread_ends_with_its_reader():
    before = threading.active_count()
    items = read_ahead(iter(int, 1), 2)  # without end
    next(items)
    items.close()
    until(lambda: threading.active_count() == before)
