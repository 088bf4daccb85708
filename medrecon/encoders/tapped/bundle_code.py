"""Parts of somebody else's bundle, built: its own code at hand, nothing downloaded, on the CPU."""

from __future__ import annotations

import importlib
import inspect
import re
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import monai
import numpy as np
import torch
from monai.bundle import ConfigParser
from monai.bundle.config_item import ConfigComponent

from medrecon.blocks.weights import ARRAYS, NUMBERS
from medrecon.errors import MedreconError, ModelError, in_short, ran_out_of

_CUDA = re.compile(r"torch\.device\((['\"])cuda[^'\"]*\1\)")
_PRETRAINED = ("pretrained", "pretrained_backbone", "pretrained_weights")
_HALF = ("norm_float16",)
"""Of networks that norm in half precision for want of memory, which CPUs cannot all do."""

_NUMPY_1 = {"product": np.prod, "float": float, "int": int}
"""Names that numpy no longer has, and code of older bundles uses while it is built."""

_FETCHING = (
    ("torch.hub", "load_state_dict_from_url"),
    ("torch.hub", "download_url_to_file"),
    ("urllib.request", "urlopen"),
    ("urllib.request", "urlretrieve"),
)


class _Download(Exception):
    """A part that would fetch something while it is built."""


def open_config(
    root: Path, file: Path, overrides: Mapping[str, Any], leave_out: tuple[str, ...]
) -> ConfigParser:
    """A bundle's inference configuration with its metadata, changed so that it can be built anywhere.

    Devices become the CPU, `bundle_root` the folder, and imports that fail are left out: what needs them
    fails by itself.

    Args:
        root: the bundle.
        file: its configuration.
        overrides: configuration id -> value.
        leave_out: arguments that are not given to a network's class.

    Raises:
        ModelError: it cannot be parsed, or has no such id.
    """
    meta = root / "configs" / "metadata.json"
    try:
        config = ConfigParser.load_config_file(file)
        facts = ConfigParser.load_config_file(meta) if meta.is_file() else {}
        config = _edited(config, leave_out)
        for key in ("imports", "import"):
            if isinstance(config.get(key), list):
                with own_code(root):
                    config[key] = [line for line in config[key] if _runs(line)]
        parser = ConfigParser(config={ConfigParser.meta_key: facts, **config})
    except Exception as error:
        raise ModelError(
            f"cannot be parsed: {in_short(error)}", path=file, remedy="mend its syntax"
        ) from error
    for key in ("bundle_root", "device"):
        if key in parser:
            parser[key] = str(root.resolve()) if key == "bundle_root" else "$torch.device('cpu')"
    for key, value in overrides.items():
        if key.split("#")[0] not in parser:
            raise ModelError(f"its configuration has no '{key}'", path=file, remedy="check the arguments")
        parser[key] = value
    return parser


def build(parser: ConfigParser, key: str, root: Path) -> Any:
    """One part of a configuration, built.

    Raises:
        ModelError: it cannot be built; what of ours it raised.
    """
    try:
        with own_code(root), nothing_fetched(), torch.serialization.safe_globals(NUMBERS + ARRAYS):
            return parser.get_parsed_content(key)
    except Exception as error:
        last: BaseException = error
        while last.__cause__ is not None:
            last = last.__cause__
        if isinstance(last, MedreconError) or ran_out_of(last):
            raise last from error
        raise ModelError(_why(parser, key, last), path=root, remedy=_remedy(parser, key, last)) from error


def check_arguments(parser: ConfigParser, key: str, root: Path) -> None:
    """Refuse arguments that the class of a part does not take in the release that is installed.

    Raises:
        ModelError: it names them, the release that the bundle was made with, and how to leave them out.
    """
    part = parser[key]
    if not isinstance(part, Mapping) or "_target_" not in part:
        return
    try:
        with own_code(root):
            target = ConfigComponent(config=dict(part), id=key).resolve_module_name()
            target = _located(target)
            taken = inspect.signature(target).parameters
    except Exception:
        return  # building it will say what is wrong
    if any(each.kind is inspect.Parameter.VAR_KEYWORD for each in taken.values()):
        return
    given = [name for name in part if not (name.startswith("_") and name.endswith("_"))]
    unknown = [name for name in given if name not in taken]
    if unknown:
        made = parser.get(f"{ConfigParser.meta_key}#monai_version", None) or "an unknown release"
        listed = ", ".join(f'"{name}"' for name in unknown)
        raise ModelError(
            f"its '{key}' gives {getattr(target, '__name__', key)} {', '.join(unknown)}, which MONAI "
            f"{monai.__version__} does not take (the bundle was made with MONAI {made})",
            path=root,
            remedy=f"leave them out: --encoder-arguments '{{\"_leave_out_\": [{listed}]}}'",
        )


@contextmanager
def own_code(root: Path) -> Iterator[None]:
    """Within: modules of the bundle's folder can be imported, `scripts` is its own; nothing of it stays."""
    folder = root.resolve()
    packages = (path for path in folder.iterdir() if (path / "__init__.py").is_file())
    names = {path.stem for path in (*folder.glob("*.py"), *packages)}
    names |= {"scripts"} if (folder / "scripts").is_dir() else set()
    own = {name for name in sys.modules if name.partition(".")[0] in names}
    kept = {name: sys.modules.pop(name) for name in own}
    written, sys.dont_write_bytecode = sys.dont_write_bytecode, True
    sys.path.insert(0, str(folder))
    gone = [name for name in _NUMPY_1 if name not in vars(np)]
    for name in gone:
        setattr(np, name, _NUMPY_1[name])
    try:
        yield
    finally:
        for name in gone:
            delattr(np, name)
        sys.path.remove(str(folder))
        sys.dont_write_bytecode = written
        for name in [name for name in sys.modules if name.partition(".")[0] in names]:
            del sys.modules[name]
        sys.modules.update(kept)


@contextmanager
def nothing_fetched() -> Iterator[None]:
    """Within: what would download weights fails."""

    def refuse(*arguments: object, **options: object) -> None:
        raise _Download(f"it downloads {in_short(arguments[0] if arguments else 'weights', 80)}")

    places = [(importlib.import_module(module), name) for module, name in _FETCHING]
    kept = [getattr(module, name) for module, name in places]
    try:
        for module, name in places:
            setattr(module, name, refuse)
        yield
    finally:
        for (module, name), function in zip(places, kept, strict=True):
            setattr(module, name, function)


def _edited(content: Any, leave_out: tuple[str, ...]) -> Any:
    """A configuration for the CPU, without weights that are fetched: ours come afterwards."""
    if isinstance(content, str):
        return _CUDA.sub("torch.device('cpu')", content) if content.startswith("$") else content
    if isinstance(content, list):
        return [_edited(item, leave_out) for item in content]
    if not isinstance(content, Mapping):
        return content
    made = {key: _edited(value, leave_out) for key, value in content.items()}
    if "_target_" in made:
        made = {key: value for key, value in made.items() if key not in leave_out}
        made |= {key: False for key in (*_PRETRAINED, *_HALF) if made.get(key) is True}
    return made


def _runs(line: Any) -> bool:
    try:
        exec(str(line).lstrip("$").strip(), {})
    except Exception:
        return False
    return True


def _located(target: Any) -> Any:
    from monai.utils import optional_import

    if not isinstance(target, str):
        return target
    module, _, name = target.rpartition(".")
    return optional_import(module, name=name)[0]


def _why(parser: ConfigParser, key: str, error: BaseException) -> str:
    if isinstance(error, FileNotFoundError):
        return f"'{key}' needs {error.filename}, which is not there"
    if isinstance(error, ModuleNotFoundError | ImportError):
        return f"'{key}' needs a package that cannot be imported ({in_short(error)})"
    return f"cannot build '{key}': {type(error).__name__}: {in_short(error)}"


def _remedy(parser: ConfigParser, key: str, error: BaseException) -> str:
    if isinstance(error, FileNotFoundError):
        return "download it (large_files.yml names the address)"
    if isinstance(error, ModuleNotFoundError | ImportError):
        return "install it, or mend its installation"
    if isinstance(error, _Download):
        return "download it by hand, and name the file in its place with --encoder-arguments"
    made = parser.get(f"{ConfigParser.meta_key}#monai_version", None) or "an unknown release"
    return (
        f"the bundle was made with MONAI {made}, and {monai.__version__} is installed: give what differs "
        f"with --encoder-arguments '{{\"{key}#NAME\": ...}}'"
    )
