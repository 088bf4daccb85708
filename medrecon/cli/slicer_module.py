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

from medrecon import __version__
from medrecon.compute.safe_path import RUN_MODULE

NAME = "MedreconReconstruct"
TITLE = "Feature Reconstruction (medrecon)"
BUNDLE = "volume_autoencoder"
LAYERS = ("level1", "level2", "level3", "level4", "level5")
"""Of the own networks, from fine to coarse: known here, so that the description needs no network."""
DEFAULT_LAYER = "level4"


def description(bundle: str = BUNDLE, layers: Sequence[str] = LAYERS) -> str:
    """The module in XML, as Slicer asks for it with `--xml`.

    Args:
        bundle: what the module starts with: a name or a folder.
        layers: of that bundle, from fine to coarse; the module offers them.
    """
    default = DEFAULT_LAYER if DEFAULT_LAYER in layers else layers[len(layers) // 2]
    return _filled("slicer_module.xml.j2", bundle=bundle, layers=layers, default=default)


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
        f"{NAME}.py": _filled(
            "slicer_module.py.j2", python=repr(sys.executable), script=repr(str(RUN_MODULE))
        ),
    }
    for name, text in files.items():
        with publish(folder / name, overwrite=True) as part:
            part.write_text(text, encoding="utf-8")
            part.chmod(0o755 if name.endswith(".py") else 0o644)
    return [folder / name for name in files]


def _filled(template: str, **values: object) -> str:
    """One of the module's two files."""
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader("medrecon.cli"),
        autoescape=".xml" in template,
        undefined=StrictUndefined,
        trim_blocks=True,
        keep_trailing_newline=True,
    )
    return environment.get_template(template).render(title=TITLE, version=__version__, **values)
