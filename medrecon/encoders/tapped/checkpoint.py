"""Checkpoints as trainers write them: a network's tensors among all that a file holds, by its own names."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Protocol, runtime_checkable

import torch
from torch import nn

from medrecon.blocks.weights import fit_weights, read_content
from medrecon.errors import ModelError

_WRAPS = frozenset({"module", "_orig_mod", "_fsdp_wrapped_module"})
"""Names that distributed training and `torch.compile` put before the names within a module, at any depth."""

_MADE = ("num_batches_tracked", "relative_position_index", "position_ids")
"""Ends of the names of buffers that say nothing of the training: a file may lack them, or have them alone."""

_AVERAGED = ("ema", "teacher", "swa", "averag")
"""Parts of the names of weights that are a mean over the training."""

_DEEPEST = 4

Tensors = dict[str, torch.Tensor]


RANDOM = "random"
"""In the place of a file: the weights as the network is made."""


def load_checkpoint(
    network: nn.Module, file: str | Path | None, sha256: str | None = None, key: str | None = None
) -> list[str]:
    """Put the weights of a checkpoint into a network, whatever the trainer wrapped them in.

    Of the groups of tensors in the file, nested to any depth, the one is taken whose names fit, once what
    wrappers put before them (`module.`, `_orig_mod.`, `model.`, `net.` ..., in any combination) is left out.
    Each tensor of the network must be there, finite and of its shape. The file may hold more.

    Args:
        network: gets the weights.
        file: safetensors, or a torch checkpoint, which is read without running code. None leaves the network
            as it is, "random" too, and says so.
        sha256: expected SHA-256, None for any.
        key: of the group that is meant, such as "ema", where several fit; the first that is no running mean
            when None.

    Returns:
        What must be said, one line each.

    Raises:
        ModelError: it cannot be read, or no group of it fits.
    """
    if file is None:
        return []
    if str(file) == RANDOM:
        return ["the weights are random"]
    content = read_content(file, sha256)
    groups = {name: group for name, group in _groups(content, "") if key is None or key in name.split(".")}
    if not groups:
        said = "it does not hold a state_dict (names and tensors)" if key is None else f"it holds no '{key}'"
        raise ModelError(said, path=file, remedy="save the state_dict alone")
    own = network.state_dict()
    fitted = {name: _renamed(group, own) for name, group in groups.items()}
    if isinstance(network, _Renaming) and not any(
        _overlap(each, own) == len(own) for each in fitted.values()
    ):
        old = {name: _old_names(network, group, own) for name, group in groups.items()}
        fitted |= {name: found for name, found in old.items() if found is not None}
    order = sorted(fitted, key=lambda name: (-_overlap(fitted[name], own), _is_mean(name)))
    best = fitted[order[0]]
    weights = {name: best[name] for name in own if name in best}
    for name, value in own.items():
        if name not in weights and name.endswith(_MADE):
            weights[name] = value
    fit_weights(network, weights, file)
    return _notes(order, fitted, own)


def _notes(order: list[str], fitted: Mapping[str, Tensors], own: Mapping[str, torch.Tensor]) -> list[str]:
    first = order[0]
    notes = []
    more = [name for name in fitted[first] if name not in own and not name.endswith(_MADE)]
    if more:
        notes.append(f"{len(more)} tensors of the checkpoint are no part of the network, such as {more[0]}")
    others = [name for name in order[1:] if _overlap(fitted[name], own) == _overlap(fitted[first], own)]
    if others:
        notes.append(
            f"the checkpoint holds several weights of the network: taken are those under '{first}', not "
            f"{', '.join(others)} (_weights_key_ chooses)"
        )
    return notes


def _groups(content: object, name: str, depth: int = 0) -> Iterator[tuple[str, Tensors]]:
    """The mappings of names to tensors within a checkpoint, by the keys that lead to them."""
    if not isinstance(content, Mapping) or depth > _DEEPEST:
        return
    tensors = {k: v for k, v in content.items() if isinstance(k, str) and isinstance(v, torch.Tensor)}
    if tensors:
        yield name, tensors
    for key, inner in content.items():
        yield from _groups(inner, f"{name}.{key}" if name else str(key), depth + 1)


def _is_mean(name: str) -> bool:
    return any(part in name.lower() for part in _AVERAGED)


def _overlap(group: Mapping[str, torch.Tensor], own: Mapping[str, torch.Tensor]) -> int:
    return sum(name in group and group[name].shape == value.shape for name, value in own.items())


def _renamed(group: Tensors, own: Mapping[str, torch.Tensor]) -> Tensors:
    """A group under the network's names: without wrappers, and without the beginning that fits best."""
    if all(name in group for name in own):
        return group
    plain = {name: name for name in group}
    bare = {name: ".".join(part for part in name.split(".") if part not in _WRAPS) for name in group}
    best, most = group, -1
    for names in (plain, bare):
        for start in _starts(names.values(), own):
            found = {
                short.removeprefix(start): group[name]
                for name, short in names.items()
                if short.startswith(start)
            }
            overlap = _overlap(found, own)
            if overlap > most:
                best, most = found, overlap
    return best


def _starts(names: Iterable[str], own: Mapping[str, torch.Tensor]) -> list[str]:
    """The beginnings (`model.`, `student.backbone.`) after which a name of the network follows."""
    found = {""}
    known = set(own)
    for name in names:
        parts = name.split(".")
        found |= {".".join(parts[:k]) + "." for k in range(1, len(parts)) if ".".join(parts[k:]) in known}
    return sorted(found, key=len)


@runtime_checkable
class _Renaming(Protocol):
    """Networks of MONAI that take the names of older releases by themselves."""

    def load_old_state_dict(self, old_state_dict: Tensors) -> None:
        """Copy what fits under a new name."""


def _old_names(network: _Renaming, group: Tensors, own: Tensors) -> Tensors | None:
    """The weights of an older release under today's names; None where some are not told."""
    kept = {name: value.clone() for name, value in own.items()}
    try:
        for value in own.values():
            if value.is_floating_point():
                value.fill_(torch.nan)
        network.load_old_state_dict(dict(group))
        found = {name: value.clone() for name, value in own.items()}
    except (KeyError, RuntimeError):
        return None
    finally:
        for name, value in own.items():
            value.copy_(kept[name])
    complete = all(bool(v.isfinite().all()) for v in found.values() if v.is_floating_point())
    return found if complete else None
