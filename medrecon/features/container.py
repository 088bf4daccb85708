"""A safetensors file that is read, not mapped, and carries a check sum of all of it.

The library maps the file: one that is cut while it is read then kills the process (SIGBUS). The format is
plain: the length of the header, the header as JSON, the tensors without gaps.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import re
import struct
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np

CODES = {
    "float32": "F32",
    "float16": "F16",
    "int8": "I8",
    "uint8": "U8",
    "uint16": "U16",
    "uint32": "U32",
}
"""Type -> what safetensors calls it."""

SUM = "sha256"
"""Key of the metadata that holds the check sum: SHA-256 of the file with zeros in its place."""

OPEN = "0" * 64
"""What stands there while a file is being written."""

MOST_HEADER = 8 << 20
if sys.platform == "win32":
    _READING = os.O_RDONLY | os.O_BINARY
else:
    _READING = os.O_RDONLY
_SUM = re.compile(rf'"{SUM}":"([0-9a-f]{{64}})"'.encode())
_PIECE = 4 << 20


@dataclass(frozen=True)
class Tensor:
    """Where a tensor lies.

    Attributes:
        kind: type of its numbers.
        shape: of it.
        start: its first byte in the file.
    """

    kind: np.dtype
    shape: tuple[int, ...]
    start: int

    @property
    def size(self) -> int:
        """In bytes."""
        return math.prod(self.shape) * self.kind.itemsize


class Container:
    """A file, checked whole and open for reading.

    Args:
        path: the file.

    Attributes:
        metadata: text for text, as the file has it.
        tensors: name -> where it lies.

    Raises:
        ValueError: it is no such file, is damaged, or has no check sum.
        OSError: the system does not open it.
    """

    def __init__(self, path: Path) -> None:
        self._descriptor = os.open(path, _READING)
        try:
            text, data = _header(self._descriptor)
            if _hashed(self._descriptor, text) != _found(text)[1].decode():
                raise ValueError("it was damaged or changed after it was written: its check sum differs")
            header = dict(json.loads(text))
            self.metadata: dict[str, str] = dict(header.pop("__metadata__"))
            self.tensors = _tensors(header, data, os.fstat(self._descriptor).st_size)
        except BaseException:
            self.close()
            raise

    def read(self, name: str, index: tuple[slice, ...] | None = None) -> np.ndarray:
        """A tensor, or a part of it, read from the disk now.

        Args:
            name: of the tensor.
            index: a slice of step 1 for each axis; all of it where none is given.

        Raises:
            ValueError: the file was cut meanwhile.
        """
        tensor = self.tensors[name]
        if index is None or not tensor.shape:
            return self._bytes(tensor, 0, tensor.size).reshape(tensor.shape)
        bounds = [range(*part.indices(size)) for part, size in zip(index, tensor.shape, strict=True)]
        made = np.empty([len(part) for part in bounds], tensor.kind)
        if not made.size:
            return made
        steps = [tensor.kind.itemsize * math.prod(tensor.shape[axis + 1 :]) for axis in range(made.ndim)]
        outer = max(0, made.ndim - 2)  # the last two axes are read as one run
        first = bounds[outer]
        for place in product(*(range(len(part)) for part in bounds[:outer])):
            begin = sum(bounds[axis][at] * steps[axis] for axis, at in enumerate(place))
            begin += first.start * steps[outer]
            run = self._bytes(tensor, begin, len(first) * steps[outer])
            if made.ndim > 1:
                run = run.reshape(len(first), tensor.shape[-1])[:, bounds[-1].start : bounds[-1].stop]
            made[place] = run
        return made

    def _bytes(self, tensor: Tensor, begin: int, size: int) -> np.ndarray:
        return np.frombuffer(_at(self._descriptor, tensor.start + begin, size), tensor.kind)

    def close(self) -> None:
        """Let go of the file."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
        self._descriptor = -1


def seal(path: Path) -> None:
    """Put the check sum in its place, once the file is complete.

    Raises:
        ValueError: the file has no place for it.
    """
    with path.open("r+b") as file:
        text, _ = _header(file.fileno())
        file.seek(8 + _found(text).start(1))
        file.write(_hashed(file.fileno(), text).encode())
        file.flush()
        os.fsync(file.fileno())


def _header(descriptor: int) -> tuple[bytes, int]:
    """The header's text, and where the tensors begin."""
    (length,) = struct.unpack("<Q", _at(descriptor, 0, 8))
    if length > MOST_HEADER:
        raise ValueError(f"its header takes more than {MOST_HEADER >> 20} MiB")
    return _at(descriptor, 8, length), 8 + length


def _found(text: bytes) -> re.Match[bytes]:
    found = _SUM.search(text)
    if found is None:
        raise ValueError("it has no check sum: medrecon wrote none of it")
    return found


def _hashed(descriptor: int, text: bytes) -> str:
    found = _found(text)
    total = hashlib.sha256(struct.pack("<Q", len(text)))
    total.update(text[: found.start(1)] + OPEN.encode() + text[found.end(1) :])
    position = 8 + len(text)
    while piece := _some(descriptor, position, _PIECE):
        total.update(piece)
        position += len(piece)
    return total.hexdigest()


def _tensors(header: Mapping[str, Any], data: int, size: int) -> dict[str, Tensor]:
    """Where each lies: one behind the other, from the header to the end of the file."""
    kinds = {code: np.dtype(name).newbyteorder("<") for name, code in CODES.items()}
    found, end = {}, data
    for name, said in sorted(header.items(), key=lambda item: tuple(item[1]["data_offsets"])):
        shape = tuple(said["shape"])
        if said["dtype"] not in kinds or not all(type(n) is int and n >= 0 for n in shape):
            raise ValueError(f"its tensor {name[:80]} has no known form")
        tensor = Tensor(kinds[said["dtype"]], shape, end)
        end += tensor.size
        if list(said["data_offsets"]) != [tensor.start - data, end - data]:
            raise ValueError(f"its tensor {name[:80]} lies where it cannot")
        found[name] = tensor
    if end != size:
        raise ValueError("it is longer or shorter than its tensors")
    return found


def _at(descriptor: int, position: int, size: int) -> bytes:
    parts: list[bytes] = []
    while size and (part := _some(descriptor, position, size)):
        parts.append(part)
        position, size = position + len(part), size - len(part)
    if size:
        raise ValueError("it is cut short")
    return parts[0] if len(parts) == 1 else b"".join(parts)


def _some(descriptor: int, position: int, size: int) -> bytes:
    size = min(size, 1 << 30)
    if sys.platform != "win32":
        return os.pread(descriptor, size, position)
    os.lseek(descriptor, position, os.SEEK_SET)
    return os.read(descriptor, size)
