"""Small requests go side by side, and in order."""

import threading

import pytest

from fastlung.storage.prefetch import map_ahead


def test_results_are_in_order_and_as_many_are_under_way_as_asked_for():
    together = threading.Barrier(4)

    def wait(number):
        together.wait(30)  # breaks unless four are here at a time
        return number

    assert list(map_ahead(wait, range(12), at_once=4)) == list(range(12))


def test_items_are_taken_in_as_results_are_asked_for():
    taken = []
    results = map_ahead(str, (taken.append(number) or number for number in range(1000)), at_once=4)
    assert next(results) == "0"
    assert len(taken) == 4
    results.close()
    assert len(taken) == 4


def test_an_error_stands_at_its_place():
    results = map_ahead(lambda number: 6 // number, [3, 2, 0, 1], at_once=2)
    assert [next(results), next(results)] == [2, 3]
    with pytest.raises(ZeroDivisionError):
        next(results)
