"""Other codes of as many values: DCT, KLT, the own encoder without a learned decoder, AutoencoderKL."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from common import matches
from monai.inferers import SlidingWindowInferer
from networks import autoencoderkl
from scoring import Volume, as_stored, floored, load, reconstruct
from torch import nn

from medrecon.blocks.allocation import OVERHEAD
from medrecon.blocks.dct import from_blocks, synthesise, to_blocks
from medrecon.blocks.padding import pad_to_multiple
from medrecon.contract import Decoder, Features, Progress
from medrecon.encoders import fit_weights, read_weights
from medrecon.errors import MedreconError
from medrecon.intensity_range import intensity_range
from medrecon.inversion.adaptive import AdaptiveDecoder
from medrecon.inversion.hierarchical import HierarchicalDecoder
from medrecon.io.choices import with_hu
from medrecon.reconstructor import Reconstructor, has_native_bfloat16
from medrecon.training.data import training_items

KLT_SIZE = {2: 16, 3: 8}
_BLOCKS = 16384  # of each training scan, that a KLT is fitted on


class KLT:
    """The Karhunen-Loeve transform of blocks (8 x 8 x 8, or 16 x 16 of slices), fitted on other scans.

    A block is its mean, and components of what is left: the eigenvectors of the covariance, the largest
    first. On the blocks that it was fitted on no linear code that is the same everywhere has less error.

    Args:
        dims: 3, or 2 for slices.
        images: (X, Y, Z) each, in any units; all weigh the same, busy or not.
    """

    def __init__(self, dims: int, images: Iterable[np.ndarray]) -> None:
        self.dims, self.size = dims, KLT_SIZE[dims]
        voxels = self.size**dims
        covariance = torch.zeros(voxels, voxels, dtype=torch.float64)
        chance = torch.Generator().manual_seed(0)
        for image in images:
            blocks = self._blocks(image)[0].flatten(0, -2)
            some = blocks[torch.randperm(len(blocks), generator=chance)[:_BLOCKS]].double()
            some = some - some.mean(dim=1, keepdim=True)
            own = some.T @ some
            covariance += own / own.trace().clamp_min(1e-12)
        # blocks were given no mean, so it is an eigenvector of the sum: the one of the largest eigenvalue
        covariance += 2 * (covariance.trace() + 1) / voxels
        self.basis = torch.linalg.eigh(covariance).eigenvectors.flip(1).T.float()

    def code(self, volume: Volume, rate: float) -> np.ndarray:
        """A scan from the leading components, `rate` values per voxel."""
        kept = self.basis[: max(1, round(rate * len(self.basis)))]
        blocks, shape = self._blocks(floored(volume))
        back = from_blocks(blocks @ kept.T @ kept, self.size)
        recon = back[0, 0] if self.dims == 3 else back[:, 0].movedim(0, -1)
        inside = tuple(slice(n) for n in shape)
        return as_stored(recon[inside].numpy(), volume)

    def _blocks(self, image: np.ndarray) -> tuple[torch.Tensor, tuple[int, ...]]:
        values = torch.from_numpy(np.ascontiguousarray(image, dtype=np.float32))
        stack = values[None, None] if self.dims == 3 else values.movedim(-1, 0)[:, None]
        return to_blocks(pad_to_multiple(stack, self.size), self.size), image.shape


def training_images(
    folder: Path, held_out: Sequence[str], hu: Sequence[str]
) -> tuple[list[str], list[np.ndarray]]:
    """The scans that are not held out, as training sees them: names, and volumes scaled to [0, 1]."""
    try:
        items = training_items(folder, held_out)
    except MedreconError:
        return [], []
    names, images = [], []
    for item in items:
        scan = item["image"]
        if scan.format != "dicom" and matches(scan.path.name, hu):
            scan = with_hu(scan)
        volume = load(scan)
        low, high = intensity_range(volume.values, volume.units)
        scaled = (volume.values.astype(np.float32) - low) / (high - low)
        names.append(volume.name)
        images.append(scaled.clip(0) if volume.units == "HU" else scaled)
    return names, images


class PlainInverse(Decoder):
    """What an `AdaptiveEncoder` kept, through the inverse transform alone: the adaptive linear code.

    Counts what it is given: the coefficients that are not zero, and the mean and the mask of each block.

    Args:
        decoder: the learned one, which names the levels.
    """

    reach = 0

    def __init__(self, decoder: AdaptiveDecoder) -> None:
        super().__init__()
        self.decoder = decoder
        self.names = decoder.names
        self.values = 0

    def forward(
        self, features: Features, shape: Sequence[int], progress: Progress | None = None
    ) -> torch.Tensor:
        """The image behind one level."""
        (there,) = features.values()
        blocks = there[:, 0].numel()
        count = int(torch.count_nonzero(there[:, 1:])) + OVERHEAD * blocks
        self.values += min(count, there.numel())  # a level that keeps everything needs no masks
        inside: tuple[Any, ...] = (..., *(slice(n) for n in shape))
        return synthesise(there, self.decoder.basis, self.decoder.size)[inside]


def linear_start(network: Any) -> Reconstructor | None:
    """A hierarchy of convolutions without what it learned; None for a network of another kind."""
    if not isinstance(network.inversion, HierarchicalDecoder):
        return None
    start: Reconstructor = copy.deepcopy(network)
    for name, parameter in start.named_parameters():
        if ".heads." in name or ".outs." in name:
            nn.init.zeros_(parameter)
    return start.eval()


def linear_part(network: Any) -> tuple[Reconstructor, PlainInverse] | None:
    """A network's encoder with the plain inverse transform; None for an encoder of another kind."""
    if network is None or not isinstance(network.inversion, AdaptiveDecoder):
        return None
    plain = PlainInverse(network.inversion)
    return Reconstructor(network.encoder, plain, mixed_precision=False).eval(), plain


class MaisiLike(nn.Module):
    """MONAI's AutoencoderKL with MAISI's plan (four latent channels), trained for its image alone.

    It decodes the mean of the latent distribution, in training too, and no divergence is asked for: without
    the noise of a variational code its PSNR can only be higher.

    Args:
        channels: of its levels; MAISI has 64, 128, 256, and so stride 4.
        dims: 3, or 2 for slices.
    """

    def __init__(self, channels: Sequence[int], dims: int = 3) -> None:
        super().__init__()
        self.network = autoencoderkl(channels, dims)
        if dims == 3:
            self.network.to(memory_format=torch.channels_last_3d)  # a sixth faster on CPUs
        self.dims, self.stride = dims, 2 ** (len(channels) - 1)

    def forward(self, image: torch.Tensor, layers: object = None) -> torch.Tensor:
        """(B, 1, X, Y[, Z]) -> the same, in bfloat16 where it is native; a volume slice by slice in 2D."""
        device = image.device
        if image.ndim - 2 > self.dims:
            slices = image.movedim(-1, 1).flatten(0, 1)
            return self(slices).unflatten(0, (len(image), -1)).movedim(1, -1)
        with torch.autocast(device.type, torch.bfloat16, enabled=has_native_bfloat16(device)):
            made: torch.Tensor = self.network.reconstruct(image.float())
        return made.float()

    @classmethod
    def trained(cls, channels: Sequence[int], dims: int, weights: Path, device: str = "cpu") -> MaisiLike:
        """One with the weights of a file."""
        network = cls(channels, dims)
        fit_weights(network, read_weights(weights), weights)
        return network.to(device).eval()

    def code(self, volume: Volume, side: int = 64, overlap: float = 0.25) -> np.ndarray:
        """A scan, in blended windows."""
        roi = [min(side, -(-n // self.stride) * self.stride) for n in volume.values.shape[: self.dims]]
        roi += [1] * (3 - self.dims)
        windows: Any = SlidingWindowInferer(
            roi,
            sw_batch_size=1 if self.dims == 3 else 8,
            overlap=[overlap if n > 1 else 0 for n in roi],
            mode="gaussian",
            padding_mode="replicate",
            sw_device=next(self.parameters()).device,
            device="cpu",
        )
        ((_, recon),) = reconstruct(volume, self, windows, ["AutoencoderKL"])
        return recon
