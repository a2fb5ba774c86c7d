"""Reading ahead: the same items, the same errors, bounded, and nothing left behind."""

import threading
import time

import pytest

from data.ahead import read_ahead


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
    taken = []
    items = read_ahead((taken.append(i) or i for i in range(100)), 3)
    assert next(items) == 0
    deadline = time.monotonic() + 10
    while len(taken) < 5 and time.monotonic() < deadline:
        time.sleep(0.01)
    time.sleep(0.1)
    assert len(taken) == 5  # one given, three waiting, one in hand


def test_the_thread_ends_with_its_reader():
    before = threading.active_count()
    items = read_ahead(iter(int, 1), 2)  # without end
    next(items)
    items.close()
    deadline = time.monotonic() + 10
    while threading.active_count() > before and time.monotonic() < deadline:
        time.sleep(0.01)
    assert threading.active_count() == before
