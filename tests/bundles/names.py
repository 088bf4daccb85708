"""The bundles that need no network of somebody else's, and how many dimensions they have."""

from __future__ import annotations

NETWORKS = ["volume_autoencoder", "slice_autoencoder"]
CODES = ["volume_transform_code", "slice_transform_code"]
NAMES = NETWORKS + CODES
DIMS = {name: 3 if name.startswith("volume") else 2 for name in NAMES}
