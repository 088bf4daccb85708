"""The shipped bundles with networks of a few random weights, so that every part of them takes part."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from medrecon.bundle.config import Bundle

from ..small_bundles import shrink

ROOT = Path(__file__).resolve().parents[2]
MakeBundle = Callable[..., Path]


@pytest.fixture
def make_bundle(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> MakeBundle:
    """`make_bundle("volume_transform_code", seed=0)`: few channels, random weights, float32."""
    monkeypatch.syspath_prepend(str(Path(__file__).parent))

    def make(name: str, seed: int = 0, folder: str = "", **network: Any) -> Path:
        root = tmp_path / "bundles" / (folder or name)
        (root / "configs").mkdir(parents=True)
        (root / "models").mkdir()
        for file in (ROOT / "bundles" / name / "configs").iterdir():
            (root / "configs" / file.name).write_text(file.read_text("utf-8"), encoding="utf-8")
        place = root / "configs" / "metadata.json"
        meta = json.loads(place.read_text("utf-8"))
        meta["network_def"] = shrink(meta)["network_def"] | network
        place.write_text(json.dumps(meta), encoding="utf-8")
        built = Bundle.open(root).architecture()
        torch.manual_seed(seed)
        state = {
            key: 0.03 * torch.randn_like(value) if key.endswith("weight") else value
            for key, value in built.state_dict().items()
        }
        if seed and "encoder.masks" in state:  # other weights of the encoder: other sets
            masks = state["encoder.masks"]
            state["encoder.masks"] = masks[:, torch.randperm(masks.shape[1])]
        torch.save(state, root / "models" / "model.pt")
        return root

    return make
