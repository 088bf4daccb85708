"""Changes of a file's bytes, as damage and hostile hands make them."""

from __future__ import annotations

import struct

import numpy as np

ODD = (0, 1, 0x7F, 0x80, 0xFF, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF)
TEXTS = (b"nan", b"inf", b"-1", b"1e308", b"\\", b"\0\0", b"../../x", b"9" * 40, b"")


def mutate(data: bytes, rng: np.random.Generator, header: int) -> bytes:
    """One to four changes, most of them in the first `header` bytes."""
    raw = bytearray(data)
    for _ in range(rng.integers(1, 5)):
        end = min(len(raw), header) if rng.random() < 0.85 else len(raw)
        at = int(rng.integers(0, max(1, end)))
        kind = rng.integers(0, 8)
        if kind == 0 and raw:
            raw[at] ^= 1 << int(rng.integers(0, 8))
        elif kind == 1 and raw:
            raw[at] = int(rng.integers(0, 256))
        elif kind == 2:
            del raw[at:]
        elif kind == 3:
            del raw[at : at + int(rng.integers(1, 40))]
        elif kind == 4:
            raw[at:at] = bytes(rng.integers(0, 256, int(rng.integers(1, 40)), np.uint8))
        elif kind == 5:
            raw[at : at + 4] = struct.pack("<I", ODD[int(rng.integers(0, len(ODD)))])
        elif kind == 6:
            text = TEXTS[int(rng.integers(0, len(TEXTS)))]
            raw[at : at + len(text)] = text
        else:
            other = int(rng.integers(0, max(1, end)))
            raw[at : at + 16] = raw[other : other + 16]
    return bytes(raw)
