"""Where memory runs out, tiles get smaller; the same settings give the same bits."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import pytest
import torch

from medrecon.contract import Progress
from medrecon.inference.tiling import SliceInferer, TilingWarning, VolumeInferer
from medrecon.reconstructor import Reconstructor

from ..tiny_networks import RESULTS, build, picture


class ShortOfMemory(Reconstructor):
    """A network that runs out of memory where it gets more than so many voxels."""

    def __init__(self, network: Reconstructor, most: int, error: Exception) -> None:
        super().__init__(network.encoder, network.inversion, mixed_precision=network.mixed_precision)
        self.most, self.error = most, error

    def reconstruct(
        self, image: torch.Tensor, results: Sequence[str], progress: Progress | None = None
    ) -> Iterator[torch.Tensor]:
        if image.numel() > self.most:
            raise self.error
        return super().reconstruct(image, results, progress)


MEMORY = [
    torch.OutOfMemoryError("CUDA out of memory"),
    RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes"),
]


@pytest.mark.parametrize("error", MEMORY)
def test_out_of_memory_falls_back_to_smaller_tiles_and_says_so(error: Exception) -> None:
    network, image = build(3), picture()
    short = ShortOfMemory(network, 100 * 22 * 17, error)
    with torch.no_grad(), pytest.warns(TilingWarning, match="out of memory: tiles of at most") as said:
        tiled = VolumeInferer(RESULTS)(image, short)
    assert 1 <= len(said) <= 2
    with torch.no_grad():
        assert (tiled - VolumeInferer(RESULTS)(image, network)).abs().max() < 1e-5


@pytest.mark.parametrize("error", MEMORY)
def test_out_of_memory_falls_back_to_fewer_slices_and_says_so(error: Exception) -> None:
    network, image = build(2), torch.rand(1, 1, 33, 20, 7)
    short = ShortOfMemory(network, 2 * 33 * 20, error)
    with torch.no_grad(), pytest.warns(TilingWarning, match="out of memory: . slices at once"):
        got = SliceInferer(RESULTS)(image, short)
    with torch.no_grad():
        assert torch.equal(got[:, 1], image[:, 0])
        assert (got - SliceInferer(RESULTS)(image, network)).abs().max() < 1e-5


@pytest.mark.filterwarnings("ignore::medrecon.inference.tiling.TilingWarning")
@pytest.mark.parametrize(("inferer", "dims"), [(VolumeInferer, 3), (SliceInferer, 2)])
def test_where_nothing_smaller_is_left_the_error_stays(inferer: type, dims: int) -> None:
    image = torch.rand(1, 1, 40, 20, 5)
    for error in (torch.OutOfMemoryError("CUDA out of memory"), ZeroDivisionError("planted")):
        with pytest.raises(type(error)):
            inferer(["level4"])(image, ShortOfMemory(build(dims), 0, error))


def test_the_same_settings_give_the_same_bits() -> None:
    network, image = build(), picture()
    with torch.no_grad():
        one, other = (VolumeInferer(RESULTS, most_voxels=110 * 22 * 17)(image, network) for _ in range(2))
    assert torch.equal(one, other)
