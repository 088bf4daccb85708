from __future__ import annotations

import pytest

from medrecon.encoders import resolve_layers
from medrecon.errors import ModelError

LEVELS = ["level1", "level2", "level3"]


def test_order_and_repetition() -> None:
    assert resolve_layers(None, LEVELS) == ("level1", "level2", "level3")
    assert resolve_layers("level2", LEVELS) == ("level2",)
    assert resolve_layers(["level3", "level1", "level3"], LEVELS) == ("level3", "level1")


def test_near_names_first_then_all() -> None:
    with pytest.raises(ModelError, match="there is no layer 'levle2'; did you mean level2"):
        resolve_layers(["level1", "levle2"], LEVELS)
    with pytest.raises(ModelError, match="no layer 'xyz'; choose from level1, level2, level3"):
        resolve_layers("xyz", LEVELS)
    with pytest.raises(ModelError, match="no layer was asked for"):
        resolve_layers([], LEVELS)


def test_hundreds_of_layers_make_one_short_line() -> None:
    with pytest.raises(ModelError) as caught:
        resolve_layers("xyz", [f"block{k}.conv" for k in range(300)])
    assert "(300 layers)" in str(caught.value)
    assert len(str(caught.value)) < 500
