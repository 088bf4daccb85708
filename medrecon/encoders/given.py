"""What a user gives a network beside an image: JSON objects."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from medrecon.errors import ModelError


def read_arguments(arguments: str | Mapping[str, Any] | None, what: str = "arguments") -> dict[str, Any]:
    """Arguments, or inputs, as a dictionary.

    Raises:
        ModelError: no JSON object.
    """
    if arguments is None or isinstance(arguments, Mapping):
        return dict(arguments or {})
    try:
        given = json.loads(arguments, object_pairs_hook=_once)
    except (ValueError, RecursionError) as error:
        raise ModelError(f"the encoder's {what} are not JSON ({error})", remedy=_HOW) from None
    if not isinstance(given, dict):
        raise ModelError(f"the encoder's {what} are no JSON object", remedy=_HOW)
    return given


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """An object's names and values; a name that stands in it twice is refused."""
    given: dict[str, Any] = {}
    for name, value in pairs:
        if name in given:
            raise ValueError(f"'{name}' stands there twice")
        given[name] = value
    return given


_HOW = """write them like {"spatial_dims": 3, "in_channels": 1}"""
