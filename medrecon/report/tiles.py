"""Slices as small PNG pictures inside the page: what was given, what came back, and the signed error."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from markupsafe import Markup
from matplotlib import colormaps
from matplotlib.colors import Colormap
from PIL import Image

from medrecon.evaluation.scores import AtlasVolumes, ScanScores
from medrecon.report.layers import colour_limit, cut_of
from medrecon.report.planes import Plane, View, body_threshold, make_view
from medrecon.report.style import ERROR_MAP

PLANES: tuple[Plane, ...] = ("axial", "coronal", "sagittal")
SURE_MAP = colormaps["magma"]
"""Colours of what is not signed: dark where there is none."""


SMALL = 256
"""Pixels along the longest side of a picture in a row of several."""


@dataclass(frozen=True)
class Picture:
    """One picture: its caption, what it shows in words, and its data URI."""

    caption: str
    said: str
    picture: str


@dataclass(frozen=True)
class Slices:
    """One plane through the scan and through each layer's reconstruction; pictures as data URIs.

    Attributes:
        plane: which.
        size: width and height in mm.
        edges: letters of its left and right edge.
        source: the scan, in the window.
        layers: layer -> (reconstruction in the same window, signed error).
        maps: name of a map ("uncertainty", "invented") -> layer -> picture; layers without one are missing.
    """

    plane: Plane
    size: tuple[float, float]
    edges: tuple[str, str]
    source: str
    layers: dict[str, tuple[str, str]]
    maps: dict[str, dict[str, str]]


@dataclass(frozen=True)
class Slicing:
    """All planes and what their colours mean: the largest error and the largest value of each map."""

    slices: tuple[Slices, ...]
    limit: float
    map_limits: dict[str, float]
    scales: dict[str, str]


def view_of(scores: ScanScores, volumes: AtlasVolumes) -> View:
    """How the scan is cut, in all pictures of its page: through the middle of the mask, else of the body."""
    return view_in(volumes, scores.units, scores.spacing)


def view_in(volumes: AtlasVolumes, units: str, spacing: Sequence[float]) -> View:
    """The same of a scan that is not measured yet, in these units and mm along X, Y, Z."""
    background = body_threshold(volumes.source, units)
    at = None if volumes.mask is None else middle_of(volumes.mask)
    return make_view(volumes.source, spacing, volumes.affine, at, background)


def middle_of(mask: np.ndarray) -> tuple[int, int, int] | None:
    """The voxel of a mask that lies nearest to its centre of mass; None where it is empty."""
    places = np.argwhere(mask)
    if not len(places):
        return None
    nearest = np.square(places - places.mean(axis=0)).sum(axis=1).argmin()
    x, y, z = (int(v) for v in places[nearest])
    return x, y, z


def slice_tiles(scores: ScanScores, volumes: AtlasVolumes, view: View, *, most_pixels: int = 512) -> Slicing:
    """Cut the three planes of a view.

    Args:
        scores: which layers, and the window.
        volumes: the source and at least one layer's reconstruction.
        view: of the scan.
        most_pixels: the longest side of a picture; longer slices are averaged down.
    """
    names = [layer.layer for layer in scores.layers if layer.layer in volumes.reconstructions]
    cuts = {p: [cut_of(view, volumes.source, p, scores.units)] for p in PLANES}
    for plane, name in ((p, n) for p in PLANES for n in names):
        cuts[plane].append(cut_of(view, volumes.reconstructions[name], plane, scores.units))
    limit = colour_limit([image - row[0] for row in cuts.values() for image in row[1:]] or [np.zeros(1)])
    maps = {"uncertainty": volumes.uncertainty, "invented": volumes.invented}
    shown = {kind: _maps(view, found, names) for kind, found in maps.items()}
    limits = {
        k: colour_limit(
            [i[i > 0] for r in rows.values() for i in r.values() if (i > 0).any()] or [np.zeros(1)]
        )
        for k, rows in shown.items()
        if rows
    }
    low, high = scores.window
    slices = []
    for plane in PLANES:
        source, *rows = cuts[plane]
        pictures = {
            name: (
                gray(image, low, high, most_pixels),
                coloured(image - source, -limit, limit, ERROR_MAP, most_pixels),
            )
            for name, image in zip(names, rows, strict=True)
        }
        drawn = {
            kind: {n: coloured(r[plane], 0, limits[kind], SURE_MAP, most_pixels) for n, r in found.items()}
            for kind, found in shown.items()
            if found
        }
        shown_source = gray(source, low, high, most_pixels)
        slices.append(Slices(plane, view.size(plane), view.edges(plane), shown_source, pictures, drawn))
    bar = np.linspace(0, 1, 256)[None].repeat(2, axis=0)
    scales = {"gray": gray(bar, 0, 1, 256), "error": coloured(bar, 0, 1, ERROR_MAP, 256)}
    return Slicing(tuple(slices), limit, limits, scales | {"sure": coloured(bar, 0, 1, SURE_MAP, 256)})


def _maps(
    view: View, found: Mapping[str, np.ndarray | None], names: list[str]
) -> dict[str, dict[str, np.ndarray]]:
    there = {name: found[name] for name in names if found.get(name) is not None}
    return {
        name: {p: view.cut(np.asarray(v), p).astype(np.float32) for p in PLANES} for name, v in there.items()
    }


def _levels(image: np.ndarray, low: float, high: float) -> np.ndarray:
    scaled = (np.nan_to_num(image) - low) * (255 / ((high - low) or 1.0))
    return np.clip(np.rint(scaled), 0, 255).astype(np.uint8)


def gray(image: np.ndarray, low: float, high: float, most: int) -> str:
    """A slice (rows, columns) in a window, no side longer than so many pixels, as a data URI."""
    return encode(Image.fromarray(_levels(_shrunk(image, most), low, high), "L"))


def coloured(image: np.ndarray, low: float, high: float, colours: Colormap, most: int) -> str:
    """The same in colours."""
    picture = Image.fromarray(_levels(_shrunk(image, most), low, high), "P")
    palette = np.rint(255 * colours(np.linspace(0, 1, 256))[:, :3]).astype(np.uint8)
    picture.putpalette(palette.tobytes())
    return encode(picture)


def _shrunk(image: np.ndarray, most: int) -> np.ndarray:
    """Average whole blocks until no side is longer than `most` pixels; a rest at the edge is cut."""
    factors = [max(1, -(-n // most)) for n in image.shape]
    if factors == [1, 1]:
        return image
    rows, columns = (n // f for n, f in zip(image.shape, factors, strict=True))
    blocks = image[: rows * factors[0], : columns * factors[1]]
    return blocks.reshape(rows, factors[0], columns, factors[1]).mean(axis=(1, 3))


def thinned(images: np.ndarray, most: int) -> np.ndarray:
    """Leave out rows and columns of (..., rows, columns) until no side is longer than `most` pixels."""
    step = max(1, -(-max(images.shape[-2:]) // most))
    return images[..., ::step, ::step]


def encode(picture: Image.Image) -> Markup:
    """A picture as the address of itself: PNG within a data URI."""
    stream = io.BytesIO()
    picture.save(stream, "PNG", optimize=True)
    return Markup("data:image/png;base64,") + base64.b64encode(stream.getvalue()).decode()
