"""The codecs that hospitals use, at the quality that a layer keeps: a rate that everybody knows."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Any

import imagecodecs
import numpy as np

from medrecon.intensity_range import intensity_range

Curve = tuple[tuple[float, float], ...]
"""(bits per voxel, PSNR in dB) by rising rate."""

_SLICES = 6
_DEPTH = 12  # bits of a sample, as CT stores them
_J2K_PSNR = (22, 27, 32, 37, 42, 47, 53, 60, 68)
_HTJ2K_STEPS = tuple(2.0**-k for k in range(2, 13))
_JPEGLS_NEAR = (1, 2, 4, 8, 15, 28, 50, 90, 160, 255)


@dataclass(frozen=True)
class Codec:
    """A codec at its settings, from coarse to fine.

    Attributes:
        name: as reports call it.
        settings: what `encode` takes beside the slice.
        encode: (slice as uint16, setting) -> bytes; setting None loses nothing.
        decode: bytes -> slice.
    """

    name: str
    settings: tuple[float, ...]
    encode: Callable[..., bytes]
    decode: Callable[[bytes], np.ndarray]


def codecs() -> list[Codec]:
    """The codecs that this installation of imagecodecs has."""
    found = []
    if imagecodecs.JPEG2K.available:
        found.append(Codec("JPEG 2000", _J2K_PSNR, _jpeg2000, imagecodecs.jpeg2k_decode))
    if hasattr(imagecodecs, "HTJ2K") and imagecodecs.HTJ2K.available:  # none has it for Python 3.10
        found.append(Codec("HTJ2K", _HTJ2K_STEPS, _htj2k, imagecodecs.htj2k_decode))
    if imagecodecs.JPEGLS.available:
        found.append(Codec("JPEG-LS", _JPEGLS_NEAR[::-1], _jpegls, imagecodecs.jpegls_decode))
    return found


class CodecMeter:
    """Rate and distortion of the codecs on one scan, and where a layer stands among them.

    Each slice (along the third axis) is coded by itself, as DICOM does, with 12 bits a sample: HU from -1024
    to 3071 in steps of one, other units in 4096 steps over the scan's values. Rates are those of the whole
    code streams, over all slices together; the PSNR comes from their pooled squared error, over the range
    that the layers' PSNR has. JPEG 2000 (irreversible 9/7, OpenJPEG) is asked for a quality, HTJ2K (OpenJPH)
    for a quantisation step, JPEG-LS (CharLS) for its largest error NEAR.

    Args:
        source: (X, Y, Z), any dtype, source units.
        units: "HU", or anything else.
        data_range: (low, high) of the PSNR, as `fidelity` has it.
        most_slices: slices that are coded, evenly spread.
    """

    def __init__(
        self, source: np.ndarray, units: str, data_range: tuple[float, float], most_slices: int = _SLICES
    ) -> None:
        depth = source.shape[2]
        count = min(depth, most_slices)
        self.slices = tuple(int(k) for k in ((np.arange(count) + 0.5) * depth / count).astype(int))
        self._low, self._high = data_range
        self._clip = units == "HU"
        self._planes = [self._clipped(source[:, :, k]) for k in self.slices]
        if units == "HU":
            bottom, top = intensity_range(source, units)
        else:
            bottom = min(float(p.min()) for p in self._planes)
            top = max(float(p.max()) for p in self._planes)
        self._bottom, self._step = bottom, max(top - bottom, 1e-30) / (2**_DEPTH - 1)
        self.curves: dict[str, Curve] = {}
        self.lossless: dict[str, float] = {}
        for codec in codecs():
            self.curves[codec.name], self.lossless[codec.name] = self._curve(codec)

    def psnr(self, recon: np.ndarray) -> float:
        """PSNR of a reconstruction (X, Y, Z) over the slices that the codecs were measured on."""
        return self._psnr(
            self._clipped(recon[:, :, k]) - plane for k, plane in zip(self.slices, self._planes, strict=True)
        )

    def equivalents(self, recon: np.ndarray) -> dict[str, float | None]:
        """Bits per voxel at which each codec keeps as much as a reconstruction; None out of its reach.

        Where nothing was lost it is the rate of the lossless code.
        """
        psnr = self.psnr(recon)
        if math.isinf(psnr):
            return dict(self.lossless)
        return {name: rate_at(curve, psnr) for name, curve in self.curves.items()}

    def _curve(self, codec: Codec) -> tuple[Curve, float]:
        samples = [np.rint((p - self._bottom) / self._step) for p in self._planes]
        samples = [np.ascontiguousarray(s.clip(0, 2**_DEPTH - 1).astype(np.uint16)) for s in samples]
        voxels = sum(s.size for s in samples)
        points = []
        for setting in codec.settings:
            coded = _each(partial(codec.encode, setting=setting), samples)
            psnr = self._psnr(
                back.astype(np.float32) * self._step + self._bottom - plane
                for back, plane in zip(_each(codec.decode, coded), self._planes, strict=True)
            )
            points.append((8 * sum(len(c) for c in coded) / voxels, psnr))
        exact = 8 * sum(map(len, _each(partial(codec.encode, setting=None), samples))) / voxels
        return rising(points), exact

    def _clipped(self, plane: np.ndarray) -> np.ndarray:
        values = plane.astype(np.float32)
        return np.clip(values, self._low, self._high) if self._clip else values

    def _psnr(self, errors: Iterator[np.ndarray]) -> float:
        squares = sum(float(np.square(e, dtype=np.float64).sum()) for e in errors)
        voxels = sum(p.size for p in self._planes)
        return 10 * math.log10((self._high - self._low) ** 2 * voxels / squares) if squares else math.inf


def _each(work: Callable[[Any], Any], items: Sequence[Any]) -> list[Any]:
    """Do the same with each item, on two threads: codecs let go of Python's lock."""
    with ThreadPoolExecutor(2) as pool:
        return list(pool.map(work, items))


def rising(points: Sequence[tuple[float, float]]) -> Curve:
    """The points at which more bits buy more quality, by rising rate; the others nobody would choose."""
    kept: list[tuple[float, float]] = []
    for rate, psnr in sorted(points):
        if math.isfinite(psnr) and (not kept or psnr > kept[-1][1]) and (not kept or rate > kept[-1][0]):
            kept.append((rate, psnr))
    return tuple(kept)


def rate_at(curve: Curve, psnr: float) -> float | None:
    """Bits per voxel at a PSNR, the logarithm of the rate interpolated linearly; None beyond the curve."""
    if len(curve) < 2 or not curve[0][1] <= psnr <= curve[-1][1]:
        return None
    rates, values = zip(*curve, strict=True)
    return float(np.exp(np.interp(psnr, values, np.log(rates))))


def _jpeg2000(samples: np.ndarray, setting: float | None) -> bytes:
    encode: Any = imagecodecs.jpeg2k_encode  # its stub says that the level is whole
    if setting is None:
        return bytes(encode(samples, codecformat="j2k", bitspersample=_DEPTH))
    return bytes(encode(samples, level=setting, codecformat="j2k", bitspersample=_DEPTH, reversible=False))


def _htj2k(samples: np.ndarray, setting: float | None) -> bytes:
    if setting is None:
        return bytes(imagecodecs.htj2k_encode(samples, reversible=True))
    return bytes(imagecodecs.htj2k_encode(samples, level=setting, reversible=False))


def _jpegls(samples: np.ndarray, setting: float | None) -> bytes:
    return bytes(imagecodecs.jpegls_encode(samples, level=int(setting or 0)))


def curve_words(meter: CodecMeter) -> Mapping[str, str]:
    """Say how the curves were made, for reports: name -> words."""
    exact = ", ".join(f"{name} {rate:.2f}" for name, rate in meter.lossless.items())
    return {
        "codec_slices": f"{len(meter.slices)} slices, evenly spread, each coded by itself, 12 bits a sample",
        "codec_lossless": f"bits per voxel without loss: {exact}",
        "codec_library": f"imagecodecs {imagecodecs.__version__}",
    }
