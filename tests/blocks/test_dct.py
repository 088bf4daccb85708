"""The block transform: orthonormal, exact when complete, and the code of the linear control."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.fft import dctn

from medrecon.blocks.dct import (
    analyse,
    block_basis,
    dct_basis,
    from_blocks,
    low_frequencies,
    synthesise,
    to_blocks,
)

SIZES = [(2, 2), (4, 2), (16, 2), (2, 3), (4, 3), (8, 3)]


@pytest.mark.parametrize("size", [1, 2, 5, 16])
def test_the_basis_is_orthonormal(size: int) -> None:
    basis = dct_basis(size)
    torch.testing.assert_close(basis @ basis.T, torch.eye(size, dtype=torch.float64), rtol=0, atol=1e-14)


@pytest.mark.parametrize(("size", "dims"), SIZES)
def test_rows_of_a_block_are_orthonormal_also_when_some_are_left_out(size: int, dims: int) -> None:
    basis = block_basis(size, dims, max(1, size**dims // 3))
    torch.testing.assert_close(basis @ basis.T, torch.eye(len(basis)), rtol=0, atol=1e-5)


@pytest.mark.parametrize(("size", "dims"), SIZES)
def test_complete_it_is_inverted_exactly(size: int, dims: int) -> None:
    image = torch.rand(2, 1, *(2 * size, 3 * size, size)[:dims])
    basis = block_basis(size, dims, size**dims)
    coefficients = analyse(image, basis, size)
    assert coefficients.shape == (2, size**dims, *(2, 3, 1)[:dims])
    torch.testing.assert_close(synthesise(coefficients, basis, size), image, rtol=0, atol=2e-6)
    energy = coefficients.double().square().sum()
    torch.testing.assert_close(energy, image.double().square().sum(), rtol=1e-6, atol=0)


@pytest.mark.parametrize("dims", [2, 3])
def test_blocks_are_cut_where_they_lie(dims: int) -> None:
    image = torch.arange(6 * 4 * 8 if dims == 3 else 6 * 4).reshape(1, 1, *(6, 4, 8)[:dims])
    blocks = to_blocks(image, 2)
    place = (1, 0, 3)[:dims]
    expected = image[(0, 0, *(slice(2 * p, 2 * p + 2) for p in place))].flatten()
    assert torch.equal(blocks[(0, *place)], expected)
    assert torch.equal(from_blocks(blocks, 2), image)


@pytest.mark.parametrize(("size", "dims"), [(4, 2), (8, 3)])
def test_coefficients_are_scipys(size: int, dims: int) -> None:
    block = np.random.default_rng(0).random((size,) * dims)
    count = size**dims // 2
    ours = analyse(torch.from_numpy(block)[None, None].float(), block_basis(size, dims, count), size)
    theirs = dctn(block, norm="ortho")[tuple(low_frequencies(size, dims, count).numpy().T)]
    np.testing.assert_allclose(ours.flatten().numpy(), theirs, atol=1e-5)


def test_lowest_frequencies_come_first_and_ties_in_index_order() -> None:
    assert low_frequencies(4, 2, 6).tolist() == [[0, 0], [0, 1], [1, 0], [1, 1], [0, 2], [2, 0]]
    squares = low_frequencies(16, 3, 4096).square().sum(1)
    assert torch.equal(squares, squares.sort().values)
