"""Tables of a TOML file, checked against the dataclass that they describe."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import MISSING, fields
from pathlib import Path
from typing import Any

from medrecon.errors import ModelError, UsageError, in_short, near

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

_TYPES: dict[str, tuple[type, ...]] = {
    "str": (str,),
    "int": (int,),
    "float": (int, float),
    "bool": (bool,),
    "tuple[str, ...]": (list,),
}


def read_toml(path: Path) -> dict[str, Any]:
    """A TOML file.

    Raises:
        UsageError: it is not there.
        ModelError: it cannot be read, or is no TOML.
    """
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UsageError("is not there", path=path, remedy="check the path") from None
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        raise ModelError(f"is no TOML: {in_short(error)}", path=path, remedy="mend it") from None
    except (OSError, UnicodeDecodeError) as error:
        raise ModelError(f"cannot be read ({in_short(error)})", path=path, remedy="check the file") from None


def checked_table(kind: Any, table: object, name: str, path: Path) -> dict[str, Any]:
    """The values of a table, each of the type that the dataclass's field of that name has.

    Args:
        kind: the dataclass; fields without a default are not the table's.
        table: as read.
        name: of the table, for messages.
        path: of the file.

    Raises:
        ModelError: it is no table, or a key or a value is none of its.
    """
    if not isinstance(table, Mapping):
        raise ModelError(f"'{name}' is no table", path=path, remedy=f"write [{name}] and its keys below")
    known = {field.name: field for field in fields(kind) if field.default is not MISSING}
    for key, value in table.items():
        if key not in known:
            raise ModelError(
                f"[{name}] has an unknown key '{key}'{near(key, known)}",
                path=path,
                remedy="see the page Your PACS",
            )
        types = _TYPES[str(known[key].type)]
        fits = isinstance(value, types) and not (isinstance(value, bool) and bool not in types)
        if not fits or (types == (list,) and not all(isinstance(each, str) for each in value)):
            wanted = str(known[key].type).replace("tuple[str, ...]", "a list of texts")
            raise ModelError(f"[{name}] {key} is {value!r}, not {wanted}", path=path, remedy="mend it")
    return {key: tuple(value) if isinstance(value, list) else value for key, value in table.items()}
