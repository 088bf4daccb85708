"""inference.yaml asked for samples: the same ones that `medrecon reconstruct` draws."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from medrecon.inference.pipeline import Pipeline
from medrecon.inference.sample_files import sample_places
from medrecon.io import find_one, read_scan

from ..small_bundles import write_generative_bundle
from .conftest import smooth_nifti


@pytest.mark.parametrize(
    "name", ["slice_autoencoder", pytest.param("volume_autoencoder", marks=pytest.mark.slow)]
)
def test_the_same_as_the_command(
    name: str, tmp_path: Path, repo: Path, run_config: Callable[[Path, Path, dict[str, Any]], None]
) -> None:
    bundle = write_generative_bundle(repo / "bundles" / name, tmp_path / "elsewhere" / name)
    smooth_nifti(tmp_path / "mr.nii.gz")
    options = {"dataset_dir": str(tmp_path / "mr.nii.gz"), "output_dir": str(tmp_path / "a.nii.gz")}
    asked = {"layers": ["level4"], "samples": 2, "seed": 1}
    run_config(bundle / "configs" / "inference.yaml", tmp_path, options | asked)
    scan = find_one(tmp_path / "mr.nii.gz")
    ours = Pipeline.from_bundle(
        bundle, scans=[scan], output=tmp_path / "b.nii.gz", layers="level4", device="cpu", samples=2, seed=1
    )
    record = ours.run(scan)
    pairs = zip(
        [tmp_path / "a.nii.gz", *sample_places(tmp_path / "a.nii.gz", 2).values()],
        record.outputs.values(),
        strict=True,
    )
    for theirs, mine in pairs:
        one, other = (read_scan(find_one(path)).astype(float) for path in (theirs, mine))
        np.testing.assert_allclose(one, other, atol=1e-3)
        assert np.ptp(one) > 0
