"""The way of one scan through a bundle: read, reconstructed, written back."""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from monai.data import MetaTensor

from medrecon.bundle import Bundle, layers_of
from medrecon.choices import check_results, parse_results, pick_device
from medrecon.errors import ModelError, UsageError
from medrecon.io import SaveReconstructiond, ScanWarning, Written, manifest_path, write_manifest
from medrecon.io.reader import remember
from medrecon.io.scan import LeftOut, Scan, ScanError
from medrecon.seams import TilingCheck, check_tiling
from medrecon.tiling import TilingWarning

_SETTINGS = ("dataset_dir", "output_dir", "layers", "device", "output_format", "overwrite", "scans")
_PARTS = ("network_def", "network", "targets", "preprocessing", "inferer", "postprocessing")
"""What a bundle's inference configuration must have."""
_SAID = (ScanWarning, TilingWarning)


@dataclass(frozen=True)
class Record:
    """What became of one scan.

    Attributes:
        scan: the source.
        outputs: result -> where it was written.
        seconds: wall time from file to file.
        network_seconds: the part of it that the network took.
        notes: what was noticed while reading and writing and must be said, one line each.
    """

    scan: Scan
    outputs: dict[str, Path]
    seconds: float
    network_seconds: float
    notes: tuple[str, ...] = ()


class Pipeline:
    """A bundle's own components joined for scans that are known already.

    These are the objects that `python -m monai.bundle run` builds from the same configuration; only the loop
    over scans is here, so that one failing scan need not stop the rest.

    Args:
        bundle: an opened bundle, its scans and outputs set.
        scans: what will be run.
        results: e.g. ["level3", "level2+level4"].
        device: where the network runs.
    """

    def __init__(self, bundle: Bundle, scans: Sequence[Scan], results: Sequence[str], device: torch.device):
        self.bundle = bundle
        self.scans = tuple(scans)
        self.results = list(results)
        self.device = device
        self.targets: dict[tuple[str, str], Path] = bundle.build("targets")
        self.network: torch.nn.Module = bundle.build("network").to(device).eval()
        self._preprocessing = bundle.build("preprocessing")
        self._inferer = bundle.build("inferer")
        self._postprocessing = bundle.build("postprocessing")
        self._save = _saver_of(self._postprocessing, bundle)
        self._written: list[Written] = []
        self._save.manifest = self._written
        self._notes: list[str] = []

    @classmethod
    def from_bundle(
        cls,
        bundle: str | Path,
        *,
        scans: Sequence[Scan],
        output: str | Path,
        layers: str | Sequence[str] | None = None,
        device: str = "auto",
        output_format: str = "same",
        overwrite: bool = False,
        overrides: Mapping[str, Any] | None = None,
    ) -> Pipeline:
        """Build everything that can fail before the first voxel is read.

        Args:
            bundle: name of a bundle that comes with medrecon, or a bundle's folder.
            scans: as `medrecon.io.find_scans` gives them.
            output: see `medrecon.io.plan_outputs`.
            layers: results, as text or list; None takes those of the bundle's configuration.
            device: "auto", "cpu", "cuda" or "cuda:N".
            output_format: "same", "dicom" or "nifti".
            overwrite: replace outputs that exist.
            overrides: further ids of configs/inference.yaml and their values.

        Raises:
            ModelError: the bundle is missing or broken, its weights do not fit, or a layer is unknown.
            OutputError: an output exists, or its place cannot be written.
            UsageError: the options do not make sense.
        """
        if not scans:
            raise UsageError("no scan to work on", remedy="name a scan")
        chosen = pick_device(device)
        opened = Bundle.open(bundle)
        opened.require(*_SETTINGS, *_PARTS)
        results = parse_results(opened.parser["layers"] if layers is None else layers)
        known = [layer.name for layer in layers_of(opened)]
        check_results(results, known, where=opened.root)
        settings: dict[str, Any] = {
            "dataset_dir": scans[0].path,
            "output_dir": Path(output),
            "layers": results,
            "device": str(chosen),
            "output_format": str(output_format),
            "overwrite": overwrite,
            "scans": tuple(scans),
            **(overrides or {}),
        }
        return cls(Bundle.open(opened.root, settings), scans, results, chosen)

    def run(self, scan: Scan, progress: Callable[[int, int], None] | None = None) -> Record:
        """Read one scan, reconstruct every result, write them.

        Args:
            scan: one of those that the pipeline was made for.
            progress: called with (tiles done, tiles in all).

        Raises:
            ScanError: the scan turns out to be unreadable.
            OutputError: a result cannot be written; what is written is whole.
            ModelError: the network cannot take this scan.
        """
        start = time.perf_counter()
        self._inferer.progress = progress
        remember(scan)
        already = len(self._written)
        with torch.inference_mode(), warnings.catch_warnings(record=True) as said:
            for kind in _SAID:
                warnings.simplefilter("always", kind)
            item = self._preprocessing({"image": scan})
            before = time.perf_counter()
            made = self._inferer(item["image"].as_tensor()[None].to(self.device), self.network)[0]
            if self.device.type == "cuda":
                torch.cuda.synchronize(self.device)
            network_seconds = time.perf_counter() - before
            self._postprocessing({**item, "pred": MetaTensor(made).copy_meta_from(item["image"])})
            del item, made
        outputs = {result: Path(self.targets[scan.key, result]) for result in self.results}
        notes = [str(note.message) for note in said if issubclass(note.category, _SAID)]
        notes += [note for written in self._written[already:] for note in written.warnings]
        self._notes += notes
        seconds = time.perf_counter() - start
        return Record(scan, outputs, seconds, network_seconds, tuple(dict.fromkeys(notes)))

    def check_tiling(self, scan: Scan) -> TilingCheck:
        """Compare one scan in tiles with the same in one piece; nothing is written.

        Raises:
            ScanError: the scan is unreadable.
            ModelError: this bundle's network is not run in tiles.
        """
        remember(scan)
        image = self._preprocessing({"image": scan})["image"]
        return check_tiling(image[None].as_tensor(), self.network, self._inferer)

    def write_manifest(
        self, output: str | Path, *, left_out: Sequence[LeftOut] = (), refused: Sequence[ScanError] = ()
    ) -> Path:
        """Write the record of what was run so far, without anything that names a patient.

        Args:
            output: what the user named; the manifest goes in it, or beside it where it is the result itself.
                One that is there from a run before stays, and this one gets a number.
            left_out: files that are no part of a scan.
            refused: scans that are broken.

        Returns:
            Where it is.

        Raises:
            OutputError: it cannot be written.
        """
        first = place = manifest_path(output, self.targets.values())
        number = 2
        while place.exists():
            place = first.with_name(f"{first.stem}-{number}.json")
            number += 1
        return write_manifest(
            place,
            scans=self.scans,
            outputs=self._written,
            left_out=left_out,
            refused=refused,
            derivation=self._save.derivation,
            config={"bundle": self.bundle.name, "version": self.bundle.version},
            device=str(self.device),
            layers=self.results,
            warnings=self._notes,
        )


def _saver_of(postprocessing: Any, bundle: Bundle) -> SaveReconstructiond:
    """The transform that writes, in whatever order the configuration has them."""
    for transform in getattr(postprocessing, "transforms", [postprocessing]):
        if isinstance(transform, SaveReconstructiond):
            return transform
    raise ModelError("its postprocessing writes nothing", path=bundle.root, remedy="add SaveReconstructiond")
