"""The network on volumes in memory: features of all layers, images of them, and the way home."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from medrecon.atlas.audit.grid import on_common_grid
from medrecon.atlas.audit.network import AuditNetwork, pooled
from medrecon.errors import ModelError, UsageError
from medrecon.io import Scan, find_scans

from ...audit_cohort import SIDE, write_cohort


@pytest.fixture
def scan(tmp_path: Path) -> Scan:
    return find_scans(write_cohort(tmp_path / "scans", 1, 1)).scans[0]


def network(bundle: Path | str, scan: Scan, output: Path, layers: str | None = None) -> AuditNetwork:
    return AuditNetwork(bundle, [scan], output=output, layers=layers, device="cpu")


def test_features_images_and_the_way_home(tiny_bundle: Path, scan: Scan, tmp_path: Path) -> None:
    made = network(tiny_bundle, scan, tmp_path / "out", "coarse2,coarse2+coarse4")
    volume = on_common_grid(scan, SIDE, 4.0)
    seen = made.see(volume)
    image = seen.image.as_tensor()[0]
    means = torch.nn.functional.avg_pool3d(image[None, None], 2)[0]
    assert torch.allclose(seen.fields["coarse2"], means, atol=1e-6)
    assert seen.fields["coarse4"].shape == (1, 4, 4, 4)
    back = made.invert("coarse2", seen)
    assert torch.allclose(back[::2, ::2, ::2], means[0], atol=1e-6)
    assert torch.allclose(made.invert("coarse2+coarse4", seen), back)
    other = made.invert("coarse2", seen, {"coarse2": means + 1})
    assert torch.allclose(other, back + 1)
    home = made.home(image, seen)
    assert np.allclose(home, volume.numpy()[0], rtol=1e-4, atol=0.1), "the scan's own units"
    assert made.rate("coarse2+coarse4") == pytest.approx(1 / 8 + 1 / 64)


def test_slices_give_the_images_that_the_bundle_itself_makes(scan: Scan, tmp_path: Path) -> None:
    made = network("slice_autoencoder", scan, tmp_path / "out", "level3")
    seen = made.see(on_common_grid(scan, 32, 2.0))
    image = seen.image.as_tensor().float()
    inferer = made.parts.inferer.for_results(["level3"])
    with torch.inference_mode():
        expected = inferer(image[None], made.network)[0, 0]
    assert torch.allclose(made.invert("level3", seen), expected, atol=2e-3)


def test_what_is_no_layer_is_refused(tiny_bundle: Path, scan: Scan, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="coarse3"):
        network(tiny_bundle, scan, tmp_path / "out", "coarse3")
    with pytest.raises(UsageError, match="'input' is no layer"):
        network(tiny_bundle, scan, tmp_path / "out", "input")


def test_a_field_is_kept_as_so_many_values_at_most() -> None:
    field = torch.arange(3 * 8**3, dtype=torch.float32).reshape(3, 8, 8, 8)
    assert np.array_equal(pooled(field, 1 << 20), field.flatten().numpy()), "all, where there is room"
    assert len(pooled(field, 100)) == 3 * 3**3
    assert len(pooled(field, 3 * 64)) == 3 * 4**3
    assert len(pooled(field, 2)) == 3
    assert pooled(field, 3) == pytest.approx(field.flatten(1).mean(1).numpy())
