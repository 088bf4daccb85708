"""One scan through a bundle with its results in memory: what a notebook asks for."""

from __future__ import annotations

import tempfile
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from medrecon.bundle.channels import read_channels, set_beside
from medrecon.bundle.config import Bundle
from medrecon.inference.pipeline import Pipeline
from medrecon.inference.sample_files import Samples, check_sample_places, write_samples
from medrecon.io import Derivation, Scan, find_one, plan_outputs, write_volume
from medrecon.io.choices import with_hu

if TYPE_CHECKING:
    from medrecon.training.linear import Named


@dataclass(frozen=True)
class Reconstruction:
    """What layers kept of a scan.

    Attributes:
        scan: the source.
        images: result -> (X, Y, Z) on the source's grid, in its units.
        derivations: result -> how it was made.
        seconds: wall time, reading included.
        notes: what was noticed and must be said, one line each.
        samples: result -> what was drawn of it beside its image, where samples were asked for.
    """

    scan: Scan
    images: Mapping[str, np.ndarray] = field(repr=False)
    derivations: Mapping[str, Derivation] = field(repr=False)
    seconds: float
    notes: tuple[str, ...] = ()
    samples: Mapping[str, Samples] = field(default_factory=dict, repr=False)

    def __getitem__(self, result: str) -> np.ndarray:
        return self.images[result]

    def save(
        self, output: str | Path, *, output_format: str = "same", overwrite: bool = False
    ) -> dict[str, Path]:
        """Write the results as scans: a derived DICOM series from DICOM, a file from all else; then samples.

        Args:
            output: for one result its file or folder, for several a folder; see `medrecon.io.plan_outputs`.
            output_format: "same", or one of `medrecon.io.plan_outputs`.
            overwrite: replace outputs that exist.

        Returns:
            Result -> where it is; "level5 sample 1", "level5 mean" and "level5 standard deviation" too.

        Raises:
            OutputError: an output exists, or cannot be written.
            UsageError: the format does not suit the source or the name.
        """
        targets = plan_outputs(
            [self.scan], list(self.images), output, output_format=output_format, overwrite=overwrite
        )
        for result, samples in self.samples.items():
            place = targets[self.scan.key, result]
            check_sample_places([place], len(samples.drawn), overwrite=overwrite)
        for number, (result, image) in enumerate(self.images.items(), start=1):
            write_volume(
                image,
                self.scan,
                targets[self.scan.key, result],
                number=number,
                derivation=self.derivations.get(result),
                overwrite=overwrite,
                result=result,
            )
        places = {result: targets[self.scan.key, result] for result in self.images}
        for number, (result, samples) in enumerate(self.samples.items(), start=1):
            made = write_samples(
                samples.drawn,
                self.scan,
                places[result],
                count=len(samples.drawn),
                number=number,
                derivation=samples.derivation,
                overwrite=overwrite,
            )
            places |= {each.result: each.path for each in made}
        return places

    def _repr_html_(self) -> str:
        from medrecon.io.preview import html_of

        return html_of(self.scan, self.images)


def reconstruct(
    source: Scan | str | Path,
    layers: str | Sequence[str] | None = None,
    *,
    bundle: str | Path = "volume_autoencoder",
    encoder_weights: str | Path | None = None,
    encoder: Named | None = None,
    encoder_arguments: Mapping[str, Any] | None = None,
    encoder_channels: Mapping[str, Scan | str | Path] | None = None,
    fit_on: str | Path | Sequence[Scan] = (),
    fit_channels: Mapping[str, str] | None = None,
    device: str = "auto",
    hu: bool = False,
    samples: int | None = None,
    seed: int = 0,
    progress: Callable[[int, int], None] | None = None,
    **reading: Any,
) -> Reconstruction:
    """Turn chosen layers of a network back into a scan.

    Args:
        source: a scan, or the path of one.
        layers: results: "level4", "level2,level3+level4" or a list; "input" is the control without a network.
            None takes those of the bundle's configuration.
        bundle: name of a bundle that comes with medrecon, or a bundle's folder.
        encoder_weights: the file of the weights of `encoder`, or of the network that a bundle looks into.
        encoder: any network in the place of a bundle: a short name, a dotted path, `net.py:Net`, a folder, a
            class, or a network itself (a copy of it is used). Its linear inverse is fitted to generated scans
            and kept for the next time: a lower bound of what each layer keeps. It needs `layers`.
        encoder_arguments: of its class; "_intensity_", "_window_" and the like too.
        encoder_channels: name of a channel of the network -> a scan or its path, `source` among them, which
            is what comes back; None gives it to each channel.
        fit_on: scans, or their folder, to fit it to beside generated ones; not those to be judged.
        fit_channels: of a network with `encoder_channels`: name of a channel -> pattern of the names of the
            scans to fit to.
        device: "auto", "cpu", "cuda" or "cuda:N".
        hu: the values are HU, which NIfTI, NRRD and MHA cannot say.
        samples: also draw so many plausible scans of each result (2 or more), with their mean and standard
            deviation, all held in memory. Generated, not measured: what differs between them is made up.
        seed: of the samples.
        progress: called with (tiles done, tiles in all), or with parts of the samples.
        **reading: of `medrecon.find_one`: series, volume, resample, accept, nifti_form, replace_nonfinite.

    Returns:
        The results, in memory; `save` writes them.

    Raises:
        ScanError: the scan cannot be read.
        ModelError: the bundle or a layer cannot be used, or nothing can draw samples of it.
        UsageError: the options do not make sense.
    """
    scan = scan_asked(source, hu, reading)
    given = read_channels(scan, encoder_channels or {}, hu=hu, **reading)
    asked = network_asked(
        encoder,
        scan,
        layers,
        bundle,
        weights=encoder_weights,
        arguments=encoder_arguments,
        channels=given,
        fit_on=fit_on,
        fit_channels=fit_channels,
        device=device,
    )
    pipeline = Pipeline.from_bundle(
        asked.bundle,
        scans=[asked.scan],
        output=Path(tempfile.gettempdir()) / f"medrecon-{uuid.uuid4().hex}",  # nothing is written there
        layers=layers,
        device=device,
        overrides=asked.overrides,
        samples=samples,
        seed=seed,
    )
    images, drawn, record = pipeline.run_in_memory(asked.scan, progress)
    notes = (*pipeline.bundle.caveats, *asked.scan.notes, *record.notes)
    return Reconstruction(asked.scan, images, pipeline.derivations, record.seconds, notes, drawn)


def scan_asked(source: Scan | str | Path, hu: bool, reading: Mapping[str, Any]) -> Scan:
    """The scan that was named, with the options of `reconstruct`."""
    scan = source if isinstance(source, Scan) else find_one(source, **reading)
    return with_hu(scan) if hu else scan


class NetworkAsked(NamedTuple):
    """A scan, with those beside it that are channels too, a bundle, and what that must be told."""

    scan: Scan
    bundle: str | Path
    overrides: dict[str, Any]


def network_asked(
    encoder: Named | None,
    scan: Scan,
    layers: str | Sequence[str] | None,
    bundle: str | Path,
    *,
    weights: str | Path | None,
    arguments: Mapping[str, Any] | None,
    channels: Mapping[str, Scan],
    fit_on: str | Path | Sequence[Scan],
    fit_channels: Mapping[str, str] | None,
    device: str,
) -> NetworkAsked:
    """The bundle that was named, or that of the linear inverse of any network; options as of `reconstruct`.

    Raises:
        UsageError: encoder and bundle are named, or no layer of the encoder.
        ModelError: the encoder cannot be built, or a layer cannot be tapped; no channel of that name.
        ScanError: a channel is missing, or lies on another grid.
    """
    if encoder is None:
        told = {} if weights is None else {"encoder_weights": Path(weights)}
        if channels:
            scan, _ = set_beside(Bundle.open(bundle, told).architecture().encoder, scan, channels)
        return NetworkAsked(scan, bundle, told)
    from medrecon.training.linear import inverse_of

    inverse = inverse_of(
        encoder, scan, layers, bundle, weights, arguments, channels, fit_on, fit_channels, device
    )
    return NetworkAsked(inverse.scan, inverse.bundle, inverse.overrides)
