"""From a feature file to a volume, without the scan."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from medrecon import __version__
from medrecon.bundle.results import parse_results
from medrecon.compute.devices import pick_device
from medrecon.contract import Progress
from medrecon.errors import ModelError, UsageError, near
from medrecon.features.drawing import drawing_of
from medrecon.features.file import FeatureFile
from medrecon.features.model import Model, bundle_of, check_fit, open_decoder
from medrecon.features.restore import restore
from medrecon.features.source import check_source, find_source, stand_in
from medrecon.features.tiles import decode_image
from medrecon.inference.sample_files import check_sample_places, write_samples
from medrecon.io import Derivation, Scan, Written, plan_outputs, write_volume
from medrecon.io.formats import format_named
from medrecon.reconstructor import INPUT, parse_layers


@dataclass(frozen=True)
class Decoded:
    """What became of one feature file.

    Attributes:
        outputs: result -> where it was written; "level5 sample 1", "level5 mean" too.
        written: the same in full.
        seconds: wall time from file to file.
        notes: what was noticed and must be said, one line each.
    """

    outputs: dict[str, Path]
    written: tuple[Written, ...]
    seconds: float
    notes: tuple[str, ...] = ()


class FeatureDecoder:
    """Turns features back into volumes: a bundle's decoder, its encoder left aside.

    Args:
        model: as `open_decoder` gives it.
    """

    def __init__(self, model: Model) -> None:
        self.model = model
        self.preprocessing = model.bundle.build("preprocessing")

    def volume(self, file: FeatureFile, result: str, progress: Progress | None = None) -> np.ndarray:
        """One result of a feature file: (X, Y, Z) in the source's units, on its grid.

        Args:
            file: the features.
            result: "level4", or layers joined: "level3+level4".
            progress: called with (pieces done, pieces in all).

        Raises:
            ModelError: a layer is not in the file, or the features are not for this decoder.
        """
        return restore(self.image(file, result, progress), file, self.preprocessing)

    def image(self, file: FeatureFile, result: str, progress: Progress | None = None) -> torch.Tensor:
        """The same in the network's scale, on its grid; arguments and errors as for `volume`."""
        names = parse_layers(result)
        _check_layers(file, names)
        check_fit(file, self.model, names)
        layers = {name: file.facts.layer(name) for name in file.facts.names if name in names}
        return decode_image(
            self.model.network,
            file.read,
            layers,
            file.facts.image_shape,
            self.model.device,
            progress=progress,
        )

    def derivation(self, file: FeatureFile, result: str) -> Derivation:
        """How a result came to be, for the file it is written to."""
        facts, names = file.facts, parse_layers(result)
        stored = "" if facts.dtype == "float32" else f", features as {facts.dtype}"
        lossless = self.model.network.inversion.lossless
        return Derivation(
            model=f"{self.model.name} {self.model.bundle.version}".strip() + stored,
            version=__version__,
            weights_sha256=self.model.weights_sha256,
            layers=result,
            lossy=bool(stored) or not lossless.intersection(names),
            values_per_voxel=sum(facts.layer(name).values_per_voxel for name in names),
        )


def decode(
    features: str | Path,
    output: str | Path,
    *,
    layers: str | Sequence[str] | None = None,
    bundle: str | Path | None = None,
    source: Scan | str | Path | None = None,
    output_format: str = "same",
    device: str = "auto",
    overwrite: bool = False,
    samples: int | None = None,
    seed: int = 0,
    progress: Callable[[int, int], None] | None = None,
) -> Decoded:
    """Write the volumes that a decoder makes of features; the scan is not needed.

    Args:
        features: a file that `encode` wrote.
        output: for one result the `.nii`/`.nii.gz` file (or the series folder, with `source`); for several a
            folder.
        layers: results as `medrecon reconstruct` takes them: "level3,level3+level4"; by default each layer in
            the file is one result.
        bundle: name or folder of the bundle whose decoder is used; by default the one that encoded, if it
            comes with medrecon.
        source: the DICOM series that was encoded (or a folder that holds it), for a derived DICOM series;
            without it NIfTI is written.
        output_format: as for `medrecon.io.plan_outputs`; DICOM needs `source`.
        device: "auto", "cpu", "cuda" or "cuda:N".
        overwrite: replace outputs that exist.
        samples: also draw so many plausible scans of each result (2 or more), and write them, their mean and
            their standard deviation beside it. Generated, not measured.
        seed: of the samples.
        progress: called with (pieces done, pieces in all), for each result anew; then of its samples.

    Raises:
        ModelError: the file is broken, of another network or other weights, or lacks a layer.
        ScanError: `source` is another series.
        OutputError: an output exists or cannot be written.
        UsageError: the options do not make sense.
        ModelError: nothing can draw samples of a result without the scan.
    """
    start = time.perf_counter()
    with FeatureFile(features) as file:
        results = parse_results(file.facts.names if layers is None else layers)
        for result in results:
            _check_layers(file, parse_layers(result))
        series = find_source(file, source) if isinstance(source, (str, Path)) else source
        target_of = _plan(file, results, output, series, output_format, overwrite)
        decoder = FeatureDecoder(
            open_decoder(bundle_of(file) if bundle is None else bundle, pick_device(device), samples)
        )
        for result in results:
            check_fit(file, decoder.model, parse_layers(result))
        drawing = drawing_of(decoder.model, results, samples, seed)
        if drawing is not None:
            check_sample_places(target_of.values(), drawing.count, overwrite=overwrite)
        written, scan = [], series or stand_in(file)
        for number, result in enumerate(results, start=1):
            image, derivation = decoder.image(file, result, progress), decoder.derivation(file, result)
            written.append(
                write_volume(
                    # the inverse works in place
                    restore(image if drawing is None else image.clone(), file, decoder.preprocessing),
                    scan,
                    target_of[result],
                    number=number,
                    derivation=derivation,
                    overwrite=overwrite,
                    result=result,
                )
            )
            if drawing is not None:
                written += write_samples(
                    drawing.samples(image, file, result, decoder.preprocessing, progress),
                    scan,
                    target_of[result],
                    count=drawing.count,
                    number=number,
                    derivation=drawing.derivation(derivation),
                    overwrite=overwrite,
                )
    notes = dict.fromkeys([*decoder.model.caveats, *(note for item in written for note in item.warnings)])
    outputs = {item.result: item.path for item in written}
    return Decoded(outputs, tuple(written), time.perf_counter() - start, tuple(notes))


def _check_layers(file: FeatureFile, names: Sequence[str]) -> None:
    there = file.facts.names
    for name in names:
        if name not in there:
            raise ModelError(
                "holds features, not the image itself ('input')"
                if name == INPUT
                else f"holds no layer '{name}'" + near(name, there),
                path=file.path,
                remedy=f"use {', '.join(there)}, or encode again",
            )


def _plan(
    file: FeatureFile,
    results: Sequence[str],
    output: str | Path,
    source: Scan | None,
    output_format: str,
    overwrite: bool,
) -> dict[str, Path]:
    if source is None:
        scan = stand_in(file)
        if output_format == "dicom":
            raise UsageError(
                "a derived DICOM series needs its source",
                path=file.path,
                remedy="name the series with --source, or leave --format dicom out to get NIfTI",
            )
        if output_format == "same":
            output_format = format_named(output) or "nifti"
    else:
        check_source(file.facts, source)
        scan = source
    targets = plan_outputs([scan], results, output, output_format=output_format, overwrite=overwrite)
    return {result: targets[scan.key, result] for result in results}
