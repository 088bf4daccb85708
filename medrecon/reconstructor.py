"""An encoder and its inversion as one network: image in, image out, through the layers that are named."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator, Sequence

import torch
from torch import nn

from medrecon.blocks.weights import fingerprint
from medrecon.contract import Decoder, Encoder, Features, LayerInfo, Progress
from medrecon.errors import ModelError, UsageError

INPUT = "input"
"""The name of the control without a network: the image itself."""


def parse_layers(result: str) -> tuple[str, ...]:
    """The layers that a result's name joins: "level2+level4" -> ("level2", "level4")."""
    names = tuple(name.strip() for name in result.split("+"))
    if not all(names):
        raise ModelError(f"'{result}' names an empty layer", remedy="write layers as level2+level4")
    if len(set(names)) != len(names):
        raise ModelError(f"'{result}' names a layer twice", remedy="name each layer once")
    if INPUT in names and len(names) > 1:
        raise ModelError(f"'{result}' joins the image itself with layers", remedy="use input alone")
    return names


def layers_in(results: Sequence[str]) -> list[str]:
    """Every layer of some results once: ["a", "a+b"] -> ["a", "b"].

    Raises:
        UsageError: there is none.
    """
    names = list(dict.fromkeys(name for result in results for name in parse_layers(result)))
    if not names:
        raise UsageError("no layer is named", remedy="name some with --layers")
    return names


def has_native_bfloat16(device: torch.device) -> bool:
    """Whether a device multiplies bfloat16 in hardware (AVX512-BF16 or AMX; Ampere and later)."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    capabilities = torch.cpu.get_capabilities()
    return bool(capabilities.get("avx512_bf16") or capabilities.get("amx_bf16"))


class Reconstructor(nn.Module):
    """The `network_def` of each bundle: features of the chosen layers, and the image that they give back.

    Args:
        encoder: from an image to features.
        inversion: the decoder behind it.
        layers: the result computed when `forward` is not told; the deepest layer when None.
        mixed_precision: run the convolutions in bfloat16 (autocast); None where it is native.

    Raises:
        ModelError: they do not derive from the base classes of `medrecon.contract`.
    """

    encoder: Encoder
    inversion: Decoder

    def __init__(
        self,
        encoder: Encoder,
        inversion: Decoder,
        layers: str | None = None,
        mixed_precision: bool | None = None,
    ) -> None:
        super().__init__()
        for part, base in ((encoder, Encoder), (inversion, Decoder)):
            if not isinstance(part, base):
                raise ModelError(
                    f"{type(part).__name__} is no {base.__name__.lower()}",
                    remedy=f"derive it from medrecon.contract.{base.__name__}",
                )
        self.encoder = encoder
        self.inversion = inversion
        self.default = layers or self.layers()[-1].name
        self.mixed_precision = mixed_precision

    def layers(self) -> list[LayerInfo]:
        """The layers that can be named, shallow to deep: those of the encoder that the inversion is for."""
        names = self.inversion.names
        return [layer for layer in self.encoder.layers() if names is None or layer.name in names]

    def forward(self, image: torch.Tensor, layers: str | Sequence[str] | None = None) -> torch.Tensor:
        """Reconstruct an image from layers.

        Args:
            image: (B, 1, *spatial), any spatial size, intensities mapped to [0, 1]; of an encoder that takes
                several scans (B, C, *spatial), the one to be given back first.
            layers: "level3", "level2+level4" or a sequence of names; the default result when None.

        Returns:
            (B, 1, *spatial).

        Raises:
            ModelError: when a layer does not exist.
        """
        if layers is None:
            layers = self.default
        return next(self.reconstruct(image, [layers]))

    def reconstruct(
        self,
        image: torch.Tensor,
        results: Sequence[str | Sequence[str]],
        progress: Progress | None = None,
    ) -> Iterator[torch.Tensor]:
        """One image for each result in turn; the encoder runs once. `input` gives the image itself.

        Args:
            image: as for `forward`.
            results: see there.
            progress: told how far each result is, by decoders that take their time.
        """
        names = [parse_layers(r) if isinstance(r, str) else tuple(r) for r in results]
        needed = [layer.name for layer in self.layers() if any(layer.name in n for n in names)]
        unknown = [n for group in names for n in group if n not in needed and n != INPUT]
        with self.precision(image.device):
            features: Features = self.encoder(image, needed + unknown) if needed or unknown else {}
        for group in names:
            if group == (INPUT,):
                count = self.inversion.channels
                yield image if image.shape[1] == count else image[:, :count]
                continue
            with self.precision(image.device):
                yield self.inversion({name: features[name] for name in group}, image.shape[2:], progress)

    def fit(
        self, images: Sequence[torch.Tensor], device: torch.device, progress: Progress | None = None
    ) -> None:
        """Fit what of the inversion is not trained by gradients; it remembers for which encoder.

        Args:
            images: typical ones, (B, C, *spatial) in [0, 1], as the encoder takes them; encoded anew in
                each pass, so that one is held as features at a time.
            device: where the network is.
            progress: told (images done, images in all) of each pass.
        """
        with torch.inference_mode():
            self.inversion.fit(_Encoded(self, images, device, progress))
            self.inversion.remember(fingerprint(self.encoder))

    def conditioned_on(self, image: torch.Tensor) -> contextlib.AbstractContextManager[None]:
        """Within: the encoder takes images as parts of this one (`Encoder.conditioned_on`).

        What is held already stays: a part of an image that is cut in turn belongs to the whole.

        Args:
            image: (B, C, *spatial); a volume also for a network of slices. Nothing is held of a batch.
        """
        if image.shape[0] != 1 or self.encoder.is_conditioned:
            return contextlib.nullcontext()
        dims = self.encoder.spatial_dims
        if dims not in (image.ndim - 2, image.ndim - 3):
            return contextlib.nullcontext()  # no image for this network: whoever runs it says so
        if dims == image.ndim - 3:
            image = image[0].movedim(-1, 0)  # (1, C, X, Y, slices) -> (slices, C, X, Y)
        return self.encoder.conditioned_on(image)

    def precision(self, device: torch.device) -> contextlib.AbstractContextManager[object]:
        """The arithmetic in which encoder and inversion run on a device: mixed where it is native."""
        if torch.jit.is_tracing() or torch.compiler.is_exporting():
            return contextlib.nullcontext()  # what is exported runs anywhere, in the precision it is given
        mixed = has_native_bfloat16(device) if self.mixed_precision is None else self.mixed_precision
        return torch.autocast(device.type, torch.bfloat16) if mixed else contextlib.nullcontext()

    @property
    def stride(self) -> int:
        """What tiles are cut on multiples of: the deepest stride, or what the encoder says (`multiple`)."""
        return max([*self.encoder.multiple, *(max(layer.stride) for layer in self.layers())])

    @property
    def halo(self) -> int | None:
        """Voxels around a block of the deepest stride that its reconstruction can depend on.

        None where the inversion does not say its `reach`, or a layer sees the whole image: then only the
        whole image (or the encoder's `window`) gives the right result.
        """
        reach = self.inversion.reach
        if reach is None:
            return None
        chosen = {layer.name for layer in self.layers()}
        halo = encoder_halo([layer for layer in self.encoder.measure() if layer.name in chosen])
        return None if halo is None else halo + reach

    @property
    def window(self) -> tuple[int, ...] | None:
        """The spatial size that the encoder must be given; None where any size will do."""
        return self.encoder.window


def encoder_halo(layers: Sequence[LayerInfo]) -> int | None:
    """Voxels around a block that its features depend on; None where that is the whole image."""
    sides = [0.0]
    for layer in layers:
        if layer.receptive_field is None:
            return None
        sides += [(f - s) / 2 for f, s in zip(layer.receptive_field, layer.stride, strict=True)]
    return math.ceil(max(sides))


class _Encoded:
    """Images with the features of the layers that an inversion is for, as often as they are asked for."""

    def __init__(
        self,
        network: Reconstructor,
        images: Sequence[torch.Tensor],
        device: torch.device,
        progress: Progress | None,
    ) -> None:
        self.network, self.images, self.device, self.progress = network, images, device, progress

    def __iter__(self) -> Iterator[tuple[Features, torch.Tensor]]:
        names = self.network.inversion.names
        for number, image in enumerate(self.images):
            if self.progress is not None:
                self.progress(number, len(self.images))
            there = image.to(self.device)
            with self.network.precision(there.device):
                features = self.network.encoder(there, names)
            yield features, there[:, : self.network.inversion.channels]
