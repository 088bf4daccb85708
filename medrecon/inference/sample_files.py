"""Samples as files beside the reconstruction that they belong to, and what is refused before any work."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from medrecon.errors import UsageError
from medrecon.inference.maps import check_map_places, write_map
from medrecon.inference.moments import RunningMoments
from medrecon.io import Written, write_volume
from medrecon.io.derivation import Derivation
from medrecon.io.dicom.writing.parametric_map import DEVIATION
from medrecon.io.formats import split_ending
from medrecon.io.scan import Scan

MEAN, SPREAD = "mean", "standard deviation"
"""What is written of all samples together."""

_SERIES = 1000  # times the result's number: added to a source's series number, with the sample's
_GENERATED = "YES"  # SyntheticData


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


@dataclass(frozen=True)
class Samples:
    """Samples of one result in memory.

    Attributes:
        drawn: one after the other.
        mean: of them, (X, Y, Z), float32, in the source's units.
        deviation: standard deviation at each voxel, the same.
        decoder_distance: of the features of the decoder's one answer, as each sample's `feature_distance`.
        derivation: how they were made.
    """

    drawn: tuple[Sample, ...]
    mean: np.ndarray
    deviation: np.ndarray
    decoder_distance: float | None
    derivation: Derivation


def sample_places(output: Path, count: int) -> dict[str, Path]:
    """Where samples go: in `CT_level5_samples` beside a series `CT_level5`, `t1_samples` beside `t1.nii.gz`.

    Args:
        output: of the reconstruction.
        count: of the samples.

    Returns:
        "sample 1" ..., "mean" and "standard deviation" -> path.
    """
    stem, ending = split_ending(output.name)
    folder = output.with_name(f"{stem}_samples")
    digits = len(str(count))
    return {
        **{f"sample {n}": folder / f"sample_{n:0{digits}d}{ending}" for n in range(1, count + 1)},
        MEAN: folder / f"mean{ending}",
        SPREAD: folder / f"standard_deviation{ending or '.dcm'}",
    }


def check_request(count: int, seed: int) -> None:
    """Refuse a number of samples that says nothing of what differs between them, and what is no seed.

    Raises:
        UsageError: the count is below 2, or the seed below 0.
    """
    if count < 2:
        raise UsageError(
            f"{count} samples show nothing of what differs between them",
            remedy="ask for 2 or more, such as --samples 8",
        )
    if seed < 0:
        raise UsageError(f"the seed {seed} is below 0", remedy="give a whole number from 0 on")


def check_sample_places(outputs: Iterable[Path], count: int, *, overwrite: bool = False) -> None:
    """Refuse before any work what could not be written after it.

    Args:
        outputs: where reconstructions go.
        count: of the samples of each.
        overwrite: samples that exist may be replaced.

    Raises:
        OutputError: one exists.
        UsageError: highdicom, which writes the standard deviation for DICOM, is not installed.
    """
    places = [place for output in outputs for place in sample_places(output, count).values()]
    need = "the standard deviation of samples of a DICOM series needs"
    check_map_places(places, need, overwrite=overwrite)


def write_samples(
    samples: Iterable[Sample],
    scan: Scan,
    output: Path,
    *,
    count: int,
    number: int,
    derivation: Derivation,
    overwrite: bool = False,
) -> list[Written]:
    """Write samples of a result as they come, then their mean and their standard deviation.

    Args:
        samples: two or more; one is held at a time.
        scan: the source.
        output: of the reconstruction, see `sample_places`.
        count: how many there will be.
        number: of the result, counted from 1.
        derivation: how they are made (`Derivation.drawn`).
        overwrite: replace what is there.

    Raises:
        OutputError: one cannot be written; those before it are whole.
    """
    places, first = sample_places(output, count), number * _SERIES

    def options(which: str) -> dict[str, Any]:
        drawn = None if derivation.drawn is None else replace(derivation.drawn, which=which)
        return {"derivation": replace(derivation, drawn=drawn), "overwrite": overwrite}

    def write(volume: np.ndarray, name: str, which: str, series: int) -> Written:
        return write_volume(
            volume,
            scan,
            places[name],
            number=series,
            synthetic=_GENERATED,
            result=f"{derivation.layers} {name}",
            **options(which),
        )

    moments, made = RunningMoments(), []
    for sample in samples:
        name = f"sample {sample.number}"
        written = write(sample.volume, name, f"{name} of {count}", first + sample.number)
        made.append(replace(written, feature_distance=sample.feature_distance))
        moments.add(sample.volume)
    made.append(write(moments.mean, MEAN, f"{MEAN} of {count} samples", first + count + 1))
    spread = write_map(
        moments.deviation(),
        scan,
        places[SPREAD],
        result=f"{derivation.layers} {SPREAD}",
        quantity=DEVIATION,
        series_offset=first + count + 2,
        **options(f"{SPREAD} of {count} samples"),
    )
    return [*made, spread]
