"""A bundle's own components joined so that what each layer keeps stays in memory."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from monai.data import MetaTensor, decollate_batch, list_data_collate

from medrecon.atlas.labels import LabelProbe
from medrecon.atlas.layered import LayeredNetwork
from medrecon.atlas.own_output import OwnOutput
from medrecon.atlas.pictures import Pictures
from medrecon.atlas.probe import CODE, PLAIN, QUANTISED, RANDOM, SHUFFLED, Probe, variant
from medrecon.atlas.sampling import sampling_of
from medrecon.atlas.source_values import as_stored, in_units, range_of
from medrecon.atlas.transform_code import TransformCode
from medrecon.contract import Progress
from medrecon.errors import UsageError
from medrecon.evaluation.scores import LayerPictures, Told
from medrecon.inference.memory import affordable_voxels
from medrecon.inference.passes import passes_of
from medrecon.inference.prepared import network_notes
from medrecon.io import read_scan
from medrecon.io.notices import listening
from medrecon.io.scan import Scan
from medrecon.reconstructor import Reconstructor, parse_layers

MOST_VOXELS = 1 << 25
"""Largest tile: with the volumes that an atlas keeps, 512x512x300 stays below 8 GiB."""

BOX_VOXELS = 1 << 22
"""Voxels of the slices in the middle of a scan on which the controls are measured."""

_AT_ONCE = 4  # results of one pass over the tiles, each a float32 volume until it is brought home


@dataclass
class MiddleSlices:
    """The slices in the middle of a scan, as the network sees them, in source units.

    Attributes:
        planes: (first, last) along the third axis; None where it is the whole scan.
        source: (X, Y, Z), float32.
        variants: (result, kind) -> the same shape, see `medrecon.atlas.probe`.
        bits_per_voxel: result -> rate of its features.
        consistency: result -> re-encoded distance.
        data_range: (low, high) of the network's input, source units.
    """

    planes: tuple[int, int] | None
    source: np.ndarray
    data_range: tuple[float, float]
    variants: dict[tuple[str, str], np.ndarray] = field(default_factory=dict)
    bits_per_voxel: dict[str, float] = field(default_factory=dict)
    consistency: dict[str, float | None] = field(default_factory=dict)


@dataclass
class ScanResults:
    """What a network makes of one scan, before anything is measured.

    Attributes:
        source: (X, Y, Z) as stored, source units.
        results: result -> reconstruction on the same grid; whole numbers where the source holds them.
        identity: the source through all transforms and no network.
        box: the controls.
        network_voxels: voxels of the grid that the network works on.
        seconds: wall time of reading, and of the network by "volumes" and "controls".
        notes: what was noticed while reading, one line each.
        told: result -> how well its features tell the labels of a mask.
        pictures: layer -> its features as pictures, where they were asked for.
        image: the scan as the network takes it, kept where samples are drawn.
    """

    source: np.ndarray
    results: dict[str, np.ndarray]
    identity: np.ndarray
    box: MiddleSlices
    network_voxels: int
    seconds: dict[str, float]
    notes: tuple[str, ...]
    told: dict[str, Told] = field(default_factory=dict)
    pictures: dict[str, LayerPictures] = field(default_factory=dict)
    image: MetaTensor | None = None


class AtlasNetwork(LayeredNetwork):
    """Runs a bundle over scans that are known already; writes nothing.

    Args:
        bundle: as for `LayeredNetwork`.
        scans: what will be run.
        output: a path that does not exist: only its name is used, by the bundle's own plan.
        own_output: run the network to its end on the scan and on each reconstruction.
        samples: draw so many of each result that the bundle's generative decoder knows; None: none.
        seed: of the samples.
        overrides: further ids of the bundle's configuration, and their values.
        features: make pictures of the layers' features; None: where the network is somebody else's.
        **options: of `LayeredNetwork`.

    Raises:
        ModelError: the bundle or a layer cannot be used.
        UsageError: the options do not make sense.
    """

    beside = "it stands beside each layer as 'identity'"

    def __init__(
        self,
        bundle: str | Path,
        scans: Sequence[Scan],
        *,
        output: Path,
        own_output: bool = False,
        features: bool | None = None,
        samples: int | None = None,
        seed: int = 0,
        overrides: Mapping[str, Any] | None = None,
        **options: Any,
    ) -> None:
        super().__init__(bundle, scans, output=output, overrides=overrides, **options)
        told = overrides or {}
        self.sampling = None if samples is None else sampling_of(self.parts, samples, seed, told, output)
        self.own_output = OwnOutput(self.bundle, self.device) if own_output else None
        shown = isinstance(self.bundle.parser.get("encoder", None), Mapping) if features is None else features
        self.pictures = Pictures(self.network.encoder, self.asked, self.device) if shown else None
        self._most = self.parts.inferer.most_voxels or min(MOST_VOXELS, affordable_voxels(self.device))

    def run(
        self, scan: Scan, progress: Progress | None = None, mask: np.ndarray | None = None
    ) -> ScanResults:
        """Read one scan, reconstruct every result, and run the controls.

        Args:
            scan: the source.
            progress: called with (parts done, parts in all).
            mask: labels on the scan's grid that a read-out of the features is asked for.

        Raises:
            ScanError: the scan turns out to be unreadable.
            ModelError: the network cannot take this scan.
        """
        begin = time.perf_counter()
        with torch.inference_mode():
            source = np.ascontiguousarray(read_scan(scan))
            with listening() as notes:
                item = self.parts.preprocessing({"image": scan})
            image = list_data_collate([item])
            identity = self._bring_home(image, image["image"][:, :1].clone(), source)[0]
            start = time.perf_counter()
            results: dict[str, np.ndarray] = {}
            count = 2 * math.ceil(len(self.results) / _AT_ONCE) + (self.pictures is not None)
            passes = passes_of(progress, count)
            if self.own_output is not None:
                self.own_output.see(image["image"])
            for first in range(0, len(self.results), _AT_ONCE):
                names = self.results[first : first + _AT_ONCE]
                pred = self._infer(image["image"], names, self.network, next(passes))
                if self.own_output is not None:
                    self.own_output.add(names, pred)  # before the way home, which may overwrite it
                home = self._bring_home(image, pred, source)
                results.update(zip(names, home, strict=True))
                del pred, home
            between = time.perf_counter()
            box = self._controls(image["image"], passes)
            pictures = self.pictures.of(image["image"][0], next(passes)) if self.pictures else {}
            notes += self.pictures.notes if self.pictures else []
            told: dict[str, Told] = {}
            if mask is not None:
                told, small = self._told(image["image"], mask, scan)
                notes += small
        seconds = {
            "reading": start - begin,
            "volumes": between - start,
            "controls": time.perf_counter() - between,
        }
        voxels = image["image"][0, 0].numel()
        of_network = network_notes(self.network.encoder, 1 + len(scan.beside))
        said = tuple(dict.fromkeys([*self.bundle.caveats, *of_network, *notes]))
        kept = item["image"] if self.sampling is not None else None
        return ScanResults(source, results, identity, box, voxels, seconds, said, told, pictures, kept)

    def _told(self, image: MetaTensor, mask: np.ndarray, scan: Scan) -> tuple[dict[str, Told], list[str]]:
        """What a read-out of each result tells of the mask; a note where the mask is too small to ask."""
        try:
            probe = LabelProbe(self.network, image, mask, np.asarray(scan.affine))
            return {result: probe.told(result) for result in self.results}, []
        except UsageError as error:
            return {}, [f"labels told: {error.message}"]

    def _infer(
        self, image: torch.Tensor, names: Sequence[str], network: Reconstructor, tick: Progress | None = None
    ) -> torch.Tensor:
        inferer = self.parts.inferer.for_results(names, self._most)
        return inferer(image.to(self.device), network, progress=tick)

    def _bring_home(self, batch: dict[str, Any], pred: torch.Tensor, source: np.ndarray) -> list[np.ndarray]:
        """(1, R, *grid of the network) -> R volumes on the source's grid, in its units and its precision."""
        made = []
        for channel in range(pred.shape[1]):
            one = {"image": batch["image"], "pred": pred[:, channel : channel + 1]}
            (item,) = decollate_batch(one)
            for step in self.parts.home:
                item = step(item)
            values = item["pred"][0].detach().cpu().numpy()
            made.append(as_stored(values, source))
        return made

    def _controls(self, image: torch.Tensor, passes: Iterator[Progress | None]) -> MiddleSlices:
        low, high = range_of(image)
        plain = image.as_tensor() if isinstance(image, MetaTensor) else image
        depth, plane = plain.shape[-1], plain.shape[-3] * plain.shape[-2]
        count = max(16, BOX_VOXELS // plane // 16 * 16)
        start = (depth - count) // 2 // 16 * 16
        whole = count >= depth
        seen = plain if whole else plain[..., start : start + count].contiguous()
        probe = Probe(self.network).to(self.device).eval()
        kinds = [PLAIN, QUANTISED, SHUFFLED, *([RANDOM] if probe.other is not None else [])]
        width = high - low
        box = MiddleSlices(
            None if whole else (start, start + count - 1), in_units(seen[0, 0], low, width), (low, high)
        )
        with self.network.conditioned_on(plain):  # the slices are a part of the scan
            probe.ranging = True
            self._infer(seen, self.results, probe)
            probe.ranging = False
            for first in range(0, len(self.results), _AT_ONCE):
                names = self.results[first : first + _AT_ONCE]
                asked = [(name, kind) for name in names for kind in kinds]
                made = self._infer(seen, [variant(*pair) for pair in asked], probe, next(passes))[0]
                for (name, kind), values in zip(asked, made, strict=True):
                    if kind != RANDOM or name not in probe.same:
                        box.variants[name, kind] = in_units(values, low, width)
                for name in names:
                    box.bits_per_voxel[name] = sum(
                        probe.code.bits_per_value(layer) * self.infos[layer].tensor_rate
                        for layer in parse_layers(name)
                    )
                    box.consistency[name] = probe.consistency.of(name)
                probe.code.forget()
        for result, values in self._coded(seen):
            box.variants[result, CODE] = in_units(values, low, width)
        return box

    def _coded(self, seen: torch.Tensor) -> Iterator[tuple[str, torch.Tensor]]:
        """What the transform code makes of as many values, for a network that takes the scan as it is."""
        encoder = self.network.encoder
        if encoder.geometry or encoder.window or seen.shape[1] != 1:
            return
        code = TransformCode(encoder.spatial_dims, self.device)
        if code.codes(encoder):
            return
        yield from code.coded(seen, {result: self.rate(result) for result in self.results})
