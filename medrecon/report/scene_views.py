"""What a scene opens with: linked slice views, the images above and their errors beneath."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.colors import to_rgb

from medrecon.report.scene_mrml import MrmlScene
from medrecon.report.style import ACCENTS, INK

_LAYOUTS: dict[int, tuple[int, tuple[str, ...], tuple[str, ...]]] = {
    2: (29, ("Red", "Yellow"), ()),
    3: (21, ("Red", "Green", "Yellow"), ("Red+", "Green+", "Yellow+")),
    4: (31, ("Red", "Yellow", "Green", "Slice4"), ("Slice5", "Slice6", "Slice7", "Slice8")),
    5: (
        32,
        ("Red", "Yellow", "Green", "Slice4", "Slice5"),
        ("Slice6", "Slice7", "Slice8", "Slice9", "Slice10"),
    ),
}
"""Columns -> Slicer's layout (SideBySide, ThreeOverThree, FourByTwo, FiveByTwo), and its views by row."""

COLUMNS = max(_LAYOUTS)

_ORIENTATIONS = {
    "Axial": np.array([[-1, 0, 0], [0, 1, 0], [0, 0, 1]]),
    "Sagittal": np.array([[0, 0, -1], [-1, 0, 0], [0, 1, 0]]),
    "Coronal": np.array([[-1, 0, 0], [0, 0, 1], [0, 1, 0]]),
}
"""Slicer's presets, patient's right on the left: columns are right, up and through in RAS."""

_PRESETS: dict[str, Any] = {
    f"orientationMatrix{name}": m.ravel().tolist() for name, m in _ORIENTATIONS.items()
}
_PIXELS = 512
"""Of a view; Slicer changes them to those of its window and keeps the scale."""


@dataclass(frozen=True)
class Shown:
    """What a view shows.

    Attributes:
        label: a short name for the view's bar.
        background: id of a volume.
        foreground: id of the volume over it, which hides it until Slicer's slider fades it.
        accent: number of the bar's colour; None for the source.
        across: show the plane across the acquired one.
    """

    label: str
    background: str
    foreground: str = ""
    accent: int | None = None
    across: bool = False


@dataclass(frozen=True)
class Plane:
    """A slice through the middle of a volume, along its voxels, so that none is interpolated.

    Attributes:
        orientation: name of the preset that it is; "" where it is oblique.
        directions: (3, 3), columns are right, up and through in RAS.
        centre: RAS mm, in the middle of a slice of voxels.
        width: mm that a square view must hold.
        step: mm from slice to slice.
    """

    orientation: str
    directions: np.ndarray
    centre: np.ndarray
    width: float
    step: float


def add_views(
    scene: MrmlScene, rows: tuple[Sequence[Shown], Sequence[Shown]], affine: np.ndarray, shape: Sequence[int]
) -> None:
    """Add a layout whose views form one linked group.

    Args:
        scene: gets the nodes.
        rows: the upper and the lower one, three to five views each; or two views and none.
        affine: (4, 4), voxel index -> RAS mm.
        shape: (X, Y, Z) voxels.
    """
    layout, *names = _LAYOUTS[len(rows[0])]
    acquired, across = planes(affine, shape)
    for row_names, row in zip(names, rows, strict=True):
        for name, shown in zip(row_names, row, strict=True):
            _add_view(scene, name, shown, across if shown.across else acquired)
    scene.add(
        "Layout",
        "Layout",
        singleton="vtkMRMLLayoutNode",
        currentViewArrangement=layout,
        guiPanelVisibility=1,
        bottomPanelVisibility=1,
    )


def planes(affine: np.ndarray, shape: Sequence[int]) -> tuple[Plane, Plane]:
    """The plane of acquisition (axial where voxels are about as long on all sides), and one across."""
    steps = np.linalg.norm(affine[:3, :3], axis=0)
    axes = affine[:3, :3] / steps
    order = np.argsort(-steps, kind="stable")
    thick = steps[order[0]] > 1.3 * steps[order[1]]
    through = int(order[0] if thick else np.abs(axes[2]).argmax())
    rest = [axis for axis in range(3) if axis != through]
    # across what is not sagittal a sagittal plane says less than the other one
    second = max(rest, key=lambda axis: np.abs(axes[1:, axis]).max() - 1e-6 * axis)
    return _plane(through, axes, steps, affine, shape), _plane(second, axes, steps, affine, shape)


def _plane(
    through: int, axes: np.ndarray, steps: np.ndarray, affine: np.ndarray, shape: Sequence[int]
) -> Plane:
    name = max(_ORIENTATIONS, key=lambda n: abs(float(_ORIENTATIONS[n][:, 2] @ axes[:, through])))
    preset = _ORIENTATIONS[name]
    normal = axes[:, through] * _sign(preset[:, 2] @ axes[:, through])
    flat = [axis for axis in range(3) if axis != through]
    right = max(flat, key=lambda axis: abs(float(preset[:, 0] @ axes[:, axis])))
    across = axes[:, right] * _sign(preset[:, 0] @ axes[:, right])
    up = np.cross(normal, across) * _sign(np.linalg.det(preset))
    directions = np.stack([across, up, normal], axis=1)
    middle = (np.asarray(shape) - 1) / 2
    middle[through] = shape[through] // 2
    width = max(float(shape[axis] * steps[axis]) for axis in flat)
    straight = np.abs(directions - preset).max() < 1e-6
    return Plane(
        name if straight else "",
        preset.astype(float) if straight else directions,
        affine[:3, :3] @ middle + affine[:3, 3],
        1.02 * width,
        float(steps[through]),
    )


def _sign(value: float) -> float:
    return -1.0 if value < 0 else 1.0


def _add_view(scene: MrmlScene, name: str, shown: Shown, plane: Plane) -> None:
    named: dict[str, Any] = {"orientation": plane.orientation} if plane.orientation else {}
    to_ras = np.eye(4)
    to_ras[:3, :3], to_ras[:3, 3] = plane.directions, plane.centre
    scene.add(
        "Slice",
        name,
        singleton=name,
        layoutName=name,
        layoutLabel=shown.label[:16],
        layoutColor=to_rgb(INK if shown.accent is None else ACCENTS[shown.accent % len(ACCENTS)]),
        viewGroup=0,
        sliceToRAS=to_ras.ravel().tolist(),
        fieldOfView=(plane.width, plane.width, plane.step),
        dimensions=(_PIXELS, _PIXELS, 1),
        **_PRESETS,
        **named,
    )
    over = {"foregroundVolume": shown.foreground} if shown.foreground else {}
    scene.add(
        "SliceComposite",
        name,
        singleton=name,
        layoutName=name,
        references={"backgroundVolume": shown.background, **over},
        compositing=0,
        foregroundOpacity=1 if shown.foreground else 0,
        labelOpacity=1,
        linkedControl=1,
        hotLinkedControl=1,
    )
