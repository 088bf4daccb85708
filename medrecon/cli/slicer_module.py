"""The module by which 3D Slicer runs medrecon: its description, and the files to put in a folder of modules.

Slicer's command line modules are described in XML (SlicerExecutionModel, ModuleDescription.xsd and
ModuleDescriptionParser.cxx). A folder of modules may hold executables that answer `--xml`, or a `.py` file
beside its `.xml` (qSlicerCLIExecutableModuleFactory.cxx). Here it is the latter: Slicer runs every executable
of such a folder, so the one with all of an environment's programs must not become one; and what Slicer starts
inherits the settings of Slicer's Python, which break any other Python: the `.py` file takes them away.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from xml.etree import ElementTree

from medrecon import __version__
from medrecon.compute.safe_path import RUN_MODULE

NAME = "MedreconReconstruct"
TITLE = "Feature Reconstruction (medrecon)"
_ABOUT = (
    "Shows what a layer of a neural network keeps of a scan: its features are turned back into a volume of "
    "the same grid and units. Subtract the input to see the error. For research, not for diagnosis."
)

BUNDLE = "volume_autoencoder"
LAYERS = ("level1", "level2", "level3", "level4", "level5")
"""Of the own networks, from fine to coarse: known here, so that the description needs no network."""
DEFAULT_LAYER = "level4"

_Parameter = tuple[str, dict[str, str], tuple[tuple[str, str], ...]]
_VOLUMES: tuple[_Parameter, ...] = (
    (
        "image",
        {"type": "scalar"},
        (
            ("name", "inputVolume"),
            ("label", "Input Volume"),
            ("description", "The scan."),
            ("channel", "input"),
            ("index", "0"),
        ),
    ),
    (
        "image",
        {"type": "scalar", "fileExtensions": ".nii.gz", "reference": "inputVolume"},
        (
            ("name", "outputVolume"),
            ("label", "Output Volume"),
            ("description", "What the layers keep of it, on the same grid, in the same units."),
            ("channel", "output"),
            ("index", "1"),
        ),
    ),
    (
        "boolean",
        {},
        (
            ("name", "hu"),
            ("longflag", "--hu"),
            ("label", "CT (HU)"),
            (
                "description",
                "The values are HU. Slicer hands volumes over without their units, and for HU the network "
                "takes the window that it was trained with.",
            ),
            ("default", "false"),
        ),
    ),
)
_REST: tuple[_Parameter, ...] = (
    (
        "file",
        {"fileExtensions": ".safetensors,.pt,.pth"},
        (
            ("name", "weights"),
            ("longflag", "--weights"),
            ("label", "Encoder Weights"),
            ("description", "Of the encoder, for a bundle over a frozen one that comes without them."),
            ("channel", "input"),
        ),
    ),
    (
        "string-enumeration",
        {},
        (
            ("name", "device"),
            ("longflag", "--device"),
            ("label", "Device"),
            ("description", "Where the network runs; auto takes a GPU where there is one."),
            ("default", "auto"),
            ("element", "auto"),
            ("element", "cpu"),
            ("element", "cuda"),
        ),
    ),
)

_LAUNCHER = '''#!/usr/bin/env python
"""Runs medrecon, in its own Python, for 3D Slicer. Written by `medrecon slicer --install`."""

import os
import subprocess
import sys

PYTHON = {python!r}

FIRST = "APPLAUNCHER_0_"  # under this name Slicer's launcher keeps what the environment was before it
env = dict(os.environ)
if "APPLAUNCHER_LEVEL" in env:
    env = {{name[len(FIRST):]: value for name, value in env.items() if name.startswith(FIRST)}}
else:  # no launcher on macOS
    strange = ("PYTHON", "LD_LIBRARY_PATH", "DYLD_", "QT_PLUGIN_PATH", "ITK_AUTOLOAD_PATH")
    env = {{name: value for name, value in env.items() if not name.startswith(strange)}}
command = [PYTHON, {script!r}, "medrecon", "slicer", *sys.argv[1:]]
if os.name == "posix":
    try:
        os.execve(PYTHON, command, env)  # in this process, so that Slicer's Cancel ends it
    except OSError as error:
        sys.exit("medrecon: {{}}: {{}}; run medrecon slicer --install again".format(PYTHON, error.strerror))
sys.exit(subprocess.call(command, env=env))
'''


def _model(bundle: str, layers: Sequence[str]) -> tuple[_Parameter, ...]:
    """What is asked of the network. A choice in a description is fixed: it has the layers of one bundle."""
    default = DEFAULT_LAYER if DEFAULT_LAYER in layers else layers[len(layers) // 2]
    layer = (
        ("name", "layers"),
        ("longflag", "--layers"),
        ("label", "Layer"),
        (
            "description",
            f"The layers of {bundle}, from fine (keeps much) to coarse (keeps little). 'input' goes round "
            "the network.",
        ),
        ("default", default),
        *(("element", name) for name in (*layers, "input")),
    )
    other = (
        ("name", "other"),
        ("longflag", "--other"),
        ("label", "Other Layers"),
        (
            "description",
            "In place of the layer above: several joined by plus (level3+level4), or a layer of another "
            "bundle. Empty for the layer above.",
        ),
        ("default", ""),
    )
    network = (
        ("name", "bundle"),
        ("longflag", "--bundle"),
        ("label", "Bundle"),
        (
            "description",
            "volume_autoencoder (3D) and slice_autoencoder (2D) have the layers level1 to level5; or a MONAI "
            "bundle's folder. A bundle's configuration can run code: name only bundles that you trust.",
        ),
        ("default", bundle),
    )
    return (
        ("string-enumeration", {}, layer),
        ("string", {}, other),
        ("string", {}, network),
        *_REST,
    )


def description(bundle: str = BUNDLE, layers: Sequence[str] = LAYERS) -> str:
    """The module in XML, as Slicer asks for it with `--xml`.

    Args:
        bundle: what the module starts with: a name or a folder.
        layers: of that bundle, from fine to coarse; the module offers them.
    """
    root = ElementTree.Element("executable")
    head = {
        "category": "Filtering",
        "title": TITLE,
        "description": _ABOUT,
        "version": __version__,
        "documentation-url": "",
        "license": "Apache-2.0",
        "contributor": "The medrecon developers",
    }
    for tag, text in head.items():
        ElementTree.SubElement(root, tag).text = text
    for label, about, parameters in (
        ("Volumes", "The scan and what is made of it.", _VOLUMES),
        ("Network", "Which layers of which network.", _model(bundle, layers)),
    ):
        group = ElementTree.SubElement(root, "parameters")
        ElementTree.SubElement(group, "label").text = label
        ElementTree.SubElement(group, "description").text = about
        for tag, attributes, children in parameters:
            parameter = ElementTree.SubElement(group, tag, attributes)
            for child, text in children:
                ElementTree.SubElement(parameter, child).text = text
    ElementTree.indent(root)
    return '<?xml version="1.0" encoding="utf-8"?>\n' + ElementTree.tostring(root, encoding="unicode") + "\n"


def install_module(folder: Path, bundle: str = BUNDLE, layers: Sequence[str] = LAYERS) -> list[Path]:
    """Write the module's two files.

    Args:
        folder: of modules.
        bundle: as for `description`.
        layers: as for `description`.

    Returns:
        Where they are.

    Raises:
        OutputError: they cannot be written.
    """
    from medrecon.io.files.publish import publish

    files = {
        f"{NAME}.xml": description(bundle, layers),
        f"{NAME}.py": _LAUNCHER.format(python=sys.executable, script=str(RUN_MODULE)),
    }
    for name, text in files.items():
        with publish(folder / name, overwrite=True) as part:
            part.write_text(text, encoding="utf-8")
            part.chmod(0o755 if name.endswith(".py") else 0o644)
    return [folder / name for name in files]
