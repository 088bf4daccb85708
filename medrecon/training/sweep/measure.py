"""What a trained variant reaches: fidelity on scans held out and trained on, size and time."""

from __future__ import annotations

import itertools
import math
import statistics
import time
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from monai.inferers import Inferer

from medrecon.evaluation import fidelity, ms_ssim
from medrecon.losses import PerceptualLoss
from medrecon.reconstructor import Reconstructor, parse_layers
from medrecon.training.sweep.samples import Sample

MEASURES = ("psnr", "ssim", "ms_ssim", "perceptual")
"""What is averaged over scans; `mae` is in each scan's own units."""


def reconstruct(
    network: Reconstructor, inferer: Inferer, samples: Sequence[Sample]
) -> tuple[list[torch.Tensor], float]:
    """Each sample from the inferer's one result.

    Returns:
        The reconstructions, (1, X, Y, N) each in the network's scale, and seconds for each slice or block,
        encoder and decoder.
    """
    device = next(network.parameters()).device
    images, seconds = [], 0.0
    with torch.inference_mode():
        inferer(
            samples[0].image[None, ..., :1] if not samples[0].volumetric else samples[0].image[None], network
        )
        for sample in samples:
            begin = time.perf_counter()
            images.append(inferer(sample.image[None].to(device), network)[0].cpu())
            seconds += time.perf_counter() - begin
    return images, seconds / sum(1 if s.volumetric else s.image.shape[-1] for s in samples)


def measure(sample: Sample, recon: torch.Tensor, perceptual: PerceptualLoss | None = None) -> dict[str, Any]:
    """Figures of one reconstruction, averaged over the sample's slices.

    PSNR (dB, of the mean squared error over all slices), SSIM and MS-SSIM over the range that networks see as
    [0, 1], slice by slice in 2D; MAE in the scan's units; the distance of `perceptual` where there is one.
    """
    ours, theirs = sample.stored(sample.image), sample.stored(recon)
    low, high = sample.low, sample.high
    parts = [slice(None)] if sample.volumetric else [slice(k, k + 1) for k in range(ours.shape[-1])]
    found = [
        fidelity(ours[..., part], theirs[..., part], units=sample.units, data_range=(low, high))
        for part in parts
    ]
    scales = [
        ms_ssim(ours[..., part], theirs[..., part], data_range=(low, high), clip=sample.units == "HU")
        for part in parts
    ]
    squares = statistics.mean(10 ** (-one.psnr / 10) for one in found)
    return {
        "scan": sample.label,
        "modality": sample.modality,
        "units": sample.units,
        "psnr": -10 * math.log10(squares) if squares else None,
        "ssim": statistics.mean(one.ssim for one in found),
        "ms_ssim": statistics.mean(scales),
        "mae": statistics.mean(one.mae for one in found),
        "perceptual": None if perceptual is None else _distance(perceptual, sample, recon),
    }


def averages(rows: Sequence[Mapping[str, Any]]) -> dict[str, float | None]:
    """The mean over scans of each measure; None where no scan has it."""
    means = {}
    for measure_name in MEASURES:
        values = [row[measure_name] for row in rows if row[measure_name] is not None]
        means[measure_name] = statistics.mean(values) if values else None
    return means


def perceptual_of(network: Reconstructor) -> PerceptualLoss | None:
    """A perceptual distance by the frozen encoder that is inverted: its last layer at each stride.

    None where the encoder is trained along (each variant would be judged by another network), and where it
    has no weights: a transform of blocks says nothing about what is seen.
    """
    encoder = network.encoder
    weights = list(encoder.parameters())
    if not weights or any(weight.requires_grad for weight in weights):
        return None
    last = {tuple(info.stride): info.name for info in encoder.layers()}
    return PerceptualLoss(encoder, list(last.values())).eval()


def parameters_of(network: Reconstructor, result: str) -> int:
    """Parameters of the decoder that a result of these layers is made with: those that get a gradient."""
    inversion = network.inversion
    dims = len(network.layers()[0].stride)
    device = next(inversion.parameters()).device
    names = parse_layers(result)
    channels = len(network.encoder.channel_names) if network.encoder.channels_needed else 1
    image = torch.zeros((1, channels, *(network.window or (64,) * dims)), device=device)
    with torch.no_grad():
        features = network.encoder(image, names)
    wanted = [parameter.requires_grad for parameter in inversion.parameters()]
    inversion.requires_grad_(True)
    made = inversion({name: features[name].float() for name in names}, image.shape[2:])
    gradients = torch.autograd.grad(made.sum(), list(inversion.parameters()), allow_unused=True)
    for parameter, before in zip(inversion.parameters(), wanted, strict=True):
        parameter.requires_grad_(before)
    pairs = zip(inversion.parameters(), gradients, strict=True)
    return sum(parameter.numel() for parameter, gradient in pairs if gradient is not None)


def _distance(perceptual: PerceptualLoss, sample: Sample, recon: torch.Tensor) -> float:
    encoder = perceptual.encoder  # may have no parameters: AdaptiveEncoder is fitted
    device = next(itertools.chain(encoder.parameters(), encoder.buffers())).device
    recon = torch.cat([recon.float(), sample.image[1:]])  # the scans beside it are as they were
    with torch.inference_mode():
        if sample.volumetric:
            return float(perceptual(recon[None].to(device), sample.image[None].to(device)))
        # slices one by one: their features at all strides are many times their size
        pairs = zip(recon.unbind(-1), sample.image.unbind(-1), strict=True)
        return float(np.mean([float(perceptual(a[None].to(device), b[None].to(device))) for a, b in pairs]))
