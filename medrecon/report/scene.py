"""A scene for 3D Slicer: the source, what each layer gives back, and the error of each, side by side."""

from __future__ import annotations

import zipfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from medrecon.errors import UsageError
from medrecon.evaluation.scores import AtlasVolumes, LayerScore, ScanScores
from medrecon.io.files.publish import publish
from medrecon.report.scene_views import COLUMNS, Shown, add_views
from medrecon.report.scene_writer import SceneWriter

DEFAULT_LAYER = "level4"
"""The layer of a small scene, where it was measured: what the module in Slicer starts with."""

_SHEAR = 0.1
"""Voxels that a grid's corner may lie off a straight one; the readers allow as much."""


def write_scene(
    path: str | Path, scores: ScanScores, volumes: AtlasVolumes, *, full: bool = True, overwrite: bool = False
) -> Path:
    """Write a `.mrb` that 3D Slicer (5.0 or newer) opens without an extension.

    A full one holds the source, each layer's reconstruction and its signed error (reconstruction - source),
    the uncertainty and what the decoder invented where they are known, two samples, their mean and their
    standard deviation where some were drawn (in no view until one chooses them), and the figures: as a table,
    and as each volume's description and attributes. It opens with the source and up to four layers in one row
    and their errors beneath, in the plane of acquisition and linked: all move together, and one slider fades
    reconstructions and errors into the source. One window holds for source and reconstructions, one symmetric
    scale for all errors.

    A small one holds the source and one layer (level4, or the middle one where there is none), side by side,
    and the figures of all layers. The layer is kept in the finest steps, no coarser than an eighth of the
    window, in which it takes four fifths of the source's bytes: so the scene stays below twice the source.

    Where the layers' features are known, the strongest channel of each (in a small scene that of its layer)
    lies over the source in colour, on the layer's own grid; a small scene then shows it in a third column.

    Whole numbers (HU) are kept as int16, all else as float32; a few slices are held in memory at a time. The
    same content gives the same bytes, with the same release of the compression library.

    Args:
        path: where it goes, ending in .mrb.
        scores: from the atlas; the order of its layers is that of the scene.
        volumes: (X, Y, Z) on one grid, source units.
        full: each layer with its maps, many times the source's size; else a small scene.
        overwrite: replace a file that is there.

    Returns:
        The file.

    Raises:
        UsageError: another ending, no layer, shapes that differ, or a sheared grid, which Slicer cannot hold.
        OutputError: it exists, or cannot be written.
    """
    path = Path(path)
    _check(path, scores, volumes)
    with publish(path, overwrite) as part, zipfile.ZipFile(part, "w", zipfile.ZIP_STORED) as bundle:
        writer = SceneWriter(bundle, scores, volumes, errors=full)
        if full:
            rows = _rows(writer.source, [writer.layer(score) for score in scores.layers])
            for name in volumes.features:
                writer.features(name)
        else:
            score = default_score(scores)
            over = Shown(score.layer, writer.source, writer.lone_layer(score), 0)
            rows = [Shown("source", writer.source), over], []
            if features := writer.features(score.layer):
                row = [*rows[0], Shown(f"{score.layer} features", writer.source, features, 0)]
                rows = row, [replace(shown, across=True) for shown in row]
        writer.table()
        add_views(writer.scene, rows, volumes.affine, scores.shape)
        writer.finish()
    return path


def default_score(scores: ScanScores) -> LayerScore:
    """Of the layer that a small scene holds."""
    named = [score for score in scores.layers if score.layer == DEFAULT_LAYER]
    return named[0] if named else scores.layers[len(scores.layers) // 2]


def _check(path: Path, scores: ScanScores, volumes: AtlasVolumes) -> None:
    if path.suffix.lower() != ".mrb":
        raise UsageError("is no name for a Slicer scene", path=path, remedy="name a .mrb file")
    missing = [score.layer for score in scores.layers if score.layer not in volumes.reconstructions]
    if not scores.layers or missing:
        raise UsageError(
            f"no reconstruction of {', '.join(missing) or 'any layer'}",
            path=path,
            remedy="give a volume for each layer that was measured",
        )
    parts = (volumes.reconstructions, volumes.uncertainty, volumes.invented)
    shapes = {v.shape for part in parts for v in part.values() if v is not None} | {volumes.source.shape}
    shapes |= {volume.shape for drawn in volumes.drawn.values() for volume in drawn.all}
    if shapes != {tuple(scores.shape)} or len(scores.shape) != 3:
        raise UsageError(
            f"volumes of {', '.join(map(str, sorted(shapes)))} for a scan of {tuple(scores.shape)}",
            path=path,
            remedy="give all on the source's grid, (X, Y, Z)",
        )
    axes = volumes.affine[:3, :3] / np.linalg.norm(volumes.affine[:3, :3], axis=0)
    if not np.abs(axes.T @ axes - np.eye(3)).max() * max(scores.shape) <= _SHEAR:
        raise UsageError(
            "the grid is sheared, which a volume in 3D Slicer cannot be",
            path=path,
            remedy="resample it first: --resample",
        )


def _rows(source: str, layers: Sequence[tuple[str, str, str]]) -> tuple[list[Shown], list[Shown]]:
    """The views: the source and up to four layers, the first and the last among them; errors beneath.

    A single layer fills a row with source, reconstruction and error; the second row shows them across.
    """
    if len(layers) == 1:
        [(name, image, error)] = layers
        row = [
            Shown("source", source),
            Shown(name, source, image, 0),
            Shown(f"{name} error", source, error, 0),
        ]
        return row, [replace(shown, across=True) for shown in row]
    places = np.linspace(0, len(layers) - 1, min(COLUMNS - 1, len(layers))).round().astype(int)
    chosen = [(accent, *layers[place]) for accent, place in enumerate(places)]
    above = [Shown("source", source)] + [Shown(name, source, image, a) for a, name, image, _ in chosen]
    below = [Shown("source across", source, across=True)]
    return above, below + [Shown(f"{name} error", source, error, a) for a, name, _, error in chosen]
