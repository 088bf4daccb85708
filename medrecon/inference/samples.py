"""Samples beside a reconstruction: plausible scans, their mean and their standard deviation, as files."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator, Mapping
from dataclasses import dataclass, replace
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
from medrecon.inference.maps import write_map
from medrecon.inference.moments import RunningMoments
from medrecon.inference.sample_places import (
    MEAN,
    SPREAD,
    check_request,
    check_sample_places,
    sample_places,
)
from medrecon.inference.sampler import Sampler
from medrecon.io import SaveReconstructiond, Written, scan_of, write_volume
from medrecon.io.derivation import Derivation, Drawn
from medrecon.io.dicom.writing.parametric_map import DEVIATION
from medrecon.io.scan import Scan

_SERIES = 1000  # times the result's number: added to a source's series number, with the sample's
_GENERATED = "YES"  # SyntheticData

Home = Callable[[dict[Hashable, Any]], Mapping[Hashable, Any]]
Begin = Callable[[str], Progress | None]


@dataclass(frozen=True)
class Sample:
    """One sample of a scan.

    Attributes:
        result: that it was drawn from, such as "level5".
        number: from 1.
        volume: (X, Y, Z) on the source's grid, in its units.
        feature_distance: of its features to those that it was drawn from, see `feature_distance`.
    """

    result: str
    number: int
    volume: np.ndarray
    feature_distance: float | None


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
                made = self._save_result(image, base, scan, result, number, tick)
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
        for number in range(self.count):

            def tell(done: int, of: int, before: int = number) -> None:
                if progress is not None:
                    progress(before * of + done, self.count * of)

            with torch.inference_mode():
                made = self.sampler.draw(base, result, number, self.seed, tell)
                distance = self._distance(image.as_tensor()[None], made, result)
                volume = self._bring_home(image, made[0])
            yield Sample(result, number + 1, volume, distance)

    def _distance(self, image: torch.Tensor, made: torch.Tensor, result: str) -> float | None:
        sampler = self.sampler
        return feature_distance(sampler.network, sampler.inferer, image, made, result, sampler.most_voxels)

    def _bring_home(self, image: MetaTensor, made: torch.Tensor) -> np.ndarray:
        item = self.home({self.keys[0]: image, "pred": MetaTensor(made).copy_meta_from(image)})
        volume: np.ndarray = item["pred"][0].detach().cpu().numpy()
        return volume

    def derivation(self, result: str, which: str) -> Derivation:
        """How something drawn was made.

        Args:
            result: that it was drawn from.
            which: "sample 3 of 8".
        """
        drawn = Drawn(which, self.seed, self.steps, self.sampler.corrections, self.sha256)
        return replace(self.saver.derivation[result], drawn=drawn)

    @property
    def steps(self) -> int:
        """Of the generative decoder."""
        return len(self.sampler.scheduler.timesteps)

    @property
    def settings(self) -> dict[str, Any]:
        """What a record of the run must tell."""
        return {
            "count": self.count,
            "steps": self.steps,
            "corrections": self.sampler.corrections,
            "generative_weights_sha256": self.sha256,
        }

    def _save_result(
        self,
        image: MetaTensor,
        base: torch.Tensor,
        scan: Scan,
        result: str,
        number: int,
        progress: Progress | None,
    ) -> list[Written]:
        places = sample_places(self.saver.targets[scan.key, result], self.count)
        first, of = number * _SERIES, f"of {self.count} samples"
        moments, made = RunningMoments(), []
        for sample in self.draw(image, base, result, progress):
            name = f"sample {sample.number}"
            written = self._write(
                sample.volume, scan, places[name], f"{name} of {self.count}", result, first + sample.number
            )
            made.append(replace(written, result=f"{result} {name}", feature_distance=sample.feature_distance))
            moments.add(sample.volume)
        mean = self._write(moments.mean, scan, places[MEAN], f"{MEAN} {of}", result, first + self.count + 1)
        made.append(replace(mean, result=f"{result} {MEAN}"))
        made.append(
            write_map(
                moments.deviation(),
                scan,
                places[SPREAD],
                result=f"{result} {SPREAD}",
                quantity=DEVIATION,
                derivation=self.derivation(result, f"{SPREAD} {of}"),
                series_offset=first + self.count + 2,
                overwrite=self.saver.overwrite,
            )
        )
        return made

    def _write(
        self, volume: np.ndarray, scan: Scan, place: Path, which: str, result: str, series: int
    ) -> Written:
        return write_volume(
            volume,
            scan,
            place,
            number=series,
            synthetic=_GENERATED,
            derivation=self.derivation(result, which),
            overwrite=self.saver.overwrite,
            result=result,
        )
