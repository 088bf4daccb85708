"""Rows given a few at a time give what the whole image gives."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from monai.networks.layers.factories import Conv
from torch import nn

from medrecon.blocks.convolutions import ResidualBlock
from medrecon.blocks.rolling import Rolling, RollingBlocks, Rows

CUTS = [[9], [1] * 9, [1, 8], [8, 1], [2, 3, 4], [4, 1, 1, 3]]


def pieces(image: torch.Tensor, cuts: list[int]) -> list[tuple[torch.Tensor, bool]]:
    parts = image.split(cuts, dim=2)
    return [(part, number == len(parts) - 1) for number, part in enumerate(parts)]


@pytest.mark.parametrize("dims", [2, 3])
@pytest.mark.parametrize("cuts", CUTS)
@torch.no_grad()
def test_a_rolling_convolution_is_the_convolution(dims: int, cuts: list[int]) -> None:
    torch.manual_seed(0)
    conv: Any = Conv[Conv.CONV, dims](2, 3, 3, padding=1)
    image, rolling = torch.randn(2, 2, 9, *(4, 5)[: dims - 1]), Rolling(conv)
    told = [rolling(*piece) for piece in pieces(image, cuts)]
    made, seen = (torch.cat([t[k] for t in told if t is not None], dim=2) for k in (0, 1))
    torch.testing.assert_close(made, conv(image), rtol=1e-5, atol=1e-6)
    assert torch.equal(seen, image)


@pytest.mark.parametrize("dims", [2, 3])
@pytest.mark.parametrize("cuts", CUTS)
@torch.no_grad()
def test_rolling_blocks_are_the_blocks(dims: int, cuts: list[int]) -> None:
    torch.manual_seed(0)
    blocks = nn.Sequential(*(ResidualBlock(dims, 3) for _ in range(3)))
    image, rolling = torch.randn(1, 3, 9, *(4, 5)[: dims - 1]), RollingBlocks(blocks)
    made = [rolling(*piece) for piece in pieces(image, cuts)]
    together = torch.cat([rows for rows in made if rows is not None], dim=2)
    torch.testing.assert_close(together, blocks(image), rtol=1e-5, atol=1e-6)


def test_rows_come_out_in_their_order() -> None:
    image, rows = torch.arange(8.0).reshape(1, 1, 8, 1), Rows()
    rows.put(image[:, :, :3])
    assert rows.take(2).flatten().tolist() == [0, 1]
    rows.put(image[:, :, 3:7])
    rows.put(image[:, :, 7:])
    assert len(rows) == 6
    assert rows.take(6).flatten().tolist() == [2, 3, 4, 5, 6, 7]
    assert len(rows) == 0
