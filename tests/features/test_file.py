"""The feature file: safetensors that any reader opens, checked before anything in it is believed."""

from __future__ import annotations

import json
import os
import struct
import time
import zlib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors import safe_open
from safetensors.numpy import load_file, save_file

from medrecon.errors import ModelError, OutputError, UsageError
from medrecon.features.container import MOST_HEADER, seal
from medrecon.features.destinations import plan_features, readable
from medrecon.features.file import FeatureFile, create
from medrecon.features.metadata import MASK, VALUES, FeatureFacts, LayerFacts, to_metadata
from medrecon.features.source import source_facts, stand_in
from medrecon.features.values import along, from_stored, largest, pieces, scales, to_stored
from medrecon.io import find_one, find_scans
from medrecon.io.value_form import ValueForm

Make = Callable[..., np.ndarray]
SHAPE = (5, 3, 2, 4)


def facts(dtype: str = "float32", **changes: Any) -> FeatureFacts:
    layer = LayerFacts("deep", SHAPE, (4, 4, 2), (9, 9, 5), 5 / 32, scale=changes.pop("scale", None))
    affine = np.array([[0, 1 / 3, 0, -7], [0.2, 0, 0, 1e-17], [0, 0, -np.pi, 2], [0, 0, 0, 1]])
    made = FeatureFacts(
        model="toy",
        model_version="1.0",
        weights_sha256="ab",
        encoder_fingerprint="cd",
        dtype=dtype,
        layers=(layer,),
        shape=(11, 8, 8),
        affine=affine,
        modality="CT",
        units="HU",
        source={"key": "12345678", "format": "nifti", "volume": None, "stored": {"dtype": "int16"}},
        intensity={"low": -1024.0, "high": 3071.0, "wide": False},
        image_shape=(11, 8, 8),
        image_affine=affine,
    )
    return replace(made, **changes)


def padding(mask: np.ndarray, values: np.ndarray) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """The facts and tensors of voxels (X, Y, Z) below the window."""
    rows = np.packbits(mask.reshape(len(mask), -1), axis=1).tobytes()
    packed = {MASK: zlib.compress(rows), VALUES: zlib.compress(values.tobytes())}
    said = {"shape": [1, *mask.shape], "dtype": values.dtype.name}
    return said, {name: np.frombuffer(part, np.uint8) for name, part in packed.items()}


def written(path: Path, said: FeatureFacts, tensors: dict[str, np.ndarray] | None = None) -> np.ndarray:
    """A feature file with random numbers; returns them as stored."""
    stored = create(path, said, tensors or {})["deep"]
    numbers = np.random.default_rng(0).normal(0, 40, SHAPE).astype(said.dtype)
    stored[...] = numbers
    stored.flush()
    seal(path)
    return numbers


def save(tensors: dict[str, np.ndarray], path: Path, metadata: dict[str, str] | None = None) -> None:
    """By the library, with a check sum that is right."""
    save_file(tensors, path, metadata)
    if metadata:
        seal(path)


def test_any_reader_of_safetensors_opens_it(tmp_path: Path) -> None:
    mask = np.zeros((11, 8, 8), bool)
    mask[2, 3, 4] = True
    said, tensors = padding(mask, np.array([-2000], np.int16))
    numbers = written(tmp_path / "f.safetensors", facts(padding=said), tensors)
    assert np.array_equal(load_file(tmp_path / "f.safetensors")["deep"], numbers)
    with safe_open(tmp_path / "f.safetensors", framework="pt") as file:
        assert json.loads(file.metadata()["layers"])[0]["channels_last"] is False
        assert np.array_equal(file.get_tensor("deep").numpy(), numbers)


def test_what_was_written_is_read_to_the_last_bit(tmp_path: Path) -> None:
    wanted = facts()
    numbers = written(tmp_path / "f.safetensors", wanted)
    with FeatureFile(tmp_path / "f.safetensors") as file:
        assert np.array_equal(file.facts.affine, wanted.affine)
        assert replace(file.facts, affine=0, image_affine=0) == replace(wanted, affine=0, image_affine=0)
        assert np.array_equal(file.read("deep"), numbers)
        part = file.read("deep", slice(1, 3), slice(0, 3), slice(1, 2), slice(2, 4))
        assert np.array_equal(part, numbers[1:3, :, 1:2, 2:4])
        assert file.padding() == {}


@pytest.mark.parametrize("dtype", ["float16", "int8"])
def test_scales_are_applied_to_whole_and_part(dtype: str, tmp_path: Path) -> None:
    scale = (0.5, 1.0, 2.0, 3.0, 4.0)
    numbers = written(tmp_path / "f.safetensors", facts(dtype, scale=scale))
    with FeatureFile(tmp_path / "f.safetensors") as file:
        whole = file.read("deep")
        assert np.array_equal(whole, numbers.astype(np.float32) * np.reshape(scale, (5, 1, 1, 1)))
        part = file.read("deep", slice(3, 5), slice(0, 3), slice(0, 2), slice(0, 1))
        assert np.array_equal(part, whole[3:5, :, :, :1])


def test_padding_is_unpacked_only_to_the_size_it_must_have(tmp_path: Path) -> None:
    mask = np.zeros((11, 8, 8), bool)
    mask[:2] = True
    said, good = padding(mask, np.full(128, -2000, np.int16))
    written(tmp_path / "a.safetensors", facts(padding=said), good)
    with FeatureFile(tmp_path / "a.safetensors") as file:
        assert file.padding()["shape"] == (1, 11, 8, 8)
    bomb = np.frombuffer(zlib.compress(bytes(1 << 24)), np.uint8)
    short = padding(mask, np.full(127, -2000, np.int16))[1]
    for name, bad in {
        "bomb": {**good, VALUES: bomb},
        "mask bomb": {**good, MASK: bomb},
        "short": short,
        "noise": {**good, MASK: np.arange(40, dtype=np.uint8)},
    }.items():
        written(tmp_path / f"{name}.safetensors", facts(padding=said), bad)
        with (
            FeatureFile(tmp_path / f"{name}.safetensors") as file,
            pytest.raises(ModelError, match="padding"),
        ):
            file.padding()


def refused(path: Path) -> str:
    with pytest.raises(ModelError) as told:
        FeatureFile(path)
    assert told.value.exit_code == 4
    assert str(told.value).startswith(str(path))
    return told.value.message


def test_files_that_are_no_feature_files(tmp_path: Path) -> None:
    path = tmp_path / "f.safetensors"
    assert "no such feature file" in refused(path)
    written(path, facts())
    whole = path.read_bytes()
    for length in (0, 5, 100, len(whole) // 2, len(whole) - 1):
        path.write_bytes(whole[:length])
        assert "not a readable safetensors file" in refused(path)
    path.write_bytes(struct.pack("<Q", 1 << 60) + whole[8:])
    assert "not a readable safetensors file" in refused(path)
    save({"deep": np.zeros(SHAPE, np.float32)}, path)
    assert "it has no check sum" in refused(path)
    metadata = to_metadata(facts()) | {"schema": "medrecon.features/99"}
    save({"deep": np.zeros(SHAPE, np.float32)}, path, metadata)
    assert "another format (medrecon.features/99)" in refused(path)


@pytest.mark.parametrize("place", [0.02, 0.3, 0.6, 0.9, 0.999])
def test_one_flipped_bit_is_seen(place: float, tmp_path: Path) -> None:
    path = tmp_path / "f.safetensors"
    written(path, facts())
    whole = bytearray(path.read_bytes())
    whole[int(place * len(whole))] ^= 4
    path.write_bytes(whole)
    refused(path)


def test_a_file_that_is_cut_while_it_is_read_costs_no_process(tmp_path: Path) -> None:
    path = tmp_path / "f.safetensors"
    written(path, facts())
    with FeatureFile(path) as file:
        os.truncate(path, path.stat().st_size - 8)
        with pytest.raises(ModelError, match="cannot be read any more"):
            file.read("deep")


def test_a_header_of_many_keys_is_refused_at_once(tmp_path: Path) -> None:
    path = tmp_path / "f.safetensors"
    keys = ",".join(f'"tensor{n}":0' for n in range(MOST_HEADER // 14))
    text = f"{{{keys}}}".encode()
    assert len(text) > MOST_HEADER
    path.write_bytes(struct.pack("<Q", len(text)) + text)
    begin = time.process_time()
    assert f"more than {MOST_HEADER >> 20} MiB" in refused(path)
    assert time.process_time() - begin < 2


@pytest.mark.parametrize(
    ("tensors", "said"),
    [
        ({}, "tensor deep is missing"),
        ({"deep": np.zeros((5, 3, 2, 5), np.float32)}, "tensor deep is missing, or not"),
        ({"deep": np.zeros(SHAPE, np.float16)}, "tensor deep is missing, or not"),
        ({"deep": np.zeros(SHAPE, np.float32), "more": np.zeros(1, np.uint8)}, "not those that its metadata"),
    ],
)
def test_tensors_that_are_not_what_the_metadata_says(
    tensors: dict[str, np.ndarray], said: str, tmp_path: Path
) -> None:
    save(tensors, tmp_path / "f.safetensors", to_metadata(facts()))
    assert said in refused(tmp_path / "f.safetensors")


def layer(**changes: Any) -> str:
    said: list[dict[str, Any]] = json.loads(to_metadata(facts())["layers"])
    return json.dumps([said[0] | changes])


@pytest.mark.parametrize(
    ("key", "value", "said"),
    [
        ("affine", "[[1,0,0,0],[0,1,0,0],[0,0,NaN,0],[0,0,0,1]]", "absurd"),
        ("affine", "[[1,0,0,0],[0,0,0,0],[0,0,1,0],[0,0,0,1]]", "singular"),
        ("affine", "[[1,0,0,0],[0,1e-7,0,0],[0,1,1e-7,0],[0,0,0,1]]", "singular"),
        ("affine", "[[1,1,0,0],[0,1,0,0],[0,0,1,0],[0,0,0,1]]", "sheared"),
        ("affine", "[[1,0,0,0],[0,1,0,0],[0,0,1,1e30],[0,0,0,1]]", "absurd"),
        ("affine", "[[1e9,0,0,0],[0,1e9,0,0],[0,0,1e9,0],[0,0,0,1]]", "absurd"),
        ("affine", "[[1,0,0],[0,1,0],[0,0,1]]", "no grid"),
        ("image_affine", "[[1,0.5,0,0],[0,1,0,0],[0,0,1,0],[0,0,0,1]]", "sheared"),
        ("shape", "[0, 8, 8]", "no volume"),
        ("shape", "[11, 8]", "ValueError"),
        ("image_shape", "[1099511627776, 8, 8]", "no volume"),
        ("image_shape", "[900, 8, 8]", "does not cover"),
        ("intensity", '{"low": 5, "high": 5}', "no intensity range"),
        ("intensity", "{}", "KeyError"),
        ("dtype", "float8", "no layers of a known type"),
        ("layers", "[]", "no layers of a known type"),
        ("layers", layer(scale=[1.0]), "scales that do not fit"),
        ("layers", layer(scale=[0.0, 1, 1, 1, 1]), "scales that do not fit"),
        ("layers", layer(scale=["x", 1, 1, 1, 1]), "TypeError"),
        ("layers", layer(stride=[4, 4]), "slices, the scan"),
        ("layers", layer(stride=[2, 4, 2]), "does not cover"),
        ("layers", layer(stride=[1000000, 4, 2]), "does not cover"),
        ("layers", layer(computed_in="float64"), "computed in"),
        ("layers", layer(evil=1), "TypeError"),
        ("layers", "[" * 100000, "Error"),
        ("geometry", "7", "TypeError"),
    ],
)
def test_metadata_that_contradicts_itself(key: str, value: str, said: str, tmp_path: Path) -> None:
    metadata = to_metadata(facts()) | {key: value}
    save({"deep": np.zeros(SHAPE, np.float32)}, tmp_path / "f.safetensors", metadata)
    message = refused(tmp_path / "f.safetensors")
    assert "its metadata is broken" in message
    assert said in message


def test_numbers_come_back_as_near_as_their_type_allows() -> None:
    rng = np.random.default_rng(1)
    size = np.array([1.0, 1e6, 1e-9, 0.0, 300.0])  # float16 ends at 65504 and begins at 6e-8
    values = (rng.normal(0, 1, (5, 40, 3, 2)) * size.reshape(5, 1, 1, 1)).astype(np.float32)
    peaks = largest(values, 0)
    assert np.array_equal(peaks, np.abs(values).max(axis=(1, 2, 3)))
    for dtype, step in (("float16", 2**-11), ("int8", 0.5 / 127)):
        scale = along(scales(peaks, dtype), 0)
        stored = to_stored(values, scale, dtype)
        assert stored.dtype == dtype
        assert np.isfinite(stored).all()
        wrong = np.abs(from_stored(stored, scale) - values)
        assert (wrong <= 1.01 * step * peaks.reshape(5, 1, 1, 1)).all()
        assert (wrong[3] == 0).all()
    assert scales(peaks[[0, 4]], "float16") is None
    assert scales(peaks, "float32") is None


@pytest.mark.parametrize("most", [1, 7, 24, 50, 10**6])
def test_pieces_cover_everything_once(most: int) -> None:
    seen = np.zeros(SHAPE, int)
    values = np.random.default_rng(2).normal(size=SHAPE)
    for piece in pieces(SHAPE, most):
        seen[piece] += 1
    assert (seen == 1).all()
    for axis in (0, 1):
        assert np.array_equal(
            largest(values, axis), np.abs(values).max(axis=tuple(a for a in range(4) if a != axis))
        )


def test_names_of_files(tmp_path: Path, make_ct: Make, make_nifti: Make) -> None:
    make_ct(tmp_path / "in" / "ct", description="Chest Doe")
    make_nifti(tmp_path / "in" / "t1.nii.gz")
    scans = find_scans(tmp_path / "in").scans
    one = scans[:1]
    assert plan_features(one, tmp_path / "f.safetensors") == {one[0].key: tmp_path / "f.safetensors"}
    (single,) = plan_features(one, tmp_path / "out").values()
    assert single.parent == tmp_path / "out"
    both = plan_features(scans, tmp_path / "out")
    assert len(set(both.values())) == 2
    assert not any("Doe" in path.name for path in both.values())
    with pytest.raises(UsageError, match="cannot hold 2 scans"):
        plan_features(scans, tmp_path / "f.safetensors")
    (tmp_path / "f.safetensors").touch()
    with pytest.raises(OutputError, match="exists already"):
        plan_features(one, tmp_path / "f.safetensors")
    with pytest.raises(OutputError, match="lies in, the input"):
        plan_features(scans, tmp_path / "in" / "ct" / "f")
    assert [readable(n) for n in (12, 3.5e6, 2e13)] == ["12 bytes", "3.5 MB", "20.0 TB"]


def test_nothing_in_it_names_a_patient(tmp_path: Path, make_ct: Make) -> None:
    make_ct(tmp_path / "Doe_Jane", description="Chest of Jane Doe")
    scan = find_one(tmp_path / "Doe_Jane")
    said = to_metadata(facts(source=source_facts(scan), shape=scan.shape))
    text = json.dumps(said)
    for word in ("Doe", "Jane", "ID-4711", "1950", str(tmp_path), scan.series_uid, "Chest"):
        assert word not in text
    assert scan.key in text


def test_a_stand_in_stores_values_as_the_source_does(tmp_path: Path, make_nifti: Make) -> None:
    make_nifti(tmp_path / "t1.nii.gz")
    source = source_facts(find_one(tmp_path / "t1.nii.gz"))
    written(tmp_path / "f.safetensors", facts(source=source))
    with FeatureFile(tmp_path / "f.safetensors") as file:
        scan = stand_in(file)
    assert (scan.shape, scan.units, scan.format) == ((11, 8, 8), "HU", "nifti")
    assert scan.stored == ValueForm(np.dtype(np.int16))
    broken = source | {"stored": {"dtype": "complex64"}}
    written(tmp_path / "g.safetensors", facts(source=broken))
    with (
        FeatureFile(tmp_path / "g.safetensors") as file,
        pytest.raises(ModelError, match="metadata is broken"),
    ):
        stand_in(file)
