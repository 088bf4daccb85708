"""What is said is heard in the thread that it is said in, else warned of."""

from __future__ import annotations

import threading
import warnings

import pytest

from medrecon.io.notices import listening, notice


class OwnWarning(UserWarning):
    """A category of the tests."""


def test_it_is_heard_and_not_warned_of() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with listening() as outer:
            notice("one", OwnWarning)
            with listening() as inner:
                notice("two", OwnWarning)
            notice("three", OwnWarning)
    assert (outer, inner) == (["one", "three"], ["two"])


def test_where_nobody_listens_it_is_a_warning_of_the_caller() -> None:
    with pytest.warns(OwnWarning, match="one") as said:
        _say()
    assert said[0].filename == __file__


def _say() -> None:
    notice("one", OwnWarning)


def test_each_thread_hears_its_own() -> None:
    heard: dict[int, list[str]] = {}
    together = threading.Barrier(4, timeout=20)

    def work(number: int) -> None:
        with listening() as mine:
            for turn in range(20):
                together.wait()
                notice(f"{number}.{turn}", OwnWarning)
        heard[number] = mine

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert heard == {n: [f"{n}.{turn}" for turn in range(20)] for n in range(4)}
