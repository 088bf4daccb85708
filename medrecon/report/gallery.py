"""The features of layers as pictures, on the slice that the page opens with."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from PIL import Image

from medrecon.evaluation.scores import AtlasVolumes, LayerPictures
from medrecon.report.planes import Plane, View
from medrecon.report.tiles import SMALL, Picture, encode, thinned


def gallery(
    volumes: AtlasVolumes, view: View, plane: Plane = "axial", most_pixels: int = SMALL
) -> dict[str, list[Picture]]:
    """Layer -> its principal components as colour, then its strongest channels.

    Each pixel shows the position of the layer that lies nearest to it in the patient: strides and offsets are
    those of the layer's affine, so the pictures lie on the slice to within half a position. Outside the
    network's image they are black.

    Args:
        volumes: of the atlas.
        view: how the scan is cut.
        plane: which slice.
        most_pixels: the longest side of a picture.
    """
    made: dict[str, list[Picture]] = {}
    for name, shown in volumes.features.items():
        picked = picked_slice(shown, volumes.affine, volumes.source.shape, view, plane)
        thin = thinned(picked, most_pixels)
        share = f"{sum(shown.shares):.0%} of the variance"
        rgb = Image.fromarray(np.ascontiguousarray(np.moveaxis(thin[:3], 0, -1)), "RGB")
        row = [Picture(share, f"three principal components of {name} as red, green and blue", encode(rgb))]
        for channel, image in zip(shown.channels, thin[3:], strict=True):
            picture = encode(Image.fromarray(np.ascontiguousarray(image), "L"))
            row.append(Picture(f"channel {channel}", f"channel {channel} of {name}", picture))
        made[name] = row
    return made


def picked_slice(
    shown: LayerPictures, affine: np.ndarray, shape: Sequence[int], view: View, plane: Plane
) -> np.ndarray:
    """The layer's colours and channels (3 + N, rows, columns) at the voxels of a slice of the scan."""
    axes = [np.arange(n).reshape([-1 if a == k else 1 for a in range(3)]) for k, n in enumerate(shape)]
    voxels = np.stack([view.cut(np.broadcast_to(axis, tuple(shape)), plane) for axis in axes])
    to_layer = np.linalg.inv(shown.affine) @ affine
    places = np.tensordot(to_layer[:3, :3], voxels, 1) + to_layer[:3, 3, None, None]
    values = np.concatenate([shown.colours, shown.strongest])
    ends = np.array(values.shape[1:])[:, None, None]
    inside = ((places > -1) & (places < ends)).all(0)
    x, y, z = np.clip(np.rint(places).astype(int), 0, ends - 1)
    return np.where(inside, values[:, x, y, z], 0).astype(np.uint8)
