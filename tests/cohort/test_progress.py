"""Counts, speed and the time that is left."""

from __future__ import annotations

from medrecon.cohort.progress import Tally, duration


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


def test_speed_counts_what_this_run_made_after_its_start() -> None:
    clock = Clock()
    tally = Tally(20, clock=clock)
    for _ in range(4):
        tally.add({"status": "done", "kept": True, "voxels": 1})
    assert (tally.kept, tally.rate, tally.remaining) == (4, None, None)
    assert tally.words() == "4/20 done (4 by an earlier run)"
    for _ in range(6):
        tally.add({"status": "done", "voxels": 3_000_000})
        clock.now += 2.0
    tally.add({"status": "failed"})
    tally.add({"status": "partial", "kept": True})
    assert (tally.made, tally.failed, tally.ended) == (6, 2, 12)
    assert tally.rate == 5 / 12
    assert tally.remaining == 8 / tally.rate
    assert tally.words() == (
        "10/20 done (4 by an earlier run), 2 failed, 0.42 studies/s, 1.25 million voxels/s, 0:19 left"
    )


def test_slow_work_is_told_by_the_hour() -> None:
    clock = Clock()
    tally = Tally(3, clock=clock)
    for _ in range(2):
        tally.add({"status": "done", "voxels": 1})
        clock.now += 60
    assert "30 studies/h" in tally.words()


def test_durations() -> None:
    assert [duration(s) for s in (0, 7.4, 59.6, 3723, 90000)] == [
        "0:00",
        "0:07",
        "1:00",
        "1:02:03",
        "1 d 01:00",
    ]
