from __future__ import annotations

import pytest
import torch

from medrecon.inversion.priors import outside, total_variation


@pytest.mark.parametrize("dims", [1, 2, 3])
def test_total_variation_of_an_edge_is_its_height_times_its_area(dims: int) -> None:
    image = torch.zeros(1, 1, *(8,) * dims)
    image[:, :, 4:] = 0.5
    assert float(total_variation(image, eps=1e-6)) == pytest.approx(0.5 / 8, rel=1e-4)


def test_total_variation_does_not_depend_on_the_direction_of_an_edge() -> None:
    image = torch.rand(1, 1, 9, 9, 9)
    for axes in ((3, 2, 4), (4, 3, 2)):
        turned = image.permute(0, 1, *axes)
        assert float(total_variation(turned)) == pytest.approx(float(total_variation(image)), rel=1e-5)


@pytest.mark.parametrize("shape", [(4, 4), (1, 5), (3, 1, 2)])
def test_a_constant_image_costs_nothing_and_has_a_finite_gradient(shape: tuple[int, ...]) -> None:
    image = torch.full((2, 1, *shape), 0.3, requires_grad=True)
    loss = total_variation(image) + outside(image)
    loss.backward()
    assert float(loss) == pytest.approx(0, abs=1e-9)
    assert image.grad is not None
    assert torch.isfinite(image.grad).all()


def test_only_what_lies_outside_the_window_costs() -> None:
    assert float(outside(torch.tensor([0.0, 0.5, 1.0]))) == 0
    assert float(outside(torch.tensor([-0.2, 0.5, 1.1]))) == pytest.approx((0.04 + 0.01) / 3)
