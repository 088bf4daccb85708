from __future__ import annotations

import hashlib
import pickle
import struct
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from medrecon.encoders import fingerprint, fit_weights, read_weights
from medrecon.errors import ModelError


def network() -> nn.Module:
    torch.manual_seed(1)
    return nn.Sequential(nn.Conv2d(1, 2, 3), nn.ReLU(), nn.Conv2d(2, 3, 1))


@pytest.fixture
def state() -> dict[str, torch.Tensor]:
    return {k: torch.randn_like(v) for k, v in network().state_dict().items()}


def refused(path: Path, words: str, sha256: str | None = None) -> None:
    with pytest.raises(ModelError, match=words) as caught:
        read_weights(path, sha256)
    line = str(caught.value)
    assert line.startswith(str(path))
    assert ";" in line
    assert "\n" not in line
    assert caught.value.exit_code == 4


@pytest.mark.parametrize("kind", ["safetensors", "pt", "wrapped"])
def test_each_kind_of_file(tmp_path: Path, state: dict[str, torch.Tensor], kind: str) -> None:
    path = tmp_path / f"w.{'safetensors' if kind == 'safetensors' else 'pth'}"
    if kind == "safetensors":
        save_file(state, path)
    else:
        torch.save(state if kind == "pt" else {"state_dict": state, "epoch": 3}, path)
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    module = network()
    fit_weights(module, read_weights(path, digest.upper()), path)
    assert all(torch.equal(v, state[k]) for k, v in module.state_dict().items())
    refused(path, f"SHA-256 is {digest}, expected {'0' * 64}", sha256="0" * 64)


def test_what_is_no_weight_file(tmp_path: Path) -> None:
    refused(tmp_path / "missing.pt", "no such weight file")
    refused(tmp_path, "no such weight file")
    for name in ("torn.safetensors", "torn.pt", "empty.pt"):
        (tmp_path / name).write_bytes(b"" if name == "empty.pt" else b"\x10\x27 not weights at all")
        refused(tmp_path / name, "it is not a")
    torch.save([1, 2], tmp_path / "list.pt")
    refused(tmp_path / "list.pt", "does not hold a state_dict")
    torch.save({}, tmp_path / "none.pt")
    refused(tmp_path / "none.pt", "does not hold a state_dict")


class Bomb:
    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> tuple:
        return (Path.touch, (self.target,))


@pytest.mark.parametrize("protocol", ["torch", "pickle"])
def test_a_pickle_runs_no_code(tmp_path: Path, protocol: str) -> None:
    path, mark = tmp_path / "bomb.pt", tmp_path / "PWNED"
    if protocol == "torch":
        torch.save({"a": torch.ones(1), "b": Bomb(mark)}, path)
    else:
        path.write_bytes(pickle.dumps({"b": Bomb(mark)}))
    refused(path, "without running its code")
    assert not mark.exists()


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        (lambda s: s.pop("2.bias"), "2.bias is missing"),
        (lambda s: s.update(extra=torch.ones(1)), "extra is not a part of Sequential"),
        (lambda s: s.update({"0.weight": torch.ones(2, 3, 3, 3)}), "0.weight has shape 2x3x3x3, not 2x1x3x3"),
        (lambda s: s["0.bias"].fill_(float("nan")), "0.bias holds NaN"),
    ],
)
def test_nothing_is_copied_unless_all_fits(state: dict, fault, words: str) -> None:
    fault(state)
    module = network()
    before = {k: v.clone() for k, v in module.state_dict().items()}
    with pytest.raises(ModelError, match=words):
        fit_weights(module, state, "w.pt")
    assert all(torch.equal(v, before[k]) for k, v in module.state_dict().items())


def test_known_parts_may_be_left_over(state: dict[str, torch.Tensor]) -> None:
    fit_weights(network(), state | {"classifier.0.weight": torch.ones(4)}, "w.pt", unused=("classifier.",))


class Tiny(nn.Module):
    def __init__(self, dtype: torch.dtype = torch.float32) -> None:
        super().__init__()
        self.b = nn.Parameter(torch.tensor([[1.5, -2.0, 0.25]], dtype=dtype))
        self.register_buffer("a", torch.tensor(7))


def test_fingerprint_is_what_its_docstring_says() -> None:
    content = b"a\0torch.int64\0scalar\0" + (7).to_bytes(8, "little")
    content += b"b\0torch.float32\x001x3\0" + struct.pack("<3f", 1.5, -2.0, 0.25)
    assert fingerprint(Tiny()) == hashlib.sha256(content).hexdigest()


def test_fingerprint_follows_the_weights_and_nothing_else(tmp_path: Path) -> None:
    first, other = network(), network()
    torch.save(first.state_dict(), tmp_path / "w.pt")
    fit_weights(other, read_weights(tmp_path / "w.pt"), tmp_path / "w.pt")
    assert fingerprint(first) == fingerprint(other.train().requires_grad_(False))
    strided = network()
    strided[0].weight.data = strided[0].weight.data.to(memory_format=torch.channels_last)
    assert fingerprint(strided) == fingerprint(first)
    seen = {fingerprint(first), fingerprint(Tiny()), fingerprint(Tiny(torch.bfloat16))}
    with torch.no_grad():
        other[2].bias[1] = torch.nextafter(other[2].bias[1], torch.tensor(9.0))
    assert len(seen | {fingerprint(other)}) == 4
    with torch.no_grad():
        other[2].bias.copy_(first[2].bias)
        other[0].weight.copy_(first[0].weight.flip(-1))
    assert fingerprint(other) != fingerprint(first)


@pytest.mark.skipif(not Path("/proc/self/maps").exists(), reason="needs Linux")
def test_a_file_is_read_and_not_mapped(tmp_path: Path) -> None:
    """A mapped file that is cut while its tensors are in use ends the process with SIGBUS."""
    path = tmp_path / "weights.safetensors"
    save_file({"a": torch.arange(100_000.0)}, path)
    weights = read_weights(path)
    assert str(path) not in Path("/proc/self/maps").read_text()
    path.write_bytes(b"")
    assert torch.equal(weights["a"], torch.arange(100_000.0))
