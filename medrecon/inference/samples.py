"""Samples beside a reconstruction: plausible scans, their mean and their standard deviation, as files."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from monai.config import KeysCollection
from monai.data import MetaTensor
from monai.transforms import MapTransform

from medrecon.blocks.weights import digest
from medrecon.contract import Progress
from medrecon.inference.consistency import feature_distance
from medrecon.inference.moments import RunningMoments
from medrecon.inference.passes import passes_of
from medrecon.inference.sample_files import Sample, Samples, check_request, check_sample_places, write_samples
from medrecon.inference.sampler import Sampler
from medrecon.io import SaveReconstructiond, scan_of
from medrecon.io.derivation import Derivation

Home = Callable[[dict[Hashable, Any]], Mapping[Hashable, Any]]
Begin = Callable[[str], Progress | None]


class SaveSamplesd(MapTransform):
    """Draw samples of each result of a scan and write them, their mean and their standard deviation.

    Stands after the transform that writes the reconstructions. One sample is held at a time, each output
    appears whole or not at all. The same seed gives the same voxels, whatever the number of samples.

    Args:
        keys: the scan as the network takes it: a MetaTensor (1, X, Y, Z) in [0, 1].
        sampler: draws them.
        home: brings "pred" back from there to the source's grid and units, with the scan under `keys`.
        saver: knows sources, results, places and how each result is made.
        weights: file of the generative decoder.
        count: samples of each result; 0 leaves all as it is.
        seed: of all samples.

    Raises:
        UsageError: one sample alone, a negative seed, or highdicom is missing, which writes the standard
            deviation for DICOM.
        ModelError: a result that nothing can draw from.
        OutputError: an output exists.
    """

    def __init__(
        self,
        keys: KeysCollection = "image",
        *,
        sampler: Sampler,
        home: Home,
        saver: SaveReconstructiond,
        weights: str | Path = "",
        count: int = 0,
        seed: int = 0,
        allow_missing_keys: bool = False,
    ) -> None:
        super().__init__(keys, allow_missing_keys)
        self.sampler, self.home, self.saver = sampler, home, saver
        self.count, self.seed = count, seed
        if not count:
            return
        check_request(count, seed)
        sampler.check(saver.results)
        self.sha256 = digest(Path(weights)) if Path(weights).is_file() else ""
        check_sample_places(saver.targets.values(), count, overwrite=saver.overwrite)

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Write what is asked for; "written" of `data` gets a `Written` for each."""
        return self.save(data)

    def save(self, data: Mapping[Hashable, Any], begin: Begin | None = None) -> dict[Hashable, Any]:
        """The same, and say how far it is.

        Args:
            data: with a scan under each of `keys`.
            begin: called with what is drawn next, "level5, 8 samples"; gives what is told
                (parts done, parts in all) of them.

        Raises:
            OutputError: an output cannot be written; those before it are whole.
        """
        item = dict(data)
        for key in self.key_iterator(item) if self.count else ():
            image = item[key]
            scan = self.saver.scans.get(str(image.meta["scan_key"])) or scan_of(image.meta)
            for number, result in enumerate(self.saver.results, start=1):
                tick = begin(f"{result}, {self.count} samples") if begin else None
                base, distance = self.base(image, result)
                made = write_samples(
                    self.draw(image, base, result, tick),
                    scan,
                    self.saver.targets[scan.key, result],
                    count=self.count,
                    number=number,
                    derivation=self.derivation(result),
                    overwrite=self.saver.overwrite,
                )
                decoded = [
                    replace(each, feature_distance=distance) if each.result == result else each
                    for each in item.get("written", ())
                ]
                item["written"] = [*decoded, *made]
                item["outputs"] = [*item.get("outputs", ()), *(str(each.path) for each in made)]
        return item

    def base(self, image: MetaTensor, result: str) -> tuple[torch.Tensor, float | None]:
        """What the decoder makes of a result, (1, 1, X, Y, Z) in [0, 1]; and how far its features are off.

        Args:
            image: (1, X, Y, Z) in [0, 1], as the network takes it.
            result: such as "level5".

        Raises:
            ModelError: the network cannot take the image.
        """
        with torch.inference_mode():
            batch = image.as_tensor()[None]
            base = self.sampler.base(batch, result)
            return base, self._distance(batch, base, result)

    def draw(
        self, image: MetaTensor, base: torch.Tensor, result: str, progress: Progress | None = None
    ) -> Iterator[Sample]:
        """Each sample of a result in turn, on the scan's grid and in its units; nothing is written.

        Args:
            image: as for `base`.
            base: of the same result.
            result: such as "level5".
            progress: told (parts done, parts in all) of all samples.

        Raises:
            ModelError: nothing can draw from it.
        """
        for number, tell in enumerate(passes_of(progress, self.count)):
            with torch.inference_mode():
                batch = image.as_tensor()[None]
                made = self.sampler.draw(base, result, number, self.seed, tell, batch)
                distance = self._distance(batch, made, result)
                volume = self._bring_home(image, made[0])
            yield Sample(result, number + 1, volume, distance)

    def _distance(self, image: torch.Tensor, made: torch.Tensor, result: str) -> float | None:
        sampler = self.sampler
        return feature_distance(sampler.network, sampler.inferer, image, made, result, sampler.most_voxels)

    def _bring_home(self, image: MetaTensor, made: torch.Tensor) -> np.ndarray:
        item = self.home({self.keys[0]: image, "pred": MetaTensor(made).copy_meta_from(image)})
        volume: np.ndarray = item["pred"][0].detach().cpu().numpy()
        return volume

    def derivation(self, result: str) -> Derivation:
        """How what is drawn of a result is made; which of all it is, is for each to say."""
        return replace(self.saver.derivation[result], drawn=self.sampler.drawn(self.seed, self.sha256))

    def in_memory(self, image: MetaTensor, result: str, progress: Progress | None = None) -> Samples:
        """All samples of a result, on the scan's grid and in its units; nothing is written.

        Args:
            image: as for `base`.
            result: such as "level5".
            progress: told (parts done, parts in all) of all samples.

        Raises:
            ModelError: the network cannot take the image.
        """
        base, off = self.base(image, result)
        drawn = tuple(self.draw(image, base, result, progress))
        moments = RunningMoments()
        for sample in drawn:
            moments.add(sample.volume)
        return Samples(drawn, moments.mean, moments.deviation(), off, self.derivation(result))

    @property
    def settings(self) -> dict[str, Any]:
        """What a record of the run must tell."""
        return {
            "count": self.count,
            "steps": self.sampler.steps,
            "corrections": self.sampler.corrections,
            "by_gradient": self.sampler.by_gradient,
            "generative_weights_sha256": self.sha256,
        }
