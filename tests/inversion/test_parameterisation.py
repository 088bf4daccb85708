"""What is optimised in the place of an image: zero at first, and able to become any image."""

from __future__ import annotations

import pytest
import torch

from medrecon.errors import UsageError
from medrecon.inversion.parameterisation import PARAMETERISATIONS, DeepPrior, Fourier, parameterisation

SHAPES = [(16, 12), (17, 9), (1, 7), (5, 4, 3), (8, 8, 8)]


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("name", PARAMETERISATIONS)
def test_a_correction_has_the_shape_of_the_image_and_starts_at_zero(
    name: str, shape: tuple[int, ...]
) -> None:
    made = PARAMETERISATIONS[name](shape)()
    assert made.shape == (1, 1, *shape)
    assert not made.any()


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("name", ["pixels", "multiscale", "fourier"])
def test_the_linear_ones_can_become_any_image(name: str, shape: tuple[int, ...]) -> None:
    torch.manual_seed(0)
    wanted, made = torch.rand(1, 1, *shape), PARAMETERISATIONS[name](shape)
    optimiser = torch.optim.LBFGS(made.parameters(), max_iter=300, line_search_fn="strong_wolfe")

    def closure() -> torch.Tensor:
        optimiser.zero_grad()
        loss = (made() - wanted).square().sum()
        loss.backward()
        return loss

    optimiser.step(closure)
    assert (made() - wanted).abs().max() < 1e-3


@pytest.mark.parametrize("shape", [(32, 32), (16, 16, 16)])
@pytest.mark.parametrize("name", ["multiscale", "fourier"])
def test_one_step_of_gradient_moves_wide_areas_further_than_pixels_do(
    name: str, shape: tuple[int, ...]
) -> None:
    """White noise as the gradient of the image: the step is red, in pixels it stays white."""
    torch.manual_seed(0)
    noise = torch.randn(1, 1, *shape)
    made = PARAMETERISATIONS[name](shape)
    gradients = torch.autograd.grad((made() * noise).sum(), list(made.parameters()))
    with torch.no_grad():
        for parameter, gradient in zip(made.parameters(), gradients, strict=True):
            parameter.copy_(gradient)
        spectrum = torch.fft.fftn(made()[0, 0]).abs()
    low = spectrum[tuple(slice(1, 4) for _ in shape)].mean()
    high = spectrum[tuple(slice(n // 2 - 2, n // 2 + 2) for n in shape)].mean()
    assert low > 3 * high


def test_fourier_scales_by_one_over_f() -> None:
    scale = Fourier((64, 64), power=1.0).scale
    assert scale[0, 2] / scale[0, 8] == pytest.approx(4)
    assert scale[4, 0] == scale[0, 4] == scale[-4, 0]
    assert scale[0, 0] == scale[0, 1]


def test_the_deep_prior_can_learn_and_its_noise_cannot() -> None:
    made = DeepPrior((16, 16))
    with torch.no_grad():
        made.out.weight.fill_(0.1)
    made().square().mean().backward()
    assert all(p.grad is not None and torch.isfinite(p.grad).all() for p in made.parameters())
    assert not made.noise.requires_grad


def test_an_unknown_name_is_refused_and_a_callable_taken_as_it_is() -> None:
    assert parameterisation(Fourier) is Fourier
    with pytest.raises(UsageError, match="no parameterisation 'fourrier'"):
        parameterisation("fourrier")
