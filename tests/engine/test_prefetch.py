"""Reading ahead changes neither the items nor their errors."""

import threading

import pytest

from onnxtweak.engine.machine.prefetch import prefetch


def test_items_come_in_order_and_from_another_thread():
    def items():
        for k in range(5):
            yield k, threading.current_thread().name

    found = list(prefetch(items()))
    assert [k for k, _ in found] == [0, 1, 2, 3, 4]
    assert all(name.startswith("read") for _, name in found)


def test_an_error_comes_where_the_item_would():
    def items():
        yield 1
        raise ValueError("broken")

    reading = prefetch(items())
    assert next(reading) == 1
    with pytest.raises(ValueError, match="broken"):
        next(reading)


def test_one_item_is_read_ahead_and_no_more():
    taken = []

    def items():
        for k in range(10):
            taken.append(k)
            yield k

    reading = prefetch(items())
    assert next(reading) == 0
    reading.close()
    assert taken == [0, 1]
