from __future__ import annotations

import torch
from torch import nn

from medrecon.contract import Encoder, Features, LayerInfo
from medrecon.encoders import FrozenEncoder, PlainEncoder, ResNetEncoder, VGGEncoder
from medrecon.inversion import PlainDecoder


class WithBatchNorm(Encoder):
    """An encoder of somebody else's, with all that training changes without an optimiser."""

    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Sequential(nn.Conv2d(1, 4, 3, padding=1), nn.BatchNorm2d(4), nn.Dropout(0.5))

    def layers(self) -> list[LayerInfo]:
        return [LayerInfo("net", 4, (1, 1), (3, 3))]

    def forward(self, image: torch.Tensor, names: object = None) -> Features:
        return {"net": self.net(image)}


def snapshot(module: nn.Module) -> dict[str, torch.Tensor]:
    return {k: v.clone() for k, v in module.state_dict().items()}


def train(encoder: nn.Module, steps: int = 5) -> list[float]:
    """Train a decoder on its features as a trainer would: everything in `.train()`, everything optimised."""
    layer = encoder.layers()[0]
    whole = nn.ModuleDict({"encoder": encoder, "decoder": PlainDecoder([layer], width=8)})
    whole.requires_grad_(True)  # a script that thaws all it finds
    optimizer = torch.optim.AdamW(whole.parameters(), lr=0.05, weight_decay=0.1)
    losses = []
    for _ in range(steps):
        whole.train()
        image = torch.rand(2, 1, 32, 32)
        loss = (whole["decoder"](encoder(image, [layer.name]), image.shape[2:]) - image).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses


def test_bit_identical_after_training() -> None:
    torch.manual_seed(0)
    for encoder in (
        FrozenEncoder(WithBatchNorm()),
        FrozenEncoder(PlainEncoder(2)),
        VGGEncoder(),
        ResNetEncoder(),
    ):
        before = snapshot(encoder)
        train(encoder)
        after = encoder.state_dict()
        assert all(torch.equal(value, after[key]) for key, value in before.items())


def test_the_same_training_changes_what_is_not_frozen() -> None:
    encoder = WithBatchNorm()
    before = snapshot(encoder)
    train(encoder)
    assert not any(
        torch.equal(v, before[k]) for k, v in encoder.state_dict().items() if v.is_floating_point()
    )


def test_evaluation_mode_and_no_trainable_parameter_under_train() -> None:
    parent = nn.Sequential(FrozenEncoder(WithBatchNorm())).train()
    frozen = parent[0]
    assert parent.training
    assert not any(module.training for module in frozen.modules())
    frozen.encoder.train()
    frozen.encoder.requires_grad_(True)
    parent.train()
    assert not any(module.training for module in frozen.modules())
    assert not any(parameter.requires_grad for parameter in parent.parameters())


def test_gradients_reach_the_image_but_no_weight() -> None:
    frozen = FrozenEncoder(WithBatchNorm())
    image = torch.rand(1, 1, 8, 8, requires_grad=True)
    frozen(image)["net"].square().mean().backward()
    assert image.grad.abs().sum() > 0
    assert all(parameter.grad is None for parameter in frozen.parameters())


def test_layers_and_features_are_those_of_the_encoder() -> None:
    encoder = PlainEncoder(2)
    frozen = FrozenEncoder(encoder)
    assert frozen.layers() == encoder.layers()
    image = torch.rand(1, 1, 32, 32)
    assert torch.equal(frozen(image, ["level2"])["level2"], encoder(image, ["level2"])["level2"])
