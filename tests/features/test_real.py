"""With the weights that come with medrecon, in the arithmetic that the machine prefers, on a real scan."""

from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from medrecon.features import decode, encode
from medrecon.inference.pipeline import Pipeline
from medrecon.io import find_one

BUNDLES = ["volume_autoencoder", "slice_autoencoder", "volume_transform_code", "slice_transform_code"]


@pytest.mark.slow  # test_round_trip.py shows it of small ones
@pytest.mark.real_data
@pytest.mark.parametrize("bundle", BUNDLES)
def test_decoded_features_are_the_reconstruction(bundle: str, shared_dir: Path, tmp_path: Path) -> None:
    source = shared_dir / "data" / "real" / "mr_t1gd_brain_tumour_pyradiomics1.nrrd"
    if not source.exists():
        pytest.skip(f"no {source.name} here")
    scan = find_one(source)
    encode(scan, tmp_path / "f.safetensors", layers="level4", bundle=bundle, device="cpu")
    decode(tmp_path / "f.safetensors", tmp_path / "out.nii.gz", device="cpu")
    pipeline = Pipeline.from_bundle(
        bundle, scans=[scan], output=tmp_path / "ref.nii.gz", layers="level4", device="cpu"
    )
    pipeline.run(scan)
    made, reference = (nib.load(tmp_path / name) for name in ("out.nii.gz", "ref.nii.gz"))
    assert made.header == reference.header
    assert np.array_equal(np.asarray(made.dataobj), np.asarray(reference.dataobj))
