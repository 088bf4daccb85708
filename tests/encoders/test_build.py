"""An encoder by short name, dotted path or folder, and what is said of those that are none."""

from __future__ import annotations

import pickle
import sys
import types
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from medrecon.encoders import build_encoder
from medrecon.encoders.adapt import ChannelMeanStd
from medrecon.encoders.build import SHORT_NAMES, locate
from medrecon.encoders.given import read_arguments
from medrecon.encoders.tapped.tap import TappedEncoder
from medrecon.errors import ModelError


class Small(nn.Module):
    """A network of somebody else's, with a class token's worth of nothing special."""

    def __init__(self, in_channels: int = 3, width: int = 4) -> None:
        super().__init__()
        self.stem = nn.Conv2d(in_channels, width, 3, stride=2, padding=1)
        self.body = nn.Sequential(nn.BatchNorm2d(width), nn.ReLU(), nn.Conv2d(width, width, 3, padding=1))

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return self.body(self.stem(image))


def make_small(name: str = "small", **arguments: int) -> nn.Module:
    """Stands for timm.create_model."""
    network = Small(**arguments)
    network.pretrained_cfg = {"mean": (0.1, 0.2, 0.3), "std": (1.0, 2.0, 3.0)}
    return network


@pytest.fixture
def installed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Packages that a user may have beside medrecon, as stand-ins."""
    for name, content in {"stranger": {"Small": Small, "make_small": make_small, "five": lambda: 5}}.items():
        module = types.ModuleType(name)
        module.__dict__.update(content)
        monkeypatch.setitem(sys.modules, name, module)
    vision = types.ModuleType("torchvision.models")
    vision.small = Small  # type: ignore[attr-defined]
    package = types.ModuleType("torchvision")
    package.models = vision  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "torchvision", package)
    monkeypatch.setitem(sys.modules, "torchvision.models", vision)


def test_short_names_exist() -> None:
    for name, (path, preset) in SHORT_NAMES.items():
        made = locate(path)
        assert isinstance(made, type), name
        assert preset == ({} if name == "deepbet" else {"depth": int("".join(filter(str.isdigit, name)))})
    encoder = build_encoder("vgg16", layers=["relu1_*", "relu3_3"])
    assert [info.name for info in encoder.layers()] == ["relu1_1", "relu1_2", "relu3_3"]
    features = encoder(torch.rand(1, 1, 16, 16))
    assert list(features) == ["relu1_1", "relu1_2", "relu3_3"]
    with pytest.raises(ModelError, match="there is no layer 'relu5_3'"):
        encoder(torch.rand(1, 1, 16, 16), ["relu5_3"])
    assert not encoder.train().training


def test_any_class_with_a_checkpoint(installed: None, tmp_path: Path) -> None:
    network = Small(1, 6)
    torch.save(
        {"epoch": 3, "model": {f"module.{k}": v for k, v in network.state_dict().items()}}, tmp_path / "a.pt"
    )
    save_file(network.state_dict(), tmp_path / "a.safetensors")
    image = torch.rand(1, 1, 9, 12)
    expected = None
    for file in ("a.pt", "a.safetensors"):
        encoder = build_encoder(
            "stranger.Small",
            weights=tmp_path / file,
            arguments='{"in_channels": 1, "width": 6}',
            layers="body*",
        )
        assert [info.name for info in encoder.layers()] == ["body.0", "body.1", "body.2", "body"]
        found = encoder(image, ["body.1"])["body.1"]
        assert expected is None or torch.equal(found, expected)
        expected = found
    assert encoder.measure()[-1].receptive_field == (8, 8), "7 voxels seen, one more to one side"


def test_what_torchvision_and_timm_expect(installed: None) -> None:
    for what in ("torchvision.models.small", "stranger.make_small"):
        encoder = build_encoder(what)
        assert isinstance(encoder.intensity, ChannelMeanStd)
    assert torch.allclose(encoder.intensity.std, torch.tensor([1.0, 2.0, 3.0]))
    plain = build_encoder(
        "torchvision.models.small", arguments={"_intensity_": {"hu": [0, 80]}, "_layers_": "stem"}
    )
    assert isinstance(plain.intensity, nn.Sequential)
    assert [info.name for info in plain.layers()] == ["stem"]


def test_encoders_of_their_own_are_taken_as_they_are() -> None:
    encoder = build_encoder(
        "medrecon.encoders.PlainEncoder", arguments={"spatial_dims": 2, "channels": [2, 2]}
    )
    assert [info.name for info in encoder.layers()] == ["level1", "level2"]
    assert not any(p.requires_grad for p in encoder.parameters())


@pytest.mark.parametrize(
    ("what", "options", "said"),
    [
        ("vgg17", {}, "there is no encoder 'vgg17'; did you mean vgg1"),
        (
            "monai.networks.nets.SegResNett",
            {},
            "monai.networks.nets has no 'SegResNett'; did you mean SegResNet",
        ),
        ("nowhere.Network", {}, "nowhere is not installed; install nowhere"),
        (
            "stranger.Small",
            {"arguments": {"widht": 3}},
            "unexpected keyword argument 'widht'.*in_channels, width",
        ),
        ("stranger.five", {}, "stranger.five makes a int, no network"),
        ("stranger.Small", {"arguments": "{width: 3}"}, "arguments are not JSON"),
        ("stranger.Small", {"arguments": "[3]"}, "arguments are no JSON object"),
        ("stranger.Small", {"in_channels": 2}, "expected input.*to have 3 channels, but got 2"),
        ("stranger.Small", {"layers": "boddy"}, "there is no layer 'boddy'; did you mean body"),
        ("vgg16", {"layers": "relu9*"}, r"there is no layer 'relu9\*'"),
        ("vgg16", {"arguments": {"depht": 3}}, "VGGEncoder cannot be built"),
        ("vgg16", {"arguments": {"_window_": [64, 64]}}, "an encoder of its own, which knows its window"),
    ],
)
def test_what_cannot_be_built(installed: None, what: str, options: dict, said: str) -> None:
    with pytest.raises(ModelError, match=said) as caught:
        build_encoder(what, **options)
    assert caught.value.exit_code == 4
    assert "\n" not in str(caught.value)


class Bomb:
    """A pickle that would run code."""

    def __reduce__(self) -> tuple[object, ...]:
        return (Path.touch, (Path(sys.argv[0]).parent / "never",))


def test_checkpoints_that_do_not_suit(installed: None, tmp_path: Path) -> None:
    state = Small().state_dict()
    torch.save({k: v for k, v in state.items() if k != "stem.bias"}, tmp_path / "part.pt")
    torch.save({**state, "head.weight": torch.ones(2)}, tmp_path / "more.pt")
    torch.save({**state, "stem.weight": torch.ones(4, 1, 3, 3)}, tmp_path / "other.pt")
    (tmp_path / "bomb.pt").write_bytes(pickle.dumps(Bomb()))
    for name, said in {
        "part.pt": "do not fit Small: stem.bias is missing",
        "other.pt": "stem.weight has shape 4x1x3x3, not 4x3x3x3",
        "bomb.pt": "cannot|not a checkpoint that can be read without running its code",
        "none.pt": "there is no such weight file",
    }.items():
        with pytest.raises(ModelError, match=said) as caught:
            build_encoder("stranger.Small", weights=tmp_path / name)
        assert str(caught.value).startswith(str(tmp_path / name))
    with pytest.raises(ModelError, match="SHA-256"):
        build_encoder("stranger.Small", weights=tmp_path / "more.pt", sha256="0" * 64)


def test_arguments() -> None:
    assert read_arguments(None) == {}
    assert read_arguments('{"a": [1, 2]}') == {"a": [1, 2]}
    with pytest.raises(ModelError, match="'b' stands there twice"):
        read_arguments('{"a": {"b": 1, "b": 2}}')
    options = {"in_channels": 1, "out_channels": 2, "kernel_size": 2, "stride": 2}
    assert isinstance(build_encoder("torch.nn.Conv3d", arguments=options), TappedEncoder)


def test_a_network_in_a_file(tmp_path: Path) -> None:
    (tmp_path / "net.py").write_text(
        "from torch import nn\nWIDTH = 5\ndef Net(width=WIDTH):\n    return nn.Conv2d(1, width, 3)\n"
    )
    encoder = build_encoder(f"{tmp_path}/net.py:Net", arguments={"width": 7})
    assert [info.channels for info in encoder.layers()] == [7]
    with pytest.raises(ModelError, match="has no 'Nett': did you mean 'Net'"):
        build_encoder(f"{tmp_path}/net.py:Nett")
    (tmp_path / "model.ts").write_bytes(b"")
    with pytest.raises(ModelError, match="does not show its layers; name the class"):
        build_encoder(f"{tmp_path}/model.ts")


def test_means_that_do_not_suit_the_network(installed: None) -> None:
    encoder = build_encoder("torchvision.models.small", arguments={"in_channels": 1})
    assert "one channel" in encoder.notes[0]
    image = torch.rand(1, 1, 8, 8)
    torch.testing.assert_close(encoder.intensity(image), (image - 0.449) / 0.226)
    assert encoder(image)["stem"].shape == (1, 4, 4, 4)
    with pytest.raises(ModelError, match="3 means do not suit a network of 5 channels"):
        build_encoder("torchvision.models.small", arguments={"in_channels": 5})


class Drawn(nn.Module):
    """Keeps half of its tokens, drawn at random, as a masked autoencoder does."""

    def __init__(self) -> None:
        super().__init__()
        self.patches = nn.Conv2d(1, 8, 4, stride=4)
        self.norm = nn.LayerNorm(8)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        tokens = self.patches(image).flatten(2).mT
        order = torch.rand(tokens.shape[:2], device=image.device).argsort(1)[:, : tokens.shape[1] // 4]
        return self.norm(tokens.gather(1, order[..., None].expand(-1, -1, 8)))


def test_lazy_modules_get_their_sizes() -> None:
    network = nn.Sequential(nn.LazyConv2d(4, 3, stride=2, padding=1), nn.ReLU(), nn.LazyConv2d(6, 1))
    encoder = TappedEncoder(network, in_channels=3)
    assert [info.channels for info in encoder.layers()] == [4, 4, 6, 6]
    assert network[0].in_channels == 3


def test_tokens_that_are_drawn_at_random_are_no_grid() -> None:
    encoder = TappedEncoder(Drawn())
    assert [info.name for info in encoder.layers()] == ["patches"]
    assert "drawn at random" in encoder.refused["norm"]


def test_a_network_that_takes_hardly_any_size_is_not_padded_to_thousands() -> None:
    class Picky(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(1, 2, 1)

        def forward(self, image: torch.Tensor) -> torch.Tensor:
            sides = {int(n) for n in image.shape[2:]}
            if not sides <= {64, 960, 1920, 13440, 26880}:
                raise ValueError("size")
            return self.conv(image)

    encoder = TappedEncoder(Picky())
    assert encoder.window == (64, 64)


def test_a_network_of_which_nothing_follows_the_image_is_refused() -> None:
    class Prompted(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(1, 2, 1)

        def forward(self, image: torch.Tensor, prompt: torch.Tensor | None = None) -> torch.Tensor | None:
            return None if prompt is None else self.conv(image)

    with pytest.raises(ModelError, match="no layer of Prompted follows an image alone"):
        TappedEncoder(Prompted())
    encoder = TappedEncoder(Prompted(), inputs={"prompt": 1})
    assert [info.name for info in encoder.layers()] == ["conv", "output"]


def needy() -> nn.Module:
    """A network that imports what it needs when it is built, as MONAI's do."""
    import a_package_that_is_not_there  # type: ignore[import-not-found]

    return a_package_that_is_not_there.Network()


def test_a_package_that_a_network_needs_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    stranger = types.ModuleType("needy_nets")
    stranger.needy = needy
    monkeypatch.setitem(sys.modules, "needy_nets", stranger)
    with pytest.raises(ModelError, match=r"needs a package .*a_package_that_is_not_there.*install it"):
        build_encoder("needy_nets.needy")
