"""A canvas with a palette: tissues painted by name, and the parts that several anatomies share."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from medrecon.phantoms.canvas import Box, Canvas, coverage, footprint
from medrecon.phantoms.noise import fractal_noise
from medrecon.phantoms.tissues import Palette

Shape = tuple[Box, np.ndarray] | None


class Scene:
    """Paints tissues of a `Palette` on a `Canvas`, each with its texture.

    Args:
        canvas: the grid.
        palette: the tissues' values.
        rng: the only source of randomness.
        texture_scale: lattice spacing of the coarsest texture, mm.
    """

    def __init__(
        self, canvas: Canvas, palette: Palette, rng: np.random.Generator, *, texture_scale: float = 7.0
    ) -> None:
        self.canvas = canvas
        self.palette = palette
        self.rng = rng
        canvas.image[...] = palette["air"][0]
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
        alpha = coverage(f)
        if share != 1.0:
            alpha *= np.float32(share)
        self.canvas.paint(alpha, self.value(tissue, box), box)

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
        self.canvas.paint(alpha, self.value(tissue, box), box)

    def bone(self, shape: Shape, shell: float, *, inside: str = "marrow") -> None:
        """A bone: cortical shell of `shell` mm around marrow with trabeculae."""
        if shape is None:
            return
        box, f = shape
        width = footprint(f)
        value = np.asarray(self.value(inside, box), np.float32)
        alpha = coverage(f + np.float32(shell), width)
        if self.canvas.spacing.min() < 1.6:
            cells = np.abs(self.canvas.noise(1.3, box=box)) - np.float32(0.4)
            mean = self.palette["cortical"][0]
            value = value + coverage(cells) * np.float32(0.22 * (mean - self.palette[inside][0]))
        self.canvas.paint(coverage(f, width), self.value("cortical", box), box)
        self.canvas.paint(alpha, value, box)

    def branch(
        self,
        start: Sequence[float],
        direction: Sequence[float],
        radius: float,
        tissue: str,
        *,
        length: float = 7.0,
        spread: float = 0.5,
        smallest: float = 0.4,
        limit: int = 200,
        wall: str | None = None,
    ) -> None:
        """A tree of tubes: each goes on for some radii, bends and splits by Murray's law (r^3 = r1^3 + r2^3).

        Murray, "The physiological principle of minimum work", PNAS 1926. `wall` paints a wall first, as airways
        have.
        """
        rng = self.rng
        queue = [(np.asarray(start, float), np.asarray(direction, float), float(radius))]
        for _ in range(limit):
            if not queue:
                return
            point, heading, r = queue.pop(0)
            heading = heading + rng.normal(0, 0.25 * spread, 3)
            heading /= np.linalg.norm(heading) + 1e-9
            stop = point + heading * r * length * rng.uniform(0.6, 1.4)
            if wall is not None:
                self.put(self.canvas.tube(point, stop, 1.25 * r + 0.5, 1.15 * r + 0.5), wall)
            self.put(self.canvas.tube(point, stop, r, 0.92 * r), tissue)
            part = rng.uniform(0.25, 0.75)
            side = rng.normal(0, 1, 3)
            side -= heading * (side @ heading)
            side /= np.linalg.norm(side) + 1e-9
            for fraction, sign in ((part, 1.0), (1 - part, -1.0)):
                child = 0.97 * r * fraction ** (1 / 3)
                if child >= smallest:
                    turn = spread * (1.4 - fraction) * sign
                    queue.append((stop, heading + turn * side, child))

    def tumour(self, centre: Sequence[float], radius: float) -> None:
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
