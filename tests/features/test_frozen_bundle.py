"""Bundles over frozen encoders: encoding needs the encoder's file, decoding does not, and both know which."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch

from medrecon.blocks.weights import fingerprint
from medrecon.bundle.config import Bundle
from medrecon.errors import ModelError
from medrecon.features import decode, encode
from medrecon.inference.pipeline import Pipeline
from medrecon.io import find_one

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def frozen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Path, Path, Path]:
    """The shipped bundle with a tiny encoder; the encoder's weights, and those of another encoder."""
    monkeypatch.syspath_prepend(str(Path(__file__).parent))
    from tiny_frozen import TinyFrozen

    root = tmp_path / "bundles" / "frozen"
    (root / "configs").mkdir(parents=True)
    (root / "models").mkdir()
    shipped = ROOT / "bundles" / "frozen_encoder_inversion" / "configs"
    meta = json.loads((shipped / "metadata.json").read_text("utf-8"))
    (root / "configs" / "inference.yaml").write_text((shipped / "inference.yaml").read_text("utf-8"))
    files = []
    for seed in (0, 1):
        torch.manual_seed(seed)
        encoder = TinyFrozen()
        files.append(tmp_path / f"encoder{seed}.pt")
        torch.save(encoder.state_dict(), files[-1])
    inversion = meta["network_def"]["inversion"]
    meta["network_def"] = {
        "_target_": "medrecon.reconstructor.Reconstructor",
        "encoder": {"_target_": "tiny_frozen.TinyFrozen", "weights": "@encoder_weights"},
        "inversion": {**inversion, "names": ["fine", "coarse"], "widths": [4, 4, 4], "depth": 1},
        "layers": "coarse",
        "mixed_precision": False,
    }
    (root / "configs" / "metadata.json").write_text(json.dumps(meta))
    network = Bundle.open(root, {"encoder_weights": files[0]}).build("network_def")
    network.inversion.remember(fingerprint(network.encoder))
    torch.save(network.inversion.state_dict(), root / "models" / "model.pt")
    return root, files[0], files[1]


def test_decoding_needs_no_encoder(
    tmp_path: Path, frozen: tuple[Path, Path, Path], make_nifti: Callable[..., np.ndarray]
) -> None:
    bundle, weights, _ = frozen
    make_nifti(tmp_path / "t1.nii.gz", (21, 18, 5))
    scan, features = find_one(tmp_path / "t1.nii.gz"), tmp_path / "f.safetensors"
    encode(scan, features, layers="fine,coarse", bundle=bundle, encoder_weights=weights, device="cpu")
    pipeline = Pipeline.from_bundle(
        bundle,
        scans=[scan],
        output=tmp_path / "ref.nii.gz",
        layers="fine+coarse",
        device="cpu",
        overrides={"encoder_weights": weights},
    )
    pipeline.run(scan)
    weights.unlink()
    done = decode(features, tmp_path / "out.nii.gz", layers="fine+coarse", bundle=bundle, device="cpu")
    made, reference = (nib.load(tmp_path / name) for name in ("out.nii.gz", "ref.nii.gz"))
    assert np.array_equal(np.asarray(made.dataobj), np.asarray(reference.dataobj))
    assert done.notes == ()


def test_features_of_other_encoder_weights_are_refused(
    tmp_path: Path, frozen: tuple[Path, Path, Path], make_nifti: Callable[..., np.ndarray]
) -> None:
    bundle, _, other = frozen
    make_nifti(tmp_path / "t1.nii.gz", (21, 18, 5))
    scan, features = find_one(tmp_path / "t1.nii.gz"), tmp_path / "f.safetensors"
    with pytest.raises(ModelError, match="does not hold the weights"):
        encode(scan, features, layers="fine", bundle=bundle, device="cpu")
    with pytest.raises(ModelError, match="other weights"):
        encode(scan, features, layers="fine", bundle=bundle, encoder_weights=other, device="cpu")
    weights = bundle / "models" / "model.pt"
    state = torch.load(weights, weights_only=True)
    torch.save(state | {"made_for": torch.zeros_like(state["made_for"])}, weights)
    encode(scan, features, layers="fine", bundle=bundle, encoder_weights=other, device="cpu")
    unsure = decode(features, tmp_path / "a.nii.gz", bundle=bundle, device="cpu")
    assert "does not say which weights" in unsure.notes[0]
    torch.save(state, weights)
    with pytest.raises(ModelError, match="features of other weights"):
        decode(features, tmp_path / "b.nii.gz", bundle=bundle, device="cpu")
