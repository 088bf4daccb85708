"""The files in a scene: volumes as NRRD, colour tables and tables as text."""

from __future__ import annotations

import gzip
import io
import re
from collections.abc import Callable, Sequence
from typing import IO, Any, cast

import numpy as np
from matplotlib.colors import Colormap

from medrecon.io.axes import turned

try:
    from isal import igzip
except ImportError:  # pragma: no cover - only where isal has no wheel
    igzip = None  # type: ignore[assignment]

Slab = Callable[[slice], np.ndarray]
"""Gives the values (X, Y, n) of n slices, those that the slice along Z names."""

COLOURS = 256
_SLICES = 16
_LPS = np.array([-1.0, -1.0, 1.0])


def write_nrrd(
    stream: IO[bytes], slab: Slab, shape: Sequence[int], dtype: np.dtype, affine: np.ndarray
) -> None:
    """Write a volume as NRRD (NRRD0005, gzip), a few slices at a time.

    The same values give the same bytes: neither a name nor a time is in it. NRRD and not NIfTI, because it
    holds the geometry as decimal numbers of full precision, once, and a single slice stays a volume.

    Args:
        stream: open for writing.
        slab: the values.
        shape: (X, Y, Z).
        dtype: int16 or float32: what `slab` gives is converted to it.
        affine: (4, 4), voxel index -> RAS mm.
    """
    little = dtype.newbyteorder("<")
    axes, origin = affine[:3, :3].T * _LPS, affine[:3, 3] * _LPS
    head = [
        "NRRD0005",
        f"type: {'short' if dtype.kind == 'i' else 'float'}",
        "dimension: 3",
        "space: left-posterior-superior",
        f"sizes: {' '.join(map(str, shape))}",
        f"space directions: {' '.join(map(_vector, axes))}",
        "kinds: domain domain domain",
        "endian: little",
        "encoding: gzip",
        f"space origin: {_vector(origin)}",
        'space units: "mm" "mm" "mm"',
    ]
    stream.write(("\n".join(head) + "\n\n").encode("ascii"))
    kind = gzip.GzipFile if igzip is None else igzip.IGzipFile
    with kind(filename="", mode="wb", compresslevel=1, fileobj=stream, mtime=0) as packed:
        for start in range(0, shape[2], _SLICES):
            packed.write(turned(slab(slice(start, start + _SLICES)), little).data.cast("B"))


def nrrd_size(slab: Slab, shape: Sequence[int], dtype: np.dtype, affine: np.ndarray) -> int:
    """The bytes that `write_nrrd` would write."""
    counter = _Counter()
    write_nrrd(cast(IO[bytes], counter), slab, shape, dtype, affine)
    return counter.size


class _Counter(io.RawIOBase):
    """Counts what is written to it."""

    size = 0

    def writable(self) -> bool:
        return True

    def write(self, content: Any) -> int:
        self.size += (length := memoryview(content).nbytes)
        return length


def _vector(values: np.ndarray) -> str:
    return "(" + ",".join(repr(float(v) + 0.0) for v in values) + ")"


def colour_table(colours: Colormap, words: Callable[[float], str]) -> bytes:
    """A colour map as Slicer's `.ctbl`: a number, a name, and red, green, blue and opacity of 0 to 255.

    Args:
        colours: over 0 to 1.
        words: the name of a colour from its place in 0 to 1.
    """
    lines = ["# Color table file medrecon", f"# {COLOURS} values"]
    for index in range(COLOURS):
        place = index / (COLOURS - 1)
        red, green, blue = (round(255 * part) for part in colours(place)[:3])
        name = "_".join(words(place).split()) or str(index)
        lines.append(f"{index} {name} {red} {green} {blue} 255")
    return ("\n".join(lines) + "\n").encode()


def text_table(rows: Sequence[Sequence[str]]) -> bytes:
    """Rows as tab separated values, the first with the names of the columns."""
    return "".join("\t".join(" ".join(cell.split()) for cell in row) + "\n" for row in rows).encode(
        "utf-8", "replace"
    )


def file_name(number: int, words: str, ending: str) -> str:
    """A name for any file system, unique by its number: `03_level2_level4_error.nrrd`."""
    safe = re.sub(r"[^A-Za-z0-9.-]+", "_", words).strip("._")[:60]
    return f"{number:02d}_{safe or 'volume'}{ending}"
