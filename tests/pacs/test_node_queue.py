"""The queue: one truth about each series, whatever comes when, and after a new start."""

from __future__ import annotations

from pathlib import Path

import pytest

from medrecon.pacs.node.queue import Queue


@pytest.fixture
def queue(tmp_path: Path) -> Queue:
    return Queue(tmp_path / "queue.sqlite")


def arrive(queue: Queue, uid: str, now: float, series: str = "1.2", sha: str = "a") -> None:
    queue.add(series, uid, sha, study="1", calling="CT1", modality="CT", now=now)


def test_a_series_is_done_once_for_each_rule(queue: Queue) -> None:
    arrive(queue, "1.2.1", 10)
    arrive(queue, "1.2.2", 11)
    assert queue.gathering() == [("1.2", "CT1", 11, 2)]
    assert queue.next_job(99) is None
    assert queue.whole("1.2", ["a", "b"], seen=11, now=12)
    assert queue.counts()["waiting"] == 1
    first = queue.next_job(99)
    assert first is not None
    queue.finish(first, 13)
    second = queue.next_job(99)
    assert second is not None
    assert {first.rule, second.rule} == {"a", "b"}
    queue.finish(second, 14)
    assert queue.next_job(99) is None
    assert queue.counts() == {"gathering": 0, "waiting": 0, "done": 1, "failed": 0, "ignored": 0}


def test_an_instance_that_comes_late_is_seen(queue: Queue) -> None:
    arrive(queue, "1.2.1", 10)
    assert not queue.whole("1.2", ["a"], seen=9, now=12), "another has come since"
    queue.whole("1.2", ["a"], seen=10, now=12)
    job = queue.next_job(99)
    assert job is not None
    arrive(queue, "1.2.2", 13)
    assert queue.next_job(99) is None, "nothing is begun while it gathers"
    queue.sending(job)
    queue.finish(job, 14)
    assert queue.counts()["gathering"] == 1
    queue.whole("1.2", ["a"], seen=13, now=15)
    again = queue.next_job(99)
    assert again is not None
    assert again.content != job.content
    assert (job.late, again.late) == (False, True)
    queue.finish(again, 16)
    assert len(queue.jobs()) == 2


def test_what_was_not_begun_makes_room_for_the_longer_series(queue: Queue) -> None:
    arrive(queue, "1.2.1", 10)
    queue.whole("1.2", ["a"], seen=10, now=12)
    arrive(queue, "1.2.2", 13)
    queue.whole("1.2", ["a"], seen=13, now=15)
    (job,) = queue.jobs()
    assert not job.late
    queue.finish(job, 16)
    assert queue.counts()["done"] == 1


def test_the_same_series_again_is_no_work(queue: Queue) -> None:
    for again in (False, True):
        arrive(queue, "1.2.1", 10)
        queue.whole("1.2", ["a"], seen=10, now=12)
        job = queue.next_job(99)
        assert (job is None) is again
        if job is not None:
            queue.finish(job, 13)
        assert queue.ended(12) == []
        assert queue.ended(13) == ["1.2"]
        assert queue.forget("1.2")
        assert queue.counts()["done"] == 1
    assert len(queue.jobs()) == 1


def test_what_is_at_work_is_not_forgotten(queue: Queue) -> None:
    arrive(queue, "1.2.1", 10)
    assert not queue.forget("1.2")
    queue.whole("1.2", ["a"], seen=10, now=11)
    assert not queue.forget("1.2")
    assert queue.known("1.2", "1.2.1") == "a"


def test_what_no_rule_wants_may_go(queue: Queue) -> None:
    arrive(queue, "1.2.1", 10)
    queue.whole("1.2", [], seen=10, now=11)
    assert queue.ended(0) == ["1.2"]
    assert queue.forget("1.2")
    assert queue.instances("1.2") == []
    assert queue.instances("1.2", here=False) == ["1.2.1"]


def test_a_job_waits_for_its_next_try_and_can_be_given_up(queue: Queue) -> None:
    arrive(queue, "1.2.1", 10)
    queue.whole("1.2", ["a"], seen=10, now=11)
    job = queue.next_job(11)
    assert job is not None
    queue.again(job, "it is away", at=20)
    assert queue.next_job(19) is None
    job = queue.next_job(20)
    assert job is not None
    assert (job.tries, job.reason) == (1, "it is away")
    queue.give_up(job, "for good", 21)
    assert queue.next_job(99) is None
    assert queue.counts()["failed"] == 1
    assert queue.retry_failed(30) == 1
    assert queue.next_job(30) is not None


def test_it_is_all_there_after_a_new_start(queue: Queue, tmp_path: Path) -> None:
    arrive(queue, "1.2.1", 10)
    queue.whole("1.2", ["a"], seen=10, now=11)
    arrive(queue, "1.3.1", 12, series="1.3")
    other = Queue(tmp_path / "queue.sqlite")
    assert other.next_job(99) == queue.next_job(99)
    assert other.gathering() == [("1.3", "CT1", 12, 1)]
    assert (tmp_path / "queue.sqlite").stat().st_mode & 0o077 == 0
