"""The network of any MONAI bundle as an encoder, with its weights and its own preprocessing."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from monai.bundle import ConfigParser
from monai.inferers import SlidingWindowInferer
from torch import nn

from medrecon.blocks.weights import fit_weights, read_weights
from medrecon.contract import Decoder, Encoder
from medrecon.encoders.frozen import Frozen, FrozenEncoder
from medrecon.encoders.tapped.preprocessing import Preprocessing, steps_of
from medrecon.encoders.tapped.tap import TappedEncoder
from medrecon.errors import MedreconError, ModelError, in_short, ran_out_of

logger = logging.getLogger(__name__)

_CONFIGS = ("inference.json", "inference.yaml", "inference.yml")
_NETWORKS = ("network_def", "network", "net")
_WEIGHTS = ("models/model.pt", "models/model.safetensors", "models/model.pth")


def bundle_encoder(
    folder: str | Path,
    *,
    weights: str | Path | None = None,
    sha256: str | None = None,
    overrides: Mapping[str, Any] | None = None,
    layers: str | Iterable[str] | None = None,
    spatial_dims: int | None = None,
    in_channels: int | None = None,
    intensity: nn.Module | None = None,
    window: Sequence[int] | None = None,
) -> Frozen:
    """The network of a bundle, frozen, with its weights, its intensities, its window and its geometry.

    From configs/inference.*: the network (`network_def`, else `network`); `preprocessing`, of which the
    intensity maps become part of the encoder and the transforms of the grid its `geometry`; the region of
    the sliding window becomes `window`. Building runs the bundle's code.

    Args:
        folder: the bundle.
        weights: instead of models/model.pt.
        sha256: expected SHA-256 of the weights, None for any.
        overrides: configuration id -> value, such as {"network_def#in_channels": 1}.
        layers: as for `TappedEncoder`.
        spatial_dims: as for `TappedEncoder`.
        in_channels: as for `TappedEncoder`.
        intensity: instead of the bundle's own intensity maps.
        window: instead of the bundle's own.

    Raises:
        ModelError: no bundle, no weights, weights that do not fit, a network that cannot be tapped, or
            preprocessing that cannot be honoured.
    """
    root = Path(folder)
    parser = _parser(root, overrides or {})
    key = next((name for name in _NETWORKS if name in parser), None)
    if key is None:
        raise ModelError("its inference configuration has no network_def", path=root, remedy="name a network")
    if weights is not None and "encoder_weights" in parser:
        parser["encoder_weights"] = Path(weights)
    network = _built(parser, key, root)
    if not isinstance(network, nn.Module):
        raise ModelError(f"its '{key}' is no network", path=root, remedy="get the bundle again")
    halves = dict(network.named_children())
    own = halves.get("encoder")
    if isinstance(own, Encoder) and isinstance(halves.get("inversion"), Decoder):
        return _own_encoder(own, root)
    file = Path(weights) if weights is not None else _weights_of(root)
    steps = steps_of(_built(parser, "preprocessing", root) if "preprocessing" in parser else None)
    honoured = Preprocessing(root, _modality(parser), intensity is None)
    for step in steps:
        honoured.take(step)
    for note in honoured.notes:
        logger.warning("%s: %s", root, note)
    return TappedEncoder(
        network.cpu(),
        layers,
        spatial_dims,
        in_channels,
        intensity if intensity is not None else honoured.intensity(),
        window if window is not None else _region(parser, root),
        file,
        sha256,
        honoured.geometry,
        honoured.notes,
    )


def _own_encoder(encoder: Encoder, root: Path) -> Frozen:
    """The encoder of a bundle of medrecon's, with what models/model.pt holds of it."""
    start = "encoder."
    if not isinstance(encoder, Frozen):
        file = _weights_of(root)
        state = {k.removeprefix(start): v for k, v in read_weights(file).items() if k.startswith(start)}
        fit_weights(encoder, state, file)
    return encoder if isinstance(encoder, Frozen) else FrozenEncoder(encoder)


def _parser(root: Path, overrides: Mapping[str, Any]) -> ConfigParser:
    file = next((root / "configs" / name for name in _CONFIGS if (root / "configs" / name).is_file()), None)
    if file is None:
        raise ModelError(
            "not a MONAI bundle: it has no configs/inference.json or .yaml", path=root, remedy="name a bundle"
        )
    meta = root / "configs" / "metadata.json"
    try:
        config = ConfigParser.load_config_file(file)
        facts = ConfigParser.load_config_file(meta) if meta.is_file() else {}
        parser = ConfigParser(config={ConfigParser.meta_key: facts, **config})
    except Exception as error:
        raise ModelError(f"cannot be parsed: {error}", path=file, remedy="mend its syntax") from error
    for key in ("bundle_root", "device"):
        if key in parser:
            parser[key] = str(root.resolve()) if key == "bundle_root" else "$torch.device('cpu')"
    for key, value in overrides.items():
        if key.split("#")[0] not in parser:
            raise ModelError(f"its configuration has no '{key}'", path=file, remedy="check the arguments")
        parser[key] = value
    return parser


def _built(parser: ConfigParser, key: str, root: Path) -> Any:
    try:
        return parser.get_parsed_content(key)
    except Exception as error:
        last: BaseException = error
        while last.__cause__ is not None:
            last = last.__cause__
        if isinstance(last, MedreconError) or ran_out_of(last):
            raise last from error
        raise ModelError(
            f"cannot build '{key}': {type(last).__name__}: {in_short(last)}",
            path=root,
            remedy="check the bundle",
        ) from error


def _weights_of(root: Path) -> Path:
    file = next((root / name for name in _WEIGHTS if (root / name).is_file()), None)
    if file is None:
        raise ModelError(
            f"the bundle has no {_WEIGHTS[0]}",
            path=root,
            remedy="download it (large_files.yml names the address), or give its weights",
        )
    return file


def _modality(parser: ConfigParser) -> str:
    try:
        said = str(parser.get(f"{ConfigParser.meta_key}#network_data_format#inputs#image#modality", ""))
    except (KeyError, TypeError):
        return ""
    return said.strip().upper()


def _region(parser: ConfigParser, root: Path) -> tuple[int, ...] | None:
    """The size of the sliding window, where the bundle uses one."""
    if "inferer" not in parser:
        return None
    inferer = _built(parser, "inferer", root)
    if not isinstance(inferer, SlidingWindowInferer):
        return None
    size = inferer.roi_size
    sizes = (size,) if isinstance(size, int) else tuple(size)
    return sizes if len(sizes) > 1 and all(n and n > 0 for n in sizes) else None
