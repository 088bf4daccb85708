"""Samples: plausible scans that have the features which a layer kept, drawn beside the decoder's one answer.

    sampler = Sampler(network, generative, inferer)
    sampler.check(["level4"])                                  # a ModelError where nothing can draw from it
    for sample in sampler.samples(image, "level4", count=8, seed=0): ...

All images are (1, 1, *spatial), in [0, 1], a volume also for a network of slices; one sample is held at a
time. Sample `number` of a `seed` is the same whatever the count. A sample is no scan: what differs between
samples is made up.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any, cast

import torch

from medrecon.blocks.tiles import Span, Tile, plan_tiles
from medrecon.contract import Generative, Progress, untold
from medrecon.errors import ModelError
from medrecon.inference.corrections import by_decoder, by_gradient
from medrecon.inference.memory import affordable_voxels
from medrecon.inference.passes import passes_of
from medrecon.inference.placed_noise import placed_noise
from medrecon.inference.tiling import ResultsInferer
from medrecon.io.derivation import Drawn
from medrecon.reconstructor import Reconstructor

MOST_VOXELS = 48 << 20
"""A tile of the flow is never larger: 3 GB of a CPU. 512x512x300 voxels are two, which compute 16 % twice."""

Function = Callable[..., torch.Tensor]
Tiles = list[Tile]


class Sampler:
    """Draws samples: from noise to the residual in a few steps, and then back to the features.

    Steps are outside, tiles inside: each tile sees one step's surroundings, and volumes have no seams. The
    noise is tied to the place. At last the sample is pulled to the features that it was asked for
    (`medrecon.inference.corrections`): what a decoder makes of its features is brought to what it makes of
    the given ones, by a pass through encoder and decoder for each correction; or the distance of the features
    is descended, by a pass through the encoder and back.

    Args:
        network: encoder and deterministic decoder.
        generative: trained beside them; None where a bundle has none, which `check` says.
        inferer: of the network, as the bundle has it.
        steps: of the flow.
        corrections: of the features.
        most_voxels: largest tile; by default what half of the free memory holds, and of the flow no more than
            `MOST_VOXELS`.
        by_gradient: how they are corrected; for decoders whose answers' features are far from those that
            they were made of. Nothing is, where the encoder must be given windows of one size.

    Raises:
        ModelError: slices before a generative decoder of volumes, or the other way round; or it was trained
            beside another network.
    """

    def __init__(
        self,
        network: Reconstructor,
        generative: Generative | None,
        inferer: ResultsInferer,
        steps: int = 8,
        corrections: int = 2,
        most_voxels: int | None = None,
        by_gradient: bool = False,
    ) -> None:
        self.by_gradient = by_gradient
        corrections = 0 if by_gradient and network.window is not None else corrections
        self.network, self.generative, self.inferer = network, generative, inferer
        self.steps, self.corrections, self.most_voxels = steps, corrections, most_voxels
        if generative is not None and generative.spatial_dims != network.encoder.spatial_dims:
            raise ModelError(
                f"the generative decoder is {generative.spatial_dims}D, the network "
                f"{network.encoder.spatial_dims}D",
                remedy="use the one that was trained beside this network",
            )

    def check(self, results: Sequence[str]) -> None:
        """Refuse results that nothing can draw from.

        Raises:
            ModelError: there is no generative decoder, or it does not know one of them.
        """
        known = () if self.generative is None else self.generative.results
        for result in results:
            if result not in known:
                raise ModelError(
                    f"there is no generative decoder for '{result}', so no samples can be drawn",
                    remedy=f"ask for {', '.join(known)}"
                    if known
                    else "use a bundle that has one, or train it",
                )

    def drawn(self, seed: int, sha256: str) -> Drawn:
        """How samples of a seed are drawn, for their provenance.

        Args:
            seed: of all of them.
            sha256: hash of the generative decoder's weights file.
        """
        return Drawn("", seed, self.steps, self.corrections, sha256, self.by_gradient)

    def base(self, image: torch.Tensor, result: str, progress: Progress | None = None) -> torch.Tensor:
        """What the deterministic decoder makes of a result: (1, 1, *spatial), on the CPU."""
        return self.inferer.for_results([result], self.most_voxels)(image, self.network, progress=progress)

    def samples(
        self, image: torch.Tensor, result: str, count: int, seed: int = 0, progress: Progress | None = None
    ) -> Iterator[torch.Tensor]:
        """So many samples, one after the other.

        Args:
            image: the scan, (1, 1, *spatial).
            result: such as "level4".
            count: how many.
            seed: of all of them.
            progress: told (parts done, parts in all) of all of them.

        Raises:
            ModelError: as for `check`, or the network cannot take the image.
        """
        self.check([result])
        base = self.base(image, result)
        for number, tell in enumerate(passes_of(progress, count)):
            yield self.draw(base, result, number, seed, tell, image)

    def draw(
        self,
        base: torch.Tensor,
        result: str,
        number: int,
        seed: int = 0,
        progress: Progress | None = None,
        image: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """One sample.

        Args:
            base: as `base` gives it.
            result: that it was made from.
            number: of the sample, from 0.
            seed: of all samples.
            progress: told (parts done, parts in all).
            image: the scan, which has the features wanted: corrections by gradient ask for it.

        Returns:
            (1, 1, *spatial), float32, on the CPU.

        Raises:
            ModelError: as for `check`, or more than one image, or the scan is wanted and missing.
        """
        self.check([result])
        if self.by_gradient and self.corrections and image is None:
            raise ModelError(
                "its samples are corrected by the features of the scan, which is not there",
                remedy="draw them with: medrecon reconstruct SCAN OUT --samples N",
            )
        if base.shape[0] != 1 or base.shape[1] != 1:
            raise ModelError(f"samples of {tuple(base.shape)}", remedy="give one image of one channel")
        tell = progress or untold
        volume = (base if base.ndim == 5 else base[..., None]).float()
        parts = self.steps + self.corrections
        with torch.inference_mode():
            noise = placed_noise(volume.shape[2:], seed, number)
            sample = self._residual(volume, result, noise, tell).add_(volume).reshape(base.shape)

            def corrected(done: int, of: int) -> None:
                tell(self.steps + self.corrections * done // max(of, 1), parts)

            if self.by_gradient and image is not None:
                sample = self._descended(image, base, sample, result, corrected)
            else:
                sample = by_decoder(
                    sample, base, lambda made: self.base(made, result), self.corrections, corrected
                )
        tell(parts, parts)
        return sample

    def _descended(
        self,
        image: torch.Tensor,
        base: torch.Tensor,
        sample: torch.Tensor,
        result: str,
        progress: Progress,
    ) -> torch.Tensor:
        generative = cast(Generative, self.generative)  # `check` was asked
        if not self.corrections:
            return sample
        volume = (base if base.ndim == 5 else base[..., None]).float()
        tiles = self._tiles(volume.shape[2:])
        scale = self._tile_by_tile(lambda seen: generative.scale(seen, result), [volume], tiles)
        weight = scale.square_().reshape(base.shape)
        return by_gradient(
            self.network,
            image.to(sample),
            sample,
            weight,
            result,
            self.corrections,
            progress,
            self.most_voxels,
        )

    def _residual(self, base: torch.Tensor, result: str, noise: torch.Tensor, tell: Progress) -> torch.Tensor:
        """The flow, from noise (X, Y, Z) to a residual of the size of the base.

        The mixture (1 - share) * residual + share * noise is cos(angle) * residual + sin(angle) * noise, but
        for its length. Turned from a right angle to zero, noise that the flow leaves alone keeps its variance
        however few the steps; straight ones in the share of noise shrink it (to 0.85 in eight). A step goes
        on from the last two velocities (Adams-Bashforth, second order).
        """
        generative = cast(Generative, self.generative)  # `check` was asked
        tiles, turn = self._tiles(base.shape[2:]), math.pi / 2 / self.steps
        x, before = noise[None, None], None
        for done in range(self.steps):
            tell(done, self.steps + self.corrections)
            sine, cosine = math.sin(math.pi / 2 - done * turn), math.cos(math.pi / 2 - done * turn)
            share = sine / (sine + cosine)

            def rate(
                turned: torch.Tensor,
                image: torch.Tensor,
                share: float = share,
                sine: float = sine,
                cosine: float = cosine,
            ) -> torch.Tensor:
                noisy = turned / (sine + cosine)
                velocity = generative.velocity(noisy, image, noisy.new_full((len(noisy),), share), result)
                return cosine * (noisy - (1 - share) * velocity) - sine * (noisy + share * velocity)

            now = self._tile_by_tile(rate, [x, base], tiles)
            x = x - turn * (now if before is None else 1.5 * now - 0.5 * before)
            before = now
        return self._tile_by_tile(
            lambda drawn, image: generative.residual(drawn, image, result), [x, base], tiles
        )

    def _tiles(self, shape: Sequence[int]) -> Tiles:
        generative = cast(Generative, self.generative)  # `check` was asked
        device = _device(generative)
        most = self.most_voxels or min(MOST_VOXELS, affordable_voxels(device, generative.bytes_per_voxel))
        if generative.spatial_dims == 3:
            return plan_tiles(shape, generative.multiple, generative.reach, most)
        at_once = max(1, most // math.prod(shape[:2]))
        whole = (Span(0, shape[0], 0, shape[0]), Span(0, shape[1], 0, shape[1]))
        ends = [min(k + at_once, shape[2]) for k in range(0, shape[2], at_once)]
        return [(*whole, Span(low, high, low, high)) for low, high in zip([0, *ends], ends, strict=False)]

    def _tile_by_tile(
        self, function: Function, volumes: Sequence[torch.Tensor], tiles: Tiles
    ) -> torch.Tensor:
        """(1, 1, X, Y, Z) each -> what the function makes of them."""
        generative = cast(Generative, self.generative)  # `check` was asked
        made, device = torch.empty_like(volumes[0]), _device(generative)
        for tile in tiles:
            seen: tuple[Any, ...] = (..., *(slice(s.low, s.high) for s in tile))
            kept: tuple[Any, ...] = (..., *(slice(s.start - s.low, s.stop - s.low) for s in tile))
            pieces = [volume[seen].to(device, torch.float32) for volume in volumes]
            if generative.spatial_dims == 2:  # (1, 1, X, Y, slices) -> (slices, 1, X, Y)
                pieces = [piece[0].permute(3, 0, 1, 2) for piece in pieces]
            with self.network.precision(device):
                result = function(*pieces)
            if generative.spatial_dims == 2:
                result = result.permute(1, 2, 3, 0)[None]
            place: tuple[Any, ...] = (..., *(slice(s.start, s.stop) for s in tile))
            made[place] = result[kept].to(made)
        return made


def _device(generative: Generative) -> torch.device:
    return next(generative.parameters()).device
