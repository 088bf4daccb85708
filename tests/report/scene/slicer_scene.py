"""What 3D Slicer's own code makes of a scene: nodes, geometry, colours, links, and its views as pictures.

    python tests/report/scene/slicer_scene.py SCENE.mrb [--pictures FOLDER]

A job of its own: its Python has slicer-core (PyPI, 5.13) and numpy, and nothing of medrecon. Prints JSON.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import slicer_core as slicer
from vtkmodules.util.numpy_support import numpy_to_vtk, vtk_to_numpy
from vtkmodules.vtkCommonDataModel import vtkImageData
from vtkmodules.vtkCommonMath import vtkMatrix4x4
from vtkmodules.vtkIOImage import vtkPNGWriter

PIXELS = 384


def load(bundle: Path, folder: Path) -> Any:
    """The scene of a data bundle, opened as Slicer opens it."""
    scene = slicer.vtkMRMLScene()
    scene.RegisterNodeClass(slicer.vtkMRMLColorLegendDisplayNode())  # the Colors module does this
    slicer.vtkMRMLSliceNode.AddDefaultSliceOrientationPresets(scene)
    logic = slicer.vtkMRMLApplicationLogic()  # links the views; before any is made
    logic.SetMRMLScene(scene)
    logic.SetTemporaryPath(str(folder))
    layout = slicer.vtkMRMLLayoutLogic()
    layout.SetMRMLScene(scene)
    colours = slicer.vtkMRMLColorLogic()
    colours.SetMRMLScene(scene)
    scene.logics = logic, layout, colours  # kept alive
    if not logic.OpenSlicerDataBundle(str(bundle.resolve()), str(folder)):
        sys.exit("3D Slicer cannot open the bundle")
    return scene


def nodes(scene: Any, kind: str) -> list[Any]:
    """The nodes of one class and its subclasses."""
    found = scene.GetNodesByClass(kind)
    found.UnRegister(None)
    return [found.GetItemAsObject(index) for index in range(found.GetNumberOfItems())]


def matrix(values: Any) -> list[list[float]]:
    """A 4x4 matrix as lists."""
    return [[values.GetElement(row, column) for column in range(4)] for row in range(4)]


def volume(node: Any) -> dict[str, Any]:
    """A volume: names, geometry, voxels, display."""
    to_ras = vtkMatrix4x4()
    node.GetIJKToRASMatrix(to_ras)
    image, display = node.GetImageData(), node.GetDisplayNode()
    values = vtk_to_numpy(image.GetPointData().GetScalars()).astype(np.float64)
    colours = display.GetColorNode()
    legends = [node.GetNthDisplayNode(i) for i in range(node.GetNumberOfDisplayNodes())]
    units = node.GetVoxelValueUnits()
    return {
        "id": node.GetID(),
        "name": node.GetName(),
        "description": node.GetDescription(),
        "attributes": {key: node.GetAttribute(key) for key in node.GetAttributeNames()},
        "ijk_to_ras": matrix(to_ras),
        "shape": image.GetDimensions(),
        "type": image.GetScalarTypeAsString(),
        "sum": float(values.sum()),
        "weighted": float(values @ np.arange(values.size)),
        "range": [float(values.min()), float(values.max())],
        "window": display.GetWindow(),
        "level": display.GetLevel(),
        "auto": display.GetAutoWindowLevel(),
        "interpolate": display.GetInterpolate(),
        "units": units.GetCodeMeaning() if units else "",
        "colours": colours.GetName() if colours else None,
        "colour_table": table_of(colours) if colours and colours.GetNumberOfColors() == 256 else [],
        "legends": [n.GetTitleText() for n in legends if n and n.IsA("vtkMRMLColorLegendDisplayNode")],
    }


def table_of(colours: Any) -> list[list[float]]:
    """Red, green, blue and opacity of each entry, 0 to 1."""
    lookup = colours.GetLookupTable()
    return [list(lookup.GetTableValue(index)) for index in range(lookup.GetNumberOfTableValues())]


def view(scene: Any, node: Any) -> dict[str, Any]:
    """A slice view and what lies in it."""
    tag = node.GetSingletonTag()
    [composite] = [n for n in nodes(scene, "vtkMRMLSliceCompositeNode") if n.GetSingletonTag() == tag]
    return {
        "name": tag,
        "label": node.GetLayoutLabel(),
        "group": node.GetViewGroup(),
        "orientation": node.GetOrientation(),
        "slice_to_ras": matrix(node.GetSliceToRAS()),
        "field_of_view": node.GetFieldOfView(),
        "background": composite.GetBackgroundVolumeID(),
        "foreground": composite.GetForegroundVolumeID(),
        "opacity": composite.GetForegroundOpacity(),
        "linked": composite.GetLinkedControl(),
        "hot": composite.GetHotLinkedControl(),
    }


def render(scene: Any, node: Any, opacity: float | None = None) -> np.ndarray:
    """The view as Slicer's slice logic blends it, (rows, columns, 3)."""
    tag = node.GetSingletonTag()
    [composite] = [n for n in nodes(scene, "vtkMRMLSliceCompositeNode") if n.GetSingletonTag() == tag]
    if opacity is not None and composite.GetForegroundVolumeID():
        composite.SetForegroundOpacity(opacity)
    logic = slicer.vtkMRMLSliceLogic()
    logic.SetMRMLScene(scene)
    logic.SetSliceNode(node)
    logic.ResizeSliceNode(PIXELS, PIXELS)
    logic.UpdatePipeline()
    port = logic.GetImageDataConnection()
    port.GetProducer().Update()
    image = port.GetProducer().GetOutputDataObject(port.GetIndex())
    columns, rows, _ = image.GetDimensions()
    values = vtk_to_numpy(image.GetPointData().GetScalars()).reshape(rows, columns, -1)
    return values[::-1, :, :3].copy()


def moved(scene: Any, node: Any) -> dict[str, list[str]]:
    """Which views follow when this one is scrolled by a slice, and when its foreground is faded."""
    logic = slicer.vtkMRMLSliceLogic()
    logic.SetMRMLApplicationLogic(scene.logics[0])
    logic.SetMRMLScene(scene)
    logic.SetSliceNode(node)
    slices = nodes(scene, "vtkMRMLSliceNode")
    before = {each.GetSingletonTag(): each.GetSliceOffset() for each in slices}
    logic.StartSliceOffsetInteraction()
    logic.SetSliceOffset(node.GetSliceOffset() + node.GetFieldOfView()[2])
    logic.EndSliceOffsetInteraction()
    scrolled = [n.GetSingletonTag() for n in slices if n.GetSliceOffset() != before[n.GetSingletonTag()]]
    logic.StartSliceCompositeNodeInteraction(slicer.vtkMRMLSliceCompositeNode.ForegroundOpacityFlag)
    logic.GetSliceCompositeNode().SetForegroundOpacity(0.25)
    logic.EndSliceCompositeNodeInteraction()
    composites = nodes(scene, "vtkMRMLSliceCompositeNode")
    faded = [n.GetSingletonTag() for n in composites if n.GetForegroundOpacity() == 0.25]
    return {"scrolled": scrolled, "faded": faded}


def save(picture: np.ndarray, path: Path) -> None:
    """Write a PNG."""
    rows, columns, parts = picture.shape
    image = vtkImageData()
    image.SetDimensions(columns, rows, 1)
    flat = np.ascontiguousarray(picture[::-1]).reshape(-1, parts)
    image.GetPointData().SetScalars(numpy_to_vtk(flat, deep=True))
    writer = vtkPNGWriter()
    writer.SetFileName(str(path))
    writer.SetInputData(image)
    writer.Write()


def main() -> None:
    """Print what Slicer sees."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("scene", type=Path)
    parser.add_argument("--pictures", type=Path)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        scene = load(arguments.scene, Path(folder))
        [layout] = nodes(scene, "vtkMRMLLayoutNode")
        rows = views_of(layout)
        slices = {node.GetSingletonTag(): node for node in nodes(scene, "vtkMRMLSliceNode")}
        report = {
            "volumes": [volume(node) for node in nodes(scene, "vtkMRMLScalarVolumeNode")],
            "layout": layout.GetViewArrangement(),
            "rows": rows,
            "views": [view(scene, slices[name]) for row in rows for name in row],
            "tables": [cells(node) for node in nodes(scene, "vtkMRMLTableNode")],
        }
        if arguments.pictures:
            for fade in (None, 0.5):
                pictures = [[render(scene, slices[name], fade) for name in row] for row in rows]
                whole = np.concatenate([np.concatenate(row, axis=1) for row in pictures])
                save(whole, arguments.pictures / f"{'views' if fade is None else 'faded'}.png")
        report["moved"] = moved(scene, slices[rows[0][0]])
    json.dump(report, sys.stdout)


def views_of(layout: Any) -> list[list[str]]:
    """The names of the slice views that the current layout shows, row by row."""
    root = layout.GetLayoutRootElement()
    found: list[list[str]] = []

    def visit(element: Any, row: list[str]) -> None:
        if element.GetName() == "layout" and element.GetAttribute("type") == "horizontal":
            row = []
            found.append(row)
        if element.GetName() == "view":
            row.append(element.GetAttribute("singletontag"))
        for index in range(element.GetNumberOfNestedElements()):
            visit(element.GetNestedElement(index), row)

    visit(root, [])
    return found


def cells(node: Any) -> list[list[str]]:
    """A table, the names of its columns first."""
    columns = range(node.GetNumberOfColumns())
    head = [node.GetColumnName(column) for column in columns]
    return [head] + [
        [node.GetCellText(row, column) for column in columns] for row in range(node.GetNumberOfRows())
    ]


if __name__ == "__main__":
    main()
