"""The transform code as a control: only where it holds as many values, and never beside itself."""

from __future__ import annotations

import pytest
import torch

from medrecon.atlas.transform_code import TransformCode
from medrecon.bundle.config import Bundle

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def code() -> TransformCode:
    return TransformCode(2, CPU)


def test_a_level_of_as_many_values_is_found(code: TransformCode) -> None:
    assert {rate: code.level_of(rate) for rate in (1 / 16, 1 / 16.5, 1 / 64, 1 / 20, 1.0, 3.0)} == {
        1 / 16: "level4",
        1 / 16.5: "level4",
        1 / 64: "level5",
        1 / 20: None,
        1.0: None,
        3.0: None,
    }


def test_it_gives_what_its_bundle_gives(code: TransformCode) -> None:
    torch.manual_seed(0)
    image = torch.nn.functional.interpolate(torch.rand(1, 1, 6, 6, 3), (48, 48, 3), mode="trilinear")
    network = Bundle.open("slice_transform_code").network(CPU)
    with torch.inference_mode():
        made = dict(code.coded(image, {"a": 1 / 16, "b": 1 / 64, "c": 1 / 3}))
        slices = image[0].permute(3, 0, 1, 2)
        with network.conditioned_on(slices):
            expected = network(slices, "level4")[:, 0].permute(1, 2, 0)
    assert set(made) == {"a", "b"}
    error = [(values - image[0, 0]).square().mean().item() for values in (made["a"], expected, made["b"])]
    assert error[0] == pytest.approx(error[1], rel=0.1)
    assert error[0] < error[2] / 2


def test_it_is_no_control_of_itself(code: TransformCode) -> None:
    assert code.codes(Bundle.open("volume_transform_code").architecture().encoder)
    assert not code.codes(Bundle.open("slice_autoencoder").architecture().encoder)
