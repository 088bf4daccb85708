"""The networks that medrecon is compared with: found or not, built as their authors have them."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest
import torch

Benchmark = Callable[[str], ModuleType]


@pytest.mark.usefixtures("medvae_stand_in")
def test_medvae_is_built_as_its_authors_have_it_and_says_nothing(
    benchmark: Benchmark, capfd: pytest.CaptureFixture[str]
) -> None:
    networks = benchmark("networks")
    peer = networks.PEERS["medvae"]
    assert not peer.missing
    assert peer.source == "medvae 0.0"
    network = networks.medvae(3, peer.channels)
    assert network.config == {
        "embed_dim": 1,
        "double_z": True,
        "z_channels": 1,
        "resolution": 512,
        "in_channels": 1,
        "out_ch": 1,
        "ch": 128,
        "ch_mult": [1, 2, 4],
        "num_res_blocks": 2,
        "attn_resolutions": [],
        "dropout": 0.0,
    }
    assert not network.training
    assert capfd.readouterr().out == ""  # the JSON of a child process goes there


@pytest.mark.usefixtures("medvae_stand_in")
@pytest.mark.parametrize(("name", "block"), [("medvae", (4, 4, 4)), ("medvae2d", (4, 4, 1))])
def test_windows_come_back_as_they_went_in(
    benchmark: Benchmark, name: str, block: tuple[int, int, int]
) -> None:
    peer = benchmark("networks").PEERS[name]
    means = torch.rand(2, 1, *(n // side for n, side in zip((8, 12, 4), block, strict=True)))
    window = (
        means.repeat_interleave(block[0], 2).repeat_interleave(block[1], 3).repeat_interleave(block[2], 4)
    )
    assert window.shape == (2, 1, 8, 12, 4)
    assert torch.allclose(peer.prepare(peer.channels)(window), window)


@pytest.mark.parametrize("package", ["medvae", "einops"])
def test_what_is_missing_is_said_with_its_remedy(
    benchmark: Benchmark, medvae_stand_in: Path, package: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    peers = benchmark("networks").PEERS
    monkeypatch.setitem(sys.modules, package, None)
    assert peers["medvae"].missing == "pip install --no-deps medvae==0.1.7 einops"
    assert not peers["autoencoderkl"].missing


@pytest.mark.parametrize("name", ["autoencoderkl", "medvae", "medvae2d"])
def test_each_makes_an_image_of_a_window(benchmark: Benchmark, name: str) -> None:
    peer = benchmark("networks").PEERS[name]
    if peer.missing:
        pytest.skip(f"{peer.title} is not installed: {peer.missing}")
    with torch.inference_mode():
        assert peer.prepare((32, 32, 64))(torch.rand(1, 1, 16, 8, 4)).shape == (1, 1, 16, 8, 4)
