"""The trainings on which what takes long is shown."""

from __future__ import annotations

import pytest

ADVERSARIAL = {
    "start_from": None,
    "generator_loss#start": 1,
    "generator_loss#ramp": 2,
    "discriminator_loss#start": 0,
    "discriminator_def#channels": 4,
    "discriminator_def#num_layers_d": 1,
}
"""What makes adversarial.yaml begin at once and untrained, with a small discriminator."""

GENERATIVE = {
    "measured_batches": 2,
    "widening_batches": 1,
    "_meta_#generative_def#widths": [4, 4],
    "_meta_#generative_def#depths": [1, 1],
    "_meta_#generative_def#scale_width": 4,
}
"""What makes generative.yaml small."""

TRAININGS = pytest.mark.parametrize(
    ("name", "overlays"),
    [
        pytest.param("slice_autoencoder", [], marks=pytest.mark.slow),
        pytest.param("slice_transform_code", [], marks=pytest.mark.slow),
        pytest.param("volume_autoencoder", [], marks=pytest.mark.slow),
        pytest.param("slice_autoencoder", ["adversarial.yaml"], marks=pytest.mark.slow),
    ],
)
"""Those that take several processes each, of which one is killed, or which are joined."""
