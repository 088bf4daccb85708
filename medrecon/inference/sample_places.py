"""Where samples go, beside the reconstruction that they belong to; refused before any work."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterable
from pathlib import Path

from medrecon.errors import UsageError
from medrecon.io.files.publish import check_free
from medrecon.io.formats import ENDINGS, format_named

MEAN, SPREAD = "mean", "standard deviation"
"""What is written of all samples together."""


def sample_places(output: Path, count: int) -> dict[str, Path]:
    """Where samples go: in `CT_level5_samples` beside a series `CT_level5`, `t1_samples` beside `t1.nii.gz`.

    Args:
        output: of the reconstruction.
        count: of the samples.

    Returns:
        "sample 1" ..., "mean" and "standard deviation" -> path.
    """
    endings = ENDINGS.get(format_named(output), ())
    ending = next((e for e in endings if output.name.lower().endswith(e)), "")
    folder = output.with_name(f"{output.name[: len(output.name) - len(ending)]}_samples")
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
    for place in places:
        check_free(place, overwrite)
    if any(place.suffix == ".dcm" for place in places) and importlib.util.find_spec("highdicom") is None:
        raise UsageError(
            "the standard deviation of samples of a DICOM series needs highdicom",
            remedy="install it with: pip install 'medrecon[dicom]'",
        )
