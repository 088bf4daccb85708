"""The strided convolutions that the own networks start from: orthonormal, and as good as a block DCT."""

from __future__ import annotations

import pytest
import torch

from medrecon.blocks.dct import analyse, block_basis, synthesise
from medrecon.blocks.pyramid import down, pyramid_kernels, up, without_means

CHANNELS = {2: (4, 8, 12, 16, 16), 3: (8, 32, 96, 256)}


@pytest.mark.parametrize("dims", [2, 3])
def test_each_kernel_is_orthonormal_and_its_first_channel_the_mean(dims: int) -> None:
    for kernel in pyramid_kernels(dims, CHANNELS[dims]):
        rows = kernel.flatten(1)
        torch.testing.assert_close(rows @ rows.T, torch.eye(len(rows)), rtol=0, atol=1e-5)
        first = torch.zeros_like(kernel[0])
        first[0] = 2 ** (-dims / 2)
        torch.testing.assert_close(kernel[0], first, rtol=0, atol=1e-5)


@pytest.mark.parametrize("dims", [2, 3])
def test_a_level_keeps_what_a_block_dct_of_as_many_values_keeps(dims: int) -> None:
    generator = torch.Generator().manual_seed(1)
    image = torch.randn(1, 1, *[64] * dims, generator=generator)
    for axis in range(2, 2 + dims):  # correlated, as images are
        image = image.cumsum(axis) - image.mean(axis, keepdim=True)
    kernels = pyramid_kernels(dims, CHANNELS[dims])[:4]
    x = image
    for kernel in kernels:
        x = down(x, kernel)
    for kernel in reversed(kernels):
        x = up(x, kernel)
    basis = block_basis(16, dims, CHANNELS[dims][3])
    control = synthesise(analyse(image, basis, 16), basis, 16)
    ours, theirs = ((made - image).square().mean().log10() * 10 for made in (x, control))
    assert abs(float(ours - theirs)) < 0.2, "dB"


@pytest.mark.parametrize("dims", [2, 3])
def test_a_level_without_means_forgets_what_was_added(dims: int) -> None:
    first, second = pyramid_kernels(dims, CHANNELS[dims])[:2]
    image = torch.rand(2, 1, *[16] * dims)
    seen = []
    for x in (image, image + 7):
        level1 = down(x, first)
        seen.append(without_means(level1, down(level1, second)))
    torch.testing.assert_close(seen[0], seen[1], rtol=0, atol=1e-4)
    assert (seen[0] - down(image, first)).abs().max() > 0.1


def test_more_channels_than_there_are_values_are_refused() -> None:
    with pytest.raises(ValueError, match="level 2 can have 16 channels at most"):
        pyramid_kernels(2, (4, 17))
