"""One scan's atlas from its file to its folder, and the page over several of them."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from medrecon.atlas.marks import RADIUS, Marks
from medrecon.atlas.measuring import measure
from medrecon.atlas.network import AtlasNetwork
from medrecon.atlas.output import INDEX, PAGE, refuse_taken, write_atlas
from medrecon.atlas.progress import halves
from medrecon.atlas.summary import patient_numbers, write_summary
from medrecon.bundle.channels import read_channels
from medrecon.errors import UsageError
from medrecon.evaluation.scores import ScanScores
from medrecon.inference.prepared import check_scan
from medrecon.inference.reconstruction import network_asked, scan_asked
from medrecon.io import publish
from medrecon.io.files.names import hiding, scan_label
from medrecon.io.scan import Scan

if TYPE_CHECKING:
    from medrecon.training.linear import Named

NOTHING = Marks()

_RANKS = ("Best", "Middle", "Worst")


def measure_scan(
    engine: AtlasNetwork,
    scan: Scan,
    place: Path,
    *,
    marks: Marks = NOTHING,
    viewer: bool = True,
    full_scene: bool = False,
    progress: Callable[[int, int], None] | None = None,
) -> ScanScores:
    """Measure what each layer kept of a scan, and write it.

    Args:
        engine: made for this scan.
        scan: the source.
        place: the folder that is written.
        marks: masks and points that are looked at for themselves.
        viewer: put the interactive viewer into the page.
        full_scene: put each layer with its maps into the scene, not one alone.
        progress: called with (hundredths of stages done, of all).

    Raises:
        ScanError: the scan or the mask cannot be read.
        ModelError: the network cannot take this scan.
        OutputError: the folder is taken, or cannot be written.
    """
    masks, spheres = marks.on(scan)
    check_scan(engine.network.encoder, scan)
    step, tick = halves(progress, ["codecs", *engine.results, "writing"])
    scores, volumes = measure(engine, scan, masks, spheres, step=step, progress=tick, keep_samples=full_scene)
    step("writing")
    write_atlas(place, scores, volumes, viewer=viewer, full_scene=full_scene)
    return scores


def make_atlas(
    source: Scan | str | Path,
    output: str | Path,
    layers: str | Sequence[str] | None = None,
    *,
    bundle: str | Path = "volume_autoencoder",
    encoder_weights: str | Path | None = None,
    encoder: Named | None = None,
    encoder_arguments: Mapping[str, Any] | None = None,
    encoder_channels: Mapping[str, Scan | str | Path] | None = None,
    fit_on: str | Path | Sequence[Scan] = (),
    fit_channels: Mapping[str, str] | None = None,
    roi: str | Path | Sequence[str] = (),
    at: str | Sequence[str] = (),
    labels: str | Path | None = None,
    radius: float = RADIUS,
    viewer: bool = True,
    full_scene: bool = False,
    features: bool | None = None,
    own_output: bool = False,
    samples: int | None = None,
    seed: int = 0,
    device: str = "auto",
    hu: bool = False,
    progress: Callable[[int, int], None] | None = None,
    **reading: Any,
) -> ScanScores:
    """Measure what each layer kept of one scan, and write figures, a page and a scene for 3D Slicer.

    Args:
        source: a scan, or the path of one.
        output: a new folder.
        layers: results: "level4", "level2,level3+level4" or a list; None for each layer.
        bundle: name of a bundle that comes with medrecon, or a bundle's folder.
        encoder_weights: the file of the weights of `encoder`, or of the network that a bundle looks into.
        encoder: any network in the place of a bundle: a short name, a dotted path, `net.py:Net`, a folder, a
            class, or a network itself (a copy of it is used). Its linear inverse is fitted to generated scans
            and kept for the next time: a lower bound of what each layer keeps. It needs `layers`.
        encoder_arguments: of its class; "_intensity_", "_window_" and the like too.
        encoder_channels: name of a channel of the network -> a scan or its path, `source` among them, which
            is what comes back; None gives it to each channel.
        fit_on: scans, or their folder, to fit it to beside generated ones; not those to be judged.
        fit_channels: of a network with `encoder_channels`: name of a channel -> pattern of the names of the
            scans to fit to.
        roi: masks on the scan's grid, "PATH" or "NAME=PATH": errors, contrast, edge and size of each label.
        at: points, "R,A,S" or "NAME=R,A,S" in mm: the same of what lies around each.
        labels: a JSON file with names of labels.
        radius: mm around a point.
        viewer: put the interactive viewer into the page.
        full_scene: put each layer with its maps into the scene, not one alone.
        features: show the layers' features; None: where the network is somebody else's.
        own_output: also run the network to its end, on the scan and on each reconstruction.
        samples: draw so many of each result that the bundle's generative decoder knows (2 or more).
        seed: of the samples.
        device: "auto", "cpu", "cuda" or "cuda:N".
        hu: the values are HU, which NIfTI, NRRD and MHA cannot say.
        progress: called with (hundredths of stages done, of all).
        **reading: of `medrecon.find_one`: series, volume, resample, accept, nifti_form, replace_nonfinite.

    Returns:
        The scores, as in metrics.json.

    Raises:
        ScanError: the scan or the mask cannot be read.
        ModelError: the bundle or a layer cannot be used.
        OutputError: the folder is taken, or cannot be written.
    """
    scan = scan_asked(source, hu, reading)
    output = Path(output)
    refuse_taken(output)
    given = read_channels(scan, encoder_channels or {}, hu=hu, **reading)
    asked = network_asked(
        encoder,
        scan,
        layers,
        bundle,
        weights=encoder_weights,
        arguments=encoder_arguments,
        channels=given,
        fit_on=fit_on,
        fit_channels=fit_channels,
        device=device,
    )
    if own_output and "network_def" in asked.overrides:
        raise UsageError(
            "own_output builds the network anew, and this one has no name", remedy="name its class"
        )
    engine = AtlasNetwork(
        asked.bundle,
        [asked.scan],
        output=output,
        layers=layers,
        device=device,
        own_output=own_output,
        features=features,
        samples=samples,
        seed=seed,
        overrides=asked.overrides,
    )
    rois, points = ([str(each)] if isinstance(each, (str, Path)) else list(each) for each in (roi, at))
    names = None if labels is None else Path(labels)
    marks = Marks(tuple(rois), tuple(points), names, radius)
    return measure_scan(
        engine, asked.scan, output, marks=marks, viewer=viewer, full_scene=full_scene, progress=progress
    )


def write_overview(
    folder: Path,
    scans: Sequence[Scan],
    scores: Sequence[ScanScores],
    outputs: Mapping[str, Path],
    failed: Sequence[Mapping[str, Any]],
) -> dict[str, Any]:
    """Write the summary of many scans, and the page that leads to each.

    Args:
        folder: must not exist, or be empty.
        scans: all of them.
        scores: of those that went well.
        outputs: key of a scan -> its own folder, beside this one.
        failed: "path" and "message" of the others; what is written calls them by label, not by path.

    Returns:
        The summary.

    Raises:
        OutputError: it cannot be written.
    """
    from medrecon.report.index import write_index

    with publish(folder) as hidden:
        hidden.mkdir()
        failed = [_unnamed(fault, scans) for fault in failed]
        summary = write_summary(hidden, scores, patient_numbers(scans), failed)
        write_index(
            hidden / INDEX,
            [(each, f"../{outputs[each.key].name}/{PAGE}") for each in scores],
            summary["results"],
            patients=summary["patients"],
            pictures=_pictures(folder, scores, outputs),
            outliers=summary["outliers"],
            failed=[{"scan": fault["scan"], "error": fault["message"]} for fault in failed],
        )
    return summary


def _pictures(
    folder: Path, scores: Sequence[ScanScores], outputs: Mapping[str, Path]
) -> list[tuple[str, str, str]]:
    """The best, the middle and the worst scan by their deepest layer, among those in the commonest units."""
    from medrecon.report.index import figure_uri

    kinds = [each.units for each in scores]
    units = max(kinds, key=kinds.count)
    rated = [(each.layers[-1].psnr, each) for each in scores if each.units == units and each.layers]
    ranked = sorted(rated, key=lambda pair: -pair[0])
    if len(ranked) < len(_RANKS):
        return []
    found: list[tuple[str, str, str]] = []
    for which, place in zip(_RANKS, (0, len(ranked) // 2, len(ranked) - 1), strict=True):
        psnr, each = ranked[place]
        picture = outputs[each.key] / "figures" / "slices_axial.png"
        if picture.exists():
            said = "identical" if math.isinf(psnr) else f"{psnr:.1f} dB"
            title = f"{which}: {each.label}, {said} at {each.layers[-1].layer}"
            found.append((title, f"../{outputs[each.key].name}/{PAGE}", figure_uri(picture)))
    return found


def _unnamed(fault: Mapping[str, Any], scans: Sequence[Scan]) -> dict[str, Any]:
    """A fault without the names of files: the scan by its label, as far as it is one of those."""
    place = Path(str(fault["path"] or ""))
    scan = next((scan for scan in scans if place in (scan.path, *scan.files)), None)
    hide = hiding([place] if scan is None else scan.files)
    kept = {key: value for key, value in fault.items() if key != "path"}
    return {
        **kept,
        "scan": "a file that is refused" if scan is None else scan_label(scan),
        "message": hide(str(fault["message"])),
    }
