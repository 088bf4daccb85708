"""What a folder with a network is, told from its files alone: nothing of torch is imported for it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from medrecon.errors import ModelError, in_short

CONFIGS = ("inference.json", "inference.yaml", "inference.yml")
"""Configurations of a bundle of MONAI that say how it is used."""

CONFIG = "config.json"
"""Of a model that a library saved by `save_pretrained`."""

LIBRARIES = {
    "_class_name": "diffusers",
    "_model_class": "segmentation_models_pytorch",
    "model_type": "transformers",
}
"""What stands in that file -> the library."""

_CHECKPOINTS = ("checkpoint_final.pth", "checkpoint_best.pth", "checkpoint_latest.pth")


def is_bundle(folder: Path) -> bool:
    """Whether a folder holds an inference configuration of MONAI."""
    return config_of(folder).is_file()


def config_of(folder: Path) -> Path:
    """The inference configuration of a bundle; a name that is not there where it has none."""
    files = [folder / "configs" / name for name in CONFIGS]
    return next((file for file in files if file.is_file()), files[0])


def is_nnunet(folder: Path) -> bool:
    """Whether a folder is a trained model of nnU-Net, a fold of one, or a data set's folder of models."""
    return any((place / "plans.json").is_file() for place in (folder, folder.parent)) or bool(_models(folder))


def is_pretrained(folder: Path) -> bool:
    """Whether a folder holds the configuration of a model that one of `LIBRARIES` saved."""
    config = read_or_nothing(folder / CONFIG)
    return any(key in config for key in LIBRARIES)


def _models(folder: Path) -> list[Path]:
    return sorted(path.parent for path in folder.glob("*__*__*/plans.json")) if folder.is_dir() else []


def named(model: Path) -> str:
    """The configuration that the name of a model's folder tells; "" where it tells none."""
    return model.name.split("__")[-1] if "__" in model.name else ""


def which_model(folder: Path, network: str | None) -> tuple[Path, str, str]:
    """The model's folder, its configuration ("" if its name says) and its fold ("" for the first)."""
    fold = ""
    if folder.name.startswith("fold_") and not (folder / "plans.json").is_file():
        folder, fold = folder.parent, folder.name
    configuration = ""
    for part in (network or "").split("/"):
        if part.startswith("fold_") or part.isdigit() or part == "all":
            fold = part if part.startswith("fold_") else f"fold_{part}"
        elif part:
            configuration = part
    if (folder / "plans.json").is_file():
        return folder, configuration, fold
    models = [path for path in _models(folder) if not configuration or named(path) == configuration]
    if len(models) == 1:
        return models[0], "", fold
    known = [named(path) for path in _models(folder)]
    said = f"it has no configuration '{configuration}'" if configuration else "it holds several models"
    raise ModelError(said, path=folder, remedy=f"name one with --network: {', '.join(known)}")


def read_names(file: Path) -> dict[str, Any]:
    """A file of JSON that must be there and hold names and values.

    Raises:
        ModelError: it is not, or does not.
    """
    try:
        content = json.loads(file.read_text("utf-8"))
    except FileNotFoundError:
        raise ModelError("the model lacks this file", path=file, remedy="copy the whole folder") from None
    except (OSError, ValueError, RecursionError) as error:
        raise ModelError(f"cannot be read: {in_short(error)}", path=file, remedy="get it again") from None
    if not isinstance(content, dict):
        raise ModelError("it holds no names and values", path=file, remedy="get it again")
    return content


def checkpoint_of(model: Path, fold: str) -> Path:
    """The checkpoint of a fold of nnU-Net's; of the best choice where `fold` is "".

    Raises:
        ModelError: there is no such fold, or no checkpoint in it.
    """
    there = sorted((path for path in model.glob("fold_*") if path.is_dir()), key=_rank)
    chosen = next((path for path in there if not fold or path.name == fold), None)
    if chosen is None:
        names = ", ".join(path.name for path in there)
        raise ModelError(
            f"it has no {fold or 'fold'}",
            path=model,
            remedy=f"there are {names}" if names else "train it first",
        )
    file = next((chosen / name for name in _CHECKPOINTS if (chosen / name).is_file()), None)
    if file is None:
        raise ModelError(f"it has no {_CHECKPOINTS[0]}", path=chosen, remedy="name another fold")
    return file


def _rank(path: Path) -> tuple[bool, str]:
    return path.name != "fold_all", path.name


def read_or_nothing(file: Path) -> dict[str, Any]:
    """Names and values of a file of JSON; none where it is no such file."""
    try:
        content = json.loads(file.read_text("utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    return content if isinstance(content, dict) else {}
