"""The images that a linear inverse is fitted to: generated ones, and scans of the user's where given."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import Any

import torch
from monai.transforms import Compose, EnsureTyped, LoadImaged

from medrecon.contract import Encoder
from medrecon.io import Scan, ScanReader
from medrecon.phantoms import PhantomDataset
from medrecon.training.patches import central_patch, patch_of, phantom_shape, random_patch
from medrecon.transforms import ScanIntensityd

VOXELS = 1 << 23
FEWEST, MOST = 10, 64
"""Images: as many as make so many voxels, within these."""

SEED = 20261129


def typical_images(encoder: Encoder, scans: Sequence[Scan] = ()) -> list[torch.Tensor]:
    """Generated images as the encoder takes them, and as many patches of scans where there are any.

    They are the same each time.

    Args:
        encoder: says their size, and the grid that scans are brought to.
        scans: of the user's; not those that the inverse will be judged on.

    Returns:
        (1, C, *spatial) in [0, 1] each, as many channels as the encoder needs.

    Raises:
        ScanError: a scan cannot be read.
    """
    size = patch_of(encoder)
    count = max(FEWEST, min(MOST, VOXELS // math.prod(size)))
    float32 = EnsureTyped(keys="image", dtype=torch.float32, track_meta=False)
    steps = Compose([ScanIntensityd(keys="image"), float32, *central_patch(size)])
    contrasts = len(encoder.channel_names) if encoder.channels_needed else 1
    kind = {"modality": _modality(encoder), "contrasts": contrasts}
    made = PhantomDataset(count, phantom_shape(size), SEED, **kind, transform=steps)
    images = [torch.as_tensor(made[number]["image"])[None] for number in range(count)]
    if not scans:
        return images
    patches = [*_patches(encoder, scans, size, count)]
    return [image for pair in zip(images, patches, strict=True) for image in pair]


def _modality(encoder: Encoder) -> Any:
    """CT for a network that takes nothing else, else either."""
    return "CT" if encoder.units == "HU" else None


def _patches(encoder: Encoder, scans: Sequence[Scan], size: Sequence[int], count: int) -> list[torch.Tensor]:
    reader: Any = ScanReader()  # MONAI takes one, and its annotation knows classes only
    load = LoadImaged(keys="image", reader=reader, dtype=None, ensure_channel_first=True, expanduser=False)
    float32 = EnsureTyped(keys="image", dtype=torch.float32, track_meta=False)
    whole = Compose([load, *encoder.geometry, ScanIntensityd(keys="image"), float32])
    cut = Compose(random_patch(size))
    cut.set_random_state(seed=SEED)
    shares = [len(range(k, count, len(scans))) for k in range(len(scans))]
    found: list[torch.Tensor] = []
    for scan, share in zip(scans, shares, strict=True):
        if share:
            volume = whole({"image": scan})
            found += [torch.as_tensor(cut(dict(volume))["image"])[None] for _ in range(share)]
    # by turns, so that those kept aside are of every scan
    starts = list(itertools.accumulate(shares, initial=0))[:-1]
    return [found[starts[k % len(scans)] + k // len(scans)] for k in range(count)]
