"""One patient, scanned again: the same anatomy under another scanner, another day, another sequence."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy import ndimage

from medrecon.phantoms.acquisition import acquire_mr, store_mr
from medrecon.phantoms.canvas import Canvas
from medrecon.phantoms.generator import random_rotation
from medrecon.phantoms.head import paint_head
from medrecon.phantoms.scene import Scene
from medrecon.phantoms.tissues import Palette, mr_palette

_CENTRE = (0.0, 0.0, -12.0)  # of the field of view, mm from the middle of the brain


def patient_scan(
    shape: Sequence[int],
    spacing: float,
    patient: int,
    visit: int,
    *,
    sequence: int | None = None,
    turned: float = 3.0,
    moved: float = 4.0,
) -> np.ndarray:
    """An MR of the head: anatomy by the patient; position, coil, blur, noise and storage by the visit.

    Args:
        shape: (X, Y, Z) voxels.
        spacing: mm along each axis.
        patient: seed of the anatomy.
        visit: seed of the acquisition, for this patient.
        sequence: seed of the contrast; visits share it where it is the same. None: another for each visit.
        turned: standard deviation of the head's turn between visits, degrees.
        moved: of its place along each axis, mm.

    Returns:
        (X, Y, Z) float32, arbitrary units; axes to the left, the back and the head.
    """
    rng = np.random.default_rng([patient, 1, visit])
    palette = mr_palette(np.random.default_rng([patient, 2, visit] if sequence is None else [sequence]))
    image, _ = painted(shape, spacing, patient, palette)
    rotation = random_rotation(rng, turned)
    centre = (np.array(image.shape) - 1) / 2
    offset = centre - rotation @ centre + rng.normal(0, moved, 3) / spacing
    image = ndimage.affine_transform(image, rotation, offset, order=1, cval=float(palette["air"][0]))
    steps = np.full(3, float(spacing))
    return store_mr(acquire_mr(np.ascontiguousarray(image), rng, steps), rng).astype(np.float32)


def painted(
    shape: Sequence[int], spacing: float, patient: int, palette: Palette
) -> tuple[np.ndarray, np.ndarray]:
    """A patient's head before the scanner: the tissues' values, and which tissue each voxel is most of.

    Returns:
        (X, Y, Z) float32; (X, Y, Z) uint8, the same for any palette.
    """
    rng = np.random.default_rng([patient, 0])
    canvas = Canvas(shape, np.full(3, float(spacing)), np.eye(3), _CENTRE, rng, warp=float(rng.uniform(0, 4)))
    scene = Scene(canvas, palette, rng, texture_scale=float(rng.uniform(3, 10)), keep_labels=True)
    paint_head(scene)
    return canvas.image, np.asarray(scene.labels)
