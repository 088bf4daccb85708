"""The check that tiled is whole: it says how far they differ, and a halo that is too small does not pass."""

from __future__ import annotations

import pytest
from torch import nn

from medrecon.errors import ModelError
from medrecon.inference.tiling import SliceInferer, VolumeInferer
from medrecon.inference.tiling_check import LIMIT, check_tiling
from medrecon.inversion import AdaptiveDecoder

from ..tiny_networks import RESULTS, SHAPE, build, picture


def test_tiled_is_whole() -> None:
    network = build()
    check = check_tiling(picture(), network, VolumeInferer(RESULTS, most_voxels=110 * 22 * 17))
    assert check.passed
    assert check.tiles > 1
    assert check.arithmetic > 1
    assert check.region == SHAPE
    assert max(check.used, check.small) < LIMIT / 10
    assert check.float32 is None
    assert "140 x 22 x 17" in check.words()
    assert check.data()["passed"] is True


class TooNarrow(AdaptiveDecoder):
    """Says that it reaches less far than it does."""

    def __init__(self, decoder: AdaptiveDecoder, less: int) -> None:
        nn.Module.__init__(self)
        self.__dict__.update(decoder.__dict__)
        self.reach = decoder.reach - less


def test_a_halo_that_is_too_small_fails() -> None:
    network = build()
    network.inversion = TooNarrow(network.inversion, 16)
    assert network.halo < build().halo
    check = check_tiling(picture(), network, VolumeInferer(RESULTS, most_voxels=1))
    assert not check.passed
    assert check.small > LIMIT


@pytest.mark.slow
def test_what_bfloat16_rounds_is_told_from_a_seam() -> None:
    network = build(mixed_precision=True)
    check = check_tiling(picture(), network, VolumeInferer(RESULTS, most_voxels=1))
    assert check.passed
    assert check.precision == "bfloat16"
    assert network.mixed_precision is True
    assert (check.float32 is None) == (max(check.used, check.small) <= LIMIT)


def test_of_a_scan_that_does_not_fit_the_middle_is_compared(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("medrecon.inference.tiling_check.free_voxels", lambda device, each: 100 * 22 * 17)
    check = check_tiling(picture(), build(), VolumeInferer(RESULTS, most_voxels=50 * 22 * 17))
    assert check.region == (96, 22, 17)
    assert check.passed


def test_where_nothing_is_tiled_there_is_nothing_to_check() -> None:
    network = build()
    with pytest.raises(ModelError, match="not run in tiles"):
        check_tiling(picture(), network, SliceInferer(RESULTS))
    network.inversion.reach = None
    with pytest.raises(ModelError, match="not run in tiles"):
        check_tiling(picture(), network, VolumeInferer(RESULTS))
