"""Whole volumes by tiles: no seams, bounded memory, the control untouched."""

from __future__ import annotations

import contextlib
import itertools
import math
from collections.abc import Iterable, Iterator, Sequence

import numpy as np
import pytest
import torch
from monai.data import MetaTensor

from medrecon.blocks.tiles import arithmetic, cut, largest_tile, plan_tiles
from medrecon.contract import Decoder, Encoder, Features, LayerInfo, Progress
from medrecon.encoders import AdaptiveEncoder
from medrecon.errors import ModelError
from medrecon.inference.memory import MOST_VOXELS, affordable_voxels
from medrecon.inference.tiling import SliceInferer, VolumeInferer
from medrecon.inversion import AdaptiveDecoder
from medrecon.reconstructor import Reconstructor

from ..small_bundles import small_network, starts_at_zero

RESULTS = ["level4", "input", "level2+level4", "level1"]


def build(dims: int, depth: int = 3, mixed_precision: bool = False) -> Reconstructor:
    torch.manual_seed(0)
    network = small_network(dims, depth, mixed_precision=mixed_precision)
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            parameter.normal_(std=(2 / parameter[0].numel()) ** 0.5)
            if starts_at_zero(name):
                parameter.mul_(0.1)
    return network.eval()


class NarrowHalo(Reconstructor):
    """A network that says it depends on less than it does, by so many voxels."""

    def __init__(self, network: Reconstructor, less: int) -> None:
        super().__init__(network.encoder, network.inversion, mixed_precision=network.mixed_precision)
        self.less = less

    @property
    def halo(self) -> int:
        return super().halo - self.less


def seam(network: Reconstructor, shape: tuple[int, int, int], less: int = 0) -> float:
    """The largest difference between tiled and whole, with a halo that is `less` voxels too small."""
    image = torch.rand(1, 1, *shape, generator=torch.Generator().manual_seed(3))
    largest = (2 * (network.halo - less + 16) + 32) * math.prod(shape[1:])
    inferer = VolumeInferer(RESULTS, most_voxels=largest)
    steps: list[tuple[int, int]] = []
    with torch.no_grad():
        whole = torch.cat(list(network.reconstruct(image, RESULTS)), dim=1)
        tiled = inferer(image, NarrowHalo(network, less), progress=lambda done, of: steps.append((done, of)))
    total = steps[0][1]
    assert total >= 4, "one tile shows nothing"
    assert steps == [(done, total) for done in range(total + 1)]
    assert torch.equal(tiled[:, 1], image[:, 0]), "the control"
    assert torch.equal(tiled[:, 3], whole[:, 3]), "level1 needs no halo"
    return float((tiled - whole).abs().max())


LONG = (313, 18, 7)  # no axis is a multiple of 16, and one is smaller than a block


@pytest.mark.parametrize("depth", [1, 2, 3, 4])
def test_tiled_is_whole_and_a_smaller_halo_is_not(depth: int) -> None:
    network = build(3, depth)
    assert seam(network, LONG) < 1e-5
    assert seam(network, LONG, less=48) > 3e-4, "this test cannot see a seam"


@pytest.mark.parametrize("depth", [1, 3])
def test_tiled_is_whole_in_bfloat16(depth: int) -> None:
    network = build(3, depth, mixed_precision=True)
    assert seam(network, LONG) < 1e-4
    assert seam(network, LONG, less=48) > 1e-3


def test_tiled_is_whole_along_two_axes() -> None:
    network = build(3, depth=1)
    image = torch.rand(2, 1, 170, 165, 9)
    assert len(plan_tiles(image.shape[2:], 16, network.halo, 161 * 161 * 9)) == 4
    inferer = VolumeInferer(["level3+level4"], most_voxels=161 * 161 * 9)
    with torch.no_grad():
        difference = inferer(image, network)[:, 0] - network(image, "level3+level4")[:, 0]
    assert difference.abs().max() < 1e-5


@pytest.mark.parametrize("shape", [(1, 1, 1), (5, 33, 16), (100, 64, 47), (130, 20, 90)])
@pytest.mark.parametrize("most", [1, 64**3, 1 << 30])
@pytest.mark.parametrize("halo", [0, 5, 40])
def test_tiles_cover_each_voxel_once(shape: tuple[int, int, int], most: int, halo: int) -> None:
    tiles = plan_tiles(shape, 16, halo, most)
    times = np.zeros(shape, int)
    for tile in tiles:
        times[tuple(slice(s.start, s.stop) for s in tile)] += 1
        for span, size in zip(tile, shape, strict=True):
            assert span.low % 16 == span.start % 16 == 0, "tiles see the very blocks of the whole volume"
            assert span.low == max(0, span.start - -(-halo // 16) * 16)
            assert span.high == min(size, span.stop + -(-halo // 16) * 16)
            assert span.stop == size or span.stop % 16 == 0
    assert (times == 1).all()
    if most == 1 << 30:
        assert len(tiles) == 1


def tile_voxels(tile: Sequence) -> int:
    return math.prod(span.high - span.low for span in tile)


@pytest.mark.parametrize(
    ("shape", "most"),
    [
        ((80, 64, 48), 120_000),
        ((80, 64, 48), 160_000),
        ((80, 64, 48), 200_000),
        ((48, 80, 96), 300_000),  # here the largest tile is not the cheapest
        ((33, 90, 20), 40_000),
        ((33, 90, 20), 50_000),
    ],
)
def test_of_all_cuts_that_fit_the_one_with_least_arithmetic_is_taken(
    shape: tuple[int, int, int], most: int
) -> None:
    tiles = plan_tiles(shape, 16, 16, most)
    assert max(map(tile_voxels, tiles)) <= most
    work = sum(map(tile_voxels, tiles))
    for cores in itertools.product(*(range(16, size + 16, 16) for size in shape)):
        other = list(itertools.product(*(cut(s, c, 16) for s, c in zip(shape, cores, strict=True))))
        assert max(map(tile_voxels, other)) > most or sum(map(tile_voxels, other)) >= work


def test_where_nothing_fits_the_smallest_tile_is_taken() -> None:
    tiles = plan_tiles((200, 200, 200), 16, 32, 10)
    assert max(map(tile_voxels, tiles)) == 80**3


def test_memory_bounds_the_tile() -> None:
    assert 1 <= affordable_voxels(torch.device("cpu")) <= MOST_VOXELS


def test_a_network_without_halo_gets_the_volume_whole() -> None:
    network = build(3, depth=1)
    network.inversion.reach = None
    seen: list[torch.Size] = []
    network.encoder.register_forward_pre_hook(lambda _, arguments: seen.append(arguments[0].shape))
    VolumeInferer(["level4"], most_voxels=10)(torch.rand(1, 1, 40, 20, 20), network)
    assert seen == [(1, 1, 40, 20, 20)]


@pytest.mark.parametrize("batch", [1, 2])
@pytest.mark.parametrize("most_voxels", [1, 3 * 33 * 20, None])
def test_slices_are_those_of_the_2d_network(batch: int, most_voxels: int | None) -> None:
    network = build(2)
    volume = torch.rand(batch, 1, 33, 20, 7)
    inferer = SliceInferer(RESULTS, most_voxels)
    steps: list[tuple[int, int]] = []
    with torch.no_grad():
        got = inferer(volume, network, progress=lambda done, of: steps.append((done, of)))
        assert got.shape == (batch, 4, 33, 20, 7)
        for number in range(7):
            for channel, result in enumerate(RESULTS):
                slices = volume[..., number]
                one = slices if result == "input" else network(slices, result)
                assert (got[:, channel, ..., number] - one[:, 0]).abs().max() < 1e-5
    assert steps == [(done, steps[-1][1]) for done in range(steps[-1][1] + 1)]
    assert steps[-1][1] == batch * {1: 7, 3 * 33 * 20: 3, None: 1}[most_voxels]


def test_a_single_image_is_a_slice() -> None:
    network, image = build(2), torch.rand(1, 1, 21, 35)
    with torch.no_grad():
        got = SliceInferer(RESULTS)(image, network)
        expected = torch.cat(list(network.reconstruct(image, RESULTS)), dim=1)
    torch.testing.assert_close(got, expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize(("inferer", "dims"), [(VolumeInferer, 3), (SliceInferer, 2)])
def test_the_control_is_exact_also_where_float32_is_not(inferer: type, dims: int) -> None:
    image = torch.rand(1, 1, 20, 18, 5, dtype=torch.float64) * 1e9
    got = inferer(["level4", "input"])(image, build(dims))
    assert got.dtype == torch.float64
    assert torch.equal(got[:, 1], image[:, 0])
    assert torch.equal(inferer(["input"])(image, build(dims)), image)


@pytest.mark.parametrize(("inferer", "dims"), [(VolumeInferer, 3), (SliceInferer, 2)])
def test_metadata_comes_through(inferer: type, dims: int) -> None:
    affine = torch.diag(torch.tensor([2.0, 3.0, 4.0, 1.0], dtype=torch.float64))
    image = MetaTensor(torch.rand(1, 1, 20, 18, 5), affine=affine, meta={"units": "HU"})
    with torch.no_grad():
        got = inferer(["level4"])(image, build(dims))
    assert isinstance(got, MetaTensor)
    assert got.meta["units"] == "HU"
    assert torch.equal(got.affine, affine)


def test_images_of_the_wrong_number_of_axes_are_refused() -> None:
    with pytest.raises(ModelError, match="3D network cannot take an image of 2 axes"):
        VolumeInferer(["level4"])(torch.rand(1, 1, 16, 16), build(3))
    with pytest.raises(ModelError, match="2D network cannot take an image of 1 axes"):
        SliceInferer(["level4"])(torch.rand(1, 1, 16), build(2))


class Windowed(Encoder):
    """An encoder that must be given one size; it subtracts the mean of the whole, where it is told which."""

    def __init__(self, *window: int) -> None:
        super().__init__()
        self.window = window
        self.held: torch.Tensor | None = None

    def layers(self) -> list[LayerInfo]:
        return [LayerInfo("a", 1, (1,) * len(self.window))]

    def forward(self, image: torch.Tensor, names: Iterable[str] | None = None) -> Features:
        return {"a": image - (image.mean() if self.held is None else self.held)}

    @contextlib.contextmanager
    def conditioned_on(self, whole: torch.Tensor) -> Iterator[None]:
        self.held = whole.mean()
        yield
        self.held = None


class Same(Decoder):
    """The features are the image."""

    def forward(
        self, features: Features, shape: Sequence[int], progress: Progress | None = None
    ) -> torch.Tensor:
        return features["a"]


class OneSize(Reconstructor):
    """A network that takes windows of one size alone, and says so; it doubles the image."""

    def __init__(self, *window: int) -> None:
        super().__init__(Windowed(*window), Same())
        self.seen: list[tuple[int, ...]] = []

    def reconstruct(
        self, image: torch.Tensor, results: Sequence[str], progress: Progress | None = None
    ) -> Iterator[torch.Tensor]:
        self.seen.append(tuple(image.shape[2:]))
        for number, _ in enumerate(results, start=2):
            yield number * image


@pytest.mark.parametrize("shape", [(20, 9, 16), (16, 16, 16), (5, 40, 17)])
def test_windows_of_the_size_that_an_encoder_needs(shape: tuple[int, int, int]) -> None:
    network, image = OneSize(16, 16, 16), torch.rand(2, 1, *shape)
    inferer = VolumeInferer(["a", "input", "b"])
    steps: list[tuple[int, int]] = []
    made = inferer(image, network, progress=lambda done, of: steps.append((done, of)))
    assert set(network.seen) == {(16, 16, 16)}
    assert steps == [(done, len(network.seen)) for done in range(len(network.seen) + 1)]
    torch.testing.assert_close(made, torch.cat([2 * image, image, 3 * image], dim=1))


def test_windows_slice_by_slice() -> None:
    network, image = OneSize(16, 16), torch.rand(1, 1, 20, 9, 3)
    made = SliceInferer(["input", "a"])(image, network)
    assert set(network.seen) == {(16, 16)}
    torch.testing.assert_close(made, torch.cat([image, 2 * image], dim=1))


def test_statistics_are_those_of_the_volume_not_of_a_window() -> None:
    network = Reconstructor(Windowed(16, 16, 16), Same(), mixed_precision=False)
    image = torch.rand(1, 1, 40, 16, 16)
    image[:, :, 20:] += 3
    made = VolumeInferer(["a"])(image, network)
    torch.testing.assert_close(made, image - image.mean())
    assert network.encoder.held is None


def test_large_tiles_tell_how_far_they_are(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("medrecon.inference.tiling._LARGE", 100)
    monkeypatch.setattr("medrecon.inversion.adaptive._AT_ONCE", 1)
    encoder = AdaptiveEncoder(3, orders=2)
    network = Reconstructor(encoder, AdaptiveDecoder(encoder.layers(), (4, 4), 1, 1)).eval()
    image = torch.rand(1, 1, 160, 8, 8)
    inferer = VolumeInferer(["level4", "input", "level3"])
    steps: list[tuple[int, int]] = []
    with torch.no_grad():
        inferer(image, network, progress=lambda done, of: steps.append((done, of)))
    assert {total for _, total in steps} == {100}
    done = [done for done, _ in steps]
    assert done == sorted(done)
    assert (done[0], done[-1]) == (0, 100)
    assert len(set(done)) > 30, "a row of blocks is a step"


@pytest.mark.parametrize("slices", [300, 512, 1000, 2000])
def test_real_sizes_take_little_more_arithmetic_than_one_piece(slices: int) -> None:
    shape = (512, 512, slices)
    tiles = plan_tiles(shape, 8, 48, MOST_VOXELS)
    assert arithmetic(shape, tiles) <= 1.3
    assert math.prod(largest_tile(tiles)) <= MOST_VOXELS
