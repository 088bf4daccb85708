"""The canvas: a warped grid of points in mm, painted on with shapes given by implicit functions.

A shape is a function f of the point, negative inside. How much of a voxel it covers is f divided by the
change of f across that voxel, cut to [0, 1]: the box-filter antialiasing of computer graphics, and the
partial volume effect of a scanner, for any voxel shape and without supersampling.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from medrecon.phantoms.noise import smooth_noise

Box = tuple[slice, slice, slice]
Point = Sequence[float] | np.ndarray


def coverage(f: np.ndarray, width: np.ndarray | np.floating | float | None = None) -> np.ndarray:
    """How much of each voxel lies where f < 0, in [0, 1]; `width` as `footprint` gives it."""
    alpha = f / (footprint(f) if width is None else width)
    np.subtract(np.float32(0.5), alpha, out=alpha)
    return np.clip(alpha, 0.0, 1.0, out=alpha)


def footprint(f: np.ndarray) -> np.ndarray:
    """Change of f across each voxel: the sum of its absolute differences along the axes, never zero."""
    f = np.ascontiguousarray(f)
    width = np.full_like(f, 1e-4)
    change = np.empty_like(f)
    flat, flat_change = f.reshape(-1), change.reshape(-1)
    # differences along the flat array are contiguous, which is several times faster than along an axis; where
    # they wrap around, at the end of each line, the last true difference is repeated
    for axis, step in enumerate((f.shape[1] * f.shape[2], f.shape[2], 1)):
        if f.shape[axis] < 2:
            continue
        part = flat_change[: flat.size - step]
        np.subtract(flat[step:], flat[:-step], out=part)
        np.abs(part, out=part)
        if axis == 0:
            change[-1] = change[-2]
        elif axis == 1:
            change[:, -1] = change[:, -2]
        else:
            change[:, :, -1] = change[:, :, -2]
        width += change
    return width


def near(f: np.ndarray, reach: float) -> Box | None:
    """The smallest box that holds all of f < reach; None when f is nowhere that low."""
    if f.min() >= reach:
        return None
    inside = np.asarray(f < reach)
    box = []
    for axes in ((1, 2), (0, 2), (0, 1)):
        line = np.asarray(inside.any(axis=axes))
        first = int(line.argmax())
        last = len(line) - int(line[::-1].argmax())
        # one voxel more on each side, so that differences at the rim are right
        box.append(slice(max(first - 1, 0), min(last + 1, len(line))))
    return (box[0], box[1], box[2])


def inner(box: Box, part: Box) -> Box:
    """`part` of a box, as a box of the whole grid."""
    a, b, c = (slice(o.start + p.start, o.start + p.stop) for o, p in zip(box, part, strict=True))
    return (a, b, c)


class Canvas:
    """A grid of points in anatomical mm (x to the left, y to the back, z up), and the image painted on it.

    Args:
        shape: (X, Y, Z) voxels.
        spacing: mm along each grid axis.
        rotation: (3, 3), grid axes to anatomical axes.
        centre: anatomical point at the middle of the grid, mm.
        rng: the only source of randomness.
        warp: strength of the smooth random deformation, mm (standard deviation).
        warp_scale: its lattice spacing, mm.
    """

    def __init__(
        self,
        shape: Sequence[int],
        spacing: Point,
        rotation: np.ndarray,
        centre: Point,
        rng: np.random.Generator,
        *,
        warp: float = 0.0,
        warp_scale: float = 60.0,
    ) -> None:
        self.shape = (int(shape[0]), int(shape[1]), int(shape[2]))
        self.spacing = np.asarray(spacing, float)
        self.rng = rng
        self.directions = np.asarray(rotation, float) * self.spacing
        self.origin = np.asarray(centre, float) - self.directions @ ((np.array(self.shape) - 1) / 2)
        self.inverse = np.linalg.inv(self.directions)
        self.slack = 3.5 * warp
        # the change across a voxel of a distance in mm, averaged over its directions
        self.width = np.float32(0.5 * self.spacing.sum())
        self.reach = 1.5 * float(self.spacing.sum())
        self._origin = tuple(self.origin.tolist())
        self._rows = list(zip(self.inverse.tolist(), self.spacing.tolist(), self.shape, strict=True))
        axes = [np.arange(n, dtype=np.float32) for n in self.shape]
        self.points = []
        for row, start in zip(self.directions, self.origin, strict=True):
            line = [(np.float32(d) * axis) for d, axis in zip(row, axes, strict=True)]
            point = (line[0] + np.float32(start))[:, None, None] + line[1][:, None] + line[2]
            if warp > 0:
                point += np.float32(warp) * self.noise(warp_scale)
            self.points.append(point)
        self.whole: Box = (slice(0, self.shape[0]), slice(0, self.shape[1]), slice(0, self.shape[2]))
        self.image = np.zeros(self.shape, np.float32)

    def noise(self, scale: float, *, box: Box | None = None, band: bool = False) -> np.ndarray:
        """Smooth noise of unit variance whose lattice spacing is `scale` mm (on the box only, if given)."""
        shape = self.shape if box is None else tuple(b.stop - b.start for b in box)
        return smooth_noise(shape, scale / self.spacing, self.rng, band=band)

    def box(self, centre: Point, radius: float) -> Box | None:
        """The part of the grid within `radius` mm of a point; None when there is none."""
        ox, oy, oz = (float(c) - o for c, o in zip(centre, self.origin, strict=True))
        sides = []
        for row, step, size in zip(self.inverse, self.spacing, self.shape, strict=True):
            middle = row[0] * ox + row[1] * oy + row[2] * oz
            reach = (radius + self.slack) / step + 1
            low, high = max(math.floor(middle - reach), 0), min(math.ceil(middle + reach) + 1, size)
            if high <= low:
                return None
            sides.append(slice(low, high))
        return (sides[0], sides[1], sides[2])

    def misses(self, x: float, y: float, z: float, radius: float) -> bool:
        """Whether a ball of that radius in mm surely lies off the grid; fast, in plain floats."""
        x, y, z = x - self._origin[0], y - self._origin[1], z - self._origin[2]
        for (a, b, c), step, size in self._rows:
            middle = a * x + b * y + c * z
            reach = (radius + self.slack) / step + 1
            if middle < -reach or middle > size + reach:
                return True
        return False

    def at(self, box: Box | None = None) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """The points' x, y, z in mm, on the box only if given."""
        x, y, z = self.points
        return (x, y, z) if box is None else (x[box], y[box], z[box])

    def paint(self, alpha: np.ndarray, value: float | np.ndarray, box: Box | None = None) -> None:
        """Blend `value` in where `alpha` (0 to 1) says; both on the box if given."""
        part = self.image if box is None else self.image[box]
        part += alpha * (np.asarray(value, np.float32) - part)

    def ellipsoid(
        self,
        centre: Point,
        radii: Point,
        *,
        rotation: np.ndarray | None = None,
        rough: float = 0.0,
        rough_scale: float = 12.0,
    ) -> tuple[Box, np.ndarray] | None:
        """Implicit function (about mm) of an ellipsoid with an uneven surface, on the box that holds it."""
        box = self.box(centre, max(radii) + 3 * rough)
        if box is None:
            return None
        points = [p - np.float32(c) for p, c in zip(self.at(box), centre, strict=True)]
        if rotation is not None:
            points = [sum(np.float32(r) * p for r, p in zip(row, points, strict=True)) for row in rotation]  # type: ignore[misc]
        square = np.zeros_like(points[0])
        for p, r in zip(points, radii, strict=True):
            square += np.square(p * np.float32(1 / r))
        f = np.sqrt(square, out=square)
        f -= 1
        f *= np.float32(min(radii))
        if rough > 0:
            f += np.float32(rough) * self.noise(rough_scale, box=box)
        return box, f

    def tube(
        self, start: Point, stop: Point, radius: float, radius_stop: float | None = None
    ) -> tuple[Box, np.ndarray] | None:
        """Implicit function (mm) of a straight tube with round ends, on the box that holds it."""
        a = [float(c) for c in start]
        axis = [float(c) - o for c, o in zip(stop, a, strict=True)]
        square = axis[0] ** 2 + axis[1] ** 2 + axis[2] ** 2 + 1e-9
        end = radius if radius_stop is None else radius_stop
        middle = [o + d / 2 for o, d in zip(a, axis, strict=True)]
        box = self.box(middle, math.sqrt(square) / 2 + max(radius, end))
        if box is None:
            return None
        x, y, z = (p - np.float32(o) for p, o in zip(self.at(box), a, strict=True))
        dx, dy, dz = (np.float32(d) for d in axis)
        t = (x * dx + y * dy + z * dz) * np.float32(1 / square)
        np.clip(t, 0, 1, out=t)
        f = np.square(x - t * dx)
        f += np.square(y - t * dy)
        f += np.square(z - t * dz)
        np.sqrt(f, out=f)
        t *= np.float32(end - radius)
        f -= t
        f -= np.float32(radius)
        return box, f
