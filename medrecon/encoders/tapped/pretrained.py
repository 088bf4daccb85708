"""Models of transformers, diffusers and segmentation_models_pytorch in a local folder, as encoders."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from torch import nn

from medrecon.encoders.adapt import ChannelMeanStd, Rescale
from medrecon.encoders.tapped.checkpoint import load_checkpoint
from medrecon.encoders.tapped.folders import CONFIG, LIBRARIES, read_or_nothing
from medrecon.encoders.tapped.tap import TappedEncoder
from medrecon.errors import ModelError, in_short

_PROCESSOR = "preprocessor_config.json"


def pretrained_encoder(
    folder: str | Path,
    *,
    network: str | None = None,
    weights: str | Path | None = None,
    intensity: nn.Module | None = None,
    layers: str | Iterable[str] | None = None,
    **options: Any,
) -> TappedEncoder:
    """A model as `save_pretrained` wrote it, with the mean and deviation of its preprocessing.

    Nothing is downloaded, and no code of the folder is run.

    Args:
        folder: with config.json, the weights, and preprocessor_config.json where there is one.
        network: the name of its class; what config.json says when None.
        weights: in the place of the folder's own; "random" for none.
        intensity: in the place of what preprocessor_config.json says.
        layers: as for `TappedEncoder`.
        options: further ones of `TappedEncoder`.

    Raises:
        ModelError: the library is missing, or the model cannot be built.
    """
    root = Path(folder)
    config = read_or_nothing(root / CONFIG)
    library = next(name for key, name in LIBRARIES.items() if key in config)
    made = _built(root, config, library, network, weights is None)
    notes = []
    if intensity is None:
        intensity = _normalisation(read_or_nothing(root / _PROCESSOR))
    if intensity is None:
        notes = [f"it has no {_PROCESSOR} with a mean and a deviation: it gets the scan in [0, 1]"]
    return TappedEncoder(made, layers, intensity=intensity, weights=weights, notes=notes, **options)


def _built(root: Path, config: dict[str, Any], library: str, name: str | None, filled: bool) -> nn.Module:
    try:
        module = __import__(library)
        if library == "diffusers":
            kind = getattr(module, name or str(config["_class_name"]))
            made = kind.from_pretrained(root, local_files_only=True) if filled else kind.from_config(config)
        elif library == "segmentation_models_pytorch":
            kind = getattr(module, name or str(config["_model_class"]))
            options = {key: value for key, value in config.items() if not key.startswith("_")}
            made = kind(**{**options, "encoder_weights": None})  # those it began with would be downloaded
            if filled:
                load_checkpoint(made, root / "model.safetensors")
        else:
            kind = getattr(module, name or "AutoModel")
            if filled:
                made = kind.from_pretrained(root, local_files_only=True)
            else:
                described = module.AutoConfig.from_pretrained(root, local_files_only=True)
                made = kind.from_config(described) if name is None else kind(described)
    except ImportError as error:
        raise ModelError(
            f"it needs {library} ({in_short(error)})", path=root, remedy=f"install {library}"
        ) from error
    except Exception as error:
        raise ModelError(
            f"{library} cannot build it ({type(error).__name__}: {in_short(error)})",
            path=root,
            remedy="name its class with --network, or get it again",
        ) from error
    if not isinstance(made, nn.Module):
        raise ModelError(f"it is a {type(made).__name__}, no network", path=root, remedy="name a model")
    return made


def _normalisation(said: dict[str, Any]) -> nn.Module | None:
    """(x - mean) / std of pictures in [0, 1], or -1 to 1 of them, as the image processor has it."""
    mean, std = said.get("image_mean"), said.get("image_std")
    if not said or said.get("do_normalize") is False:
        return nn.Identity() if said else None
    if isinstance(mean, list) and isinstance(std, list):
        return ChannelMeanStd(mean, std)
    return Rescale((0.0, 1.0), (-1.0, 1.0)) if mean == std == 0.5 else None
