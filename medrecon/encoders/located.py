"""Classes and functions by their dotted paths or their files, and the networks that they make."""

from __future__ import annotations

import difflib
import importlib
import importlib.util
import inspect
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import nn

from medrecon.errors import MedreconError, ModelError, in_short, near, ran_out_of

SHORT_NAMES: dict[str, tuple[str, dict[str, Any]]] = {
    "vgg16": ("medrecon.encoders.vgg.VGGEncoder", {"depth": 16}),
    "vgg19": ("medrecon.encoders.vgg.VGGEncoder", {"depth": 19}),
    **{f"resnet{n}": ("medrecon.encoders.resnet.ResNetEncoder", {"depth": n}) for n in (18, 34, 50)},
    **{
        f"medicalnet{n}": ("medrecon.encoders.medicalnet.MedicalNetEncoder", {"depth": n})
        for n in (10, 18, 34, 50)
    },
    "deepbet": ("medrecon.encoders.deepbet.DeepbetEncoder", {}),
}
"""Own classes, whose keys are those of published weights: where they are, and what the name stands for."""


def locate(path: str) -> Any:
    """The class or function at a dotted path.

    Raises:
        ModelError: there is none; the message names the near ones.
    """
    parts = path.split(".")
    if len(parts) < 2 or not all(part.isidentifier() for part in parts):
        alike = difflib.get_close_matches(path, SHORT_NAMES, n=3, cutoff=0.5)
        hint = f"did you mean {' or '.join(alike)}" if alike else f"use one of {', '.join(SHORT_NAMES)}"
        raise ModelError(
            f"there is no encoder {path!r}", remedy=f"{hint}, a dotted path, or the folder of a MONAI bundle"
        )
    found, missing = None, None
    for end in range(len(parts) - 1, 0, -1):
        name = ".".join(parts[:end])
        try:
            found = importlib.import_module(name)
        except ModuleNotFoundError as error:
            missing = error.name
            if missing is None or not (name == missing or name.startswith(f"{missing}.")):
                raise ModelError(f"{name} needs {missing}", remedy=f"install {missing}") from None
            continue
        except Exception as error:
            raise ModelError(
                f"{name} cannot be imported ({type(error).__name__}: {error})", remedy="mend it"
            ) from error
        for place, part in enumerate(parts[end:], start=end):
            try:
                found = getattr(found, part)
            except AttributeError:
                alike = difflib.get_close_matches(part, dir(found), n=3, cutoff=0.5)
                hint = f"did you mean {' or '.join(alike)}" if alike else "see its documentation"
                raise ModelError(f"{'.'.join(parts[:place])} has no {part!r}", remedy=hint) from None
        return found
    raise ModelError(f"{parts[0]} is not installed", remedy=f"install {parts[0]}, or check the name {path}")


def construct(path: str, arguments: Mapping[str, Any]) -> nn.Module:
    """Call what is at a dotted path and check that a network comes of it."""
    if ".py:" in path:
        return _of_file(path, arguments)
    if Path(path).suffix in _EXPORTED and Path(path).is_file():
        raise ModelError(
            "an exported network (TorchScript, torch.export, ONNX) does not show its layers",
            path=path,
            remedy="name the class it was made of, and this file's weights with --weights",
        )
    return _made(locate(path), path, arguments)


_EXPORTED = (".pt", ".pth", ".ts", ".pt2", ".onnx")


def _made(make: Any, path: str, arguments: Mapping[str, Any]) -> nn.Module:
    """What a class or function makes of arguments, if that is a network."""
    try:
        made = make(**arguments)
    except MedreconError:
        raise
    except ImportError as error:
        raise ModelError(
            f"{path} needs a package that cannot be imported ({in_short(error, 200)})",
            remedy="install it, or mend its installation",
        ) from error
    except Exception as error:
        if ran_out_of(error):
            raise
        raise ModelError(
            f"{path} cannot be built ({type(error).__name__}: {in_short(error, 200)})",
            remedy=f"give its arguments as JSON: {_signature(make)}",
        ) from error
    if not isinstance(made, nn.Module):
        raise ModelError(f"{path} makes a {type(made).__name__}, no network", remedy="name a torch.nn.Module")
    return made


def _signature(make: Any) -> str:
    try:
        names = list(inspect.signature(make).parameters)
    except (TypeError, ValueError):
        return "see its documentation"
    return ", ".join(names[:12]) + (", ..." if len(names) > 12 else "")


def _of_file(text: str, arguments: Mapping[str, Any]) -> nn.Module:
    """The network of a Python file: `net.py:Net`.

    Raises:
        ModelError: no such file or class, or it cannot be built.
    """
    name, _, attribute = text.rpartition(":")
    file = Path(name).expanduser()
    if not file.is_file():
        raise ModelError("there is no such file", path=file, remedy="write it as net.py:Net")
    spec = importlib.util.spec_from_file_location(f"medrecon_user_{file.stem}", file)
    if spec is None or spec.loader is None:
        raise ModelError("it is no Python file", path=file, remedy="write it as net.py:Net")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        raise ModelError(
            f"it cannot be imported ({type(error).__name__}: {in_short(error)})", path=file, remedy="mend it"
        ) from error
    make = vars(module).get(attribute)
    if make is None:
        raise ModelError(f"it has no '{attribute}'" + near(attribute, vars(module)), path=file)
    return _made(make, text, arguments)
