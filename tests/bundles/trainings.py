"""The trainings on which what takes long is shown."""

from __future__ import annotations

import pytest

TRAININGS = pytest.mark.parametrize(
    ("name", "overlays"),
    [
        ("slice_autoencoder", []),
        pytest.param("volume_autoencoder", [], marks=pytest.mark.slow),
        pytest.param("slice_autoencoder", ["adversarial.yaml"], marks=pytest.mark.slow),
    ],
)
"""What is shown of trainings that take long: on slices always, the others in the slow tests."""
