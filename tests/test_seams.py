"""The check that tiled is whole: it says how far they differ, and a halo that is too small does not pass."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from medrecon.encoders import AdaptiveEncoder
from medrecon.errors import ModelError
from medrecon.inversion import AdaptiveDecoder
from medrecon.reconstructor import Reconstructor
from medrecon.seams import LIMIT, check_tiling
from medrecon.tiling import SliceInferer, VolumeInferer

SHAPE = (140, 22, 17)
RESULTS = ["level3", "input", "level4+level5"]


def build(mixed_precision: bool = False) -> Reconstructor:
    torch.manual_seed(0)
    encoder = AdaptiveEncoder(3, orders=2)
    decoder = AdaptiveDecoder(encoder.layers(), widths=(6, 8), depths=(1, 1))
    network = Reconstructor(encoder, decoder, mixed_precision=mixed_precision)
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            last = name.endswith(("out.weight", "guess.weight"))
            parameter.normal_(std=(0.3 if last else 2) / max(1, parameter[0].numel()) ** 0.5)
    return network.eval()


def picture(shape: tuple[int, ...] = SHAPE) -> torch.Tensor:
    return torch.rand(1, 1, *shape, generator=torch.Generator().manual_seed(3)).cumsum(2) / 10 % 1


def test_tiled_is_whole() -> None:
    network = build()
    check = check_tiling(picture(), network, VolumeInferer(RESULTS, most_voxels=110 * 22 * 17))
    assert check.passed
    assert check.tiles > 1
    assert 1 < check.arithmetic == pytest.approx(check.arithmetic)
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


def test_what_bfloat16_rounds_is_told_from_a_seam() -> None:
    network = build(mixed_precision=True)
    check = check_tiling(picture(), network, VolumeInferer(RESULTS, most_voxels=1))
    assert check.passed
    assert check.precision == "bfloat16"
    assert network.mixed_precision is True
    assert (check.float32 is None) == (max(check.used, check.small) <= LIMIT)


def test_of_a_scan_that_does_not_fit_the_middle_is_compared(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("medrecon.seams.free_voxels", lambda device, each: 100 * 22 * 17)
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
