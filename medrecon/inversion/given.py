"""Which of its levels a decoder of any subset was given."""

from __future__ import annotations

from collections.abc import Sequence

from medrecon.contract import Features
from medrecon.errors import ModelError


def levels_given(features: Features, names: Sequence[str]) -> list[str]:
    """The names of the features, in the decoder's order.

    Raises:
        ModelError: there is none, or one that the decoder does not know.
    """
    given = [name for name in names if name in features]
    if not given or len(given) != len(features):
        raise ModelError(f"the decoder was given {sorted(features)}", remedy=f"give levels out of {names}")
    return given
