"""The sentences of the page."""

from __future__ import annotations

import sys
from pathlib import Path

from medrecon.report import words

sys.path.insert(0, str(Path(__file__).parent))
import made


def test_a_linear_code_that_loses_nothing_is_no_measure() -> None:
    code = made.Control("linear code", 148.9, 1.0, 0.0)
    scores = made.scan(
        made.layer("relu1_2", 33.0, controls=(code, made.Control("mean image", 31.5, 0.3, 9.0)))
    )
    said = " ".join(words.of_layer(scores.layers[0], scores))
    assert "1.5 dB better than the mean image. A linear code of as many values would lose nothing." in said
    assert "dB worse" not in said
