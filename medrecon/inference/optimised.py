"""Slices or a volume of one scan, optimised until a network sees in them what it saw in the scan."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import torch

from medrecon import __version__
from medrecon.blocks.weights import digest
from medrecon.bundle.workflow import rates_of
from medrecon.contract import Decoder, Features, Progress
from medrecon.errors import ModelError
from medrecon.inference.prepared import prepare
from medrecon.inference.tiling import SliceInferer, VolumeInferer
from medrecon.io import Derivation, Scan
from medrecon.reconstructor import Reconstructor

if TYPE_CHECKING:
    from medrecon.inversion import ImageOptimiser
    from medrecon.inversion.optimise import Outcome

NOTHING_FOUND = 0.99
"""A distance at which the features found explain nothing of those wanted."""


@dataclass(frozen=True)
class Settings:
    """What a user says of the optimisation; see `ImageOptimiser`. None takes its default."""

    steps: int
    parameterisation: str
    seed: int
    optimiser: str | None = None
    tv: float | None = None
    tolerance: float | None = None

    def given(self) -> dict[str, Any]:
        """Those that are not None."""
        return {name: value for name, value in asdict(self).items() if value is not None}


@dataclass(frozen=True)
class Model:
    """A network to look into, with an `ImageOptimiser` behind it.

    Attributes:
        network: both.
        name: what the encoder is called, and where each image begins.
        settings: of the optimisation.
        weights: the encoder's file, if one was named.
    """

    network: Reconstructor
    name: str
    settings: Settings
    weights: Path | None = None

    @property
    def inversion(self) -> ImageOptimiser:
        """The optimisation."""
        return cast("ImageOptimiser", self.network.inversion)

    def derivations(self, results: Sequence[str], chosen: range, count: int) -> dict[str, Derivation]:
        """The provenance of each result; whatever changes the voxels changes the UIDs that are made of it.

        Args:
            results: "relu3_3", "relu2_2+relu4_3".
            chosen: the slices that were inverted.
            count: how many the scan has.
        """
        how = " ".join(f"{name} {value}" for name, value in self.inversion.settings().items())
        where = "" if len(chosen) == count else f", slices {chosen.start} to {chosen.stop - 1}"
        rates = rates_of(self.network, results)
        sha256 = "" if self.weights is None else digest(self.weights)
        return {
            result: Derivation(
                model=f"{self.name}, optimised ({how}){where}",
                version=__version__,
                weights_sha256=sha256,
                layers=result,
                lossy=True,
                values_per_voxel=rates[result],
            )
            for result in results
        }


def optimise_slices(
    model: Model,
    scans: Sequence[Scan],
    chosen: range,
    results: Sequence[str],
    device: torch.device,
    tick: Progress | None,
) -> tuple[dict[tuple[str, str], np.ndarray], list[dict[str, Any]]]:
    """Invert slices of a scan: one after the other, or as one volume where the network is 3D.

    The intensity map is that of the whole scan, as for every other verb. A network with a `geometry` (a
    spacing, an orientation, a size) gets the scan on that grid, whole, and what comes of it is brought back
    to the scan's own. Several scans are channels of one image, and are found together.

    Returns:
        (scan's key, result) -> (X, Y, len(chosen)) in the scan's units; and how each optimisation ended.

    Raises:
        ScanError: a scan cannot be read, or does not suit the network.
        ModelError: the network cannot take it.
    """
    encoder = model.network.encoder
    prepared = prepare(encoder, scans)
    cut = slice(chosen.start, chosen.stop)
    seen = slice(None) if prepared.moved else cut
    whole = prepared.image.as_tensor()
    part = whole[None, ..., seen].float().to(device)
    flat = encoder.spatial_dims == 2
    passes = part.shape[-1] if flat else 1
    watched = _Watched(model.inversion, tick, passes * len(results) * model.settings.steps)
    network = Reconstructor(encoder, watched, mixed_precision=False)
    images, rows = {}, []
    for result in results:
        # One slice at a time: each is optimised by itself, and its features are all that must be held.
        inferer = SliceInferer([result], most_voxels=1) if flat else VolumeInferer([result])
        pred = torch.zeros_like(whole)
        with torch.inference_mode():
            pred[..., seen] = inferer(part, network)[0].to(pred)
        back = prepared.restore(pred)[..., cut].numpy()
        images.update({(scan.key, result): back[k] for k, scan in enumerate(scans)})
        rows.append(watched.row(result))
    return images, rows


def found_images(rows: Sequence[dict[str, Any]], scan: Scan) -> tuple[list[dict[str, Any]], list[str]]:
    """The results that are images of the features, and a line for each that is a flat picture of nothing.

    Raises:
        ModelError: none is.
    """
    errors = {
        row["result"]: ModelError(
            f"{row['result']}: no image was found whose features come near those of the scan",
            path=scan.path,
            remedy="name a shallower layer, allow more --steps, or begin at a decoder's image with --start",
        )
        for row in rows
        if not row["distance"] < NOTHING_FOUND
    }
    if len(errors) == len(rows):
        raise next(iter(errors.values()))
    found = [row for row in rows if row["result"] not in errors]
    return found, [f"{error.message}; {error.remedy}" for error in errors.values()]


class _Watched(Decoder):
    """The optimiser, which gathers here how each image ended, and moves one bar over all of them."""

    def __init__(self, optimiser: ImageOptimiser, tick: Progress | None, total: int) -> None:
        super().__init__()
        self.optimiser, self.tick, self.total = optimiser, tick, total
        self.channels = optimiser.channels
        self.before = 0
        self.outcomes: list[Outcome] = []

    def forward(
        self, features: Features, shape: Sequence[int], progress: Progress | None = None
    ) -> torch.Tensor:
        """The images behind the features."""

        def step(done: int, of: int) -> None:
            if self.tick is not None:
                self.tick(self.before + done, self.total)
            if done == of:
                self.before += of

        images: torch.Tensor = self.optimiser(features, shape, step)
        self.outcomes += self.optimiser.outcomes
        return images

    def row(self, result: str) -> dict[str, Any]:
        """The means since the last row."""
        ended, self.outcomes = self.outcomes, []
        return {
            "result": result,
            "images": len(ended),
            "steps": round(sum(each.steps for each in ended) / len(ended)),
            "distance": sum(each.distance for each in ended) / len(ended),
            "seconds": round(sum(each.seconds for each in ended), 3),
            "converged": all(each.converged for each in ended),
            "diverged": any(each.diverged for each in ended),
        }
