"""Bones that repeat: the spine and the ribs, each painted in one go."""

from __future__ import annotations

import numpy as np

from medrecon.phantoms.canvas import coverage, near
from medrecon.phantoms.scene import Scene


def paint_spine(scene: Scene, *, back: float, pitch: float, shell: float) -> None:
    """Paint vertebrae, discs, arches with their processes, and the canal with the cord.

    Args:
        scene: what to paint on.
        back: y of the middle of the vertebral bodies, mm; they stand along z at x = 0.
        pitch: from one vertebra to the next, mm; one has its middle at z = 0.
        shell: thickness of the cortical bone, mm.
    """
    canvas = scene.canvas
    x, y, z = canvas.at()
    around = np.sqrt(np.square(x) + np.square(y - np.float32(back + 22)))
    box = near(around, 62.0)
    if box is None:
        return
    u, v, z = x[box], y[box] - np.float32(back), z[box]
    # w is the height above the middle of the nearest vertebra
    w = z - np.float32(pitch) * np.rint(z * np.float32(1 / pitch))
    high = np.abs(w)
    column = np.sqrt(np.square(u * np.float32(0.88)) + np.square(v * np.float32(1.05)))
    half = np.float32(pitch * 0.39)
    scene.fill(np.maximum(column - 19, half - high), "disc", box)
    scene.bone((box, np.maximum(column - 19 - np.square(w) * np.float32(0.012), high - half)), shell)
    canal = np.sqrt(np.square(u) + np.square(v - 29))
    arch = np.maximum(np.abs(canal - 13) - 4, np.abs(w + 3) - np.float32(pitch * 0.33))
    spinous = np.maximum(np.sqrt(np.square(u) + np.square(w + 0.4 * (v - 38))) - 4, np.abs(v - 48) - 9)
    side = np.maximum(np.sqrt(np.square(v - 36) + np.square(w)) - 4.5, np.abs(np.abs(u) - 26) - 15)
    scene.bone((box, np.minimum(arch, np.minimum(spinous, side))), 0.7 * shell)
    scene.fill(canal - 10, "fat", box)
    scene.fill(canal - 8.5, "csf", box)
    scene.fill(canal - 5, "cord", box)


def paint_ribs(
    scene: Scene, cage: np.ndarray, *, pitch: float, slope: float, half: float, shell: float
) -> None:
    """Paint ribs: bands of a curved cage that fall towards the front.

    Args:
        scene: what to paint on.
        cage: (X, Y, Z) float32, negative inside the thin layer of the body where ribs run, mm.
        pitch: from one rib to the next along z, mm.
        slope: mm of fall for each mm towards the front.
        half: half the height of a rib, mm.
        shell: thickness of the cortical bone, mm.
    """
    canvas = scene.canvas
    box = near(cage, canvas.reach)
    if box is None:
        return
    x, y, z = canvas.at(box)
    level = z - np.float32(slope) * y + np.abs(x) * np.float32(0.1)
    along = np.abs(level - np.rint(level * np.float32(1 / pitch)) * np.float32(pitch))
    rib = np.maximum(cage[box], along - np.float32(half))
    scene.paint(coverage(rib, canvas.width), "cortical", box)
    scene.paint(coverage(rib + np.float32(shell), canvas.width), "marrow", box)
