"""Progress of an atlas only moves on, from nothing to all."""

from __future__ import annotations

from medrecon.atlas.progress import halves
from medrecon.inference.passes import passes_of


def test_passes_and_stages_only_move_on() -> None:
    told: list[float] = []
    begin, tick = halves(lambda done, of: told.append(done / of), ["codecs", "level1", "writing"])
    begin("network")
    for each in passes_of(tick, 3):
        assert each is not None
        for tile in range(1, 5):
            each(tile, 4)
    for stage in ("codecs", "level1", "writing"):
        begin(stage)
    assert told == sorted(told)
    assert told[0] < 0.1
    assert 0.5 in told
    assert 0.8 < told[-1] < 1


def test_who_asks_for_none_is_told_nothing() -> None:
    assert list(passes_of(None, 2)) == [None, None]
    begin, tick = halves(None, ["codecs"])
    begin("codecs")
    tick(1, 2)
