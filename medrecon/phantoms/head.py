"""A random head: scalp, skull, folded cortex, ventricles, nuclei, cerebellum, eyes, sinuses."""

from __future__ import annotations

from itertools import pairwise

import numpy as np

from medrecon.phantoms.canvas import coverage
from medrecon.phantoms.scene import Scene


def _ellipsoid(points: list[np.ndarray], centre: tuple[float, float, float], radii: np.ndarray) -> np.ndarray:
    square = np.zeros_like(points[0])
    for p, c, r in zip(points, centre, radii, strict=True):
        square += np.square((p - np.float32(c)) * np.float32(1 / r))
    return (np.sqrt(square) - 1) * np.float32(min(radii))


def paint_head(scene: Scene) -> tuple[np.ndarray, np.ndarray]:
    """Paint a random head (x left, y back, z up; the origin in the middle of the brain).

    Returns:
        Two (X, Y, Z) float32 implicit functions, negative inside: of the head's outline and of the brain.
    """
    canvas, rng = scene.canvas, scene.rng
    points = list(canvas.at())
    x, y, z = points
    radii = np.array([68.0, 86.0, 66.0]) * rng.uniform(0.9, 1.1) * rng.uniform(0.95, 1.05, 3)
    inner = _ellipsoid(points, (0, 0, 0), radii) + 2 * canvas.noise(30)
    base = -z - np.float32(0.55 * radii[2]) + np.float32(0.25) * -y
    cranium = np.maximum(inner, base)
    diploe = rng.uniform(4, 9)
    scalp = rng.uniform(4, 11)
    face = _ellipsoid(points, (0, -0.32 * radii[1], -0.95 * radii[2]), radii * [0.85, 0.72, 1.1])
    neck = np.maximum(np.sqrt(x**2 + (y - 15) ** 2) - np.float32(58), z + np.float32(0.3 * radii[2]))
    outer = np.minimum(inner - np.float32(diploe), np.minimum(face, neck) + 10)
    outline = outer - np.float32(scalp) + np.float32(1.5) * canvas.noise(20)
    scene.fill(outline, "skin")
    scene.fill(outline + np.float32(rng.uniform(1.5, 3)), "fat")
    deep = coverage(outline + np.float32(0.6 * scalp) + np.float32(1.5) * canvas.noise(12))
    scene.paint(deep, "muscle")
    scene.sheet(canvas.noise(9, band=True), 0.3, "fat", where=deep)
    _face(scene, radii)
    shell = rng.uniform(1.2, 2.4)
    skull = np.maximum(inner - np.float32(diploe), base - np.float32(diploe))
    scene.bone((canvas.whole, skull), shell)
    scene.fill(cranium - np.float32(shell), "cortical")
    scene.fill(cranium, "csf")
    brain = cranium + np.float32(rng.uniform(1.5, 5)) + canvas.noise(12)
    _brain(scene, brain, radii)
    return outline, cranium


def _brain(scene: Scene, brain: np.ndarray, radii: np.ndarray) -> None:
    canvas, rng = scene.canvas, scene.rng
    x, y, z = canvas.at()
    spread = rng.uniform(9, 13)
    folds = canvas.noise(spread, band=True) + np.float32(0.25) * canvas.noise(spread / 2, band=True)
    # the zero set of the folds is where a sulcus runs; about this many mm for a unit of the field
    sulcus = np.abs(folds) * np.float32(0.75 * spread)
    inwards = np.minimum(-brain, np.abs(x) + 2 * np.maximum(18 - z, 0))
    sulcus += np.maximum(inwards - np.float32(rng.uniform(14, 24)), 0) * np.float32(0.6)
    fissure = np.abs(x) + np.maximum(-z - 5, 0) * 0.5
    sulcus = np.minimum(sulcus, fissure)
    width = rng.uniform(0.2, 1.3)
    cortex = rng.uniform(2.3, 3.6)
    tent = np.maximum(np.maximum(z + np.float32(0.2 * radii[2]) - 0.15 * y, 18 - y), brain) + canvas.noise(14)
    grey = np.maximum(brain, np.float32(width) - sulcus)
    scene.fill(grey, "grey")
    white = np.maximum(brain + np.float32(cortex), np.float32(width + cortex) - sulcus)
    scene.fill(white, "white")
    if scene.palette.units == "":
        scene.fill(np.maximum(white + 6, 10 * canvas.noise(40)), "white", share=0.5)
    for side in (-1, 1):
        for centre, size in (
            ((13, -14, 2), (7, 13, 9)),
            ((24, -4, 0), (8, 16, 11)),
            ((10, 12, 2), (8, 13, 9)),
        ):
            spot = (side * centre[0] + rng.normal(0, 1), centre[1], centre[2])
            scene.put(canvas.ellipsoid(spot, np.array(size) * rng.uniform(0.85, 1.15, 3), rough=1), "nuclei")
        horn = rng.uniform(0.6, 1.7)
        body = [(7, -32, 6), (9, -12, 17), (12, 14, 18), (20, 34, 6), (30, 16, -12), (29, -2, -18)]
        for k, (p, q) in enumerate(pairwise(body)):
            r = (5.0, 5.5, 6.0, 4.5, 3.0)[k] * horn
            scene.put(canvas.tube((side * p[0], p[1], p[2]), (side * q[0], q[1], q[2]), r), "csf")
        scene.put(canvas.ellipsoid((side * 20, 32, 6), (4, 7, 5), rough=2, rough_scale=3), "blood", share=0.6)
        scene.branch(
            (side * 8, -5, -30), (side, -0.2, 0.1), 2.0, "blood", limit=30, spread=0.7, smallest=0.4, length=9
        )
    scene.put(canvas.ellipsoid((0, 2, 0), (2.0, 14, 9), rough=0.5), "csf")
    if tent.min() < 0:
        leaf = np.abs(canvas.noise(4, band=True)) * 3.0
        scene.fill(tent, "csf")
        scene.fill(np.maximum(tent + 2.5, np.float32(0.6) - leaf), "grey")
        scene.fill(np.maximum(tent + 6, 2.0 - leaf), "white")
    scene.put(canvas.tube((0, 8, -8), (0, 22, -75), 13, 8), "white")
    scene.put(canvas.tube((0, 4, -22), (0, 8, -34), 16), "white")
    scene.put(canvas.ellipsoid((0, 26, -32), (7, 5, 12), rough=1), "csf")
    scene.sheet(x + canvas.noise(25), 1.2, "skin", where=0.7 * coverage(np.maximum(brain - 3, -z - 10)))
    scene.put(canvas.tube((0, radii[1] * 0.6, radii[2] * 0.78), (0, radii[1] * 0.97, 0), 4), "vein")
    for _ in range(rng.integers(0, 3)):
        spot = rng.normal(0, 0.35, 3) * radii + [0, 0, 15]
        scene.tumour(spot, rng.uniform(3, 16))


def _face(scene: Scene, radii: np.ndarray) -> None:
    canvas = scene.canvas
    low = -0.62 * radii[2]
    front = -0.78 * radii[1]
    scene.bone(canvas.ellipsoid((0, front + 18, low - 22), (48, 38, 30), rough=5, rough_scale=9), 2.0)
    for side in (-1, 1):
        scene.put(
            canvas.ellipsoid((side * 19, front + 16, low - 22), (15, 17, 19), rough=3, rough_scale=9), "air"
        )
        scene.put(
            canvas.ellipsoid((side * 8, front + 14, low - 14), (5, 32, 22), rough=3, rough_scale=6), "air"
        )
        scene.put(canvas.ellipsoid((side * 60, 22, low - 2), (12, 16, 15), rough=6, rough_scale=4), "air")
        scene.put(canvas.ellipsoid((side * 32, front + 10, low + 10), (19, 26, 18), rough=1), "fat")
        eye = np.array([side * 32, front - 2, low + 10])
        scene.put(canvas.ellipsoid(eye, (13, 13, 13)), "skin")
        scene.put(canvas.ellipsoid(eye, (12, 12, 12)), "csf")
        scene.put(canvas.ellipsoid(eye + np.array([0, -8.5, 0]), (5, 2.5, 5)), "lens")
        scene.put(canvas.tube(eye + np.array([0, 12, 0]), (side * 10, front + 42, low + 14), 2), "white")
        for dx, dz in ((9, 0), (-9, 0), (0, 9), (0, -9)):
            scene.put(
                canvas.tube(eye + np.array([dx, 4, dz]), (side * 14, front + 40, low + 12), 2.2), "muscle"
            )
    scene.bone(canvas.ellipsoid((0, front + 30, low - 62), (42, 40, 14), rough=3), 2.5)
    scene.put(canvas.ellipsoid((0, front + 34, low - 45), (30, 30, 14), rough=3), "muscle")
    scene.put(canvas.tube((0, front + 60, low - 30), (0, front + 64, low - 120), 9), "air")
    for k in range(5):
        spot = np.array([0.0, 12.0, low - 30 - 18 * k])
        scene.bone(canvas.ellipsoid(spot, (14, 11, 8), rough=1), 1.2)
        scene.put(canvas.ellipsoid(spot - np.array([0, 0, 9]), (13, 10, 3)), "disc")
    scene.put(canvas.tube((0, 28, low - 10), (0, 28, low - 150), 9), "csf")
    scene.put(canvas.tube((0, 28, low - 10), (0, 28, low - 150), 5.5), "cord")
