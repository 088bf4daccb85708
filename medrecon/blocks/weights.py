"""Weight files: read without running code, checked, and refused unless every tensor fits."""

from __future__ import annotations

import hashlib
import zipfile
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load
from torch import nn

from medrecon.contract import Encoder
from medrecon.errors import ModelError, in_short, ran_out_of

_MOST_HEADER = 8 << 20
"""Bytes of a safetensors header: that of the largest public networks takes one."""

NUMBERS: list[Any] = [
    np.dtype,
    *(type(np.dtype(code)) for code in np.typecodes["AllInteger"] + "efd?"),
    *((np.float64(0).__reduce__()[0], f"numpy.{core}.multiarray.scalar") for core in ("core", "_core")),
]
"""What numpy's numbers are pickled as, under the names of numpy 1 and 2."""

ARRAYS: list[Any] = [
    np.ndarray,
    *((np.zeros(1).__reduce__()[0], f"numpy.{core}.multiarray._reconstruct") for core in ("core", "_core")),
]
"""What numpy's arrays are pickled as."""

_WRAPPERS = ("state_dict", "model_state_dict", "model", "network", "net")
"""Where checkpoints that hold more than tensors keep them."""


def read_weights(path: str | Path, sha256: str | None = None) -> dict[str, torch.Tensor]:
    """The tensors of a safetensors file or of a torch checkpoint, which is unpickled with `weights_only`.

    A checkpoint that holds its tensors under `state_dict` (or `model`, `network` ...) is unwrapped.

    Args:
        path: the file.
        sha256: its expected SHA-256 in hexadecimal, or None to take any file.

    Raises:
        ModelError: the file is missing, is not the one expected, or holds something else than tensors.
    """
    return _checked(read_content(path, sha256), Path(path))


def read_content(path: str | Path, sha256: str | None = None) -> Any:
    """All that a weight file holds: tensors by name, or whatever a trainer put beside and around them.

    A torch checkpoint is unpickled with `weights_only`: containers, tensors, numbers, numpy's numbers too.
    Other objects (a trainer's arguments, paths) become something inert: no code of theirs is run.

    Args:
        path: the file.
        sha256: its expected SHA-256 in hexadecimal, or None to take any file.

    Raises:
        ModelError: the file is missing, is not the one expected, or cannot be read without running code.
    """
    file = Path(path)
    if not file.is_file():
        raise ModelError("there is no such weight file", path=file, remedy="give the path of a weight file")
    if sha256 is not None:
        found = digest(file)
        if found != sha256.lower():
            raise ModelError(
                f"its SHA-256 is {found}, expected {sha256.lower()}",
                path=file,
                remedy="get the right file again, or leave the SHA-256 out to use this one",
            )
    return _read(file)


def fit_weights(
    module: nn.Module, weights: Mapping[str, torch.Tensor], path: str | Path, *, unused: Collection[str] = ()
) -> None:
    """Copy `weights` into `module`; nothing is copied unless every tensor fits.

    Args:
        module: takes the weights, in its own dtype.
        weights: as `read_weights` gives them.
        path: where they came from, for the message.
        unused: beginnings of keys that the file may hold and the module does not need.

    Raises:
        ModelError: a tensor is missing, left over, of another shape, or not finite.
    """
    own = module.state_dict()
    given = {k: v for k, v in weights.items() if k in own or not k.startswith(tuple(unused))}
    faults = [f"{key} is missing" for key in own if key not in given]
    faults += [f"{key} is not a part of {type(module).__name__}" for key in given if key not in own]
    for key in own.keys() & given.keys():
        if own[key].shape != given[key].shape:
            faults.append(f"{key} has shape {_shape(given[key])}, not {_shape(own[key])}")
        elif not bool(torch.isfinite(given[key]).all()):
            faults.append(f"{key} holds NaN or infinite values")
    if faults:
        more = f" (and {len(faults) - 1} more)" if len(faults) > 1 else ""
        raise ModelError(
            f"these weights do not fit {type(module).__name__}: {faults[0]}{more}",
            path=path,
            remedy="give the weights of this very network",
        )
    module.load_state_dict(given)


def digest(file: Path) -> str:
    """SHA-256 of a file, in pieces (hashlib.file_digest needs Python 3.11)."""
    digest = hashlib.sha256()
    with file.open("rb") as stream:
        while piece := stream.read(1 << 20):
            digest.update(piece)
    return digest.hexdigest()


def fingerprint(module: nn.Module) -> str:
    """SHA-256 of a network's weights, the same on every machine and for every file that holds them.

    Over each tensor of the state dict, by name in order: name, dtype, shape and values (floating point as
    float32, all else as int64, little-endian). It says which network made some features: normalisations that
    are no part of the state dict do not count, nor does what wraps an encoder (`Encoder.unwrapped`).

    Returns:
        64 hexadecimal digits.
    """
    if isinstance(module, Encoder):
        module = module.unwrapped
    total = hashlib.sha256()
    for name, value in sorted(module.state_dict().items()):
        if not isinstance(value, torch.Tensor):
            continue
        dtype = torch.float32 if value.is_floating_point() else torch.int64
        values = value.detach().to("cpu", dtype).contiguous().numpy()
        total.update(f"{name}\0{value.dtype}\0{_shape(value)}\0".encode())
        total.update(values.astype(values.dtype.newbyteorder("<"), copy=False).tobytes())
    return total.hexdigest()


def _read(file: Path) -> Any:
    try:
        if file.suffix == ".safetensors":
            _check_header(file)
            return load(file.read_bytes())  # not mapped: a file that is cut later would end the process
        with torch.serialization.safe_globals(NUMBERS), torch.serialization.safe_globals(_inert(file)):
            return torch.load(file, map_location="cpu", weights_only=True)
    except SafetensorError as error:
        raise ModelError(
            f"it is not a readable safetensors file ({error})", path=file, remedy="get it again"
        ) from None
    except Exception as error:
        if ran_out_of(error):
            raise
        raise ModelError(
            f"it is not a checkpoint that can be read without running its code ({in_short(error)})",
            path=file,
            remedy="save the state_dict alone, or as safetensors",
        ) from None


class _Inert:
    """Stands for what a checkpoint holds beside its tensors: a trainer's arguments, paths, settings.

    It takes whatever the object was made of, and keeps nothing: no class or function that the file names is
    looked up, let alone called.
    """

    def __new__(cls, *given: object, **named: object) -> _Inert:
        return super().__new__(cls)

    def __init__(self, *given: object, **named: object) -> None:
        return

    def __setstate__(self, state: object) -> None:
        return


def _inert(file: Path) -> list[Any]:
    """All that a checkpoint names and `weights_only` does not take, each to be made something inert."""
    if not zipfile.is_zipfile(file):
        return []  # of a release before 1.6, or no checkpoint
    names = torch.serialization.get_unsafe_globals_in_checkpoint(str(file))
    return [(_Inert, name) for name in names]


def _check_header(file: Path) -> None:
    """Refuse a header that would take the library minutes to read."""
    with file.open("rb") as stream:
        length = int.from_bytes(stream.read(8), "little")
    if length > _MOST_HEADER:
        raise SafetensorError(f"its header takes more than {_MOST_HEADER >> 20} MiB")


def _checked(content: Any, file: Path) -> dict[str, torch.Tensor]:
    if isinstance(content, Mapping):
        inner = (content[key] for key in _WRAPPERS if isinstance(content.get(key), Mapping))
        content = next(inner, content)
    tensors = isinstance(content, Mapping) and all(isinstance(v, torch.Tensor) for v in content.values())
    if not tensors or not content:
        raise ModelError(
            "it does not hold a state_dict (names and tensors)", path=file, remedy="save the state_dict alone"
        )
    return dict(content)


def _shape(tensor: torch.Tensor) -> str:
    return "x".join(map(str, tensor.shape)) or "scalar"
