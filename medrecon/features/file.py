"""Features of a scan as one safetensors file: a tensor for each layer, and what is needed to come back.

A layer that leaves channels empty is packed: see `medrecon.features.packed`.
"""

from __future__ import annotations

import json
import math
import os
import struct
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np

from medrecon.errors import ModelError
from medrecon.features.container import CODES, Container
from medrecon.features.metadata import MASK, VALUES, FeatureFacts, LayerFacts, from_metadata, to_metadata
from medrecon.features.packed import Packing, tensor_names, unpack
from medrecon.features.values import along, from_stored

ENDING = ".safetensors"

_MOST_PACKED = 1 << 31  # bytes of padding that are unpacked at most


def create(path: Path, facts: FeatureFacts, tensors: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Lay a feature file out on the disk, its numbers still to be filled in; memory holds none of them.

    The format is safetensors': length of the header, header as JSON, tensors without gaps.

    Args:
        path: a new file.
        facts: what goes into its metadata; says the layers' shapes and the type of their numbers.
        tensors: what else it holds: `MASK` and `VALUES`, and what packed layers need.

    Returns:
        Layer -> its numbers, to be written to.

    Raises:
        OSError: the disk is full.
    """
    shapes = {layer.name: (facts.dtype, layer.stored_shape) for layer in facts.layers}
    shapes |= {name: (part.dtype.name, part.shape) for name, part in tensors.items()}
    # the widest types first: each tensor then begins at a multiple of its type's size
    shapes = dict(sorted(shapes.items(), key=lambda item: -np.dtype(item[1][0]).itemsize))
    header: dict[str, Any] = {"__metadata__": to_metadata(facts)}
    places: dict[str, int] = {}
    end = 0
    for name, (kind, shape) in shapes.items():
        places[name] = end
        end += math.prod(shape) * np.dtype(kind).itemsize
        header[name] = {"dtype": CODES[kind], "shape": list(shape), "data_offsets": [places[name], end]}
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    start = 8 + len(text)
    with path.open("wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        _take_space(file.fileno(), start, end)
    made: dict[str, np.ndarray] = {
        name: np.memmap(path, np.dtype(kind).newbyteorder("<"), "r+", start + places[name], shape)
        if math.prod(shape)
        else np.empty(shape, kind)
        for name, (kind, shape) in shapes.items()
    }
    for name, part in tensors.items():
        made.pop(name)[...] = part
    return made


def _take_space(descriptor: int, start: int, size: int) -> None:
    """Claim the disk space now: a full disk met later, through a mapping, would kill the process."""
    if sys.platform == "linux":
        os.posix_fallocate(descriptor, start, size)
        return
    zeros = bytes(1 << 20)
    os.lseek(descriptor, start, os.SEEK_SET)
    for done in range(0, size, len(zeros)):
        os.write(descriptor, zeros[: size - done])


class FeatureFile:
    """A feature file, checked and open for reading; a context manager.

    Args:
        path: the file.

    Attributes:
        facts: all that it says of itself.

    Raises:
        ModelError: it is missing, broken, of another format, or contradicts itself.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        if not self.path.is_file():
            raise ModelError(
                "there is no such feature file", path=self.path, remedy="make one with medrecon encode"
            )
        try:
            self._file = Container(self.path)
        except (OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
            raise ModelError(
                f"it is not a readable safetensors file with features ({error or type(error).__name__})",
                path=self.path,
                remedy="get it again, or make it with medrecon encode",
            ) from None
        try:
            self.facts = from_metadata(self._file.metadata, self.path)
            self._check()
        except BaseException:
            self.close()
            raise

    def _check(self) -> None:
        there = set(self._file.tensors)
        self._packed: dict[str, Packing] = {}
        wanted = {MASK, VALUES} if self.facts.padding else set()
        for layer in self.facts.layers:
            wanted.add(layer.name)
            self._expect(layer.name, {self.facts.dtype}, layer.stored_shape)
            if layer.kept is not None:
                wanted.update(tensor_names(layer.name))
                self._packed[layer.name] = self._packing(layer)
        if there != wanted:
            raise ModelError(
                "its tensors are not those that its metadata names",
                path=self.path,
                remedy="get the file again",
            )

    def _expect(self, name: str, kinds: set[str], shape: Sequence[int] | None) -> None:
        part = self._file.tensors.get(name)
        if part is None or part.kind.name not in kinds or shape not in (None, part.shape):
            raise ModelError(
                f"its tensor {name} is missing, or not what its metadata says",
                path=self.path,
                remedy="get the file again",
            )

    def _packing(self, layer: LayerFacts) -> Packing:
        which, sets = tensor_names(layer.name)
        self._expect(which, {"uint16", "uint32"}, layer.positions)
        self._expect(sets, {"uint8"}, None)
        numbers, packed = self._read(which), self._read(sets)
        try:
            packing = Packing.from_tensors(numbers, packed, layer.sets, layer.channels)
            if packing.kept != layer.kept:
                raise ValueError(f"{packing.kept} values should be there, {layer.kept} are")
        except ValueError as error:
            raise ModelError(
                f"its layer {layer.name} is broken ({error})", path=self.path, remedy="get the file again"
            ) from None
        return packing

    def read(self, layer: str, *index: slice) -> np.ndarray:
        """Values of a layer, float32, read from the disk as they are asked for.

        Args:
            layer: its name.
            index: a slice for each axis of the layer's shape; all of them where none is given.

        Returns:
            As many axes as the layer's shape has, scale applied.
        """
        facts = self.facts.layer(layer)
        index = index or tuple(slice(0, n) for n in facts.shape)
        if layer in self._packed:
            kind = np.dtype(self.facts.dtype)

            def part(low: int, high: int) -> np.ndarray:
                return self._read(layer, (slice(low, high),)) if low < high else np.empty(0, kind)

            stored = self._packed[layer].read(part, index, facts.channel_axis)
        else:
            stored = self._read(layer, index)
        return from_stored(stored, along(facts.scale, facts.channel_axis, index))

    def _read(self, name: str, index: tuple[slice, ...] | None = None) -> np.ndarray:
        try:
            return self._file.read(name, index)
        except (ValueError, OSError) as error:
            raise ModelError(
                f"cannot be read any more ({error})", path=self.path, remedy="get the file again"
            ) from None

    def padding(self) -> dict[str, Any]:
        """Places and values of what lay below the intensity window, packed; empty where there is nothing.

        Raises:
            ModelError: they are broken, or unpack to something else than they should.
        """
        if not self.facts.padding:
            return {}
        mask, values = self._read(MASK), self._read(VALUES)
        try:
            dtype = np.dtype(str(self.facts.padding["dtype"]))
            shape = tuple(int(n) for n in self.facts.padding["shape"])
            if shape != (1, *self.facts.image_shape):
                raise ValueError("it is of another volume")
            size = shape[1] * ((shape[2] * shape[3] + 7) // 8)
            if size > _MOST_PACKED:
                raise ValueError("it is too large")
            count = int(np.unpackbits(unpack(mask, size)).sum())
            if count * dtype.itemsize > _MOST_PACKED:
                raise ValueError("it is too large")
            unpack(values, count * dtype.itemsize)
        except (ValueError, TypeError, KeyError) as error:
            raise ModelError(
                f"its padding is broken ({error})", path=self.path, remedy="get the file again"
            ) from None
        return {"shape": shape, "dtype": dtype.name, "mask": mask, "values": values}

    def __enter__(self) -> FeatureFile:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the file."""
        self._file.close()
