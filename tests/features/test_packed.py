"""Layers that leave channels empty: files as small as what they keep, checked before they are believed."""

from __future__ import annotations

import json
import zlib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors import safe_open
from safetensors.numpy import load_file, save_file

from medrecon.errors import ModelError
from medrecon.features import packed
from medrecon.features.container import seal
from medrecon.features.file import FeatureFile
from medrecon.features.metadata import FeatureFacts, LayerFacts, to_metadata
from medrecon.features.packed import Packing
from medrecon.features.store import store
from medrecon.features.values import largest, scales

SHAPES = {3: (11, 5, 4, 3), 2: (5, 11, 4, 3)}


def facts(dims: int = 3, dtype: str = "float32") -> FeatureFacts:
    layer = LayerFacts("deep", SHAPES[dims], (8,) * dims, (8,) * dims, 1 / 64)
    return FeatureFacts(
        model="toy",
        model_version="1.0",
        weights_sha256="ab",
        encoder_fingerprint="cd",
        dtype=dtype,
        layers=(layer,),
        shape=(40, 32, 24) if dims == 3 else (32, 24, 5),
        affine=np.eye(4),
        modality="MR",
        units="",
        source={},
        intensity={"low": 0.0, "high": 1.0, "wide": False},
        image_shape=(40, 32, 24) if dims == 3 else (32, 24, 5),
        image_affine=np.eye(4),
    )


def sparse(dims: int = 3, share: float = 0.1) -> np.ndarray:
    """Some values of any size, zero elsewhere; -0 and the smallest numbers among them."""
    rng = np.random.default_rng(0)
    values = rng.normal(size=SHAPES[dims]) * 10 ** rng.uniform(-3, 3, SHAPES[dims])
    values[rng.random(SHAPES[dims]) > share] = 0
    values = values.astype(np.float32)
    values[tuple(SHAPES[dims][a] - 1 for a in range(4))] = -0.0
    values[(0,) * 4] = 1e-45
    return values


def stored(path: Path, values: np.ndarray, dims: int = 3, dtype: str = "float32") -> FeatureFacts:
    said = facts(dims, dtype)
    (layer,) = said.layers
    scale = scales(largest(values, layer.channel_axis), dtype)
    said = replace(said, layers=(replace(layer, scale=scale),))
    made = store(path, said, {"deep": values}, {"deep"}, {})
    seal(path)
    return made


def parts(dims: int) -> list[tuple[slice, ...]]:
    rng = np.random.default_rng(1)
    ends = [np.sort(rng.integers(0, n + 1, (40, 2)), axis=1) for n in SHAPES[dims]]
    return [tuple(slice(int(a), int(b)) for a, b in row) for row in zip(*ends, strict=True)]


@pytest.mark.parametrize("dims", [2, 3])
@pytest.mark.parametrize("share", [0.0, 0.1, 1.0])
def test_float32_comes_back_to_the_bit_whole_and_in_parts(
    dims: int, share: float, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(packed, "_PIECE", 200)  # some planes at a time
    values = sparse(dims, share)
    (layer,) = stored(tmp_path / "f.safetensors", values, dims).layers
    kept = int((values.view(np.uint32) != 0).sum())
    assert (layer.kept, layer.stored_shape, layer.shape) == (kept, (kept,), SHAPES[dims])
    assert layer.values_per_voxel == (kept + 60) / np.prod(facts(dims).image_shape)
    assert load_file(tmp_path / "f.safetensors")["deep"].size == kept
    with FeatureFile(tmp_path / "f.safetensors") as file:
        assert file.facts.layers[0] == layer
        whole = file.read("deep")
        assert whole.dtype == np.float32
        assert np.array_equal(whole.view(np.uint32), values.view(np.uint32))
        for part in parts(dims):
            assert np.array_equal(file.read("deep", *part), values[part])


@pytest.mark.parametrize("dims", [2, 3])
@pytest.mark.parametrize("dtype", ["float16", "int8"])
def test_rounded_zero_stays_zero_and_what_rounds_to_zero_is_stored(
    dims: int, dtype: str, tmp_path: Path
) -> None:
    values = sparse(dims, 0.3)
    (layer,) = stored(tmp_path / "f.safetensors", values, dims, dtype).layers
    assert layer.kept == int((values.view(np.uint32) != 0).sum())
    with FeatureFile(tmp_path / "f.safetensors") as file:
        made = file.read("deep")
        for part in parts(dims):
            assert np.array_equal(file.read("deep", *part), made[part])
    assert not made[values == 0].any()
    peaks = np.abs(values).max(axis=(1, 2, 3) if dims == 3 else (0, 2, 3), keepdims=True)
    assert (np.abs(made - values) <= peaks * {"float16": 2.0**-11, "int8": 0.501 / 127}[dtype]).all()
    assert ((made == 0) & (values != 0)).any()


@pytest.mark.parametrize("dtype", ["float32", "float16", "int8"])
def test_other_readers_open_it(dtype: str, tmp_path: Path) -> None:
    values = sparse(3, 0.27)
    values[0, 0, 0, 0] = 0
    values[0, 0, 0, :2] = (1, 0) if np.count_nonzero(values.view(np.uint32)) % 2 == 0 else (0, 0)
    (layer,) = stored(tmp_path / "f.safetensors", values, 3, dtype).layers
    with safe_open(tmp_path / "f.safetensors", framework="pt") as file:
        tensors = {name: file.get_tensor(name).numpy() for name in file.keys()}  # noqa: SIM118
    assert set(tensors) == {"deep", "deep:which", "deep:sets"}
    table = np.frombuffer(zlib.decompress(tensors["deep:sets"].tobytes()), np.uint8).reshape(layer.sets, -1)
    assert layer.kept % 2, "so that what follows the values would not lie well"
    text = (tmp_path / "f.safetensors").read_bytes()
    header = json.loads(text[8 : 8 + int.from_bytes(text[:8], "little")])
    for name, tensor in tensors.items():
        assert header[name]["data_offsets"][0] % tensor.itemsize == 0
    there = np.unpackbits(table[tensors["deep:which"]], axis=-1, count=11).astype(bool)
    if dtype == "float32":
        assert np.array_equal(tensors["deep"], np.moveaxis(values, 0, -1)[there])


def test_more_sets_than_two_bytes_can_number(tmp_path: Path) -> None:
    numbers = np.arange(41**3, dtype=np.uint32)
    bits = np.unpackbits(numbers[:, None].view(np.uint8), axis=1)[:, :24].T.reshape(24, 41, 41, 41)
    packing = Packing.of(bits.astype(np.float32), 0)
    assert packing.which.dtype == np.uint32
    assert len(packing.sets) == 41**3
    assert packing.kept == bits.sum()


def broken(path: Path, **changes: Any) -> str:
    """What is said of a file whose tensors or facts about its layer are changed."""
    said = to_metadata(stored(path, sparse()))
    tensors = load_file(path)
    layer = json.loads(said["layers"])[0]
    for name, change in changes.items():
        if name in layer:
            layer[name] = change(layer[name]) if callable(change) else change
        else:
            key = {"values": "deep", "which": "deep:which", "table": "deep:sets"}[name]
            made = change(tensors.pop(key))
            tensors |= {} if made is None else {key: made}
    save_file(tensors, path, {**said, "layers": json.dumps([layer])})
    seal(path)
    with pytest.raises(ModelError) as told:
        FeatureFile(path)
    assert told.value.exit_code == 4
    assert "\n" not in str(told.value)
    return told.value.message


def squeezed(change: Callable[[np.ndarray], np.ndarray]) -> Callable[[np.ndarray], np.ndarray]:
    def changed(packed: np.ndarray) -> np.ndarray:
        raw = np.frombuffer(zlib.decompress(packed.tobytes()), np.uint8)
        return np.frombuffer(zlib.compress(change(raw).tobytes()), np.uint8)

    return changed


BOMB = np.frombuffer(zlib.compress(bytes(1 << 24)), np.uint8)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"which": lambda a: np.where(a == 0, 999, a).astype(a.dtype)}, "a set that is not there"),
        ({"which": lambda a: np.full_like(a, 65535)}, "a set that is not there"),
        ({"which": lambda a: np.zeros_like(a)}, "values should be there"),
        ({"which": lambda a: a.astype(np.int16)}, "deep:which has no known form"),
        ({"which": lambda a: a[:, :, :2].copy()}, "deep:which is missing, or not"),
        ({"which": lambda a: None}, "deep:which is missing"),
        ({"table": lambda a: None}, "deep:sets is missing"),
        ({"table": lambda a: BOMB}, "does not unpack to the size"),
        ({"table": lambda a: a[:-3].copy()}, "is broken"),
        ({"table": lambda a: np.arange(40, dtype=np.uint8)}, "is broken"),
        ({"table": squeezed(lambda a: a[:-2])}, "does not unpack to the size"),
        ({"table": squeezed(lambda a: a | 1)}, "a channel that is not there"),
        ({"table": squeezed(lambda a: a * 0)}, "0 values should be there"),
        ({"values": lambda a: a[:-1].copy()}, "deep is missing, or not"),
        ({"values": lambda a: a[:-1].copy(), "kept": lambda n: n - 1}, "values should be there"),
        ({"kept": None}, "deep is missing, or not"),
        ({"kept": -1}, "no room"),
        ({"kept": 1 << 70}, "no room"),
        ({"kept": 2.5}, "no room"),
        ({"shape": lambda s: [1 << 40, *s[1:]]}, "no room"),
    ],
)
def test_files_that_contradict_themselves(changes: dict[str, Any], said: str, tmp_path: Path) -> None:
    assert said in broken(tmp_path / "f.safetensors", **changes)


@pytest.mark.parametrize("sets", [0, -1, 61, 1 << 60, "7", None])
def test_numbers_of_sets_that_cannot_be(sets: Any, tmp_path: Path) -> None:
    path = tmp_path / "f.safetensors"
    said = to_metadata(stored(path, sparse()))
    layer = json.loads(said["layers"])[0]
    save_file(load_file(path), path, {**said, "layers": json.dumps([layer | {"sets": sets}])})
    seal(path)
    with pytest.raises(ModelError, match=r"no room|is broken"):
        FeatureFile(path)
