"""The way of one scan through a bundle: read, reconstructed, written back."""

from __future__ import annotations

import contextlib
import functools
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from monai.data import MetaTensor

from medrecon.contract import Progress
from medrecon.inference.parts import Parts, open_parts, parts_for_others
from medrecon.inference.passes import passes_of
from medrecon.inference.prefetch import fits_beside, overlapped
from medrecon.inference.prepared import check_scan, network_notes
from medrecon.inference.record import Record as Record
from medrecon.inference.record import Stage
from medrecon.inference.sample_files import Samples
from medrecon.inference.thick_slices import advice
from medrecon.inference.tiling_check import TilingCheck, check_tiling
from medrecon.io import Derivation, Written, manifest_path, read_scan, write_manifest
from medrecon.io.files.names import unused
from medrecon.io.notices import listening
from medrecon.io.scan import LeftOut, Scan, ScanError
from medrecon.reconstructor import INPUT

Begin = Callable[[str], Progress | None]


class Pipeline:
    """A bundle's own components joined for scans that are known already.

    These are the objects that `python -m monai.bundle run` builds from the same configuration; only the loop
    over scans is here, so that one failing scan need not stop the rest.

    Args:
        parts: of the bundle, its scans and outputs set.

    Attributes:
        bundle, scans, results, device, network, targets: as in `Parts`.
    """

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self.bundle, self.scans, self.results = parts.bundle, parts.scans, parts.results
        self.device, self.network, self.targets = parts.device, parts.network, parts.targets
        self._written: list[Written] = []
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
        revision: str = "",
        samples: int | None = None,
        seed: int = 0,
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
            revision: tells the results from those of the same series when it had fewer instances.
            samples: so many plausible scans beside each result, with their mean and standard deviation.
            seed: of the samples.

        Raises:
            ModelError: the bundle is missing or broken, its weights do not fit, a layer is unknown, or there
                is no generative decoder for it.
            OutputError: an output exists, or its place cannot be written.
            UsageError: the options do not make sense.
        """
        parts = open_parts(
            bundle,
            scans=scans,
            output=output,
            layers=layers,
            device=device,
            output_format=output_format,
            overwrite=overwrite,
            overrides=overrides,
            revision=revision,
            samples=samples,
            seed=seed,
        )
        return cls(parts)

    def for_others(self, scans: Sequence[Scan], output: str | Path, revision: str = "") -> Pipeline:
        """A pipeline of the same bundle and network for other scans, which takes the place of this one.

        The arguments, and what is raised, are those of `from_bundle`.
        """
        return Pipeline(parts_for_others(self._parts, scans=scans, output=output, revision=revision))

    def run(self, scan: Scan, progress: Progress | None = None, begin: Begin | None = None) -> Record:
        """Read one scan, reconstruct every result, write them; then the samples, where they are asked for.

        Args:
            scan: one of those that the pipeline was made for.
            progress: called with (tiles done, tiles in all).
            begin: called with what is drawn next; gives what is told the same of it.

        Raises:
            ScanError: the scan turns out to be unreadable.
            OutputError: a result cannot be written; what is written is whole.
            ModelError: the network cannot take this scan.
        """
        return self._write(self._reconstruct(self._read(scan), progress), begin)

    def run_in_memory(
        self, scan: Scan, progress: Progress | None = None
    ) -> tuple[dict[str, np.ndarray], dict[str, Samples], Record]:
        """The same, but nothing is written: result -> (X, Y, Z) on the source's grid, in its units; samples.

        Raises:
            ScanError: the scan turns out to be unreadable.
            ModelError: the network cannot take this scan.
        """
        sampling = self._parts.sampling
        stage = self._reconstruct(self._read(scan), None if sampling else progress)
        start = time.perf_counter()
        item, image = stage.item, stage.item["image"]
        with torch.inference_mode(), listening() as heard:
            for step in self._parts.home:
                item = step(item)
        images = {
            result: read_scan(scan) if result == INPUT else item["pred"][channel].numpy()
            for channel, result in enumerate(self.results)
        }
        asked = self.results if sampling is not None else ()
        ticks = passes_of(progress, len(asked))
        drawn = (
            {result: sampling.in_memory(image, result, next(ticks)) for result in asked} if sampling else {}
        )
        seconds = stage.seconds + time.perf_counter() - start
        notes = tuple(dict.fromkeys(stage.notes + heard))
        return images, drawn, Record(scan, {}, seconds, stage.network_seconds, notes)

    @property
    def derivations(self) -> Mapping[str, Derivation]:
        """Result -> how it is made."""
        return self._parts.saver.derivation

    def run_each(
        self,
        scans: Sequence[Scan],
        watching: Callable[[Scan], contextlib.AbstractContextManager[Progress | None]],
        begin: Callable[[Scan, str], Progress | None] | None = None,
    ) -> Iterator[tuple[Scan, Record | Exception]]:
        """The same for many scans: the next is read and the last is written while one is reconstructed.

        Args:
            scans: some of those that the pipeline was made for.
            watching: entered around each scan's reconstruction; gives its `progress`.
            begin: for each scan as in `run`.

        Yields:
            Each scan in turn with its record, or with the error that it ended with.
        """

        def reconstruct(scan: Scan, read: Stage) -> Stage | Record:
            with watching(scan) as tick:
                stage = self._reconstruct(read, tick)
            if self._parts.sampling is None:
                return stage
            return self._write(stage, None if begin is None else functools.partial(begin, scan))

        def write(made: Stage | Record) -> Record:
            return made if isinstance(made, Record) else self._write(made)

        return overlapped(scans, self._read, reconstruct, write, fits_beside)

    def _read(self, scan: Scan) -> Stage:
        start = time.perf_counter()
        check_scan(self.network.encoder, scan)
        with torch.inference_mode(), listening() as heard:
            item = self._parts.preprocessing({"image": scan})
            told = self._advice(item["image"], scan)
        if told is not None:
            heard.append(f"{scan.path.name}: {told}")
        notes = [*network_notes(self.network.encoder, 1 + len(scan.beside)), *heard]
        return Stage(scan, item, time.perf_counter() - start, notes=notes)

    def _advice(self, image: MetaTensor, scan: Scan) -> str | None:
        """What a bundle of volumes that names one of slices (`thick_slices`) has to say of a scan."""
        instead = self.bundle.parser.get("thick_slices", None)
        return None if instead is None else advice(torch.as_tensor(image)[0], scan.affine, str(instead))

    def _reconstruct(self, stage: Stage, progress: Progress | None) -> Stage:
        start = time.perf_counter()
        image = stage.item["image"]
        with torch.inference_mode(), listening() as heard:
            made = self._parts.inferer(
                image.as_tensor()[None].to(self.device), self.network, progress=progress
            )[0]
            if self.device.type == "cuda":
                torch.cuda.synchronize(self.device)
            stage.item["pred"] = MetaTensor(made).copy_meta_from(image)
        stage.network_seconds = time.perf_counter() - start
        stage.seconds += stage.network_seconds
        stage.notes += heard
        return stage

    def _write(self, stage: Stage, begin: Begin | None = None) -> Record:
        start = time.perf_counter()
        sampling = self._parts.sampling
        with torch.inference_mode(), listening() as heard:
            image, item = stage.item["image"], {**stage.item}
            stage.item.clear()
            for step in self._parts.home:
                item = step(item)
            kept: list[Written] = self._parts.saver(item)["written"]
            del item
            if sampling is not None:
                kept = sampling.save({"image": image, "written": kept}, begin)["written"]
        self._written += kept
        notes = [*stage.notes, *heard, *(note for each in kept for note in each.warnings)]
        self._notes += notes
        outputs = {each.result: each.path for each in kept}
        off = {each.result: d for each in kept if (d := each.feature_distance) is not None}
        seconds = stage.seconds + time.perf_counter() - start
        said = tuple(dict.fromkeys(notes))
        return Record(stage.scan, outputs, seconds, stage.network_seconds, said, off)

    def write_error_maps(self, record: Record, *, overwrite: bool = False) -> dict[str, Path]:
        """Write what each result is off by beside it: result -> where; as `error_map.write_error_maps`."""
        from medrecon.inference.error_map import write_error_maps

        made = write_error_maps(record, self.derivations, overwrite=overwrite)
        self._written += made
        return {written.result: written.path for written in made}

    def check_tiling(self, scan: Scan) -> TilingCheck:
        """Compare one scan in tiles with the same in one piece; nothing is written.

        Raises:
            ScanError: the scan is unreadable.
            ModelError: this bundle's network is not run in tiles.
        """
        image = self._parts.preprocessing({"image": scan})["image"]
        return check_tiling(image[None].as_tensor(), self.network, self._parts.inferer)

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
        sampling = self._parts.sampling
        return write_manifest(
            unused(manifest_path(output, self.targets.values())),
            scans=self.scans,
            outputs=self._written,
            left_out=left_out,
            refused=refused,
            derivation=self.derivations,
            config={
                "bundle": self.bundle.name,
                "version": self.bundle.version,
                **({} if sampling is None else {"samples": sampling.settings}),
            },
            seeds={} if sampling is None else {"samples": sampling.seed},
            device=str(self.device),
            layers=self.results,
            warnings=[*self.bundle.caveats, *self._notes],
        )
