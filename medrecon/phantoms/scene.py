"""A canvas with a palette: tissues painted by name, and the parts that several anatomies share."""

from __future__ import annotations

import math
from collections import deque

import numpy as np

from medrecon.phantoms.canvas import Box, Canvas, Point, coverage, footprint, inner, near
from medrecon.phantoms.noise import fractal_noise
from medrecon.phantoms.tissues import Palette

Shape = tuple[Box, np.ndarray] | None


def _unit(x: float, y: float, z: float) -> tuple[float, float, float]:
    scale = 1 / (math.sqrt(x * x + y * y + z * z) + 1e-9)
    return (x * scale, y * scale, z * scale)


class Scene:
    """Paints tissues of a `Palette` on a `Canvas`, each with its texture.

    Args:
        canvas: the grid.
        palette: the tissues' values.
        rng: the only source of randomness.
        texture_scale: lattice spacing of the coarsest texture, mm.
        keep_labels: note which tissue each voxel is.

    Attributes:
        labels: (X, Y, Z) uint8, the tissue that most of each voxel is, by its place in `tissues`; None unless
            they are kept.
        tissues: the palette's names, in alphabetical order.
    """

    def __init__(
        self,
        canvas: Canvas,
        palette: Palette,
        rng: np.random.Generator,
        *,
        texture_scale: float = 7.0,
        keep_labels: bool = False,
    ) -> None:
        self.canvas = canvas
        self.palette = palette
        self.rng = rng
        canvas.image[...] = palette["air"][0]
        self.tissues = sorted(palette)
        air = self.tissues.index("air")
        self.labels = np.full(canvas.shape, air, np.uint8) if keep_labels else None
        self.texture = fractal_noise(
            canvas.shape, texture_scale / canvas.spacing, rng, octaves=3, roughness=0.8
        )

    def value(self, tissue: str, box: Box | None = None) -> np.ndarray | float:
        """The tissue's value with its texture, on the box if given."""
        mean, texture = self.palette[tissue]
        if texture == 0:
            return mean
        field = self.texture if box is None else self.texture[box]
        return field * np.float32(texture) + np.float32(mean)

    def fill(self, f: np.ndarray, tissue: str, box: Box | None = None, *, share: float = 1.0) -> None:
        """Paint the tissue where f < 0; `share` below 1 mixes it with what is there."""
        canvas = self.canvas
        part = near(f, canvas.reach)
        if part is None:
            return
        box = inner(canvas.whole if box is None else box, part)
        f = f[part]
        if f.max() < -canvas.reach:
            canvas.image[box] += np.float32(share) * (self.value(tissue, box) - canvas.image[box])
            self._mark(np.float32(share), tissue, box)
            return
        alpha = coverage(f)
        if share != 1.0:
            alpha *= np.float32(share)
        self.paint(alpha, tissue, box)

    def paint(
        self,
        alpha: np.ndarray,
        tissue: str,
        box: Box | None = None,
        *,
        value: np.ndarray | float | None = None,
    ) -> None:
        """Blend the tissue in where `alpha` (0 to 1) says; `value` instead of the palette's, if given."""
        self.canvas.paint(alpha, self.value(tissue, box) if value is None else value, box)
        self._mark(alpha, tissue, box)

    def _mark(self, alpha: np.ndarray | np.floating, tissue: str, box: Box | None) -> None:
        """Note which voxels are now more of this tissue than of all others."""
        if self.labels is None:
            return
        labels = self.labels[self.canvas.whole if box is None else box]
        labels[np.broadcast_to(np.asarray(alpha) > 0.5, labels.shape)] = self.tissues.index(tissue)

    def put(self, shape: Shape, tissue: str, *, share: float = 1.0) -> None:
        """Paint what `Canvas.ellipsoid` or `Canvas.tube` gave, if it is on the grid at all."""
        if shape is not None:
            self.fill(shape[1], tissue, shape[0], share=share)

    def sheet(
        self,
        f: np.ndarray,
        thickness: float,
        tissue: str,
        box: Box | None = None,
        *,
        where: np.ndarray | float = 1.0,
    ) -> None:
        """Paint a sheet of the given thickness (in units of f) on both sides of f = 0, times `where`."""
        width = footprint(f)
        alpha = coverage(f - np.float32(thickness / 2), width)
        alpha -= coverage(f + np.float32(thickness / 2), width)
        alpha *= where
        self.paint(alpha, tissue, box)

    def bone(self, shape: Shape, shell: float, *, inside: str = "marrow") -> None:
        """A bone: cortical shell of `shell` mm around marrow with trabeculae."""
        if shape is None:
            return
        part = near(shape[1], self.canvas.reach)
        if part is None:
            return
        box, f = inner(shape[0], part), np.ascontiguousarray(shape[1][part])
        width = footprint(f)
        value = np.zeros_like(f) + self.value(inside, box)
        alpha = coverage(f + np.float32(shell), width)
        if self.canvas.spacing.min() < 1.6:
            cells = np.abs(self.canvas.noise(1.3, box=box)) - np.float32(0.4)
            mean = self.palette["cortical"][0]
            value += coverage(cells) * np.float32(0.14 * (mean - self.palette[inside][0]))
        self.paint(coverage(f, width), "cortical", box)
        self.paint(alpha, inside, box, value=value)

    def thread(self, start: Point, stop: Point, radius: float, end: float, tissue: str) -> None:
        """Paint a thin tube: as `put(tube)`, without its exact footprint, and so twice as fast."""
        shape = self.canvas.tube(start, stop, radius, end)
        if shape is not None:
            alpha = coverage(shape[1], self.canvas.width)
            self.paint(alpha, tissue, shape[0], value=self.palette[tissue][0])

    def branch(
        self,
        start: Point,
        direction: Point,
        radius: float,
        tissue: str,
        *,
        length: float = 7.0,
        spread: float = 0.5,
        smallest: float = 0.4,
        limit: int = 200,
        wall: str | None = None,
    ) -> None:
        """A tree of tubes that bend and split by Murray's law (r^3 = r1^3 + r2^3).

        Murray, "The physiological principle of minimum work", PNAS 1926. `wall` paints a wall first, as
        airways have.
        """
        # plain floats and draws made ahead: numpy on three numbers at a time would be most of the cost
        jitter = self.rng.normal(0, 1, (limit, 6)).tolist()
        chance = self.rng.random((limit, 2)).tolist()
        queue = deque([(tuple(float(c) for c in start), tuple(float(c) for c in direction), float(radius))])
        for (a, b, c, d, e, f), (stretch, part) in zip(jitter, chance, strict=True):
            if not queue:
                return
            (x, y, z), heading, r = queue.popleft()
            u, v, w = _unit(*(h + 0.25 * spread * n for h, n in zip(heading, (a, b, c), strict=True)))
            step = r * length * (0.6 + 0.8 * stretch)
            stop = (x + step * u, y + step * v, z + step * w)
            if not self.canvas.misses(x + step * u / 2, y + step * v / 2, z + step * w / 2, step / 2 + 2 * r):
                if wall is not None:
                    self.thread((x, y, z), stop, 1.25 * r + 0.5, 1.15 * r + 0.5, wall)
                self.thread((x, y, z), stop, r, 0.92 * r, tissue)
            along = d * u + e * v + f * w
            p, q, s = _unit(d - along * u, e - along * v, f - along * w)
            part = 0.25 + 0.5 * part
            for fraction, sign in ((part, spread), (1 - part, -spread)):
                child = 0.97 * r * fraction ** (1 / 3)
                # all that can grow from here: each generation is at most 0.9 times as wide and so as long
                if child >= smallest and not self.canvas.misses(*stop, 14 * child * length):
                    turn = (1.4 - fraction) * sign
                    queue.append((stop, (u + turn * p, v + turn * q, w + turn * s), child))

    def tumour(self, centre: Point, radius: float) -> None:
        """A lesion with an uneven edge, sometimes with a necrotic core or calcium."""
        rng = self.rng
        radii = radius * rng.uniform(0.7, 1.3, 3)
        self.put(
            self.canvas.ellipsoid(centre, radii, rough=0.2 * radius, rough_scale=0.5 * radius + 1), "tumour"
        )
        if rng.random() < 0.4:
            self.put(
                self.canvas.ellipsoid(
                    centre, radii * 0.55, rough=0.12 * radius, rough_scale=0.4 * radius + 1
                ),
                "necrosis",
            )
        if rng.random() < 0.15:
            self.put(self.canvas.ellipsoid(centre, radii * 0.2, rough=0.1 * radius, rough_scale=2), "calcium")
