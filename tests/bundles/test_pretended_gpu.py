"""Each bundle on a GPU that is pretended: inference, a training step and encoding mix no devices."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from medrecon.bundle.config import Bundle
from medrecon.features.metadata import LayerFacts
from medrecon.features.tiles import decode_image, encode_image
from medrecon.inference.tiling import SliceInferer, VolumeInferer
from medrecon.reconstructor import Reconstructor

from ..pretended_gpu import pretended_gpu
from .names import DIMS, NAMES, MakeBundle, Training
from .trainings import ADVERSARIAL

bundles = pytest.mark.parametrize("name", NAMES)


def network_of(bundle: Path) -> Reconstructor:
    network: Reconstructor = Bundle.open(bundle).architecture()
    weights = torch.load(bundle / "models" / "model.pt", weights_only=True)
    network.load_state_dict(weights)
    return network.eval()


def test_a_planted_mixture_is_found() -> None:
    with pretended_gpu() as faults:
        there, here = torch.ones(3, device="cuda"), torch.ones(3)
        assert there.device.type == "cuda"
        assert there.is_cuda
        assert (there * 2).is_cuda
        assert not there.cpu().is_cuda
        assert faults == []
        there + here
        assert len(faults) == 1
        assert "test_pretended_gpu.py" in faults[0]
        with pytest.raises(TypeError, match="cannot become an array"):
            there.numpy()
    assert not torch.cuda.is_available()


@bundles
def test_inference(name: str, small_bundle: MakeBundle) -> None:
    network = network_of(small_bundle(name))
    image = torch.rand(1, 1, 40, 33, 20)
    inferer = (VolumeInferer if DIMS[name] == 3 else SliceInferer)(["level1", "level4", "level2+level5"])
    with torch.inference_mode(False), torch.no_grad():
        expected = inferer(image, network)
        with pretended_gpu() as faults:
            made = inferer(image, network.to("cuda"))
            assert not made.is_cuda
    assert faults == []
    torch.testing.assert_close(made, expected, rtol=0, atol=1e-5)


@bundles
def test_encoding(name: str, small_bundle: MakeBundle) -> None:
    network = network_of(small_bundle(name))
    image = torch.rand(40, 33, 20)
    infos = [layer for layer in network.layers() if layer.name in ("level3", "level5")]

    def features(device: torch.device) -> list[np.ndarray]:
        blocks = encode_image(network, image, infos, device)
        return [block.values for piece in blocks for block in piece.values()]

    with torch.inference_mode(False), torch.no_grad():
        expected = features(torch.device("cpu"))
        with pretended_gpu() as faults:
            network.to("cuda")
            made = features(torch.device("cuda"))
    assert faults == []
    assert len(made) == len(expected) > 0
    for one, other in zip(made, expected, strict=True):
        np.testing.assert_allclose(one, other, rtol=0, atol=1e-4)


@bundles
def test_decoding(name: str, small_bundle: MakeBundle) -> None:
    network = network_of(small_bundle(name))
    shape = (40, 33, 20)
    chosen = {info.name: info for info in network.layers() if info.name in ("level3", "level5")}
    rng = np.random.default_rng(0)
    facts, stored = {}, {}
    for key, info in chosen.items():
        grid = [-(-n // 32) * 32 // s for n, s in zip(shape, info.stride, strict=False)]
        first = (info.channels,) if DIMS[name] == 3 else (shape[2], info.channels)
        stored[key] = rng.normal(size=(*first, *grid)).astype(np.float32)
        facts[key] = LayerFacts(key, stored[key].shape, info.stride, None, info.values_per_voxel)

    def image(device: torch.device) -> torch.Tensor:
        return decode_image(network, lambda key, *part: stored[key][part], facts, shape, device)

    with torch.inference_mode(False), torch.no_grad():
        expected = image(torch.device("cpu"))
        with pretended_gpu() as faults:
            network.to("cuda")
            made = image(torch.device("cuda"))
            assert not made.is_cuda
    assert faults == []
    torch.testing.assert_close(made, expected, rtol=0, atol=1e-4)


@pytest.mark.parametrize("overlays", [(), ("adversarial.yaml",)], ids=["plain", "adversarial"])
def test_the_training_of_a_bundle(overlays: tuple[str, ...], tmp_path: Path, training: Training) -> None:
    extra = ADVERSARIAL if overlays else {}
    with pretended_gpu() as faults:
        made = training("slice_autoencoder", tmp_path / "run", *overlays, device="cuda", **extra)
        made.trainer.run()
        network = made.parser.get_parsed_content("network")
        assert all(parameter.is_cuda for parameter in network.parameters())
    assert faults == []
    assert (tmp_path / "run" / "model.pt").exists()


@bundles
def test_a_training_step(name: str, small_bundle: MakeBundle) -> None:
    network = network_of(small_bundle(name)).train()
    image = torch.rand(1, 1, *[32] * DIMS[name])
    with pretended_gpu() as faults:
        network.to("cuda")
        optimizer = torch.optim.AdamW(network.parameters(), lr=1e-3, foreach=False)
        there = image.to("cuda")
        for result in ("level3", "level4+level5"):
            loss: Any = (network(there, result) - there).square().mean()
            assert loss.is_cuda
            loss.backward()
            optimizer.step()
            optimizer.zero_grad()
    assert faults == []
