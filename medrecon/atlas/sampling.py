"""What draws samples in an atlas: the bundle's generative decoder, for the results that it knows."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from monai.transforms import Compose

from medrecon.inference.parts import Parts, open_parts
from medrecon.inference.samples import SaveSamplesd


def sampling_of(
    parts: Parts, samples: int, seed: int, overrides: Mapping[str, Any], output: Path
) -> SaveSamplesd:
    """What draws samples of those results that the bundle's generative decoder knows.

    Args:
        parts: of the bundle that is measured.
        samples: of each result.
        seed: of all of them.
        overrides: of the bundle's configuration.
        output: a path that does not exist: only its name is used.

    Raises:
        ModelError: the bundle has no generative decoder, or it knows none of the results.
        UsageError: too few samples.
    """
    meta = parts.bundle.meta.get("generative_def") or {}
    known = [result for result in parts.results if result in meta.get("results", ())]
    opened = open_parts(
        parts.bundle.root,
        scans=parts.scans,
        output=output,
        layers=known or parts.results,
        device=str(parts.device),
        output_format="nifti",
        overrides=overrides,
        samples=samples,
        seed=seed,
    )
    if opened.sampling is None:
        raise RuntimeError("a bundle that was asked for samples draws none")
    # what was placed by one pipeline is brought home by the same
    opened.sampling.home = Compose(list(parts.home))
    return opened.sampling
