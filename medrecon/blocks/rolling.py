"""Convolutions of an image that is given a few rows at a time: the same result, little of it held at once.

A row is all that lies at one position of the first spatial axis. Each stage keeps the rows that it will need
again; none is computed twice.
"""

from __future__ import annotations

from collections import deque
from typing import Any

import torch
from torch import nn
from torch.nn import functional

from medrecon.blocks.convolutions import ResidualBlock

_CONV: dict[int, Any] = {4: functional.conv2d, 5: functional.conv3d}


class Rows:
    """Rows (B, C, rows, ...) that are put in and taken out in their order."""

    def __init__(self) -> None:
        self._held: deque[torch.Tensor] = deque()

    def __len__(self) -> int:
        return sum(rows.shape[2] for rows in self._held)

    def put(self, rows: torch.Tensor) -> None:
        """Add rows at the end."""
        self._held.append(rows)

    def take(self, count: int) -> torch.Tensor:
        """The first `count` rows of those that are there, which are one at least."""
        taken = []
        while count:
            rows = self._held.popleft()
            if rows.shape[2] > count:
                self._held.appendleft(rows[:, :, count:])
                rows = rows[:, :, :count]
            count -= rows.shape[2]
            taken.append(rows)
        return taken[0] if len(taken) == 1 else torch.cat(taken, dim=2)


class Rolling:
    """A convolution of three positions with zero padding, whose result comes one row late.

    Args:
        conv: of three positions along each axis and stride 1.
    """

    def __init__(self, conv: nn.Module) -> None:
        self.conv: Any = conv
        self._seen: torch.Tensor | None = None

    def __call__(self, rows: torch.Tensor, last: bool) -> tuple[torch.Tensor, torch.Tensor] | None:
        """The next rows.

        Args:
            rows: (B, C, rows, ...), one row at least.
            last: whether no more follow.

        Returns:
            The result for the rows that can be told now, and these rows themselves; None where there is none.
        """
        if self._seen is None and last:
            return self.conv(rows), rows
        edge = torch.zeros_like(rows[:, :, :1])
        before = edge if self._seen is None else self._seen
        seen = torch.cat([before, rows, edge] if last else [before, rows], dim=2)
        self._seen = seen[:, :, -2:]
        if seen.shape[2] < 3:
            return None
        sides = (0, *self.conv.padding[1:])
        made = _CONV[seen.ndim](seen, self.conv.weight, self.conv.bias, padding=sides)
        return made, seen[:, :, 1:-1]


class RollingBlocks:
    """Residual blocks one behind the other, each a row late."""

    def __init__(self, blocks: nn.Sequential) -> None:
        self._stages: list[tuple[ResidualBlock, Rolling]] = [
            (block, Rolling(block.conv)) for block in blocks if isinstance(block, ResidualBlock)
        ]

    def __call__(self, rows: torch.Tensor, last: bool) -> torch.Tensor | None:
        """As `Rolling`, without the rows themselves."""
        for block, rolling in self._stages:
            told = rolling(rows, last)
            if told is None:
                return None
            rows = block.joined(*told)
        return rows
