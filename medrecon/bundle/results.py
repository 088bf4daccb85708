"""The results that a user asks of a bundle, checked before any work."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from medrecon.errors import ModelError, UsageError, near
from medrecon.reconstructor import INPUT, parse_layers


def parse_results(layers: str | Sequence[str], known: Sequence[str] = ()) -> list[str]:
    """The results that a user asks for: "level3+level4,level2" -> ["level3+level4", "level2"].

    A comma separates results, a plus joins layers into one result. A comma within the name of one of the
    `known` layers separates nothing.

    Raises:
        ModelError: an empty name, a layer twice in one result, "input" joined with a layer.
        UsageError: a result asked for twice.
    """
    asked = _split(layers, known) if isinstance(layers, str) else list(layers)
    results = ["+".join(parse_layers(result)) for result in asked]
    twice = [result for result, count in Counter(results).items() if count > 1]
    if twice:
        raise UsageError(f"--layers names {twice[0]} more than once", remedy="name each result once")
    return results


def _split(text: str, known: Sequence[str]) -> list[str]:
    """A list at its commas, but for those within known names."""
    pieces, names = text.split(","), {name for name in known if "," in name}
    longest = 1 + max((name.count(",") for name in names), default=0)
    asked: list[str] = []
    at = 0
    while at < len(pieces):
        spans = range(min(longest, len(pieces) - at), 1, -1)
        count = next((k for k in spans if ",".join(pieces[at : at + k]).strip() in names), 1)
        asked.append(",".join(pieces[at : at + count]))
        at += count
    return asked


def check_results(results: Sequence[str], known: Sequence[str], *, where: Path) -> None:
    """Refuse results that name a layer the network does not have.

    Raises:
        ModelError: an unknown layer; the message names the near ones.
    """
    for name in (name for result in results for name in parse_layers(result)):
        if name != INPUT and name not in known:
            raise ModelError(
                f"no layer '{name}'" + near(name, [*known, INPUT]),
                path=where,
                remedy=f"use {', '.join(known)} or {INPUT}",
            )


def encoder_setting(config: Any, file: Path | None, root: Path) -> dict[str, Any]:
    """What a bundle's train.yaml must be told of `--encoder-weights`.

    Args:
        config: the configuration.
        file: the weights that were named.
        root: the bundle.

    Raises:
        ModelError: the bundle needs weights, and none were named.
        UsageError: weights were named, and the bundle takes none.
    """
    if file is None:
        if "encoder_weights" in config and config["encoder_weights"] is None:
            raise ModelError(
                "the bundle does not hold the weights of the network that it looks into",
                path=root,
                remedy="name their file with --encoder-weights",
            )
        return {}
    if "encoder_weights" not in config:
        raise UsageError(
            "the bundle trains its own encoder: it takes no --encoder-weights",
            path=root,
            remedy="leave it out",
        )
    return {"encoder_weights": file.absolute()}
