from __future__ import annotations

import torch

from medrecon.losses.slices import slice_batches


def volume(*shape: int) -> torch.Tensor:
    """Each voxel holds its own coordinates."""
    return torch.stack(torch.meshgrid(*(torch.arange(n) for n in shape), indexing="ij"))[None].float()


def positions(batches: object) -> list[list[int]]:
    """The slice numbers taken along each axis, read from the voxels themselves."""
    found = []
    for axis, (batch,) in enumerate(batches):
        coordinate = batch[:, axis].flatten(1)
        assert (coordinate == coordinate[:, :1]).all(), "a slice lies at one position"
        found.append(coordinate[:, 0].int().tolist())
    return found


def test_even_slices_along_each_axis() -> None:
    taken = positions(slice_batches((volume(8, 9, 10),), 2, shuffled=False))
    assert taken == [[2, 6], [2, 6], [2, 7]]
    assert positions(slice_batches((volume(3, 4, 5),), 99, shuffled=False)) == [
        [0, 1, 2],
        [0, 1, 2, 3],
        [0, 1, 2, 3, 4],
    ]


def test_random_slices_come_from_torchs_generator() -> None:
    draws = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        draws.append(positions(slice_batches((volume(30, 31, 32),), 4, shuffled=True)))
    assert draws[0] == draws[1]
    assert draws[0] != draws[2]
    assert all(len(set(axis)) == 4 for axis in draws[0])


def test_both_images_give_the_same_slices_of_every_sample() -> None:
    pair = torch.cat([volume(6, 7, 8), 100 + volume(6, 7, 8)])
    for axis, (a, b) in enumerate(slice_batches((pair, pair + 1000), 3, shuffled=True)):
        assert a.shape == (2 * 3, 3, *[(6, 7, 8)[k] for k in range(3) if k != axis])
        assert torch.equal(a + 1000, b)
        assert torch.equal(a[:3] + 100, a[3:])


def test_thin_axes_are_left_out_unless_all_are_thin() -> None:
    assert len(list(slice_batches((volume(16, 16, 2),), 1, shuffled=False, smallest=8))) == 1
    assert len(list(slice_batches((volume(2, 2, 2),), 1, shuffled=False, smallest=8))) == 3
    assert [b.shape for (b,) in slice_batches((volume(1, 1, 1),), 0, shuffled=True)] == [(1, 3, 1, 1)] * 3
