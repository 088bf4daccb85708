from __future__ import annotations

import pytest
import torch

from medrecon.encoders.staged import z_score


@pytest.mark.parametrize("correction", [0, 1])
def test_z_score_of_each_image_by_the_voxels_chosen(correction: int) -> None:
    torch.manual_seed(0)
    image = torch.randn(2, 1, 3, 4) * 50 + 700
    chosen = torch.rand(2, 1, 3, 4) > 0.4
    for mask in (None, chosen):
        found = z_score(image, mask, correction)
        for k in range(2):
            inside = image[k] if mask is None else image[k][mask[k]]
            torch.testing.assert_close(
                found[k], (image[k] - inside.mean()) / inside.std(correction=correction)
            )


def test_z_score_where_there_is_no_deviation() -> None:
    for image in (torch.full((1, 1, 3, 3), 0.3), torch.rand(1, 1, 1, 1)):
        image.requires_grad_()
        found = z_score(image)
        assert torch.allclose(found, torch.zeros_like(found), atol=1e-6)
        found.square().sum().backward()
        assert torch.isfinite(image.grad).all()
    nothing = torch.zeros(1, 1, 2, 2, dtype=torch.bool)
    assert torch.equal(z_score(torch.ones(1, 1, 2, 2), nothing), torch.ones(1, 1, 2, 2))


def test_z_score_under_autocast_is_that_of_float32() -> None:
    image = torch.rand(1, 1, 8, 8)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(z_score(image), z_score(image.float()))
        assert z_score(image.bfloat16()).dtype == torch.float32
