"""The volumes, colours and figures of a scene, each written as its node is added."""

from __future__ import annotations

import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib import colormaps
from matplotlib.colors import Colormap, LinearSegmentedColormap

from medrecon.evaluation.scores import AtlasVolumes, LayerScore, ScanScores
from medrecon.report.scene_files import Slab, colour_table, file_name, nrrd_size, text_table, write_nrrd
from medrecon.report.scene_mrml import MrmlScene
from medrecon.report.scene_values import Store, ends, error_limit, map_limit
from medrecon.report.scene_words import MEANING, alone, attributes, describe, describe_source, metrics
from medrecon.report.style import ERROR_MAP

_EXTENT_MAP = LinearSegmentedColormap.from_list("medrecon_extent", ERROR_MAP(np.linspace(0.5, 1, 256)))
_FEATURE_MAP = colormaps["viridis"]
_GREY = "vtkMRMLColorTableNodeGrey"
_FOLDER = "review"
_SHARE = 0.8
"""Of the source's bytes, what a lone layer may take: the scene with its text stays below twice the source."""

_HU = {
    "voxelValueQuantity": "CodeValue:112031|CodingSchemeDesignator:DCM|CodeMeaning:Attenuation%20Coefficient",
    "voxelValueUnits": "CodeValue:[hnsf%27U]|CodingSchemeDesignator:UCUM|CodeMeaning:Hounsfield%20unit",
}


@dataclass(frozen=True)
class Grid:
    """Where a volume's voxels are: (X, Y, Z) of them, and (4, 4), voxel index -> RAS mm."""

    shape: Sequence[int]
    affine: np.ndarray


class SceneWriter:
    """Adds what an atlas has to a scene and its files to the bundle; no volume is held but the atlas' own.

    Args:
        bundle: the `.mrb`, open for writing.
        scores: from the atlas.
        volumes: on one grid.
        errors: errors will be added, and need their colours.
    """

    def __init__(
        self, bundle: zipfile.ZipFile, scores: ScanScores, volumes: AtlasVolumes, *, errors: bool
    ) -> None:
        self.scene = MrmlScene()
        self._bundle, self._scores, self._volumes = bundle, scores, volumes
        self._files = 0
        self._store = Store(volumes.source, scores.units)
        self._limit = error_limit(volumes) if errors else 0.0
        self._error_colours = self._colours("error", ERROR_MAP, (-self._limit, self._limit)) if errors else ""
        self._maps: dict[str, tuple[str, float]] = {}
        self.source = self._volume(
            f"source {scores.label}".strip(),
            self._store.slab(volumes.source),
            self._store.dtype(*ends(volumes.source)),
            scores.window,
            describe_source(scores),
            {"key": scores.key, "modality": scores.modality, "units": scores.units, **scores.facts},
        )
        self._source_size = bundle.infolist()[-1].file_size

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
        self._samples(score)
        return name, image, error

    def lone_layer(self, score: LayerScore) -> str:
        """Add the reconstruction of the scene's only layer, smaller than the source: the id."""
        result, affine = self._volumes.reconstructions[score.layer], self._volumes.affine
        low, high = self._scores.window
        bottom, top = ends(result)
        step = self._store.fitting_step(
            high - low,
            lambda step: nrrd_size(
                self._store.slab(result, step),
                self._scores.shape,
                self._store.dtype(bottom - step, top + step),
                affine,
            ),
            _SHARE * self._source_size,
        )
        return self._volume(
            score.layer,
            self._store.slab(result, step),
            self._store.dtype(bottom - step, top + step),
            self._scores.window,
            alone(score, self._scores, step),
            {**attributes(score), "step": f"{step:g}"},
        )

    def features(self, name: str) -> str:
        """Add the strongest channel of a layer, on the layer's own grid: the id; "" where it is not known."""
        shown = self._volumes.features.get(name)
        if shown is None:
            return ""
        values, (low, high) = shown.strongest[0], shown.ends[0]
        if "features" not in self._maps:
            self._maps["features"] = self._colours("features", _FEATURE_MAP, (0.0, 255.0), ""), 255.0
        return self._volume(
            f"{name} features",
            lambda part: values[:, :, part],
            np.dtype(np.int16),
            (0.0, 255.0),
            f"{MEANING['features']}: channel {shown.channels[0]} of {name}; "
            f"0 stands for {low:.4g}, 255 for {high:.4g}",
            {"channel": str(shown.channels[0])},
            self._maps["features"][0],
            grid=Grid(values.shape, shown.affine),
        )

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

    def _samples(self, score: LayerScore) -> None:
        """Add what was drawn of a layer; no view shows it until it is chosen."""
        drawn = self._volumes.drawn
        if score.layer not in drawn:
            return
        of, said = drawn[score.layer], describe(score, self._scores.units)
        named = {f"sample {n}": ("sample", values) for n, values in enumerate(of.samples, start=1)}
        for which, (meaning, values) in {**named, "mean": ("mean", of.mean)}.items():
            self._volume(
                f"{score.layer} {which}",
                self._store.slab(values),
                self._store.dtype(*ends(values)),
                self._scores.window,
                f"{MEANING[meaning]}. {said}",
                {"layer": score.layer, "generated": "YES"},
            )
        self._map("standard deviation", {name: each.deviation for name, each in drawn.items()}, score)

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
        grid: Grid | None = None,
    ) -> str:
        scene, (low, high) = self.scene, window
        units = self._scores.units if grid is None else ""
        grid = grid or Grid(self._scores.shape, self._volumes.affine)
        file = f"{_FOLDER}/Data/{self._name(name, '.nrrd')}"
        with self._bundle.open(_entry(file), "w", force_zip64=True) as stream:
            write_nrrd(stream, slab, grid.shape, dtype, grid.affine)
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
            displays.append(self._legend(name, display, units))
        return scene.add(
            "Volume",
            name,
            description=said,
            attributes={f"Medrecon.{_key(key)}": value for key, value in facts.items()},
            references={"display": displays, "storage": storage},
            **(_HU if units == "HU" else {}),
        )

    def _legend(self, name: str, display: str, units: str) -> str:
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

    def _colours(
        self, name: str, colours: Colormap, window: tuple[float, float], units: str | None = None
    ) -> str:
        low, high = window
        said = self._scores.units if units is None else units
        table = colour_table(colours, lambda place: f"{low + place * (high - low):.4g} {said}")
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
