"""What a layer tells of a mask: what lies apart is told, where it lies; what cannot be asked is said."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from monai.data import MetaTensor

from medrecon.atlas.labels import LabelProbe
from medrecon.encoders import HierarchicalEncoder
from medrecon.errors import UsageError
from medrecon.inversion import HierarchicalDecoder
from medrecon.reconstructor import Reconstructor

SHAPE = (96, 96, 64)


def network(dims: int) -> Reconstructor:
    torch.manual_seed(0)
    encoder = HierarchicalEncoder(dims, channels=(4, 4, 4) if dims == 2 else (8, 8, 8), widths=(4, 4))
    decoder = HierarchicalDecoder(encoder.layers(), widths=(4, 4), depths=(1, 1))
    return Reconstructor(encoder, decoder).eval()


def scan(seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Noise in which marked balls are coarser and brighter: (image in [0, 1], mask)."""
    rng = np.random.default_rng(seed)
    grid = np.stack(np.meshgrid(*map(np.arange, SHAPE), indexing="ij"), axis=-1)
    mask = np.zeros(SHAPE, np.int16)
    for middle in ((20, 20, 20), (70, 24, 40), (40, 70, 30)):
        mask[((grid - middle) ** 2).sum(-1) < 15**2] = 3
    image = 0.4 + 0.1 * rng.normal(size=SHAPE) + 0.1 * (mask > 0)
    return image.astype(np.float32), mask


def asked(dims: int, image: np.ndarray, mask: np.ndarray, affine: np.ndarray | None = None) -> LabelProbe:
    given = MetaTensor(torch.from_numpy(image.copy())[None, None], affine=torch.eye(4))
    return LabelProbe(network(dims), given, mask, np.eye(4) if affine is None else affine)


@pytest.mark.parametrize("dims", [2, 3])
def test_labels_that_lie_apart_are_told_and_shuffled_ones_are_not(dims: int) -> None:
    probe = asked(dims, *scan())
    for result in ("level2", "level1+level2"):
        told = probe.told(result)
        assert told.accuracy > 0.8
        assert told.dct > 0.8
        assert told.chance == 0.5 == pytest.approx(told.shuffled, abs=0.15)
        assert told.labels == 2
        assert told.random is not None


def test_the_mask_is_asked_where_it_lies() -> None:
    """A mask stored the other way round, with the affine that says so, is the same mask; moved, it is not."""
    image, mask = scan()
    straight = asked(3, image, mask).told("level2")
    turned = np.diag([-1.0, 1, 1, 1])
    turned[0, 3] = SHAPE[0] - 1
    assert asked(3, image, mask[::-1], turned).told("level2") == straight
    assert asked(3, image, mask[::-1]).told("level2").accuracy < straight.accuracy - 0.2


def test_what_cannot_be_asked_is_refused() -> None:
    image, mask = scan()
    with pytest.raises(UsageError, match="marks nothing"):
        asked(3, image, np.zeros_like(mask))
    small = np.zeros_like(mask)
    small[40:44, 40:44, 30:34] = 1
    with pytest.raises(UsageError, match="too small"):
        asked(3, image, small)
