"""A scan at the same bits per voxel: a level's features at 8 bits, entropy coded, and hospitals' codecs."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from scoring import Volume, reconstruct

from medrecon.atlas.probe import QUANTISED, Probe, variant
from medrecon.contract import Features
from medrecon.evaluation.codecs import CodecMeter, Curve, codecs
from medrecon.evaluation.rate import FeatureCode
from medrecon.intensity_range import intensity_range

CODECS = ("JPEG 2000", "HTJ2K")


class KeepsZeros(FeatureCode):
    """The code with which what was not kept stays exactly zero: the decoder goes by that."""

    def quantise(self, features: Mapping[str, torch.Tensor]) -> Features:
        """The features rounded to their steps; zeros as they are."""
        coded = super().quantise(features)
        return {name: values.masked_fill(features[name] == 0, 0) for name, values in coded.items()}


def eight_bits(volume: Volume, network: Any, inferer: Any, level: str) -> tuple[float, np.ndarray]:
    """One level of a scan with its features rounded to 8 bits: (bits per voxel, reconstruction)."""
    probe = Probe(network)
    probe.code = KeepsZeros()
    probe.ranging = True
    for _ in reconstruct(volume, probe, inferer, [level]):
        pass
    probe.ranging = False
    ((_, recon),) = reconstruct(volume, probe, inferer, [variant(level, QUANTISED)])
    layer = next(layer for layer in network.layers() if layer.name == level)
    # the code counts each number of the layer's tensor, whether a value was kept there or not
    symbols = layer.channels / math.prod(layer.stride)
    return probe.code.bits_per_value(level) * symbols, recon


def header_bits(slice_shape: tuple[int, int]) -> dict[str, float]:
    """Bits per voxel that each codec takes for a slice with nothing on it: what its headers cost."""
    empty = np.zeros(slice_shape, np.uint16)
    found = {}
    for codec in codecs():
        if codec.name in CODECS:
            found[codec.name] = 8 * len(codec.encode(empty, setting=None)) / empty.size
    return found


def codec_meter(volume: Volume, most_slices: int) -> CodecMeter:
    """The codecs' curves of a scan, over the range of its PSNR; the slices are those along its third axis."""
    data_range = intensity_range(volume.values, volume.units)
    return CodecMeter(volume.values, volume.units, data_range, most_slices)


def psnr_at(curve: Curve, rate: float) -> float | None:
    """PSNR in dB that a codec has at a rate, linear in the rate's logarithm; None beyond its curve."""
    if len(curve) < 2 or not curve[0][0] <= rate <= curve[-1][0]:
        return None
    rates, values = zip(*curve, strict=True)
    return float(np.interp(np.log(rate), np.log(rates), values))


def measure_bits(
    volume: Volume, networks: dict[str, tuple[Any, Any]], levels: Sequence[str], most_slices: int
) -> list[dict[str, Any]]:
    """Each level of each bundle at 8 bits, and what the codecs make of as many bits.

    Args:
        volume: the scan.
        networks: bundle -> (network, inferer).
        levels: those that are coded.
        most_slices: that codecs are run on, evenly spread; all PSNR here are over these. Their headers, which
            weigh on slices of few pixels, are given to the codecs for nothing.
    """
    meter = codec_meter(volume, most_slices)
    free = header_bits(volume.values.shape[:2])
    rows = []
    for bundle, (network, inferer) in networks.items():
        names = [layer.name for layer in network.layers()]
        for level, plain in reconstruct(volume, network, inferer, [x for x in levels if x in names]):
            with torch.inference_mode():
                rate, coded = eight_bits(volume, network, inferer, level)
            rows.append(
                {
                    "scan": volume.name,
                    "modality": volume.modality,
                    "bundle": bundle,
                    "level": level,
                    "bits_per_voxel": rate,
                    "psnr": meter.psnr(plain),
                    "psnr_8_bits": meter.psnr(coded),
                    "codecs": {name: psnr_at(meter.curves[name], rate + free[name]) for name in free},
                    "codec_headers": free,
                    "codec_bits_for_our_psnr": {
                        name: bits for name, bits in meter.equivalents(coded).items() if name in free
                    },
                    "slices": len(meter.slices),
                }
            )
    return rows
