"""Find a MONAI bundle, read its configuration, and refuse in one line what is wrong with it."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from monai.bundle import ConfigParser
from torch import nn

from medrecon.contract import LayerInfo
from medrecon.errors import MedreconError, ModelError, causes_of, in_short, known_cause, near, ran_out_of
from medrecon.reconstructor import Reconstructor

_PACKAGE = Path(__file__).resolve().parents[1]
_PLACES = (_PACKAGE / "bundles", _PACKAGE.parent / "bundles")
"""Where bundles that come with medrecon lie: in the installed package, or beside it in a checkout."""

TEMPLATES = _PACKAGE / "bundle" / "templates"
"""Where bundles lie that are no use until a network is named; they are found by name, and listed nowhere."""

ANY_NETWORK = "any_network"
"""The one of them that inverts layers of any network."""

_META = "configs/metadata.json"
_INFERENCE = ("configs/inference.yaml", "configs/inference.yml", "configs/inference.json")
_MOST_NODES = 100_000


def bundle_names() -> list[str]:
    """The names of the bundles that come with medrecon."""
    found = {path.parents[1].name for place in _PLACES for path in place.glob(f"*/{_META}")}
    return sorted(found)


def find_bundle(bundle: str | Path) -> Path:
    """The folder of a bundle, by its name or its path.

    Args:
        bundle: a name of `bundle_names`, or a folder that holds configs/metadata.json.

    Raises:
        ModelError: there is no such bundle; the message names the near ones.
    """
    for place in (*_PLACES, TEMPLATES):
        if Path(bundle).name == str(bundle) and (place / bundle / _META).is_file():
            return place / bundle
    folder = Path(bundle).expanduser()
    if (folder / _META).is_file():
        return folder.resolve()
    if folder.is_dir():
        raise ModelError(
            f"not a bundle: it has no {_META}", path=folder, remedy="name a MONAI bundle's folder"
        )
    known = bundle_names()
    raise ModelError(
        "no such bundle" + near(str(bundle), known),
        path=bundle,
        remedy=f"use one of {', '.join(known) or 'none installed'}, or the path of a bundle's folder",
    )


def read_training(root: Path, overlays: Sequence[str] = ()) -> ConfigParser:
    """A bundle's train.yaml with its metadata, read and merged but not run.

    Args:
        root: the bundle.
        overlays: names of files in its configs, merged after train.yaml in this order.

    Raises:
        ModelError: a file is missing.
    """
    files = [root / "configs" / name for name in ("train.yaml", *overlays)]
    missing = next((file for file in files if not file.is_file()), None)
    if missing is not None:
        raise ModelError("the bundle lacks this file", path=missing, remedy="use a bundle that has it")
    parser = ConfigParser()
    parser.read_config(files)
    parser.read_meta(root / "configs" / "metadata.json")
    return parser


@dataclass(frozen=True)
class Bundle:
    """A bundle whose configuration is read and whose parts are built on demand.

    A configuration may hold Python expressions, which building runs: that is how MONAI bundles work, so only
    open bundles that you trust as you would a program.

    Attributes:
        root: the bundle's folder.
        meta: what configs/metadata.json says.
        parser: MONAI's parser of the inference configuration, overrides applied.
        file: the inference configuration.
    """

    root: Path
    meta: dict[str, Any]
    parser: ConfigParser
    file: Path

    @classmethod
    def open(cls, bundle: str | Path, overrides: Mapping[str, Any] | None = None) -> Bundle:
        """Read a bundle's metadata and inference configuration.

        Args:
            bundle: name or folder.
            overrides: configuration id -> value. MONAI runs a text that starts with "$" and rewrites one
                with "@" or "#": give what a user typed as a `Path`, a tuple or a number.

        Raises:
            ModelError: a file is missing or broken, or an override names an id that the configuration lacks.
        """
        root = find_bundle(bundle)
        meta = _load(root / _META)
        file = next((root / name for name in _INFERENCE if (root / name).is_file()), root / _INFERENCE[0])
        config = _load(file)
        parser = ConfigParser(config={ConfigParser.meta_key: meta, **config})
        for key, value in (overrides or {}).items():
            if key not in parser:
                raise ModelError(f"the configuration has no '{key}'" + near(key, config), path=file)
            parser[key] = value
        if "bundle_root" in parser:
            parser["bundle_root"] = root
        return cls(root, meta, parser, file)

    @property
    def name(self) -> str:
        """The folder's name."""
        return self.root.name

    @property
    def version(self) -> str:
        """The model's version, as its metadata says."""
        return str(self.meta.get("version", ""))

    @property
    def caveats(self) -> list[str]:
        """What must be said of all that comes of it, as its metadata says."""
        said = str(self.meta.get("caveat", ""))
        return [said] if said else []

    def require(self, *keys: str) -> None:
        """Refuse a configuration that lacks one of these ids; nothing of it is run.

        Raises:
            ModelError: it names the first that is missing.
        """
        for key in keys:
            if key not in self.parser:
                raise ModelError(
                    f"the configuration has no '{key}'",
                    path=self.file,
                    remedy="add it, or use another bundle",
                )

    def build(self, key: str) -> Any:
        """Instantiate one part of the inference configuration (built once, then kept).

        Raises:
            MedreconError: whatever of ours the part raised.
            ModelError: the part is missing or cannot be built.
        """
        self.require(key)
        try:
            return self.parser.get_parsed_content(key)
        except Exception as error:
            last = known_cause(error) or causes_of(error)[-1]
            if isinstance(last, MedreconError) or ran_out_of(last):
                raise last from error
            raise ModelError(
                f"cannot build '{key}': {type(last).__name__}: {in_short(last, 300)}",
                path=self.file,
                remedy="check the bundle, or get it again",
            ) from error

    def architecture(self) -> Reconstructor:
        """The network as configured, without its trained weights.

        Raises:
            ModelError: as for `build`, or it is no `Reconstructor`.
        """
        return self._checked(self.build("network_def"))

    def network(self, device: torch.device) -> Reconstructor:
        """The network with its weights, ready for inference on a device.

        Raises:
            ModelError: as for `build`, or it is no `Reconstructor`.
        """
        return self._checked(self.build("network")).to(device).eval()

    def _checked(self, network: object) -> Reconstructor:
        if not isinstance(network, Reconstructor):
            raise ModelError(
                f"its network is a {type(network).__name__}, which declares no layers",
                path=self.root,
                remedy="use medrecon.reconstructor.Reconstructor",
            )
        return network


def layers_of(bundle: Bundle) -> list[LayerInfo]:
    """The layers that a bundle's network declares.

    Raises:
        ModelError: the bundle's network cannot be built, or declares none.
    """
    return bundle.architecture().layers()


def network_of(root: str | Path) -> nn.Module:
    """The network of a bundle's metadata.json, untrained: for programs that do not read that file.

    Args:
        root: the bundle's folder.

    Raises:
        ModelError: there is no such file, or it cannot be read.
    """
    meta = _load(Path(root) / _META)
    network: nn.Module = ConfigParser({ConfigParser.meta_key: meta}).get_parsed_content("_meta_#network_def")
    return network


def _load(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise ModelError("the bundle lacks this file", path=path, remedy="get the bundle again")
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("error", "Duplicate key")
            content = ConfigParser.load_config_file(path)
    except Exception as error:
        raise ModelError(f"cannot be parsed: {error}", path=path, remedy="mend its syntax") from error
    if not isinstance(content, dict):
        raise ModelError("is not a mapping of names to values", path=path, remedy="mend its content")
    if _grows(content):
        raise ModelError(f"holds more than {_MOST_NODES} values", path=path, remedy="mend its aliases")
    return content


def _grows(content: Any) -> bool:
    """Whether a configuration is absurdly large once YAML's aliases, cheap to write, are followed."""
    waiting, seen = [content], 0
    while waiting:
        item = waiting.pop()
        seen += 1
        if seen > _MOST_NODES:
            return True
        if isinstance(item, dict):
            waiting.extend(item.values())
        elif isinstance(item, list):
            waiting.extend(item)
    return False
