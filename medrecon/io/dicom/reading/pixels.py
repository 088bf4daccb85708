"""Read the voxels of a DICOM scan: native pixels straight from the files, compressed ones in a child."""

from __future__ import annotations

from collections.abc import Sequence
from io import FileIO
from pathlib import Path

import numpy as np

from medrecon.io.dicom.reading.codecs import to_stored
from medrecon.io.dicom.reading.frames import Frame
from medrecon.io.dicom.reading.header import DEFLATED, NATIVE
from medrecon.io.dicom.reading.parsing import inflated
from medrecon.io.dicom.reading.sandbox import decode_frames
from medrecon.io.files.stamp import check_unchanged
from medrecon.io.scan import ScanError
from medrecon.io.voxels import integer_kind, rescale


def read_frames(frames: Sequence[Frame]) -> np.ndarray:
    """The frames as one array in stored units, rescale applied.

    Returns:
        (X, Y, Z): int16, uint16, uint8 or int32 where the rescale keeps whole numbers and they fit, else
        float32 (sources of at most 16 bits) or float64.

    Raises:
        ScanError: a file changed, is cut short or does not decode.
    """
    packed = [frame.syntax not in NATIVE for frame in frames]
    if any(packed) and not all(packed):
        return _read_mixed(frames, packed)
    kinds = {(f.allocated, f.stored, f.signed, f.order) for f in frames}
    parts = decode_frames(frames) if all(packed) else None
    scales = {(f.slope, f.intercept) for f in frames}
    if len(kinds) == 1:
        allocated, stored, signed, order = next(iter(kinds))
        volume = _native(frames, allocated, order) if parts is None else parts
        values = to_stored(volume, stored, allocated, signed)
        if len(scales) == 1:
            return rescale(values, *next(iter(scales)), frames[0].path, stored).transpose(2, 1, 0)
        slices = list(values)
    else:
        slices = [
            to_stored(
                _native([frame], frame.allocated, frame.order)[0] if parts is None else parts[k],
                frame.stored,
                frame.allocated,
                frame.signed,
            )
            for k, frame in enumerate(frames)
        ]
    return _rescale_each(slices, frames).transpose(2, 1, 0)


def _read_mixed(frames: Sequence[Frame], packed: Sequence[bool]) -> np.ndarray:
    """Frames of which some are compressed, (X, Y, Z): each kind by itself, then all in their order."""
    slices: dict[int, np.ndarray] = {}
    for kind in (True, False):
        places = [k for k, one in enumerate(packed) if one is kind]
        volume = read_frames([frames[k] for k in places]).transpose(2, 1, 0)
        slices |= dict(zip(places, volume, strict=True))
    return _stacked([slices[k] for k in range(len(frames))], frames).transpose(2, 1, 0)


def _native(frames: Sequence[Frame], allocated: int, order: str) -> np.ndarray:
    """Uncompressed frames, (Z, Y, X), native byte order, unsigned."""
    first = frames[0]
    volume = np.empty((len(frames), first.rows, first.columns), f"u{allocated // 8}")
    packed: dict[Path, list[int]] = {}
    stream: FileIO | None = None
    try:
        for k, frame in enumerate(frames):
            if frame.syntax == DEFLATED:
                packed.setdefault(frame.path, []).append(k)
                continue
            if stream is None or frame.path != frames[k - 1].path:
                if stream is not None:
                    stream.close()
                stream = FileIO(frame.path)
                check_unchanged(frame.path, (frame.size, frame.mtime_ns), stream.fileno())
            target = memoryview(volume[k]).cast("B")
            stream.seek(frame.offset + frame.index * len(target))
            if stream.readinto(target) != len(target):
                raise ScanError("was cut short while it was read", path=frame.path, remedy="read it again")
        for path, places in packed.items():
            frame = frames[places[0]]
            _deflated(path, [(frames[k], volume[k]) for k in places])
    except OSError as error:
        raise ScanError(
            f"cannot be read ({error.strerror})", path=frame.path, remedy="check the file"
        ) from None
    finally:
        if stream is not None:
            stream.close()
    return volume.byteswap(inplace=True) if order == ">" and allocated > 8 else volume


def _deflated(path: Path, frames: list[tuple[Frame, np.ndarray]]) -> None:
    """Fill in the frames of a deflated file, in the order in which they come out of it."""
    first = frames[0][0]
    check_unchanged(path, (first.size, first.mtime_ns))
    with inflated(path) as stream:
        for frame, target in sorted(frames, key=lambda pair: pair[0].index):
            stream.seek(frame.offset + frame.index * target.nbytes)
            raw = stream.read(target.nbytes)
            if len(raw) != target.nbytes:
                raise ScanError("was cut short while it was read", path=path, remedy="read it again")
            target[...] = np.frombuffer(raw, target.dtype).reshape(target.shape)


def _rescale_each(slices: Sequence[np.ndarray], frames: Sequence[Frame]) -> np.ndarray:
    """A rescale of its own for every slice (PET), (Z, Y, X)."""
    parts = [rescale(s, f.slope, f.intercept, f.path, f.stored) for s, f in zip(slices, frames, strict=True)]
    return _stacked(parts, frames)


def _stacked(parts: Sequence[np.ndarray], frames: Sequence[Frame]) -> np.ndarray:
    """Slices as one array, (Z, Y, X), of a type that holds them all."""
    kind = parts[0].dtype
    if any(p.dtype != kind for p in parts):
        if all(p.dtype.kind in "iu" for p in parts):
            kind = integer_kind(min(int(p.min()) for p in parts), max(int(p.max()) for p in parts))
        else:
            kind = np.dtype(np.float32 if max(f.stored for f in frames) <= 16 else np.float64)
    return np.stack([p.astype(kind, copy=False) for p in parts])
