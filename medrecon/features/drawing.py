"""Samples from a feature file: plausible scans that have its features; the scan is not needed."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from medrecon.blocks.weights import digest
from medrecon.contract import Progress
from medrecon.errors import ModelError, UsageError
from medrecon.features.file import FeatureFile
from medrecon.features.model import Model
from medrecon.features.restore import restore
from medrecon.inference.passes import passes_of
from medrecon.inference.sample_files import Sample, check_request
from medrecon.inference.sampler import Sampler
from medrecon.io.derivation import Derivation


@dataclass(frozen=True)
class Drawing:
    """Draws samples beside what a decoder makes of features.

    Attributes:
        sampler: of the bundle.
        count: samples of each result.
        seed: of all of them.
        sha256: hash of the generative decoder's weights file.
    """

    sampler: Sampler
    count: int
    seed: int
    sha256: str

    def samples(
        self,
        decoded: torch.Tensor,
        file: FeatureFile,
        result: str,
        preprocessing: object,
        progress: Progress | None = None,
    ) -> Iterator[Sample]:
        """One after the other, on the source's grid and in its units.

        Args:
            decoded: what the decoder made of the features, (X, Y, Z) in the network's scale.
            file: the features.
            result: that they are of.
            preprocessing: the bundle's.
            progress: told (parts done, parts in all) of all samples.
        """
        for number, tell in enumerate(passes_of(progress, self.count)):
            made = self.sampler.draw(decoded[None, None], result, number, self.seed, tell)
            volume = restore(made[0, 0].clone(), file, preprocessing)  # the inverse works in place
            yield Sample(result, number + 1, volume, None)

    def derivation(self, plain: Derivation) -> Derivation:
        """That of the samples, from that of the decoder's answer."""
        return replace(plain, drawn=self.sampler.drawn(self.seed, self.sha256))


def drawing_of(model: Model, results: list[str], count: int | None, seed: int) -> Drawing | None:
    """What draws samples with a bundle that was opened to decode; None where none are asked for.

    Args:
        model: as `open_decoder` gives it for so many samples.
        results: that samples are asked of.
        count: of each.
        seed: of all.

    Raises:
        UsageError: one sample alone, or a seed below 0, or one of no samples.
        ModelError: nothing can draw from a result, or not without the scan.
    """
    if count is None:
        if seed:
            raise UsageError("a seed is of samples, and none are asked for", remedy="ask for 8 samples")
        return None
    check_request(count, seed)
    bundle = model.bundle
    if "encoder_weights" in bundle.parser:
        raise ModelError(
            "its samples are corrected by an encoder that the bundle does not hold",
            path=bundle.root,
            remedy="draw them with: medrecon reconstruct SCAN OUT --samples N",
        )
    if "sampler" not in bundle.parser:
        raise ModelError(
            "it has no generative decoder, so no samples can be drawn",
            path=bundle.root,
            remedy="use a bundle that has one: slice_autoencoder, volume_autoencoder",
        )
    sampler: Sampler = bundle.build("sampler")
    sampler.check(results)
    return Drawing(sampler, count, seed, digest(Path(bundle.build("generative_weights"))))
