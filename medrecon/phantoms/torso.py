"""A random trunk: body wall, chest, belly, spine, ribs, pelvis."""

from __future__ import annotations

from itertools import pairwise

import numpy as np

from medrecon.phantoms.canvas import coverage
from medrecon.phantoms.scene import Scene
from medrecon.phantoms.skeleton import paint_ribs, paint_spine


def paint_torso(scene: Scene, *, table: bool = False) -> np.ndarray:
    """Paint a random trunk (x left, y back, z up; z = 0 at the diaphragm, about -250 to 300 mm).

    Returns:
        (X, Y, Z) float32, implicit function of the body's outline (negative inside).
    """
    canvas, rng = scene.canvas, scene.rng
    x, y, z = canvas.at()
    a = rng.uniform(125, 190)
    b = a * rng.uniform(0.58, 0.75)
    bulge = np.float32(rng.uniform(0.0, 0.8))
    waist = 1 + np.float32(rng.uniform(0.02, 0.12)) * np.cos(z * np.float32(1 / rng.uniform(60, 110)))
    u, v = np.square(x / np.float32(a)), np.square(y / np.float32(b))
    total = u + v + np.float32(1e-6)
    r = np.sqrt(total - bulge * u * v / total)
    outline = (r / waist - 1) * np.float32(b) + 3 * canvas.noise(45)
    fat = float(rng.uniform(4, 30))
    wall = float(rng.uniform(9, 18))
    layer = canvas.noise(40)
    scene.fill(outline, "skin")
    scene.fill(outline + np.float32(rng.uniform(1.5, 3)), "fat")
    scene.sheet(canvas.noise(9, band=True), 0.12, "skin", where=0.3 * coverage(outline + 3))
    muscle = outline + np.float32(fat) * (1 + 0.25 * layer)
    inside = coverage(muscle)
    scene.paint(inside, "muscle")
    scene.sheet(canvas.noise(11, band=True), 0.22, "fat", where=inside * 0.9)
    cavity = muscle + np.float32(wall)
    front = cavity + np.maximum(y - np.float32(0.35 * b), 0) * np.float32(1.1)
    scene.fill(front, "fat")
    dome = (
        z
        - np.float32(30)
        + ((x / np.float32(0.55 * a)) ** 2 + (y / np.float32(0.8 * b)) ** 2) * 30
        + 4 * layer
    )
    _belly(scene, a - fat - wall, b - fat - wall, front, dome)
    _chest(scene, a - fat - wall, b - fat - wall, front, dome)
    _skeleton(scene, a - fat - wall, b - fat - wall, cavity)
    if table:
        curve = y - np.float32(b + rng.uniform(4, 14)) + np.square(x / np.float32(rng.uniform(180, 400))) * 40
        for offset, share in ((0.0, 1.0), (rng.uniform(20, 45), 0.8)):
            scene.sheet(curve - np.float32(offset), rng.uniform(1.5, 4), "table", where=share)
    return outline


def _belly(scene: Scene, a: float, b: float, front: np.ndarray, dome: np.ndarray) -> None:
    canvas, rng = scene.canvas, scene.rng
    room = np.maximum(front + 2, dome)
    if room.min() < 0:
        bowel = canvas.noise(22)
        pick = canvas.noise(30)
        loops = np.maximum(np.abs(bowel) * 18 - 11, room + 4)
        scene.fill(loops, "bowel")
        scene.fill(np.maximum(loops + np.float32(rng.uniform(2, 4)), 8 * (pick - 0.2)), "stool")
        scene.fill(np.maximum(loops + np.float32(3), 10 * (pick + 0.9)), "air")
    for name, centre, radii, rough in (
        ("liver", (-0.42 * a, -0.1 * b, -28), (0.52 * a, 0.72 * b, 75), 4.0),
        ("spleen", (0.66 * a, 0.38 * b, -25), (0.2 * a, 0.34 * b, 48), 2.5),
        ("bowel", (0.34 * a, -0.28 * b, -20), (0.3 * a, 0.36 * b, 45), 3.0),
    ):
        spot = np.array(centre) + rng.normal(0, 7, 3)
        shape = canvas.ellipsoid(
            spot, np.array(radii) * rng.uniform(0.85, 1.15, 3), rough=rough, rough_scale=25
        )
        if shape is None:
            continue
        box, f = shape
        f = np.maximum(f, np.maximum(front[box] + 1, dome[box] + 2))
        scene.fill(f, name, box)
        if name == "bowel":
            level = spot[1] - rng.uniform(-20, 25)
            scene.fill(f + 4, "fluid" if rng.random() < 0.6 else "stool", box)
            scene.fill(np.maximum(f + 4, canvas.points[1][box] - np.float32(level)), "air", box)
    for side in (-1, 1):
        middle = np.array([side * 0.44 * a, 0.45 * b, -70 + side * 8]) + rng.normal(0, 5, 3)
        size = np.array([25, 23, 52]) * rng.uniform(0.85, 1.15)
        scene.put(canvas.ellipsoid(middle, size, rough=1.5), "kidney")
        for k in range(-3, 4):
            spot = middle + np.array([side * 6, -2, 11 * k]) + rng.normal(0, 2.5, 3)
            scene.put(canvas.ellipsoid(spot, (8, 9, 5), rough=0.8, rough_scale=6), "medulla")
        hilum = middle + np.array([-side * 12, -6, 0])
        scene.put(canvas.ellipsoid(hilum, (13, 9, 24), rough=2), "fat")
        scene.branch(hilum, (side, 0.1, 0), 3.5, "vein", limit=12, spread=0.9, smallest=1.2)
        scene.put(canvas.tube((side * 12, 0.3 * b, -65), hilum, 4), "vein")
    scene.branch((-0.1 * a, 0.05 * b, -45), (-1, -0.2, 0.4), 6.5, "vein", limit=70, smallest=1.1, spread=0.6)
    scene.branch((0.0, 0.0, -70), (0, -0.5, -1), 4.5, "blood", limit=70, smallest=0.9, spread=0.8)
    for _ in range(rng.integers(0, 4)):
        scene.tumour(
            (rng.uniform(-0.7, 0.2) * a, rng.uniform(-0.5, 0.4) * b, rng.uniform(-80, 0)), rng.uniform(3, 20)
        )


def _chest(scene: Scene, a: float, b: float, front: np.ndarray, dome: np.ndarray) -> None:
    canvas, rng = scene.canvas, scene.rng
    x, y, z = canvas.at()
    centre = rng.uniform(28, 42)
    for side in (-1, 1):
        medial = np.float32(centre) - side * x + 4 * canvas.noise(22)
        medial = medial + np.maximum(np.abs(z - 20) - 70, 0) * np.float32(-0.15)
        lung = np.maximum(np.maximum(front + 4, medial), -dome + 4)
        lung = np.maximum(lung, z - np.float32(250) + np.square(x / 12))
        alpha = coverage(lung)
        if alpha.max() <= 0:
            continue
        gravity = y * np.float32(rng.uniform(0.1, 0.8) * abs(scene.palette["lung"][1]) / 60)
        scene.paint(alpha, "lung", value=scene.value("lung") + gravity)
        hilum = np.array([side * (centre + 2), 6.0, 75.0])
        kept = canvas.image.copy()
        heads = [
            (1, 0.2, 0.9),
            (1, 0.6, -0.6),
            (1, -0.7, 0.1),
            (0.9, 0.1, -1),
            (1, 0.8, 0.3),
            (1, -0.4, -0.6),
        ]
        for k, direction in enumerate(heads):
            start = hilum + rng.normal(0, 8, 3)
            heading = np.array(direction) * [side, 1, 1]
            width = rng.uniform(3, 7)
            tissue = "vein" if k % 2 else "blood"
            scene.branch(start, heading, width, tissue, limit=150, smallest=0.5, spread=0.65, length=8.5)
        scene.branch(hilum, (side, 0.3, -0.2), 4.5, "air", limit=24, smallest=1.2, wall="skin")
        canvas.image -= kept
        canvas.image *= alpha
        canvas.image += kept
        for _ in range(rng.integers(0, 3)):
            away = np.array([side * rng.uniform(20, 80), rng.uniform(-40, 40), rng.uniform(-60, 60)])
            scene.tumour(hilum + away, rng.uniform(2, 14))
    heart = np.array([18.0, -0.3 * b, 45.0]) + rng.normal(0, 4, 3)
    size = rng.uniform(0.85, 1.2)
    scene.put(canvas.ellipsoid(heart, np.array([56, 46, 50]) * size, rough=2, rough_scale=20), "fat")
    scene.put(canvas.ellipsoid(heart, np.array([52, 41, 46]) * size, rough=2, rough_scale=20), "heart")
    chambers = ((22, 8, -4, 22), (-14, -6, -2, 24), (-16, 14, 20, 18), (14, 20, 22, 19))
    for dx, dy, dz, r in chambers:
        shape = canvas.ellipsoid(heart + size * np.array([dx, dy, dz]), (r, 0.9 * r, 1.3 * r), rough=1.5)
        scene.put(shape, "blood" if dx > 0 else "vein")
    low, high = (12, 0.38 * b, -260), (12, 0.38 * b, 90)
    arch = [low, high, (6, 0.1 * b, 118), (-6, -0.15 * b, 95), (0, -0.1 * b, 60)]
    for p, q in pairwise(arch):
        scene.put(canvas.tube(p, q, 12.8), "heart")
        scene.put(canvas.tube(p, q, 11.5), "blood")
    scene.put(canvas.tube((-22, 0.12 * b, -260), (-24, 0, 130), 11), "vein")
    scene.put(canvas.tube((0, 0.05 * b, 85), (0, -0.05 * b, 300), 10.5), "skin")
    scene.put(canvas.tube((0, 0.05 * b, 85), (0, -0.05 * b, 300), 8.5), "air")
    scene.put(canvas.tube((8, 0.22 * b, 0), (4, 0.2 * b, 300), 7), "muscle")


def _skeleton(scene: Scene, a: float, b: float, cavity: np.ndarray) -> None:
    canvas, rng = scene.canvas, scene.rng
    shell = rng.uniform(1.0, 2.5)
    pitch = rng.uniform(24, 32)
    _, y, z = canvas.at()
    cage = np.maximum(np.abs(cavity - 1) - np.float32(rng.uniform(3.5, 5)), np.abs(z - 130) - 150)
    cage = np.maximum(cage, y - np.float32(0.72 * b + 20))
    slope, half = float(rng.uniform(0.2, 0.45)), float(rng.uniform(5, 7))
    paint_ribs(scene, cage, pitch=pitch, slope=slope, half=half, shell=0.7 * shell)
    paint_spine(scene, back=0.72 * b, pitch=pitch, shell=shell)
    scene.bone(canvas.ellipsoid((0, -b * 0.98, 110), (18, 6, 75), rough=1), shell)
    for side in (-1, 1):
        wing = canvas.ellipsoid((side * 0.62 * a, 0.3 * b, -190), (13, 50, 55), rough=2)
        scene.bone(wing, shell * 1.2)
        hip, knee = (side * 88.0, 0.0, -250.0), (side * 113.0, 0.0, -550.0)
        neck = (side * 123.0, 5.0, -295.0)
        scene.bone(canvas.ellipsoid(hip, (24, 24, 24)), shell)
        scene.bone(canvas.tube(hip, neck, 14), shell * 1.5)
        scene.bone(canvas.tube(neck, knee, 15), 2.5 * shell)
        shoulder, elbow = (side * (a + 25), 0.0, 230.0), (side * (a + 45), 0.0, -60.0)
        if rng.random() < 0.5:
            limb = canvas.tube(shoulder, elbow, 46, 38)
            scene.put(limb, "skin")
            for inset, tissue in ((2, "fat"), (rng.uniform(5, 14), "muscle")):
                scene.put(None if limb is None else (limb[0], limb[1] + np.float32(inset)), tissue)
            scene.bone(canvas.tube(shoulder, elbow, 12), 2 * shell)
