"""A generative decoder: draws what the deterministic one leaves open, by flow matching."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from monai.networks.layers.factories import Conv
from torch import nn
from torch.nn import functional

from medrecon.blocks.bands import BANDS, REACH, split_bands
from medrecon.blocks.padding import pad_to_multiple
from medrecon.contract import Generative
from medrecon.errors import ModelError
from medrecon.inversion.upsample import shuffle, unshuffle

PACK, SCALE_PACK = 2, 4
"""Voxels along each axis that become channels: of the flow, and of the network of the scale."""

SMALLEST = 1e-3
"""Of the scale, in [0, 1]: 4 HU of a CT."""

_EMBEDDING = 64
_WAVES = 8


class ResidualFlow(Generative):
    """A U-Net of convolutions that carries noise to the residual of a deterministic decoder, given its image.

    Conditional flow matching along straight lines (Lipman et al. 2023, arXiv:2210.02747; Liu et al. 2023,
    arXiv:2209.03003). It knows the features by what the decoder made of them, so that one network serves any
    layer of any encoder; which layer, it is told by the size of that layer's residual (`spreads`), which with
    the share of noise scales and shifts the channels of each block. A second, small network says how large
    the residual is around each voxel; the flow works on what is left when that is divided out, which has
    variance one everywhere. Untrained it draws white noise of that size.

    Images are packed, two voxels along each axis, so that whole scans are cheap. There is no norm over space
    and no attention (MONAI's `DiffusionModelUNet` has both): a voxel must not depend on how a volume was cut.

    Args:
        spatial_dims: 2 or 3.
        results: the results that it is to know; none of them where a bundle has no weights for it.
        widths: channels at strides 2, 4, 8 ...
        depths: blocks of each on the way down, and again on the way up; of the last, once.
        scale_width: channels of the network of the scale, which works at stride 4.

    Raises:
        ValueError: other dimensions, no result, or widths and depths that do not match.
    """

    spreads: torch.Tensor
    widenings: torch.Tensor
    made_for: torch.Tensor

    def __init__(
        self,
        spatial_dims: int,
        results: Sequence[str],
        widths: Sequence[int] = (32, 64, 128, 128),
        depths: Sequence[int] = (2, 2, 2, 2),
        scale_width: int = 48,
    ) -> None:
        super().__init__()
        if spatial_dims not in (2, 3) or len(widths) != len(depths) or not widths:
            raise ValueError("ResidualFlow wants 2 or 3 spatial_dims, and a depth for each width")
        self.spatial_dims, self.results = spatial_dims, tuple(results)
        self.register_buffer("spreads", torch.full((len(self.results),), 0.1))
        self.register_buffer("widenings", torch.ones(len(self.results), BANDS))
        self.register_buffer("made_for", torch.zeros(32, dtype=torch.uint8))
        conv, climb = Conv[Conv.CONV, spatial_dims], Conv[Conv.CONVTRANS, spatial_dims]
        packed, small = PACK**spatial_dims, SCALE_PACK**spatial_dims
        self.embed = nn.Sequential(
            nn.Linear(_WAVES + 1, _EMBEDDING), nn.SiLU(), nn.Linear(_EMBEDDING, _EMBEDDING), nn.SiLU()
        )

        def blocks(width: int, depth: int) -> nn.ModuleList:
            return nn.ModuleList(ModulatedBlock(spatial_dims, width, _EMBEDDING) for _ in range(depth))

        self.enter = conv(2 * packed, widths[0], 3, padding=1)
        self.down, self.up = nn.ModuleList(), nn.ModuleList()
        self.descents, self.climbs = nn.ModuleList(), nn.ModuleList()
        for k, (width, depth) in enumerate(zip(widths, depths, strict=True)):
            self.down.append(blocks(width, depth))
            if k + 1 < len(widths):
                self.up.append(blocks(width, depth))
                self.descents.append(conv(width, widths[k + 1], 2, stride=2))
                self.climbs.append(climb(widths[k + 1], width, 2, stride=2))
        self.leave = conv(widths[0], packed, 1)
        self.scale_enter = conv(small, scale_width, 3, padding=1)
        self.scale_blocks = blocks(scale_width, 3)
        self.scale_leave = conv(scale_width, small, 1)
        for last in (self.leave, self.scale_leave):
            nn.init.zeros_(last.weight)
            nn.init.zeros_(last.bias)
        self.multiple = max(SCALE_PACK, PACK * 2 ** (len(widths) - 1))
        twice = [(2 if k + 1 < len(widths) else 1) * depth for k, depth in enumerate(depths)]
        flow = PACK + sum(PACK * 2**k * count for k, count in enumerate(twice)) + self.multiple
        self.reach = max(flow, SCALE_PACK * (1 + len(self.scale_blocks)), REACH)
        self.bytes_per_voxel = 4 * (8 + 6 * widths[0] // packed)

    def forward(
        self, noisy: torch.Tensor, base: torch.Tensor, noise: torch.Tensor, result: str
    ) -> torch.Tensor:
        """The same as `velocity`."""
        told = self._told(result, noise)
        size = noisy.shape[2:]
        x = pad_to_multiple(torch.cat([noisy, base - 0.5], dim=1), self.multiple)
        x = self.enter(unshuffle(x, (PACK,) * self.spatial_dims))
        kept: list[torch.Tensor] = []
        for k, blocks in enumerate(self.down):
            for block in blocks:  # type: ignore[attr-defined]
                x = block(x, told)
            if k < len(self.descents):
                kept.append(x)
                x = self.descents[k](x)
        for k in reversed(range(len(self.climbs))):
            x = self.climbs[k](x) + kept.pop()
            for block in self.up[k]:  # type: ignore[attr-defined]
                x = block(x, told)
        made = self._voxels(self.leave(x), PACK, size)
        share = noise.float().reshape(-1, *(1,) * (noisy.ndim - 1))
        # exact for residuals that are white noise themselves: the rest is learned
        return made + noisy * (1 - 2 * share) / ((1 - share).square() + share.square())

    def velocity(
        self, noisy: torch.Tensor, base: torch.Tensor, noise: torch.Tensor, result: str
    ) -> torch.Tensor:
        """See `medrecon.contract.Generative`.

        Raises:
            ModelError: a result that it does not know.
        """
        made: torch.Tensor = self(noisy, base, noise, result)
        return made

    def scale(self, base: torch.Tensor, result: str) -> torch.Tensor:
        """See `medrecon.contract.Generative`.

        Raises:
            ModelError: a result that it does not know.
        """
        told = self._told(result, base.new_zeros(base.shape[0]))
        padded = pad_to_multiple(base - 0.5, self.multiple)
        x = self.scale_enter(unshuffle(padded, (SCALE_PACK,) * self.spatial_dims))
        for block in self.scale_blocks:
            x = block(x, told)
        made = self._voxels(self.scale_leave(x), SCALE_PACK, base.shape[2:])
        return self._spread(result) * made.clamp(-8, 3).exp() + SMALLEST

    def _voxels(self, packed: torch.Tensor, factor: int, size: Sequence[int]) -> torch.Tensor:
        """Channels back to voxels; what was padded is cut off."""
        image = shuffle(packed.float(), (factor,) * self.spatial_dims)
        inside: tuple[Any, ...] = (..., *(slice(n) for n in size))
        return image[inside]

    def residual(self, drawn: torch.Tensor, base: torch.Tensor, result: str) -> torch.Tensor:
        """See `medrecon.contract.Generative`: each band of frequency is widened by a factor of its own.

        Raises:
            ModelError: a result that it does not know.
        """
        factors = self.widenings[self._place(result)]
        if bool((factors != 1).any()):
            drawn = sum(
                (band * factor for band, factor in zip(split_bands(drawn), factors, strict=True)),
                torch.zeros((), device=drawn.device),
            )
        return super().residual(drawn, base, result)

    def widening(self, result: str) -> torch.Tensor:
        """What each band of what is drawn is multiplied by, (bands,); measured when the training has ended.

        Raises:
            ModelError: a result that it does not know.
        """
        return self.widenings[self._place(result)].clone()

    def widen(self, result: str, factors: torch.Tensor) -> None:
        """Keep, with the weights, the same."""
        self.widenings[self._place(result)] = factors.to(self.widenings)

    def _spread(self, result: str) -> torch.Tensor:
        return self.spreads[self._place(result)]

    def _place(self, result: str) -> int:
        if result not in self.results:
            raise ModelError(
                f"there is no generative decoder for '{result}'", remedy=f"ask for {', '.join(self.results)}"
            )
        return self.results.index(result)

    def _told(self, result: str, noise: torch.Tensor) -> torch.Tensor:
        """What each block is told, (B, embedding)."""
        waves = torch.arange(_WAVES, device=noise.device)
        seen = torch.cos(math.pi * waves * noise.float()[:, None])
        depth = (self._spread(result).log() + 3).expand(len(noise), 1)
        told: torch.Tensor = self.embed(torch.cat([seen, depth], dim=1))
        return told

    @property
    def network_fingerprint(self) -> str:
        """Of the encoder and decoder that it was trained beside; "" before."""
        return bytes(self.made_for.tolist()).hex() if bool(self.made_for.any()) else ""

    def remember(self, fingerprint: str, spreads: Sequence[float]) -> None:
        """Keep, with the weights, which network it is for and how large its residuals are.

        Args:
            fingerprint: of encoder and decoder.
            spreads: root mean square of each result's residual, in [0, 1].
        """
        self.made_for.copy_(torch.tensor(list(bytes.fromhex(fingerprint)), dtype=torch.uint8))
        self.spreads.copy_(torch.as_tensor(spreads).clamp(min=SMALLEST))


class ModulatedBlock(nn.Module):
    """x + mix(silu(a * conv(x) + b)): a and b of each channel follow from what the block is told."""

    def __init__(self, spatial_dims: int, channels: int, embedding: int) -> None:
        super().__init__()
        conv = Conv[Conv.CONV, spatial_dims]
        self.conv = conv(channels, channels, 3, padding=1)
        self.mix = conv(channels, channels, 1)
        self.told = nn.Linear(embedding, 2 * channels)
        nn.init.zeros_(self.told.weight)
        nn.init.zeros_(self.told.bias)

    def forward(self, x: torch.Tensor, told: torch.Tensor) -> torch.Tensor:
        """(B, C, *S) and (B, embedding) -> (B, C, *S)."""
        a, b = self.told(told).reshape(len(told), 2, -1, *(1,) * (x.ndim - 2)).unbind(1)
        made: torch.Tensor = self.mix(functional.silu(self.conv(x) * (1 + a) + b))
        return x + made
