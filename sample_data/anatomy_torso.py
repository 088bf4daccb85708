"""A made-up trunk from the lower chest to the kidneys, in Hounsfield units."""

from __future__ import annotations

from itertools import pairwise

import numpy as np

from medrecon.phantoms.canvas import Canvas, coverage
from medrecon.phantoms.scene import Scene
from medrecon.phantoms.skeleton import paint_ribs, paint_spine
from medrecon.phantoms.tissues import HOUNSFIELD, Palette

# portal venous phase: HU with iodine where it differs from the plain table
ENHANCED = {"blood": 165.0, "vein": 150.0, "heart": 105.0, "liver": 108.0, "spleen": 122.0, "kidney": 185.0}
ENHANCED |= {
    "medulla": 150.0,
    "muscle": 60.0,
    "bowel": 75.0,
    "stool": 20.0,
    "tumour": 70.0,
    "cartilage": 120.0,
}

A, B = 148.0, 104.0  # half width and half depth of the body, mm
FAT, WALL = 13.0, 11.0
BACK = 36.0  # y of the middle of the vertebral bodies
PITCH = 31.0


def palette() -> Palette:
    """The tissues of this subject."""
    values = {n: (ENHANCED.get(n, mean), texture) for n, (mean, _, texture) in HOUNSFIELD.items()}
    return Palette(values | {"table": (-350.0, 5.0), "bowel": (75.0, 8.0), "stool": (20.0, 90.0)}, "HU")


def bump(x: np.ndarray, y: np.ndarray, cx: float, cy: float, sx: float, sy: float) -> np.ndarray:
    """A Gaussian hill over the x-y plane."""
    return np.exp(-0.5 * (np.square((x - cx) / sx) + np.square((y - cy) / sy))).astype(np.float32)


def paint(canvas: Canvas, rng: np.random.Generator) -> np.ndarray:
    """Paint the trunk on the canvas (x left, y back, z up, mm; z = 0 at the dome's height).

    Returns:
        (X, Y, Z) float32, implicit function of the body's outline (negative inside).
    """
    scene = Scene(canvas, palette(), rng, texture_scale=6.0)
    x, y, z = canvas.at()
    depth = np.where(y > 0, B - 6, B).astype(np.float32)
    u, v = np.square(x / (A + 0.06 * z)), np.square(y / depth)
    total = u + v + np.float32(1e-6)
    groove = 7 * bump(x, y, 0, B, 9, 14)
    outline = (np.sqrt(total - 0.55 * u * v / total) - 1) * B + groove + 1.2 * canvas.noise(45)
    muscle = outline + FAT * (1 + 0.25 * canvas.noise(55) + 0.35 * bump(x, y, 0, -B, 50, 30))
    front = muscle + WALL + np.maximum(y - 44, 0) * 0.7 + 30 * bump(x, y, 0, BACK + 24, 25, 24)
    _wall(scene, outline, muscle, front)
    dome = (
        z - (-72 + 112 * bump(x, y, -66, -4, 52, 66) + 96 * bump(x, y, 68, -2, 50, 64)) - 2 * canvas.noise(25)
    )
    _belly(scene, front, dome)
    _chest(scene, front, dome)
    _bones(scene, muscle + WALL, front)
    _table(scene)
    return outline


def _wall(scene: Scene, outline: np.ndarray, muscle: np.ndarray, front: np.ndarray) -> None:
    canvas = scene.canvas
    x, y, _ = canvas.at()
    scene.fill(outline, "skin")
    scene.fill(outline + 2.0, "fat")
    under = coverage(outline + 5.0)
    scene.sheet(canvas.noise(9, band=True), 0.08, "skin", where=0.25 * under)
    inside = coverage(muscle)
    canvas.paint(inside, scene.value("muscle"))
    sides = inside * coverage(np.abs(y) - 75)
    scene.sheet(muscle + 4.2 + 0.6 * canvas.noise(12), 0.9, "fat", where=0.9 * sides)
    scene.sheet(muscle + 7.6 + 0.6 * canvas.noise(12), 0.8, "fat", where=0.8 * sides)
    rear = inside * coverage(40 - y)
    scene.sheet(x, 2.0, "fat", where=inside * coverage(75 - y) + inside * coverage(y + 70))
    scene.sheet(np.abs(np.abs(x) - 30 - 0.2 * y + 2 * canvas.noise(20)) - 1, 1.4, "fat", where=0.8 * rear)
    scene.sheet(canvas.noise(8, band=True), 0.16, "fat", where=0.5 * rear)
    scene.sheet(y - 82 + 1.5 * canvas.noise(15), 1.6, "fat", where=0.8 * inside * coverage(np.abs(x) - 70))
    scene.fill(front, "fat")


def _clipped(shape: tuple | None, *others: np.ndarray) -> tuple | None:
    if shape is None:
        return None
    box, f = shape
    for other in others:
        f = np.maximum(f, other[box])
    return box, f


def _belly(scene: Scene, front: np.ndarray, dome: np.ndarray) -> None:
    canvas, rng = scene.canvas, scene.rng
    x, y, z = canvas.at()
    room = np.maximum(front + 2.5, dome + 3.0)
    scene.sheet(np.maximum(front + 1, dome + 1.2), 2.4, "muscle")  # the diaphragm and the peritoneum's edge
    loops = np.abs(canvas.noise(17)) * 15 - 10
    low = np.maximum(np.maximum(room + 2, z + 42 - 0.25 * y), np.maximum(loops, y - 12))
    low = np.maximum(low, 14 - x + 20 * canvas.noise(30))
    scene.fill(low, "bowel")
    scene.fill(np.maximum(low + 3.0, 6 * canvas.noise(20)), "fluid")
    gut = [(-76, -58, -70), (-40, -72, -84), (0, -78, -76), (42, -72, -80), (84, -56, -58), (100, -34, -66)]
    for p, q in pairwise(gut):
        tube = _clipped(canvas.tube(p, q, 15), room)
        if tube is not None:
            box, f = tube
            f = f + 2.5 * canvas.noise(7, box=box)
            scene.fill(f, "bowel", box)
            scene.fill(f + 3, "stool", box)
            scene.fill(
                np.maximum(f + 3, y[box] - (p[1] + q[1]) / 2 + 4 + 4 * canvas.noise(9, box=box)), "air", box
            )
    for px, py, pz, r in ((-84, -48, -62, 19), (-92, -40, -92, 22)):
        colon = _clipped(canvas.ellipsoid((px, py, pz), (r, r, 1.3 * r), rough=3, rough_scale=9), room)
        scene.put(colon, "bowel")
        if colon is not None:
            box, f = colon
            scene.fill(f + 3, "stool", box)
            scene.fill(np.maximum(f + 3, y[box] - (py - 6) + 3 * canvas.noise(8, box=box)), "air", box)
    liver = np.maximum(room, -(z + 68 - 0.6 * np.maximum(x + 96, 0) - 0.25 * y - 5 * canvas.noise(30)))
    body = np.sqrt(np.square((x + 62) / 100) + np.square((y + 6) / 92) + np.square((z + 12) / 92)) - 1
    lobe = np.sqrt(np.square((x - 14) / 62) + np.square((y + 48) / 36) + np.square((z + 2) / 34)) - 1
    liver = np.maximum(liver, np.minimum(70 * body, 34 * lobe) + 1.5 * canvas.noise(22))
    liver = np.maximum(liver, 30 - np.sqrt(np.square(x - 6) + np.square(y - 22)))
    scene.fill(liver, "liver")
    within = coverage(liver + 2)
    kept = canvas.image.copy()
    for start, heading, r in (
        ((-23, -3, 14), (-1.0, -0.5, -0.25), 5.0),
        ((-23, -6, 14), (-0.4, -1.0, -0.2), 4.6),
        ((-24, -1, 10), (-1.0, 0.4, -0.6), 4.6),
        ((-24, -16, -34), (-1.0, -0.1, 0.35), 6.0),
        ((-20, -18, -30), (0.3, -1.0, 0.6), 4.5),
    ):
        scene.branch(start, heading, r, "vein", limit=110, smallest=0.8, spread=0.55, length=8)
    canvas.image += (1 - within) * (kept - canvas.image)
    scene.put(canvas.ellipsoid((-44, -46, -46), (13, 15, 25), rough=0.8), "bowel")
    scene.put(canvas.ellipsoid((-44, -46, -46), (11.5, 13.5, 23.5), rough=0.8), "fluid")
    cyst = (-98, 14, -22)
    scene.put(canvas.ellipsoid(cyst, (9, 8, 9)), "fluid")
    scene.put(canvas.ellipsoid((-74, -30, 4), (8, 9, 8), rough=1.5, rough_scale=5), "tumour", share=0.8)
    spleen = _clipped(canvas.ellipsoid((98, 38, -20), (34, 46, 52), rough=1.5, rough_scale=20), room)
    if spleen is not None:
        box, f = spleen
        notch = 40 - np.sqrt(
            np.square((x[box] - 58) / 0.9) + np.square(y[box] - 10) + np.square((z[box] + 20) / 1.6)
        )
        scene.fill(np.maximum(f, notch), "spleen", box)
    stomach = _clipped(
        canvas.ellipsoid((60, -28, -8), (38, 40, 44), rough=2.5, rough_scale=18), room, 3 - liver
    )
    if stomach is not None:
        box, f = stomach
        scene.fill(f, "bowel", box)
        inside = f + 3.5 + 1.2 * np.abs(canvas.noise(5, box=box))
        scene.fill(inside, "fluid", box)
        scene.fill(np.maximum(inside, canvas.noise(7, box=box) * 6 + 7), "stool", box)
        scene.fill(np.maximum(inside, y[box] + 38), "air", box)
    for p, q, r in (
        ((-26, -18, -62), (-4, -24, -56), 11),
        ((-4, -24, -56), (34, -10, -46), 8.5),
        ((34, -10, -46), (74, 20, -36), 8),
    ):
        tube = canvas.tube(p, q, r)
        if tube is not None:
            box, f = tube
            scene.fill(f + 1.8 * canvas.noise(4, box=box), "spleen", box, share=0.75)
    scene.put(canvas.tube((-16, -16, -52), (70, 16, -34), 3.2), "vein")
    _kidneys(scene)
    for _ in range(26):  # mesenteric vessels seen as dots and strands in the fat
        start = rng.uniform((-60, -55, -90), (70, 5, -50))
        scene.put(
            canvas.tube(start, start + rng.normal(0, 13, 3), 1.3),
            "vein",
            share=float(coverage(room).mean() > 0),
        )


def _kidneys(scene: Scene) -> None:
    canvas, rng = scene.canvas, scene.rng
    for side, top in ((-1, -72.0), (1, -62.0)):
        centre = np.array([side * 62, 34.0, top])
        tilt = np.array([[1, 0, side * 0.22], [0, 1, 0.15], [-side * 0.22, -0.15, 1]])
        scene.put(canvas.ellipsoid(centre, (36, 33, 62), rotation=tilt), "fat")
        scene.put(canvas.ellipsoid(centre, (28, 25, 53), rotation=tilt, rough=0.8), "kidney")
        for k in range(-4, 5):
            for turn in (-0.9, 0.5, 1.6):
                out = np.array([np.cos(turn) * side * 13, np.sin(turn) * 10, 10.5 * k])
                scene.put(
                    canvas.ellipsoid(
                        centre + out + rng.normal(0, 1.5, 3), (5.5, 5.5, 4.5), rough=0.6, rough_scale=4
                    ),
                    "medulla",
                )
        hilum = centre - np.array([side * 14, 5, 0])
        scene.put(canvas.ellipsoid(hilum, (15, 10, 25), rough=2, rough_scale=8), "fat")
        scene.put(
            canvas.tube(hilum + np.array([side * 8, 0, 0]), hilum - np.array([side * 6, 0, 12]), 4, 3),
            "fluid",
        )
        scene.put(canvas.tube((side * 8 - 6, -2, top + 4), hilum + np.array([0, -3, 4]), 4.5, 4), "vein")
        scene.put(canvas.tube((14, 6, top + 10), hilum + np.array([0, 1, 0]), 2.8, 2.4), "blood")
        scene.branch(hilum, (side, 0.1, 0.2), 2.6, "vein", limit=12, spread=0.9, smallest=1.1)
        adrenal = np.array([side * 38, 14, top + 54.0])
        for tip in ((side * 10, 10, -12), (-side * 6, 12, -12)):
            scene.put(canvas.tube(adrenal, adrenal + np.array(tip), 2.6, 1.8), "spleen")


def _chest(scene: Scene, front: np.ndarray, dome: np.ndarray) -> None:
    canvas, rng = scene.canvas, scene.rng
    x, y, _ = canvas.at()
    for side in (-1, 1):
        width = 21 + 16 * bump(x, y, 0, -30, 400, 28) * (1.6 if side > 0 else 1.0)
        lung = np.maximum(np.maximum(front + 3.5, width - side * x + 2 * canvas.noise(20)), 3.5 - dome)
        alpha = coverage(lung)
        canvas.paint(alpha, scene.value("lung") + 0.35 * y)
        kept = canvas.image.copy()
        hilum = np.array([side * 38.0, 6.0, 78.0])
        fans = [
            (0.6, 0.5, -1),
            (1, 0.8, -0.5),
            (1, -0.6, -0.6),
            (0.9, 0.1, -1),
            (0.5, -0.8, -0.9),
            (1, 0.2, -0.2),
        ]
        fans += [(0.5, 1, -0.9), (1, -0.2, -0.8)]
        for k, fan in enumerate(fans):
            tissue = "vein" if k % 2 else "blood"
            heading = np.array(fan) * (side, 1, 1)
            start = hilum + rng.normal(0, 7, 3)
            scene.branch(
                start,
                heading,
                rng.uniform(4.5, 6.5),
                tissue,
                limit=190,
                smallest=0.55,
                spread=0.6,
                length=8.5,
            )
        for fan in ((0.8, 0.5, -1), (1, -0.3, -0.8)):
            scene.branch(
                hilum, np.array(fan) * (side, 1, 1), 4.2, "air", limit=30, smallest=1.2, wall="muscle"
            )
        canvas.image -= kept
        canvas.image *= alpha
        canvas.image += kept
    _heart(scene)


def _heart(scene: Scene) -> None:
    canvas = scene.canvas
    low, high = (14, 6, -140), (18, 12, 110)
    scene.put(canvas.tube((4, -4, -4), (2, 2, 110), 8), "muscle")
    scene.put(canvas.tube((3, -4, 6), (2, 2, 110), 2), "air", share=0.7)
    centre = np.array([18.0, -32.0, 48.0])
    tilt = np.array([[0.82, -0.42, -0.39], [0.42, 0.90, -0.10], [0.39, -0.08, 0.92]])
    scene.put(canvas.ellipsoid(centre, (64, 48, 42), rotation=tilt, rough=1.5, rough_scale=20), "fat")
    scene.put(
        canvas.ellipsoid(
            centre + np.array([10, 4, 0]), (46, 39, 37), rotation=tilt, rough=1.2, rough_scale=20
        ),
        "heart",
    )
    scene.put(
        canvas.ellipsoid(
            centre + np.array([16, 6, 0]), (34, 26, 25), rotation=tilt, rough=2.2, rough_scale=7
        ),
        "blood",
    )
    scene.put(
        canvas.ellipsoid(
            centre + np.array([-2, -22, -3]), (40, 17, 29), rotation=tilt, rough=1.8, rough_scale=9
        ),
        "vein",
    )
    scene.put(
        canvas.ellipsoid(centre + np.array([-34, 6, 2]), (25, 28, 33), rough=1.2, rough_scale=12), "vein"
    )
    scene.put(
        canvas.ellipsoid(centre + np.array([-4, 31, 12]), (32, 19, 25), rough=1.2, rough_scale=12), "blood"
    )
    scene.put(canvas.tube(centre + np.array([-6, 2, 12]), (-8, -20, 112), 15), "blood")
    scene.put(canvas.tube(low, high, 12.4), "heart")
    scene.put(canvas.tube(low, high, 11.2), "blood")
    for p, q, r in (
        ((14, 0, -32), (13, -14, -40), 4.0),
        ((14, 0, -46), (11, -14, -60), 3.6),
        ((11, -14, -60), (7, -20, -110), 3.2),
    ):
        scene.put(canvas.tube(p, q, r), "blood")
    scene.put(canvas.tube((-22, 0, -140), (-23, -2, 10), 11.5), "vein")
    scene.put(canvas.tube((-23, -2, 10), (-17, -22, 36), 11.5), "vein")
    calcium = canvas.tube((24, 3, -30), (24.5, 6, -44), 1.5)
    scene.put(calcium, "calcium")


def _bones(scene: Scene, cavity: np.ndarray, front: np.ndarray) -> None:
    canvas = scene.canvas
    x, y, z = canvas.at()
    margin = -80 + 1.0 * np.maximum(20 - y, 0)
    cage = np.maximum(np.abs(cavity - 2.5) - 4.2, margin - z)
    cage = np.maximum(cage, y - (BACK + 22))
    cartilage = np.maximum(cage, y + 62)
    bony = np.maximum(cage, -(y + 62))
    paint_ribs(scene, bony, pitch=PITCH, slope=0.42, half=6.5, shell=1.6)
    level = z - 0.42 * y + 0.1 * np.abs(x)
    along = np.abs(level - np.rint(level / PITCH) * PITCH) - 6
    scene.fill(np.maximum(cartilage, along), "cartilage")
    scene.bone(canvas.ellipsoid((0, -B + FAT + 9, 120), (17, 6, 82), rough=0.8), 1.5)
    for side in (-1, 1):  # psoas and the crura of the diaphragm
        scene.put(canvas.tube((side * 25, BACK + 8, -50), (side * 36, BACK + 2, -150), 7, 17), "muscle")
        scene.put(canvas.tube((side * 15, 10, 10), (side * 17, BACK - 16, -95), 5, 4), "muscle")
    paint_spine(scene, back=BACK, pitch=PITCH, shell=1.5)


def _table(scene: Scene) -> None:
    x, y, _ = scene.canvas.at()
    curve = y - (B + 1) + np.square(x / 60) * 3.2
    pad = np.maximum(np.abs(curve - 4) - 3.5, np.abs(x) - 170)
    scene.fill(np.maximum(pad, -(np.sqrt(np.square(x / A) + np.square(y / B)) - 1) * B), "table", share=0.55)
    for offset in (9.0, 40.0):
        bed = np.abs(curve - offset) - 1.3
        scene.fill(np.maximum(bed, np.abs(x) - 185), "table")
