"""What an atlas says of one scan: the figures of each layer, and the volumes that they were measured on."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from medrecon.evaluation.sample_scores import SamplePictures, SampleScore, SampleVolumes

BODY = "body"
"""Name of the region that is all of the body."""


@dataclass(frozen=True)
class RegionError:
    """Errors over one region, in source units.

    Attributes:
        voxels: how many it holds.
        mae: mean absolute error.
        rmse: root of the mean squared error.
        bias: mean of reconstruction - source.
    """

    voxels: int
    mae: float
    rmse: float
    bias: float


@dataclass(frozen=True)
class Spectrum:
    """Error by spatial frequency, radial, in the patient.

    Attributes:
        frequencies: centres of the bands, line pairs per mm.
        error: error power over source power in each band: 0 kept, 1 as bad as leaving the band out.
        limit: line pairs per mm from which on error power exceeds half of the source's; None where it never
            does.
    """

    frequencies: tuple[float, ...]
    error: tuple[float, ...]
    limit: float | None


@dataclass(frozen=True)
class Control:
    """A reconstruction that shows what a score is worth.

    Attributes:
        name: "mean image", "shuffled features", "random weights", "transform code", "linear code" or
            "identity"; the layer's own name where it is measured on the same voxels.
        psnr: dB, over the layer's data range.
        ssim: 3D.
        mae: source units.
    """

    name: str
    psnr: float
    ssim: float
    mae: float


@dataclass(frozen=True)
class Told:
    """How well a linear read-out of a layer's features tells the labels of a mask (`linear_probe`).

    All are balanced accuracies, on blocks of the scan that the read-out was not fitted to.

    Attributes:
        accuracy: of the features.
        dct: of as many DCT values of the same voxels.
        random: of the same encoder with random weights; None where it has no weights.
        shuffled: of the features, the labels dealt out anew.
        chance: of guessing.
        labels: how many there are, the surroundings among them.
        places: how many were asked.
    """

    accuracy: float
    dct: float
    random: float | None
    shuffled: float
    chance: float
    labels: int
    places: int


@dataclass(frozen=True)
class Finding:
    """A marked part of a scan, as the source shows it.

    Attributes:
        name: what it is called.
        voxels: how many it holds.
        at: its centre, mm to the patient's right, front and head.
        contrast: its mean minus that of its surroundings, source units; None without enough surroundings.
        diameter: mm of a ball as large as what lies beyond half of the contrast.
        edge: mm over which its edge rises.
    """

    name: str
    voxels: int
    at: tuple[float, float, float]
    contrast: float | None
    diameter: float | None
    edge: float | None


@dataclass(frozen=True)
class FindingKept:
    """What a reconstruction keeps of a finding; None where it cannot be told.

    Attributes:
        contrast: to its surroundings, source units.
        kept: that contrast over the source's.
        low: lower end of the 95 % interval of `kept`.
        high: its upper end.
        edge: mm over which its edge rises.
        diameter: mm, at half of its own contrast.
    """

    contrast: float | None
    kept: float | None
    low: float | None
    high: float | None
    edge: float | None
    diameter: float | None


@dataclass(frozen=True)
class OutputKept:
    """A network's output for a reconstruction, beside that for the scan.

    Attributes:
        distance: length of the difference over that of the scan's output: 0 the same, 1 as far as zeros.
        dice: mean over the labels that it finds in the scan; None where it finds none.
        labels: label -> Dice: 1 the same voxels, 0 none in common.
    """

    distance: float
    dice: float | None
    labels: dict[str, float]


@dataclass(frozen=True)
class LayerScore:
    """What one layer, or one set of layers, kept of a scan.

    Attributes:
        layer: "level3", "level2+level4".
        channels: feature maps; None for a set of layers.
        stride: voxels per feature position, along each axis; None for a set of layers.
        values_per_voxel: feature values kept per voxel; None for the image itself.
        bits_per_voxel: of the features at 8 bits or so, entropy coded; None for the image itself.
        mae: mean absolute error, source units.
        rmse: root of the mean squared error, source units.
        bias: mean of reconstruction - source, source units.
        psnr: dB over `data_range`; infinite where nothing was lost.
        ssim: mean structural similarity in 3D.
        ms_ssim: multi-scale structural similarity in 3D; NaN where the scan is too small for it.
        normalised_error: length of the error over that of the source about its mean.
        data_range: width of the range that PSNR and SSIM refer to, source units.
        regions: name -> errors there.
        spectrum: error by spatial frequency.
        there: the layer itself on the voxels of its controls: what is held against them; None without any.
        controls: what costs nothing or means nothing.
        codecs: codec -> bits per voxel at the same PSNR; None where it is out of the codec's reach.
        consistency: re-encoded distance, 0 for the same features, 1 as far as features of zero; None where it
            was not measured.
        coverage: share of held-out voxels inside the stated 90 % interval; None without an interval.
        interval: mean half width of that interval, source units.
        seconds: wall time of the reconstruction and its evaluation.
        told: how well the labels of the mask are told from its features; None without a mask.
        findings: name -> what it keeps of each marked part.
        output: how near the network's own output comes to that of the scan; None where it was not asked.
        samples: what samples tell of it; None where none were drawn.
    """

    layer: str
    channels: int | None
    stride: tuple[int, ...] | None
    values_per_voxel: float | None
    bits_per_voxel: float | None
    mae: float
    rmse: float
    bias: float
    psnr: float
    ssim: float
    ms_ssim: float
    normalised_error: float
    data_range: float
    regions: dict[str, RegionError]
    spectrum: Spectrum
    there: Control | None
    controls: tuple[Control, ...]
    codecs: dict[str, float | None]
    consistency: float | None
    coverage: float | None
    interval: float | None
    seconds: float
    told: Told | None = None
    findings: dict[str, FindingKept] = field(default_factory=dict)
    output: OutputKept | None = None
    samples: SampleScore | None = None

    @property
    def body(self) -> RegionError | None:
        """Errors in the body, without the air around it; None where no body was found."""
        return self.regions.get(BODY)


@dataclass(frozen=True)
class ScanScores:
    """Everything that an atlas measured on one scan; nothing in it names a patient.

    Attributes:
        key: the scan's stable key, a hash.
        label: what to call it, without an identity.
        modality: "CT", "MR", "".
        units: "HU", or the source's ("" where arbitrary).
        shape: (X, Y, Z) voxels.
        spacing: mm along X, Y, Z.
        window: (low, high) for display, source units: the file's own where it has one.
        noise: standard deviation of the scan's noise in the body, source units; see
            `medrecon.evaluation.noise`.
        layers: in the order asked for.
        codec_curves: codec -> (bits per voxel, PSNR) points, by rising rate.
        facts: model, version, weights_sha256, device and how figures were made.
        warnings: what must be said.
        findings: what was marked, in the order given.
    """

    key: str
    label: str
    modality: str
    units: str
    shape: tuple[int, int, int]
    spacing: tuple[float, float, float]
    window: tuple[float, float]
    noise: float
    layers: tuple[LayerScore, ...]
    codec_curves: dict[str, tuple[tuple[float, float], ...]]
    facts: dict[str, str]
    warnings: tuple[str, ...]
    findings: tuple[Finding, ...] = ()


@dataclass(frozen=True)
class LayerPictures:
    """A layer's features to be looked at, on its own grid, in steps of 8 bits.

    Attributes:
        affine: (4, 4), position -> RAS mm.
        colours: (3, x, y, z) uint8: the three principal components of its channels as red, green and blue.
        shares: of the variance in each of the three.
        strongest: (N, x, y, z) uint8: the channels of the largest variance, largest first.
        channels: their numbers.
        ends: the values that are 0 and 255 in each.
    """

    affine: np.ndarray
    colours: np.ndarray
    shares: tuple[float, ...]
    strongest: np.ndarray
    channels: tuple[int, ...]
    ends: tuple[tuple[float, float], ...]


@dataclass
class AtlasVolumes:
    """The volumes of one scan on its own grid, source units, (X, Y, Z) each.

    Attributes:
        source: the scan.
        affine: (4, 4), voxel index -> RAS mm.
        reconstructions: layer -> reconstruction.
        uncertainty: layer -> half width of the 90 % interval at each voxel, or None.
        invented: layer -> by how much the decoder's detail lies outside its interval, or None
            (`medrecon.evaluation.invented`).
        mask: labels on the same grid, 0 outside; None without a mask.
        features: layer -> its features as pictures, each on the layer's own grid; none where not asked for.
        samples: layer -> what was drawn of it, as pictures; none where not asked for.
        drawn: layer -> the same as volumes; none where not asked for.
    """

    source: np.ndarray
    affine: np.ndarray
    reconstructions: dict[str, np.ndarray] = field(default_factory=dict)
    uncertainty: dict[str, np.ndarray | None] = field(default_factory=dict)
    invented: dict[str, np.ndarray | None] = field(default_factory=dict)
    mask: np.ndarray | None = None
    features: dict[str, LayerPictures] = field(default_factory=dict)
    samples: dict[str, SamplePictures] = field(default_factory=dict)
    drawn: dict[str, SampleVolumes] = field(default_factory=dict)
