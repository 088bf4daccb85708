"""One call, one random scan."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np

from medrecon.phantoms.acquisition import acquire_ct, acquire_mr, store_mr
from medrecon.phantoms.blobs import paint_blobs
from medrecon.phantoms.canvas import Canvas, coverage
from medrecon.phantoms.head import paint_head
from medrecon.phantoms.scene import Scene
from medrecon.phantoms.tissues import ct_palette, mr_palette
from medrecon.phantoms.torso import paint_torso

Modality = Literal["CT", "MR"]
_Made = tuple[np.ndarray, str, np.ndarray | None, list[str]]

# How the grid lies in the body: axial, coronal, sagittal (columns: anatomical direction of each grid axis).
PLANES = (np.eye(3), np.eye(3)[:, [0, 2, 1]], np.eye(3)[:, [1, 2, 0]])

# glibc hands freed arrays of this size back to the system, and each new one pays for its pages again, unless
# a larger block has once been freed: generation takes half the time with this line.
np.empty(31 * 2**20, np.uint8)


def random_rotation(rng: np.random.Generator, degrees: float) -> np.ndarray:
    """(3, 3) rotation about a random axis by a normal angle of the given standard deviation."""
    axis = rng.normal(0, 1, 3)
    axis /= np.linalg.norm(axis)
    angle = np.deg2rad(rng.normal(0, degrees))
    cross = np.array([[0, -axis[2], axis[1]], [axis[2], 0, -axis[0]], [-axis[1], axis[0], 0]])
    return np.eye(3) + np.sin(angle) * cross + (1 - np.cos(angle)) * cross @ cross


def random_volume(
    shape: Sequence[int], rng: np.random.Generator, modality: Modality | None = None
) -> tuple[np.ndarray, str]:
    """A random scan, or a piece of one: anatomy, contrast, deformation and scanner all by chance.

    Domain randomisation in the spirit of SynthSeg (Billot et al., Medical Image Analysis 2023) and SynthMorph
    (Hoffmann et al., IEEE TMI 2022). The same state of `rng` gives the same volume.

    Args:
        shape: (X, Y, Z) voxels, each at least 4. Z is the slice axis more often than not.
        rng: the only source of randomness.
        modality: "CT", "MR" or None for either.

    Returns:
        The volume, (X, Y, Z) float32, and its units: "HU" for CT, "" (arbitrary) for MR.
    """
    volume, units, _, _ = _random(shape, rng, modality, keep_labels=False)
    return volume, units


def random_contrasts(
    shape: Sequence[int], rng: np.random.Generator, count: int, modality: Modality | None = None
) -> tuple[np.ndarray, str]:
    """Random scans of one random anatomy on one grid, each with contrast, noise and blur of its own.

    Args:
        shape: (X, Y, Z) voxels, each at least 4.
        rng: the only source of randomness.
        count: scans.
        modality: "CT", "MR" or None for either; the same for all.

    Returns:
        The volumes, (count, X, Y, Z) float32, and their units, as `random_volume` gives them.
    """
    body = int(rng.integers(2**63))
    made = [
        _random(shape, np.random.default_rng(body), modality, False, np.random.default_rng([body, number]))
        for number in range(count)
    ]
    return np.stack([volume for volume, *_ in made]), made[0][1]


def labelled_volume(
    shape: Sequence[int], rng: np.random.Generator, modality: Modality | None = None
) -> tuple[np.ndarray, str, np.ndarray, list[str]]:
    """The same volume, and what it shows.

    Returns:
        Volume and units as `random_volume` gives them; (X, Y, Z) uint8, the tissue that most of each voxel
        is; the names of the tissues, to which those numbers point.
    """
    volume, units, labels, tissues = _random(shape, rng, modality, keep_labels=True)
    return volume, units, np.asarray(labels), tissues


def _random(
    shape: Sequence[int],
    rng: np.random.Generator,
    modality: Modality | None,
    keep_labels: bool,
    look: np.random.Generator | None = None,
) -> _Made:
    """A scan; `look` draws its contrast and its acquisition, `rng` all else, and these too by default."""
    if modality is None:
        modality = "CT" if rng.random() < 0.45 else "MR"
    if rng.random() >= 0.15:
        return _acquired(shape, rng, modality, keep_labels, look or rng)
    order = rng.permutation(3)
    turned, units, labels, tissues = _acquired(
        [shape[i] for i in order], rng, modality, keep_labels, look or rng
    )
    back = np.argsort(order)
    if labels is not None:
        labels = np.ascontiguousarray(labels.transpose(back))
    return np.ascontiguousarray(turned.transpose(back)), units, labels, tissues


def _acquired(
    shape: Sequence[int],
    rng: np.random.Generator,
    modality: Modality,
    keep_labels: bool,
    look: np.random.Generator,
) -> _Made:
    ct = modality == "CT"
    fine = float(np.exp(rng.uniform(np.log(0.5), np.log(2.6))))
    thick = float(np.exp(rng.uniform(np.log(1.0), np.log(8.0)))) if rng.random() < 0.55 else 1.0
    spacing = np.array([fine, fine, min(max(fine * thick, fine), 8.0)])
    kind = rng.choice(["torso", "head", "blobs"], p=[0.55, 0.2, 0.25] if ct else [0.3, 0.45, 0.25])
    plane = PLANES[0] if ct and rng.random() < 0.9 else PLANES[rng.integers(3)]
    rotation = random_rotation(rng, 8.0) @ (plane * rng.choice([-1.0, 1.0], 3))
    away = np.array([100.0, 65.0, 200.0] if kind == "torso" else [50.0, 60.0, 45.0]) * rng.uniform(-1, 1, 3)
    if kind == "torso":
        away[2] += 20
    warp = float(rng.uniform(0, 5))
    canvas = Canvas(shape, spacing, rotation, away, rng, warp=warp, warp_scale=float(rng.uniform(35, 90)))
    palette = ct_palette(look) if ct else mr_palette(look)
    scene = Scene(canvas, palette, rng, texture_scale=float(rng.uniform(3, 10)), keep_labels=keep_labels)
    brain = None
    if kind == "torso":
        outline = paint_torso(scene, table=ct and rng.random() < 0.8)
    elif kind == "head":
        outline, brain = paint_head(scene)
    else:
        outline = paint_blobs(scene)
    if ct:
        return acquire_ct(canvas.image, outline, look, spacing), "HU", scene.labels, scene.tissues
    image = acquire_mr(canvas.image, look, spacing)
    if brain is not None and rng.random() < 0.4:
        image *= coverage(brain) > 0.5
    return store_mr(image, look), "", scene.labels, scene.tissues
