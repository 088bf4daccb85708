"""Anatomy-free shapes: random label maps, shells and tubes, so that no layout is learnt by heart."""

from __future__ import annotations

import numpy as np

from medrecon.phantoms.canvas import coverage
from medrecon.phantoms.scene import Scene
from medrecon.phantoms.tissues import TISSUES


def paint_blobs(scene: Scene) -> np.ndarray:
    """Paint random blobs with soft edges, as SynthMorph's shapes (Hoffmann et al., IEEE TMI 2022).

    Returns:
        (X, Y, Z) float32, implicit function of the outline (negative inside).
    """
    canvas, rng = scene.canvas, scene.rng
    extent = float((np.array(canvas.shape) * canvas.spacing).mean())
    outline = (canvas.noise(extent / 3) - np.float32(rng.uniform(-0.2, 2.0))) * np.float32(extent / 6)
    names = [str(n) for n in rng.choice(TISSUES, size=int(rng.integers(4, 12)))]
    scene.fill(outline, "skin")
    scene.fill(outline + np.float32(2), "fat")
    inside = coverage(outline + np.float32(rng.uniform(4, 20)))
    for name in names:
        scale = extent / rng.uniform(4, 30)
        f = (canvas.noise(scale) - np.float32(rng.uniform(-0.3, 1.2))) * np.float32(scale)
        alpha = coverage(f) * inside
        scene.paint(alpha, name)
        kind = rng.random()
        if kind < 0.3:
            scene.sheet(f, float(rng.uniform(0.5, 3)), str(rng.choice(TISSUES)), where=inside)
        elif kind < 0.5:
            f = canvas.noise(scale, band=True) * np.float32(scale)
            scene.sheet(f, float(rng.uniform(0.5, 2.5)), str(rng.choice(TISSUES)), where=inside)
    for _ in range(int(rng.integers(0, 5))):
        start = canvas.origin + canvas.directions @ (rng.random(3) * canvas.shape)
        tissue = str(rng.choice(["blood", "vein", "air", "fat", "calcium"]))
        scene.branch(
            start, rng.normal(0, 1, 3), rng.uniform(1, 0.06 * extent + 1), tissue, limit=50, spread=0.8
        )
    if rng.random() < 0.4:
        start = canvas.origin + canvas.directions @ (rng.random(3) * canvas.shape)
        stop = start + rng.normal(0, extent, 3)
        scene.bone(canvas.tube(start, stop, float(rng.uniform(4, 22))), float(rng.uniform(0.8, 5)))
    return outline
