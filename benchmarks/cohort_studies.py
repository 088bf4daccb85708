"""The studies of `cohort.py`: small phantoms as NIfTI, and broken files among them.

    python benchmarks/cohort_studies.py FOLDER COUNT X Y Z SEED

makes the phantoms alone.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from common import PYTHON


def make_studies(folder: Path, count: int, size: tuple[int, int, int], bad: int, seed: int = 0) -> None:
    """Make a folder of studies, a file each: whole ones, and `bad` that are empty, cut off or no scan at all.

    The phantoms are made in a process of their own: this one must stay small, see `benchmarks/README.md`.

    Args:
        folder: must not exist.
        count: of the whole ones.
        size: voxels of each.
        bad: of the broken ones.
        seed: of the phantoms.
    """
    words = [folder, count, *size, seed]
    subprocess.run([*PYTHON, __file__, *map(str, words)], check=True)
    whole = min(folder.iterdir()).read_bytes()
    without_geometry = whole[:40] + bytes(60) + whole[100:]
    broken = (b"", whole[: len(whole) // 2], b"no scan", without_geometry)
    for number in range(bad):
        (folder / f"bad{number}.nii").write_bytes(broken[number % len(broken)])


def make_phantoms(folder: Path, count: int, size: tuple[int, int, int], seed: int) -> None:
    """MR phantoms of 1 x 1 x 2 mm voxels, of `size` voxels each: s0000.nii and on."""
    import nibabel
    import numpy as np

    from medrecon.phantoms import random_volume

    folder.mkdir(parents=True)
    affine = np.diag([1.0, 1.0, 2.0, 1.0])
    for number in range(count):
        volume, _ = random_volume(size, np.random.default_rng([seed, number]), "MR")
        image = nibabel.Nifti1Image(np.asarray(volume).round().astype(np.int16), affine)
        nibabel.save(image, folder / f"s{number:04d}.nii")


def main(argv: Sequence[str] | None = None) -> None:
    """Make the phantoms that the command names."""
    folder, *numbers = sys.argv[1:] if argv is None else argv
    count, x, y, z, seed = map(int, numbers)
    make_phantoms(Path(folder), count, (x, y, z), seed)


if __name__ == "__main__":
    main()
