"""What the page's viewer is given: volumes, windows, colours, and the words about what was left out."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jinja2.utils import htmlsafe_json_dumps
from markupsafe import Markup

from medrecon.evaluation.scores import AtlasVolumes, ScanScores
from medrecon.report.html import NIIVUE, asset
from medrecon.report.inlined import Inlined, inline_volumes
from medrecon.report.style import ERROR_MAP
from medrecon.report.tiles import Slicing
from medrecon.report.words import clean, decimals, number, psnr, shown, times

WINDOWS = {"soft tissue": (-160.0, 240.0), "lung": (-1350.0, 150.0), "bone": (-450.0, 1050.0)}
"""HU, (low, high): the windows that a CT can be looked at besides its own."""

_SLACK = 24_000  # bytes of the section around the volumes
ERROR = "signed error"


@dataclass(frozen=True)
class Viewer:
    """The viewer of one page, or why it has none: then there are no volumes.

    Attributes:
        note: what was left out of the volumes, or why there is no viewer.
        layers: their names, as they can be chosen.
        overlays: what the third pane can show.
        windows: names of the windows.
        facts: JSON for the script, safe inside a script element.
        volumes: base64 texts, by number as `facts` names them.
        scripts: NiiVue, and the script that uses it.
    """

    note: str
    layers: tuple[str, ...] = ()
    overlays: tuple[str, ...] = ()
    windows: tuple[str, ...] = ()
    facts: str = ""
    volumes: tuple[Markup, ...] = ()
    scripts: tuple[str, ...] = ()


def make_viewer(scores: ScanScores, slicing: Slicing, volumes: AtlasVolumes, most_bytes: float) -> Viewer:
    """Make the volumes fit and say what the script must know.

    Args:
        scores: of the scan.
        slicing: its slices, for the colours' limits.
        volumes: source, reconstructions and maps.
        most_bytes: that NiiVue and all volumes may take.
    """
    names = [layer.layer for layer in scores.layers if layer.layer in volumes.reconstructions]
    if not names:
        return Viewer("There is no viewer: no layer was turned back into a volume.")
    scripts = asset(NIIVUE), asset("viewer.js")
    room = (
        most_bytes - sum(len(s.encode("utf-8")) for s in scripts) - len(asset("LICENSE-niivue.txt")) - _SLACK
    )
    inlined = inline_volumes(scores, volumes, room)
    if inlined is None:
        return Viewer("There is no viewer: its volumes do not fit into the size that this page may have.")
    numbers = {key: place for place, key in enumerate(inlined.volumes)}
    windows = {"as in the slices": scores.window}
    if scores.units == "HU":
        windows |= {f"{n} ({_whole(w)})": w for n, w in WINDOWS.items() if w != tuple(scores.window)}
    else:
        windows["whole range"] = float(np.nanmin(volumes.source)), float(np.nanmax(volumes.source))
    overlays = (ERROR, *slicing.map_limits)
    facts = {
        "units": clean(scores.units),
        "digits": 0 if inlined.step == 1 else min(4, decimals(scores.window)),
        "start": inlined.centre,
        "windows": list(windows.values()),
        "limits": {ERROR: slicing.limit, **slicing.map_limits},
        "above": _colours(0.66, 1.0),
        "below": _colours(0.34, 0.0),
        "layers": [
            {
                "name": clean(name),
                "caption": _caption(scores, name),
                "reconstruction": numbers["reconstruction", name],
                **{kind: numbers[kind, name] for kind in slicing.map_limits if (kind, name) in numbers},
            }
            for name in names
        ],
    }
    return Viewer(
        note=_note(scores, inlined),
        layers=tuple(names),
        overlays=overlays,
        windows=tuple(windows),
        facts=htmlsafe_json_dumps(facts),
        volumes=tuple(Markup(text) for text in inlined.volumes.values()),
        scripts=scripts,
    )


def _note(scores: ScanScores, inlined: Inlined) -> str:
    kept = [
        f"every {_ordinal(f)} voxel along {axis}"
        for f, axis in zip(inlined.factors, "XYZ", strict=True)
        if f > 1
    ]
    step = ""
    if inlined.step != 1 or scores.units:
        step = f"values rounded to {inlined.step:.2g} {clean(scores.units)}".rstrip()
    if kept:
        thinned = (
            f"To keep this page small the viewer holds {' and '.join(kept)} "
            f"({times(inlined.shape)} of {times(scores.shape)}), not averaged, cut to the body"
        )
    else:
        thinned = (
            f"The viewer holds every voxel, cut to the body ({times(inlined.shape)} of {times(scores.shape)})"
        )
    return f"{', '.join(filter(None, (thinned, step)))}. Scores, charts and slices are of the whole scan."


def _caption(scores: ScanScores, name: str) -> str:
    layer = next((layer for layer in shown(scores) if layer.layer == name), None)
    return clean(name) if layer is None else f"{clean(name)}: {psnr(layer)}"


def _ordinal(value: int) -> str:
    return {2: "2nd", 3: "3rd"}.get(value, f"{value}th")


def _whole(window: tuple[float, float]) -> str:
    return f"{number(window[0], 0)} to {number(window[1], 0)}"


def _colours(first: float, last: float) -> dict[str, list[int]]:
    """A colour map as NiiVue takes it, from a stretch of the error's colours."""
    index = np.linspace(0, 255, 6)
    red, green, blue = np.rint(255 * ERROR_MAP(np.linspace(first, last, 6))[:, :3]).astype(int).T.tolist()
    return {"R": red, "G": green, "B": blue, "A": [0, *[255] * 5], "I": np.rint(index).astype(int).tolist()}
