"""A scene for 3D Slicer: the source, what each layer gives back, and the error of each, side by side."""

from __future__ import annotations

import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from matplotlib.colors import Colormap, LinearSegmentedColormap

from medrecon.errors import UsageError
from medrecon.evaluation.scores import AtlasVolumes, LayerScore, ScanScores
from medrecon.io.publish import publish
from medrecon.report.scene_files import Slab, colour_table, file_name, text_table, write_nrrd
from medrecon.report.scene_mrml import Scene
from medrecon.report.scene_values import Store, ends, error_limit, map_limit
from medrecon.report.scene_views import COLUMNS, Shown, add_views
from medrecon.report.scene_words import MEANING, attributes, describe, describe_source, metrics
from medrecon.report.style import ERROR_MAP

_EXTENT_MAP = LinearSegmentedColormap.from_list("medrecon_extent", ERROR_MAP(np.linspace(0.5, 1, 256)))
_GREY = "vtkMRMLColorTableNodeGrey"
_FOLDER = "review"
_SHEAR = 0.1
"""Voxels that a grid's corner may lie off a straight one; the readers allow as much."""

_HU = {
    "voxelValueQuantity": "CodeValue:112031|CodingSchemeDesignator:DCM|CodeMeaning:Attenuation%20Coefficient",
    "voxelValueUnits": "CodeValue:[hnsf%27U]|CodingSchemeDesignator:UCUM|CodeMeaning:Hounsfield%20unit",
}


def write_scene(
    path: str | Path, scores: ScanScores, volumes: AtlasVolumes, *, overwrite: bool = False
) -> Path:
    """Write a `.mrb` that 3D Slicer (5.0 or newer) opens without an extension.

    It holds the source, each layer's reconstruction and its signed error (reconstruction - source), the
    uncertainty and what the decoder invented where they are known, and the figures: as a table, and as each
    volume's description and attributes. It opens with the source and up to four layers in one row and their
    errors beneath, in the plane of acquisition and linked: all move together, and one slider fades
    reconstructions and errors into the source. One window holds for source and reconstructions, one symmetric
    scale for all errors.

    Whole numbers (HU) are kept as int16, all else as float32; a few slices are held in memory at a time. The
    same content gives the same bytes, with the same release of the compression library.

    Args:
        path: where it goes, ending in .mrb.
        scores: from the atlas; the order of its layers is that of the scene.
        volumes: (X, Y, Z) on one grid, source units.
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
        writer = _Writer(bundle, scores, volumes)
        layers = [writer.layer(score) for score in scores.layers]
        writer.table()
        add_views(writer.scene, _rows(writer.source, layers), volumes.affine, scores.shape)
        writer.finish()
    return path


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
            remedy="resample it first: --resample-tilt",
        )


def _rows(source: str, layers: Sequence[tuple[str, str, str]]) -> tuple[list[Shown], list[Shown]]:
    """The views: the source and up to four layers, the first and the last among them; errors beneath.

    A single layer fills a row with source, reconstruction and error; the second row shows them across.
    """
    if len(layers) == 1:
        [(name, image, error)] = layers
        row = [("source", source), (name, source, image, 0), (f"{name} error", source, error, 0)]
        return [Shown(*each) for each in row], [Shown(*each, across=True) for each in row]  # type: ignore[arg-type, misc]
    places = np.linspace(0, len(layers) - 1, min(COLUMNS - 1, len(layers))).round().astype(int)
    chosen = [(accent, *layers[place]) for accent, place in enumerate(places)]
    above = [Shown("source", source)] + [Shown(name, source, image, a) for a, name, image, _ in chosen]
    below = [Shown("source across", source, across=True)]
    return above, below + [Shown(f"{name} error", source, error, a) for a, name, _, error in chosen]


class _Writer:
    """Writes each file as its node is added, so that no volume but the atlas' own is held."""

    def __init__(self, bundle: zipfile.ZipFile, scores: ScanScores, volumes: AtlasVolumes) -> None:
        self.scene = Scene()
        self._bundle, self._scores, self._volumes = bundle, scores, volumes
        self._files = 0
        self._store = Store(volumes.source, scores.units)
        self._limit = error_limit(volumes)
        self._error_colours = self._colours("error", ERROR_MAP, (-self._limit, self._limit))
        self._maps: dict[str, tuple[str, float]] = {}
        self.source = self._volume(
            f"source {scores.label}".strip(),
            self._store.slab(volumes.source),
            self._store.dtype(*ends(volumes.source)),
            scores.window,
            describe_source(scores),
            {"key": scores.key, "modality": scores.modality, "units": scores.units, **scores.facts},
        )

    def layer(self, score: LayerScore) -> tuple[str, str, str]:
        """Add a layer: its name, and the ids of its reconstruction and its error."""
        name, volumes = score.layer, self._volumes
        result, source = volumes.reconstructions[name], volumes.source
        (low, high), (bottom, top) = ends(result), ends(source)
        given, taken = self._store.slab(result), self._store.slab(source)
        said, facts = describe(score, self._scores.units), attributes(score)
        image = self._volume(name, given, self._store.dtype(low, high), self._scores.window, said, facts)
        error = self._volume(
            f"{name} error",
            lambda part: given(part) - taken(part),
            self._store.dtype(low - top, high - bottom),
            (-self._limit, self._limit),
            f"{MEANING['error']}. {said}",
            facts,
            self._error_colours,
        )
        self._map("uncertainty", volumes.uncertainty, score)
        self._map("invented", volumes.invented, score)
        return name, image, error

    def table(self) -> None:
        """Add the figures."""
        file = self._add("metrics", ".tsv", text_table(metrics(self._scores)))
        storage = self.scene.add("TableStorage", "metrics", fileName=file)
        self.scene.add(
            "Table", "metrics", references={"storage": storage}, useColumnTitleAsColumnHeader="true"
        )

    def finish(self) -> None:
        """Write the nodes, nearest the root: that is how Slicer finds them."""
        self._bundle.writestr(_entry(f"{_FOLDER}/{_FOLDER}.mrml"), self.scene.xml())

    def _map(self, kind: str, maps: Mapping[str, np.ndarray | None], score: LayerScore) -> None:
        values = maps.get(score.layer)
        if values is None:
            return
        if kind not in self._maps:  # one scale for all layers
            top = map_limit(v for v in maps.values() if v is not None)
            self._maps[kind] = self._colours(kind, _EXTENT_MAP, (0.0, top)), top
        colours, top = self._maps[kind]
        self._volume(
            f"{score.layer} {kind}",
            lambda part: values[:, :, part],
            self._store.dtype(*ends(values)) if values.dtype.kind in "iu" else np.dtype(np.float32),
            (0.0, top),
            f"{MEANING[kind]}. {describe(score, self._scores.units)}",
            attributes(score),
            colours,
        )

    def _volume(
        self,
        name: str,
        slab: Slab,
        dtype: np.dtype,
        window: tuple[float, float],
        said: str,
        facts: Mapping[str, str],
        colours: str = _GREY,
    ) -> str:
        scene, (low, high) = self.scene, window
        file = f"{_FOLDER}/Data/{self._name(name, '.nrrd')}"
        with self._bundle.open(_entry(file), "w", force_zip64=True) as stream:
            write_nrrd(stream, slab, self._scores.shape, dtype, self._volumes.affine)
        display = scene.add(
            "VolumeDisplay",
            name,
            colorNodeID=colours,
            autoWindowLevel=0,
            window=high - low,
            level=(high + low) / 2,
            interpolate=1 if colours == _GREY else 0,
            windowLevelPreset0=f"{high - low:g}|{(high + low) / 2:g}",
        )
        storage = scene.add(
            "VolumeArchetypeStorage",
            name,
            fileName=file.removeprefix(f"{_FOLDER}/"),
            useCompression=1,
            UseOrientationFromFile=1,
        )
        displays = [display]
        if colours != _GREY:
            displays.append(self._legend(name, display))
        return scene.add(
            "Volume",
            name,
            description=said,
            attributes={f"Medrecon.{_key(key)}": value for key, value in facts.items()},
            references={"display": displays, "storage": storage},
            **(_HU if self._scores.units == "HU" else {}),
        )

    def _legend(self, name: str, display: str) -> str:
        units = self._scores.units
        return self.scene.add(
            "ColorLegendDisplay",
            name,
            references={"primaryDisplay": display},
            titleText=f"{name} ({units})" if units else name,
            labelFormat="%.4g",
            maxNumberOfColors=256,
            numberOfLabels=5,
            visibility="true",
            visibility2D="true",
            visibility3D="false",
        )

    def _colours(self, name: str, colours: Colormap, window: tuple[float, float]) -> str:
        low, high = window
        table = colour_table(colours, lambda place: f"{low + place * (high - low):.4g} {self._scores.units}")
        storage = self.scene.add("ColorTableStorage", name, fileName=self._add(name, ".ctbl", table))
        return self.scene.add(
            "ColorTable",
            f"medrecon {name}",
            references={"storage": storage},
            type=13,
            numcolors=256,
        )

    def _add(self, name: str, ending: str, content: bytes) -> str:
        file = f"Data/{self._name(name, ending)}"
        self._bundle.writestr(_entry(f"{_FOLDER}/{file}"), content)
        return file

    def _name(self, words: str, ending: str) -> str:
        self._files += 1
        return file_name(self._files, words, ending)


def _entry(name: str) -> zipfile.ZipInfo:
    """An entry of the archive, without the time of writing."""
    entry = zipfile.ZipInfo(name)
    entry.create_system, entry.external_attr = 3, 0o644 << 16
    return entry


def _key(text: str) -> str:
    return "".join(c if c.isascii() and c.isalnum() else "_" for c in text)
