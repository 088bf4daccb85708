"""A made-up head, as a T1-weighted gradient echo shows it."""

from __future__ import annotations

from itertools import pairwise

import numpy as np

from medrecon.phantoms.canvas import Canvas, coverage
from medrecon.phantoms.scene import Scene
from medrecon.phantoms.tissues import TISSUES, Palette

# signal relative to white matter
T1_WEIGHTED = {
    "air": 0.0, "lung": 0.0, "fat": 1.2, "skin": 0.75, "muscle": 0.52, "blood": 0.25, "vein": 0.42,
    "cortical": 0.06, "marrow": 0.62, "disc": 0.4, "cartilage": 0.35,
    "csf": 0.2, "grey": 0.67, "white": 1.0, "nuclei": 0.8,
    "cord": 0.92, "lens": 0.35, "fluid": 0.26, "tumour": 0.58,
}  # fmt: skip


def palette() -> Palette:
    """The tissues of this subject."""
    return Palette({n: (T1_WEIGHTED.get(n, 0.3), 0.015 * T1_WEIGHTED.get(n, 0.3)) for n in TISSUES}, "")


def ball(canvas: Canvas, centre: tuple[float, float, float], radii: tuple[float, float, float]) -> np.ndarray:
    """Implicit function of an ellipsoid on the whole grid, about mm near its surface."""
    near, far = np.zeros(canvas.shape, np.float32), np.zeros(canvas.shape, np.float32)
    for p, c, r in zip(canvas.points, centre, radii, strict=True):
        d = (p - np.float32(c)) * np.float32(1 / r)
        near += np.square(d)
        far += np.square(d * np.float32(1 / r))
    return (near - np.sqrt(near)) / np.sqrt(far + 1e-12)


def smooth_min(f: np.ndarray, g: np.ndarray, blend: float) -> np.ndarray:
    """Union of two shapes with a rounded seam `blend` mm wide."""
    h = np.maximum(blend - np.abs(f - g), 0) / blend
    return np.minimum(f, g) - h * h * np.float32(blend / 4)


def paint(canvas: Canvas, rng: np.random.Generator) -> np.ndarray:
    """Paint the head on the canvas (x left, y back, z up, mm; the origin between the thalami).

    Returns:
        (X, Y, Z) float32, implicit function of the head's outline (negative inside).
    """
    scene = Scene(canvas, palette(), rng, texture_scale=5.0)
    x, y, z = canvas.at()
    cerebrum = smooth_min(
        ball(canvas, (0, 2, 12), (67, 84, 58)), ball(canvas, (0, -22, -6), (62, 56, 46)), 20
    )
    below = ball(canvas, (0, 42, -34), (58, 42, 36))
    floor = -50 + 26 / (1 + np.exp((y + 36) / 5)) + 16 * np.exp(-np.square(x / 15) - np.square((y + 14) / 20))
    inner = smooth_min(cerebrum, below, 12)
    inner = -smooth_min(-inner, z - floor + 40 / (1 + np.exp((10 - y) / 4)), 8) + 0.6 * canvas.noise(30)
    skull = inner - 6.5 - 2.0 * np.maximum(0, -y / 90)
    face = smooth_min(
        ball(canvas, (0, -52, -62), (52, 44, 66)), ball(canvas, (0, -97, -46), (13, 18, 24)), 14
    )
    neck = np.sqrt(np.square(x / 1.05) + np.square(y - 22)) - 56
    neck = np.maximum(neck, z + 30)
    outline = smooth_min(
        smooth_min(skull - 5.0 - 1.2 * canvas.noise(35), face, 18), neck, 25
    ) + 0.6 * canvas.noise(25)
    for side in (-1, 1):
        ear = ball(canvas, (side * 80, 18, -30), (7, 15, 28)) + 1.5 * canvas.noise(7)
        outline = np.minimum(outline, ear)
    _soft(scene, outline, skull)
    _face(scene, outline)
    scene.bone((canvas.whole, skull), 2.0)
    scene.fill(inner - 1.8, "cortical")
    scene.fill(inner, "csf")
    _cerebrum(scene, np.maximum(cerebrum, inner) + 2.2)
    _deep(scene)
    _hind(scene, np.maximum(below, inner) + 2.5)
    _vessels(scene, inner)
    return outline


def _soft(scene: Scene, outline: np.ndarray, skull: np.ndarray) -> None:
    canvas = scene.canvas
    _, y, z = canvas.at()
    scene.fill(outline, "skin")
    scene.fill(outline + 2.0, "fat")
    deep = coverage(np.maximum(outline + 7.0, z + 22 + 0.1 * y + 4 * canvas.noise(15)))
    canvas.paint(deep, scene.value("muscle"))
    scene.sheet(canvas.noise(8, band=True), 0.13, "fat", where=deep)
    for side in (-1, 1):  # the temporal muscle
        scene.fill(
            np.maximum(np.maximum(ball(canvas, (side * 62, -26, -12), (14, 34, 36)), outline + 4.5), -skull),
            "muscle",
        )


def _face(scene: Scene, outline: np.ndarray) -> None:
    canvas = scene.canvas
    scene.bone(canvas.ellipsoid((0, -62, -56), (44, 30, 24), rough=3, rough_scale=9), 1.8)
    scene.bone(canvas.ellipsoid((0, -56, -96), (34, 32, 9), rough=2), 2.0)
    scene.put(canvas.ellipsoid((0, -50, -84), (24, 28, 12), rough=2, rough_scale=8), "muscle")
    scene.put(canvas.ellipsoid((0, -82, 2), (16, 6, 12), rough=2, rough_scale=5), "air")  # frontal sinus
    scene.put(canvas.ellipsoid((0, -20, -34), (11, 10, 9), rough=1), "air")  # sphenoid sinus
    scene.put(canvas.tube((0, -18, -48), (0, -8, -130), 9, 8), "air")
    for side in (-1, 1):
        scene.put(canvas.ellipsoid((side * 26, -58, -54), (13, 17, 17), rough=1.5, rough_scale=9), "air")
        scene.put(canvas.ellipsoid((side * 6, -58, -44), (4, 32, 17), rough=1), "air")
        for level in (-38, -47, -55):
            scene.put(canvas.ellipsoid((side * 7, -54, level), (3.2, 20, 2.6)), "skin")
        for k in range(7):  # ethmoid cells
            spot = (side * (5.5 + 2 * (k % 2)), -66 + 7 * k, -26 + 3 * (k % 3))
            scene.put(canvas.ellipsoid(spot, (4, 3.6, 5), rough=0.8, rough_scale=3), "air")
        mastoid = canvas.ellipsoid((side * 56, 24, -48), (11, 14, 15))
        scene.bone(mastoid, 2)
        if mastoid is not None:
            box, f = mastoid
            scene.fill(np.maximum(f + 2, 2.5 * canvas.noise(3, box=box) - 0.6), "air", box)
        scene.put(canvas.tube((side * 52, 12, -40), (side * 86, 12, -40), 3.2), "air")
        _eye(scene, side)
        masseter = canvas.ellipsoid((side * 44, -40, -72), (9, 20, 26), rough=1)
        if masseter is not None:
            box, f = masseter
            scene.fill(np.maximum(f, outline[box] + 4), "muscle", box)


def _eye(scene: Scene, side: int) -> None:
    canvas = scene.canvas
    eye = np.array([side * 31.0, -76.0, -22.0])
    scene.bone(canvas.ellipsoid(eye + np.array([side, 14, 0]), (23, 30, 22), rough=0.5), 2.5)
    scene.put(canvas.ellipsoid(eye + np.array([0, 12, 0]), (19, 28, 18.5)), "fat")
    for dx, dz in ((11, 0), (-11, 0), (0, 11), (0, -11)):
        belly = eye + np.array([dx, 6, dz])
        scene.put(canvas.tube(belly, (side * 16, -34, -18), 2.6, 1.6), "muscle")
        scene.put(canvas.tube(belly, eye + np.array([1.05 * dx, -3, 1.05 * dz]), 2.4, 1.4), "muscle")
    scene.put(canvas.tube(eye + np.array([0, 10, 0]), (side * 13, -34, -16), 2.4), "white")
    scene.put(canvas.ellipsoid(eye, (12.6, 12.6, 12.6)), "muscle")
    scene.put(canvas.ellipsoid(eye, (11.5, 11.5, 11.5)), "csf")
    scene.put(canvas.ellipsoid(eye + np.array([0, -8.2, 0]), (4.8, 2.4, 4.8)), "nuclei")


def _cerebrum(scene: Scene, pia: np.ndarray) -> None:
    """Cortex: the zero set of a band-limited field is where a sulcus runs, from the surface inwards."""
    canvas = scene.canvas
    x, y, z = canvas.at()
    folds = canvas.noise(7, band=True) + 0.3 * canvas.noise(4.5, band=True)
    sulcus = np.abs(folds) * 5.5
    # a sulcus is open at the surface, also at that between the hemispheres, and ends some 20 mm below it
    inwards = np.minimum(-pia, np.abs(x) + 2 * np.maximum(22 - z, 0))
    sulcus = sulcus + np.maximum(inwards - 17 - 4 * canvas.noise(12), 0) * 0.7
    sulcus = sulcus + np.maximum(8 - ball(canvas, (0, 2, 4), (30, 46, 22)), 0)
    fissure = np.abs(x + 0.8 * canvas.noise(20)) + np.maximum(20 - z - 0.35 * np.abs(y - 5), 0) * 0.8
    plane = z + 4 - 0.35 * (y + 10) + 3 * canvas.noise(12)
    sylvian = np.maximum(33 - np.abs(x), 0) ** 2 + np.maximum(np.abs(y + 6) - 32, 0) ** 2
    sulcus = np.minimum(np.minimum(sulcus, fissure), np.sqrt(np.square(plane) + sylvian))
    gap = 0.3 + 0.6 * np.maximum(1 - inwards / 9, 0)
    tent = smooth_min(y - 8, -(z + 12 - 0.16 * (y - 20)), 14)
    hull = np.maximum(pia, tent)
    scene.fill(np.maximum(hull, gap - sulcus), "grey")
    cortex = 2.7 + 0.4 * canvas.noise(15)
    scene.fill(np.maximum(hull + cortex, gap + cortex - sulcus), "white")


def _deep(scene: Scene) -> None:
    canvas = scene.canvas
    x, y, z = canvas.at()
    # corpus callosum: an arch across the middle
    arch = np.sqrt(np.square((y - 2) / 1.35) + np.square(z + 8)) - 28
    callosum = np.maximum(np.maximum(np.abs(arch) - 3.2, -(z + 6 + 0.15 * np.abs(y))), np.abs(x) - 12)
    scene.fill(callosum, "white")
    for side in (-1, 1):
        scene.put(canvas.ellipsoid((side * 22, -8, 3), (9, 20, 11), rough=0.5), "white")
        # lateral ventricle: frontal horn, body, atrium, occipital and temporal horn
        path = [(9, -34, 8, 4), (8, -20, 14, 6), (9, 0, 20, 5.5), (13, 20, 17, 6), (20, 34, 6, 7)]
        horns = [[(20, 34, 6, 6.5), (19, 58, 4, 2.5)], [(20, 34, 6, 6), (31, 16, -14, 4), (29, -8, -20, 2.6)]]
        for line in (path, *horns):
            for p, q in pairwise(line):
                start, stop = (side * p[0], *p[1:3]), (side * q[0], *q[1:3])
                scene.put(canvas.tube(start, stop, p[3], q[3]), "csf")
        for p, q, r, s in (
            ((12, -30, 6), (14, -12, 15), 6.5, 5.5),
            ((14, -12, 15), (17, 10, 18), 5, 3),
            ((17, 10, 18), (24, 26, 6), 3, 2),
        ):  # caudate  # fmt: skip
            scene.put(canvas.tube((side * p[0], *p[1:]), (side * q[0], *q[1:]), r, s), "grey")
        scene.put(canvas.ellipsoid((side * 27, -6, 0), (6.5, 18, 10), rough=0.6), "grey")  # putamen
        scene.put(canvas.ellipsoid((side * 20, -2, -1), (4.5, 11, 7), rough=0.4), "nuclei")  # pallidum
        scene.put(canvas.ellipsoid((side * 10.5, 12, 4), (8.5, 15, 10), rough=0.5), "nuclei")  # thalamus
        scene.put(canvas.ellipsoid((side * 27, 4, -22), (6, 18, 5), rough=1), "grey")  # hippocampus
        scene.put(
            canvas.ellipsoid((side * 19, 32, 8), (2.5, 5, 3.5), rough=1, rough_scale=2), "tumour"
        )  # plexus
    scene.sheet(x, 1.6, "white", where=coverage(np.maximum(arch + 3, -(z - 4))) * coverage(y - 6))
    scene.put(canvas.ellipsoid((0, 10, 0), (1.9, 15, 10), rough=0.3), "csf")
    scene.put(canvas.tube((0, 24, -10), (0, 32, -24), 1.3), "csf")


def _hind(scene: Scene, hull: np.ndarray) -> None:
    canvas = scene.canvas
    x, y, z = canvas.at()
    shape = np.maximum(hull, z + 15 - 0.16 * (y - 20))
    # folia: thin leaves that follow the surface; the arbor vitae comes of a coarser field
    radius = np.sqrt(np.square(x / 1.5) + np.square(y - 22) + np.square(z + 38))
    leaf = np.abs(np.sin(radius * 0.85 + 2.2 * canvas.noise(10))) * 1.9
    branch = np.abs(canvas.noise(8, band=True)) * 6
    scene.fill(np.maximum(shape, 0.35 - leaf), "grey")
    core = np.maximum(shape + 9 + 3 * canvas.noise(8), 0.5 - leaf)
    scene.fill(np.minimum(core, np.maximum(shape + 3, branch - 0.9)), "white")
    scene.put(canvas.ellipsoid((0, 14, -34), (15, 13, 15), rough=0.4), "white")  # pons
    scene.put(canvas.tube((0, 14, -14), (0, 18, -34), 12, 11), "white")
    scene.put(canvas.tube((0, 20, -40), (0, 30, -72), 9.5, 7), "white")
    scene.put(canvas.tube((0, 28, -66), (0, 34, -150), 9.5), "csf")
    scene.put(canvas.tube((0, 28, -66), (0, 34, -150), 6), "cord")
    scene.put(canvas.ellipsoid((0, 30, -36), (7, 4.5, 12), rough=0.5), "csf")  # fourth ventricle
    scene.put(canvas.ellipsoid((0, -8, -26), (10, 7, 6), rough=1), "csf")
    scene.put(canvas.ellipsoid((0, -12, -33), (6, 5, 4)), "grey")  # pituitary
    scene.put(canvas.tube((-13, -20, -18), (13, -20, -18), 1.8), "white")
    for k in range(3):
        scene.bone(canvas.ellipsoid((0, 14, -84 - 18 * k), (13, 10, 7.5), rough=0.5), 1.2)


def _vessels(scene: Scene, inner: np.ndarray) -> None:
    canvas = scene.canvas
    x, _, z = canvas.at()
    top = np.maximum(np.abs(inner + 1.5) - 3.0, np.maximum(np.abs(x) - 4 - 0.2 * (inner + 1.5), -z - 5))
    scene.fill(top, "vein")
    scene.sheet(
        x, 1.0, "vein", where=0.8 * coverage(np.maximum(inner + 2, np.maximum(-(z - 12), -inner - 32)))
    )
    scene.put(canvas.tube((0, 4, -46), (0, 0, -24), 1.9), "blood")
    for side in (-1, 1):
        scene.put(canvas.tube((side * 14, -6, -60), (side * 11, -10, -26), 2.4), "blood")
        scene.branch(
            (side * 11, -12, -21),
            (side, -0.1, 0.15),
            1.7,
            "blood",
            limit=40,
            spread=0.6,
            smallest=0.45,
            length=9,
        )
        scene.put(canvas.tube((side * 4, 74, -14), (side * 52, 40, -22), 3.5), "vein")
        scene.put(canvas.tube((side * 30, 0, -60), (side * 34, 6, -140), 4), "vein")
        scene.put(canvas.tube((side * 25, -2, -60), (side * 27, 0, -140), 3), "blood")
