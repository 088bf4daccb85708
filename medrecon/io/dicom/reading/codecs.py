"""Decode compressed DICOM frames (PS3.5 section 8.2, annex A.4) with imagecodecs.

Runs as a program in a child process with limits (see `sandbox`), so it imports nothing of the package: a
broken or hostile stream costs the child, not the run.
"""

from __future__ import annotations

import json
import os
import struct
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

RLE = "1.2.840.10008.1.2.5"
JPEG = frozenset(f"1.2.840.10008.1.2.4.{n}" for n in (50, 51))
JPEG_LOSSLESS = frozenset(f"1.2.840.10008.1.2.4.{n}" for n in (57, 70))
JPEG_LS = frozenset(f"1.2.840.10008.1.2.4.{n}" for n in (80, 81))
JPEG_2000 = frozenset(f"1.2.840.10008.1.2.4.{n}" for n in (90, 91))
HTJ2K = frozenset(f"1.2.840.10008.1.2.4.{n}" for n in (201, 202, 203))
LOSSY = JPEG | frozenset(f"1.2.840.10008.1.2.4.{n}" for n in (81, 91, 203))
"""What may be lossy: values overshoot there by what compression has lost."""
SUPPORTED = JPEG | JPEG_LOSSLESS | JPEG_LS | JPEG_2000 | HTJ2K | {RLE}


def fragments(stream: BinaryIO, offset: int, size: int, order: str = "<") -> Iterator[bytes]:
    """The items of an encapsulated pixel value: the basic offset table first, then the fragments.

    Raises:
        ValueError: an item that leaves the file, or no item where one must be.
    """
    position = offset
    while True:
        stream.seek(position)
        head = stream.read(8)
        if len(head) < 8:
            raise ValueError("the compressed data end without their delimiter: cut short")
        group, element, length = struct.unpack(f"{order}HHL", head)
        if (group, element) == (0xFFFE, 0xE0DD):
            return
        if (group, element) != (0xFFFE, 0xE000) or position + 8 + length > size:
            raise ValueError("a fragment of compressed data leaves the file: cut short")
        yield stream.read(length)
        position += 8 + length


def split_frames(items: list[bytes], count: int, end: frozenset[bytes]) -> list[bytes]:
    """Join fragments into frames: by the offset table, else one a frame, else by their end markers.

    Raises:
        ValueError: the fragments do not make `count` frames.
    """
    table, rest = items[0], items[1:]
    if not rest:
        raise ValueError("no fragment of compressed data")
    if count == 1:
        return [b"".join(rest)]
    if len(rest) == count:
        return rest
    starts = np.frombuffer(table[: len(table) // 4 * 4], "<u4").tolist()
    if len(starts) == count:
        places = np.cumsum([0] + [len(item) + 8 for item in rest]).tolist()
        cuts = [places.index(start) for start in starts if start in places] + [len(rest)]
        if len(cuts) == count + 1 and cuts == sorted(cuts):
            return [b"".join(rest[a:b]) for a, b in pairwise(cuts)]
    frames, parts = [], []
    for item in rest:
        parts.append(item)
        if item.rstrip(b"\0")[-2:] in end:
            frames.append(b"".join(parts))
            parts = []
    if parts or len(frames) != count:
        raise ValueError(f"{len(rest)} fragments do not make {count} frames")
    return frames


def decode_frame(data: bytes, syntax: str, rows: int, columns: int, allocated: int) -> np.ndarray:
    """One frame, (rows, columns), integers as the codec gives them.

    Raises:
        ValueError: the stream is broken, or is another image than the header says.
    """
    import imagecodecs

    if syntax == RLE:
        kind = np.dtype(f"<u{allocated // 8}")
        image = np.zeros((rows, columns), kind)
        segments = struct.unpack_from("<L", data)[0] if len(data) >= 64 else 0
        if segments != kind.itemsize:
            raise ValueError(f"RLE frame with {segments} segments instead of {kind.itemsize}")
        image = _rle(data, segments, rows * columns, kind).reshape(rows, columns)
    elif syntax in JPEG:
        image = imagecodecs.jpeg_decode(data, bitspersample=_jpeg_precision(data))
    elif syntax in JPEG_LOSSLESS:
        image = imagecodecs.ljpeg_decode(data)
    elif syntax in JPEG_LS:
        image = imagecodecs.jpegls_decode(data)
    else:
        image = imagecodecs.jpeg2k_decode(data)
    if image.shape != (rows, columns) or image.dtype.kind not in "iu":
        raise ValueError(f"the compressed image is {image.shape} {image.dtype}, not {rows} x {columns}")
    return image


def _rle(data: bytes, segments: int, count: int, kind: np.dtype) -> np.ndarray:
    """RLE segments (PS3.5 annex G), most significant byte first, each exactly one frame long."""
    import imagecodecs

    offsets = [*struct.unpack_from(f"<{segments}L", data, 4), len(data)]
    planes = np.empty((count, segments), np.uint8)
    for k in range(segments):
        if not 64 <= offsets[k] <= offsets[k + 1] <= len(data):
            raise ValueError("RLE segment outside its frame")
        plane = imagecodecs.packbits_decode(data[offsets[k] : offsets[k + 1]])
        if not count <= len(plane) <= count + 2:
            raise ValueError(f"RLE segment holds {len(plane)} of {count} bytes")
        planes[:, segments - 1 - k] = np.frombuffer(plane, np.uint8, count)
    return planes.view(kind).reshape(-1)


def _jpeg_precision(data: bytes) -> int:
    """Bits per sample from the start-of-frame marker (ISO 10918-1 B.2.2)."""
    position = 2
    while position + 9 < len(data):
        marker, length = data[position + 1], int.from_bytes(data[position + 2 : position + 4], "big")
        if 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):
            return data[position + 4]
        position += 2 + length
    raise ValueError("a JPEG stream without a frame header")


def to_stored(image: np.ndarray, stored: int, allocated: int, signed: bool) -> np.ndarray:
    """Stored values of the header's width and sign: other bits are masked off, the sign is extended.

    Works in place where it can. `image` has the header's Bits Allocated or is a codec's result.
    """
    width = np.dtype(f"u{allocated // 8}")
    raw = image.view(width) if image.dtype.itemsize == width.itemsize else image.astype(width)
    spare = allocated - stored
    if not signed:
        return raw if not spare else np.bitwise_and(raw, width.type((1 << stored) - 1), out=raw)
    values = raw.view(f"i{allocated // 8}")
    if spare:
        np.left_shift(values, spare, out=values)
        np.right_shift(values, spare, out=values)
    return values


def fitted(image: np.ndarray, syntax: str, stored: int, signed: bool) -> np.ndarray:
    """Values that the header's Bits Stored can hold; what lossy compression overshoots is clipped.

    Unsigned values of a signed image are two's complements, of the bits stored or of all that the codec has.

    Raises:
        ValueError: values need more bits, so that they are others than the header says.
    """
    if syntax == RLE:
        return image  # bits that are not stored may hold an overlay, as in native pixels
    limit = 1 << stored
    lowest, highest = (-(limit >> 1), (limit >> 1) - 1) if signed else (0, limit - 1)
    if signed and image.dtype.kind == "u":
        spare = (1 << 8 * image.dtype.itemsize) - (limit >> 1)
        lossy, fits = False, (image < limit) | (image >= spare)
    else:
        lossy, fits = syntax in LOSSY, (image >= lowest) & (image <= highest)
    if fits.all():
        return image
    if lossy:
        return np.clip(image, lowest, highest)
    odd = int(image[~fits][0])
    raise ValueError(
        f"the image holds {odd}, which {stored} stored bits cannot (take the lowest: --accept bits)"
    )


def decode_file(task: list[Any]) -> list[bytes]:
    """The wanted frames of one file as raw little-endian unsigned integers.

    Raises:
        Broken: they do not decode.
    """
    path, offset, size, order, count, syntax, rows, columns, allocated, stored, signed, wanted = task
    try:
        with Path(path).open("rb") as stream:
            items = list(fragments(stream, offset, size, order))
        parts = split_frames(items, count, frozenset((b"\xff\xd9",)))
        images = [decode_frame(parts[index], syntax, rows, columns, allocated) for index in wanted]
        images = images if stored is None else [fitted(image, syntax, stored, signed) for image in images]
        return [np.ascontiguousarray(image).astype(f"<u{allocated // 8}").tobytes() for image in images]
    except (ValueError, RuntimeError, IndexError, MemoryError, struct.error, OSError, TypeError) as error:
        raise Broken(path, f"{type(error).__name__}: {error}"[:300]) from None


class Broken(Exception):
    """A file that does not decode: its path and why."""


def main(job: dict[str, Any]) -> None:
    """Decode the frames of a job to stdout, in order, in threads. The answer goes to stderr."""
    answer: dict[str, Any] = {"done": True}
    out = sys.stdout.buffer
    with ThreadPoolExecutor(job["threads"]) as pool:
        try:
            for frames in pool.map(decode_file, job["files"]):
                out.writelines(frames)
            out.flush()
        except Broken as error:
            pool.shutdown(cancel_futures=True)
            answer = {"path": error.args[0], "error": error.args[1]}
        except OSError as error:
            pool.shutdown(cancel_futures=True)
            answer = {"full": error.strerror}
    sys.stderr.write(f"\n{json.dumps(answer)}\n")
    sys.stderr.flush()
    os._exit(0)  # what is left in stdout's buffer could fail once more


if __name__ == "__main__":
    main(json.load(sys.stdin))
