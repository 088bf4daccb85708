"""The autoencoders that medrecon is compared with, built with random weights. Imports nothing heavy itself.

- `autoencoderkl`: MONAI's AutoencoderKL as MAISI's VAE has it: 3D, channels 64, 128, 256, four latent
  channels at stride 4, which is 1/16 value per voxel.
- `medvae`: MedVAE's 3D network (Varma et al., MedVAE: Efficient Automated Interpretation of Medical Images
  with Large-Scale Generalizable Autoencoders, MIDL 2025, arXiv:2502.14753) from their package medvae, 0.1.7,
  as their medvae_4x1.yaml has it for medvae_4_1_3d: channels 128, 256, 512, two residual blocks a level,
  attention in the middle alone, one latent channel at stride 4, which is 1/64 value per voxel.
- `medvae2d`: the same plan for slices (medvae_4_1_2d): 1/16 value per voxel.

medvae is no dependency of medrecon. Its own dependencies are for training and loading; the networks need
einops beside torch and numpy.
"""

from __future__ import annotations

import contextlib
import io
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from importlib.util import find_spec, module_from_spec
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch

    Inference = Callable[[torch.Tensor], torch.Tensor]


@dataclass(frozen=True)
class Peer:
    """A network to compare with.

    Attributes:
        title: its name in tables.
        prepare: channels of each level -> what reconstructs a window, (B, 1, X, Y, Z), sides multiples of 4.
        channels: of its authors.
        packages: that it needs, its own first.
        install: what makes them be there.
    """

    title: str
    prepare: Callable[[Sequence[int]], Inference]
    channels: tuple[int, ...]
    packages: tuple[str, ...]
    install: str

    @property
    def missing(self) -> str:
        """What to do before it can be built; empty where it can."""
        return "" if all(find_spec(package) for package in self.packages) else self.install

    @property
    def source(self) -> str:
        """Package and version that it comes from."""
        return f"{self.packages[0]} {version(self.packages[0])}"


def autoencoderkl(channels: Sequence[int], spatial_dims: int = 3) -> Any:
    """MONAI's AutoencoderKL as MAISI has it, but for the widths: four latent channels, no attention.

    A level more halves each side once more: three levels are 1/16 value per voxel in 3D, four are 1/16 in 2D.
    """
    from monai.networks.nets import AutoencoderKL

    return AutoencoderKL(
        spatial_dims=spatial_dims,
        in_channels=1,
        out_channels=1,
        channels=channels,
        latent_channels=4,
        num_res_blocks=[2] * len(channels),
        norm_num_groups=min(32, *channels),
        attention_levels=[False] * len(channels),
        with_encoder_nonlocal_attn=False,
        with_decoder_nonlocal_attn=False,
    ).eval()


def medvae(spatial_dims: int, channels: Sequence[int]) -> Any:
    """MedVAE's network, but for the widths: multiples of the first of them, and that of 32."""
    _stand_in_for_package("medvae")
    if spatial_dims == 2:
        from medvae.models.autoencoder_kl import AutoencoderKL
    else:
        from medvae.models.autoencoder_kl_3d import AutoencoderKL
    config = {
        "double_z": True,
        "z_channels": 1,
        "resolution": 512,
        "in_channels": 1,
        "out_ch": 1,
        "ch": channels[0],
        "ch_mult": [width // channels[0] for width in channels],
        "num_res_blocks": 2,
        "attn_resolutions": [],
        "dropout": 0.0,
    }
    with contextlib.redirect_stdout(io.StringIO()):  # it prints while it is built
        return AutoencoderKL(ddconfig=config, embed_dim=1).eval()


def _stand_in_for_package(name: str) -> None:
    """Let a package's modules be imported without its `__init__`, which needs packages that they do not."""
    if name not in sys.modules:
        spec = find_spec(name)
        if spec is None:
            raise ModuleNotFoundError(f"No module named '{name}'", name=name)
        sys.modules[name] = module_from_spec(spec)


def _autoencoderkl(channels: Sequence[int]) -> Inference:
    """The mean of the latent distribution, decoded."""
    inference: Inference = autoencoderkl(channels).reconstruct
    return inference


def _medvae(channels: Sequence[int]) -> Inference:
    """The same."""
    network = medvae(3, channels)
    return lambda window: network.decode(network.encode(window).mode())


def _medvae_of_slices(channels: Sequence[int]) -> Inference:
    """The same; the slices of a window are a batch."""
    network = medvae(2, channels)

    def inference(window: torch.Tensor) -> torch.Tensor:
        slices = window.movedim(-1, 1).flatten(0, 1)
        made = network.decode(network.encode(slices).mode())
        return made.unflatten(0, (len(window), -1)).movedim(1, -1)

    return inference


_MEDVAE = ((128, 256, 512), ("medvae", "einops"), "pip install --no-deps medvae==0.1.7 einops")
PEERS = {
    "autoencoderkl": Peer("AutoencoderKL", _autoencoderkl, (64, 128, 256), ("monai",), "pip install monai"),
    "medvae": Peer("MedVAE", _medvae, *_MEDVAE),
    "medvae2d": Peer("MedVAE 2D", _medvae_of_slices, *_MEDVAE),
}
"""By the name that options have for them."""
