"""What the page's viewer is given: volumes, windows, colours, and the words about what was left out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jinja2.utils import htmlsafe_json_dumps
from markupsafe import Markup
from matplotlib.colors import Colormap

from medrecon.evaluation.scores import AtlasVolumes, ScanScores
from medrecon.report.answers import layer_line, lost
from medrecon.report.carried import Carried, Part, carry
from medrecon.report.html import asset
from medrecon.report.planes import View
from medrecon.report.style import ERROR_MAP
from medrecon.report.tiles import SURE_MAP, Slicing
from medrecon.report.words import clean, decimals, number, times

CT_WINDOWS = {
    "soft tissue": (-160.0, 240.0),
    "lung": (-1350.0, 150.0),
    "bone": (-450.0, 1050.0),
    "brain": (0.0, 80.0),
}
"""HU, (low, high): the windows that a CT can be looked at besides its own."""

ERROR = "signed error"

_SLACK = 24_000  # bytes of the section around the volumes
_SCRIPTS = ("volumes", "colours", "model", "panes", "gestures", "finding", "gif", "viewer")


@dataclass(frozen=True)
class Viewer:
    """The viewer of one page, or why it has none: then there are no volumes.

    Attributes:
        note: what was left out of the volumes, or why there is no viewer.
        layers: names, and a few words for each.
        plane: that it opens in.
        maps: what the second pane can show.
        mask: whether there is a mask to outline.
        windows: names of the windows.
        facts: JSON for the script, safe inside a script element.
        volumes: base64 texts, by number as `facts` names them.
        script: the viewer.
    """

    note: str
    layers: tuple[tuple[str, str], ...] = ()
    plane: str = "axial"
    maps: tuple[str, ...] = ()
    mask: bool = False
    windows: tuple[str, ...] = ()
    facts: str = ""
    volumes: tuple[Markup, ...] = ()
    script: str = ""


def make_viewer(
    scores: ScanScores, slicing: Slicing, volumes: AtlasVolumes, view: View, most_bytes: float
) -> Viewer:
    """Make the volumes fit and say what the script must know.

    Args:
        scores: of the scan.
        slicing: its slices, for the colours' limits.
        volumes: source, reconstructions and maps.
        view: the box that is shown, and the point that it opens at.
        most_bytes: that scripts and volumes may take.
    """
    names = [layer.layer for layer in scores.layers if layer.layer in volumes.reconstructions]
    if not names:
        return Viewer("There is no viewer: no layer was turned back into a volume.")
    code = "".join(asset(f"viewer/{name}.js") for name in _SCRIPTS)
    script = f'(() => {{\n"use strict";\n{code}}})();\n'
    carried = carry(scores, volumes, view, most_bytes - len(script.encode("utf-8")) - _SLACK)
    if carried is None:
        return Viewer("There is no viewer: its volumes do not fit into the size that this page may have.")
    texts = [text for each in carried.volumes.values() for text in each]
    windows = _windows(scores, volumes.source)
    step = carried.coding["source", ""][1]
    facts = {
        "units": clean(scores.units),
        "digits": 0 if step == 1 else min(4, decimals(scores.window)),
        "shape": [stop - start for start, stop in view.box],
        "spacing": list(view.spacing),
        "affine": _affine(volumes.affine, view, volumes.source.shape).tolist(),
        "start": [at - start for at, (start, _) in zip(view.at, view.box, strict=True)],
        "windows": [{"range": list(window)} for window in windows.values()],
        "limits": {ERROR: slicing.limit, **slicing.map_limits},
        "colours": {"error": _ramp(ERROR_MAP), "map": _ramp(SURE_MAP)},
        "parts": [vars(part) for part in carried.parts],
        "source": _entry(carried, "source", ""),
        "mask": _entry(carried, "mask", "") if volumes.mask is not None else None,
        "layers": [
            {
                "name": clean(name),
                "caption": _caption(scores, name),
                "told": layer_line(scores, name),
                "reconstruction": _entry(carried, "reconstruction", name),
                **{
                    kind: _entry(carried, kind, name)
                    for kind in slicing.map_limits
                    if (kind, name) in carried.volumes
                },
            }
            for name in names
        ],
    }
    return Viewer(
        note=_note(scores, carried, facts["shape"]),
        layers=tuple((name, lost(scores, name)) for name in names),
        plane=_plane(view.spacing),
        maps=(ERROR, *slicing.map_limits),
        mask=volumes.mask is not None,
        windows=tuple(windows),
        facts=htmlsafe_json_dumps(facts),
        volumes=tuple(Markup(text) for text in texts),
        script=script,
    )


def _entry(carried: Carried, kind: str, layer: str) -> dict[str, object]:
    """Where a volume's parts stand in the page, and how they are coded."""
    before = 0
    for key, texts in carried.volumes.items():
        if key == (kind, layer):
            return {"data": list(range(before, before + len(texts))), "coding": carried.coding[key]}
        before += len(texts)
    raise KeyError((kind, layer))


def _windows(scores: ScanScores, source: np.ndarray) -> dict[str, tuple[float, float]]:
    """What the scan opens in, and what else can be chosen, by name."""
    windows = {f"as it opens ({_whole(scores.window)})": scores.window}
    if scores.units == "HU":
        known = {name: w for name, w in CT_WINDOWS.items() if w != tuple(scores.window)}
        windows |= {f"{name} ({_whole(w)})": w for name, w in known.items()}
    windows["whole range"] = float(np.nanmin(source)), float(np.nanmax(source))
    return windows


def _affine(affine: np.ndarray, view: View, shape: Sequence[int]) -> np.ndarray:
    """(4, 4), voxel of the shown box (left, posterior, superior) -> RAS mm."""
    to_voxel = np.zeros((4, 4))
    to_voxel[3, 3] = 1
    for row, (axis, flip, (start, _)) in enumerate(zip(view.order, view.flip, view.box, strict=True)):
        to_voxel[axis, row] = -1 if flip else 1
        to_voxel[axis, 3] = shape[axis] - 1 - start if flip else start
    return np.asarray(np.asarray(affine, dtype=np.float64) @ to_voxel)


def _plane(spacing: Sequence[float]) -> str:
    """The plane that the scan was taken in where its slices are thick, else axial."""
    names = ("sagittal", "coronal", "axial")
    thickest = int(np.argmax(spacing))
    return names[thickest] if spacing[thickest] > 1.5 * sorted(spacing)[1] else "axial"


def _note(scores: ScanScores, carried: Carried, shape: Sequence[int]) -> str:
    base, *fine = carried.parts
    if base.exact:
        held = f"The viewer holds every voxel of the body ({times(shape)} of {times(scores.shape)})"
    else:
        kept = " and ".join(
            f"every {_ordinal(step)} voxel {where}"
            for step, where in zip(base.step, ("from right to left", "from front to back", "up"), strict=True)
            if step > 1
        )
        held = f"To keep this page small the viewer holds {kept}, not averaged"
        if fine:
            held += f"; every voxel in the three planes through the point it opens at{_box_words(fine)}"
    step = carried.coding["source", ""][1]
    rounded = (
        f"Values are rounded to {step:.2g} {clean(scores.units)}".rstrip()
        if step != 1 or scores.units
        else ""
    )
    return ". ".join(filter(None, (held, rounded, "Scores, charts and slices use every voxel."))).rstrip()


def _box_words(fine: Sequence[Part]) -> str:
    box = next((part for part in fine if min(part.shape) > 1), None)
    return f" and in a box of {times(box.shape)} voxels around it" if box else ""


def _caption(scores: ScanScores, name: str) -> str:
    said = lost(scores, name)
    return f"{clean(name)}: {said}" if said else clean(name)


def _ordinal(value: int) -> str:
    return {2: "2nd", 3: "3rd"}.get(value, f"{value}th")


def _whole(window: Sequence[float]) -> str:
    return f"{number(window[0], 0)} to {number(window[1], 0)}"


def _ramp(colours: Colormap) -> list[list[int]]:
    """256 colours as [red, green, blue]."""
    found: list[list[int]] = np.rint(255 * colours(np.linspace(0, 1, 256))[:, :3]).astype(int).tolist()
    return found
