"""The page of an atlas: one HTML file that opens from disk, with its figures beside it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import matplotlib
from matplotlib.figure import Figure

from medrecon import __version__
from medrecon.errors import UsageError
from medrecon.evaluation.scores import AtlasVolumes, ScanScores
from medrecon.io.files.atomic import write_whole
from medrecon.report import charts, rows, words
from medrecon.report.answers import answers
from medrecon.report.finding_words import finding_answers, finding_table
from medrecon.report.gallery import gallery
from medrecon.report.html import asset, render, style_sheet
from medrecon.report.layers import layers_figure
from medrecon.report.palette import themed
from medrecon.report.samples import sample_rows, sample_table, sample_words
from medrecon.report.style import make_folder, save
from medrecon.report.svg import inline_svg
from medrecon.report.tiles import PLANES, Slicing, slice_tiles, view_of
from medrecon.report.viewer import Viewer, make_viewer

_PICTURES = (512, 256, 128)  # longest side of a slice, tried until the page fits


def write_page(
    path: str | Path,
    scores: ScanScores,
    volumes: AtlasVolumes,
    *,
    viewer: bool = True,
    most_bytes: float = 40e6,
) -> Path:
    """Write what an atlas found on one scan as a page, its figures as PNG and SVG in `figures/` beside it.

    The page is one file: it opens offline, makes no request, and a content security policy keeps it so. Texts
    of the scan are cleaned and escaped. A layer without controls is named, its scores are not shown.

    Args:
        path: the .html file.
        scores: of the scan.
        volumes: what they were measured on, (X, Y, Z) each, source units.
        viewer: put the viewer and the volumes in; they are cut to the body and thinned out away from the
            point it opens at until the page fits, and the page says by how much.
        most_bytes: the most that the page may take.

    Returns:
        The page.

    Raises:
        UsageError: a volume is not on the source's grid, or the page cannot be made so small.
        OutputError: the page or a figure cannot be written.
    """
    path = Path(path)
    _check(volumes)
    view = view_of(scores, volumes)
    slicing = slice_tiles(scores, volumes, view, most_pixels=_PICTURES[0])
    figures = _figures(scores, volumes)
    content = {**_content(scores, figures), "gallery": gallery(volumes, view)}
    content["samples"] = sample_rows(scores, volumes, view)
    text = _render(scores, slicing, content, None)
    for most_pixels in _PICTURES[1:]:
        if len(text.encode("utf-8")) <= most_bytes:
            break
        slicing = slice_tiles(scores, volumes, view, most_pixels=most_pixels)
        text = _render(scores, slicing, content, None)
    room = most_bytes - len(text.encode("utf-8"))
    if room < 0:
        raise UsageError(
            f"the page does not fit into {most_bytes / 1e6:.3g} MB, even without a viewer",
            path=path,
            remedy="allow it more",
        )
    if viewer:
        full = _render(scores, slicing, content, make_viewer(scores, slicing, volumes, view, room))
        text = full if len(full.encode("utf-8")) <= most_bytes else text
    _write_figures(path.parent / "figures", scores, volumes, slicing, figures)
    return write_whole(path, text)


def _check(volumes: AtlasVolumes) -> None:
    shape = volumes.source.shape
    for group in (volumes.reconstructions, volumes.uncertainty, volumes.invented):
        for name, volume in group.items():
            if volume is not None and (volume.shape != shape or len(shape) != 3):
                raise UsageError(
                    f"a volume of {words.clean(name)} has shape {volume.shape}, the source {shape}",
                    remedy="give volumes (X, Y, Z) on the source's grid",
                )


def _figures(scores: ScanScores, volumes: AtlasVolumes) -> dict[str, Figure]:
    """The charts that have something to show."""
    layers = words.shown(scores)
    found = {}
    if layers:
        found["depth"] = charts.depth_chart(scores)
    if scores.codec_curves or any(layer.bits_per_voxel for layer in layers):
        found["rate"] = charts.rate_chart(scores)
    if any(layer.layer in volumes.reconstructions for layer in layers):
        found["histogram"] = charts.histogram_chart(scores, volumes)
    if any(layer.spectrum.frequencies for layer in layers):
        found["spectrum"] = charts.spectrum_chart(scores)
    return found


def _content(scores: ScanScores, figures: Mapping[str, Figure]) -> dict[str, Any]:
    """All that does not depend on the size of the page."""
    layers = words.shown(scores)
    colours = {layer.layer: f"c{place}" for place, layer in enumerate(scores.layers)}
    told = {
        "depth": ("PSNR by layer", rows.listed(layers, words.psnr)),
        "rate": (
            "PSNR by bits per voxel",
            rows.listed(layers, lambda la: f"{words.significant(la.bits_per_voxel)} bits per voxel"),
        ),
        "histogram": (
            "How often each size of error occurs",
            rows.listed(layers, lambda la: f"mean error {words.amount(la.mae, scores.units)}"),
        ),
        "spectrum": ("Error by spatial frequency", rows.listed(layers, _limit_words)),
    }
    names = themed(len(scores.layers))
    return {
        "scores": scores,
        "unit": f"({words.clean(scores.units)})" if scores.units else "",
        "grid": _grid(scores),
        "answers": answers(scores) + finding_answers(scores),
        "findings": finding_table(scores),
        "part": words.part_of_controls(scores),
        "sentences": [(la.layer, colours[la.layer], words.of_layer(la, scores)) for la in layers],
        "charts": {
            name: inline_svg(figures[name], name, title, words.clean(text), names) if name in figures else ""
            for name, (title, text) in told.items()
        },
        "captions": {la.layer: words.psnr(la) for la in layers},
        "window": [words.significant(v, 3) for v in scores.window],
        "range": words.amount(layers[0].data_range, scores.units) if layers else "",
        "table": rows.score_table(scores),
        "layers": rows.layer_table(scores),
        "sure": rows.interval_table(scores),
        "sampled": sample_table(scores),
        "sample_words": sample_words(scores),
        "regions": rows.region_table(scores),
        "hidden": [layer.layer for layer in scores.layers if not layer.controls],
        "facts": [(k.replace("_", " "), v) for k, v in scores.facts.items()] + [("scan key", scores.key)],
        "version": __version__,
    }


def _limit_words(layer: Any) -> str:
    limit = layer.spectrum.limit
    return "to the finest detail" if limit is None else f"gone beyond {words.number(limit, 2)} lp/mm"


def _grid(scores: ScanScores) -> list[tuple[str, str]]:
    extent = [n * step for n, step in zip(scores.shape, scores.spacing, strict=True)]
    known = [("Modality", scores.modality or "not said by the file"), ("Voxels", words.times(scores.shape))]
    known += [
        ("Voxel size", f"{words.times(scores.spacing)} mm"),
        ("Extent", f"{words.times([round(v) for v in extent])} mm"),
    ]
    return [pair for pair in (*known, ("Units", scores.units or "arbitrary")) if pair[1]]


def _render(scores: ScanScores, slicing: Slicing, content: Mapping[str, Any], viewer: Viewer | None) -> str:
    maps = [
        (kind, words.amount(limit, scores.units), slicing.slices[0].maps[kind])
        for kind, limit in slicing.map_limits.items()
    ]
    sections = [
        ("viewer", "Viewer", viewer),
        ("summary", "In short", True),
        ("fidelity", "Fidelity", content["charts"]["depth"]),
        ("slices", "Slices", slicing.slices[0].layers),
        ("features", "Features", slicing.slices[0].layers and content["gallery"]),
        ("findings", "Findings", content["findings"]),
        ("scores", "Scores and controls", content["table"]),
        ("errors", "Errors", content["charts"]["histogram"] or content["charts"]["spectrum"]),
        ("regions", "Regions", content["regions"]),
        ("invented", "Recovered or invented", maps),
        ("samples", "By samples", content["sampled"]),
        ("made", "How this was made", True),
    ]
    shapes = "".join(
        f"[data-plane={s.plane}] img {{ aspect-ratio: {s.size[0]:.6g} / {s.size[1]:.6g}; }}\n"
        for s in slicing.slices
    )
    stops = 1 + (len(viewer.layers) if viewer else 0)
    # the thumb, a rem wide, stands over the middle of each label beneath it
    half = f"{50 / stops:.4g}%"
    shapes += f"#depth {{ width: calc(100% - 2 * {half} + 1rem); margin-left: calc({half} - 0.5rem); }}\n"
    return render(
        "page.html.j2",
        style=style_sheet(len(scores.layers), shapes),
        scripts=[asset("enlarge.js"), *([viewer.script] if viewer and viewer.volumes else [])],
        contents=[(id, title) for id, title, there in sections if there],
        slices=slicing if slicing.slices[0].layers else None,
        limit=words.significant(slicing.limit, 3),
        maps=maps,
        random_weights=any(c.name == "random weights" for layer in scores.layers for c in layer.controls),
        viewer=viewer,
        poster=_poster(slicing),
        **content,
    )


def _poster(slicing: Slicing) -> dict[str, Any] | None:
    """What stands for the viewer on paper and where no script runs: source, deepest layer, its error."""
    axial = slicing.slices[0]
    if not axial.layers:
        return None
    name, (image, error) = list(axial.layers.items())[-1]
    pictures = [("source", axial.source), (name, image), (f"error of {name}", error)]
    return {"plane": axial.plane, "pictures": pictures}


def _write_figures(
    folder: Path,
    scores: ScanScores,
    volumes: AtlasVolumes,
    slicing: Slicing,
    figures: Mapping[str, Figure],
) -> None:
    make_folder(folder)
    for name, figure in figures.items():
        save(figure, folder / name)
    there = [layer for layer in scores.layers if layer.layer in volumes.reconstructions]
    if not there:
        return
    with matplotlib.rc_context({"text.parse_math": False}):
        for plane in PLANES:
            layers_figure(
                volumes.source,
                {words.brief(layer.layer): volumes.reconstructions[layer.layer] for layer in there},
                scores.spacing,
                words.brief(scores.units),
                folder / f"slices_{plane}",
                affine=volumes.affine,
                values_per_voxel={
                    words.brief(la.layer): la.values_per_voxel
                    for la in there
                    if la.values_per_voxel is not None
                },
                psnr={words.brief(la.layer): la.psnr if la.controls else None for la in there},
                planes=[plane],
                window=scores.window,
                error_limit=slicing.limit,
            )
