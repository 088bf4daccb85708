"""Edits of a written series: one slice, every slice, the file of a slice."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pydicom

TURNED = [0.0, 1, 0, 0, 0, -1]


def file(folder: Path, index: int) -> Path:
    """The file of a slice, by its place in the stack (names are in another order)."""
    return folder / f"{(index * 37) % 101:03d}.dcm"


def edit(path: Path, **values: object) -> None:
    """Change attributes of one file; None removes one."""
    ds = pydicom.dcmread(path)
    for name, value in values.items():
        if value is None:
            delattr(ds, name)
        else:
            setattr(ds, name, value)
    ds.save_as(path)


def one(**values: object) -> Callable[[Path], None]:
    """Change one slice in the middle."""
    return lambda folder: edit(file(folder, 3), **values)


def every(**values: object) -> Callable[[Path], None]:
    """Change all slices."""
    return lambda folder: [edit(path, **values) for path in sorted(folder.iterdir())] and None
