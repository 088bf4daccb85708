"""How a reconstruction came to be: what is written into it, and what its identifiers are made from."""

from __future__ import annotations

from dataclasses import dataclass

from pydicom.uid import UID, generate_uid

from medrecon import __version__


@dataclass(frozen=True)
class Drawn:
    """That an image was drawn by a generative decoder, and how it can be drawn again.

    Attributes:
        which: of how many: "sample 3 of 8", "mean of 8 samples", "standard deviation of 8 samples".
        seed: of all of them.
        steps: of the generative decoder.
        corrections: of the features, after it.
        weights_sha256: hash of the generative decoder's weights file.
        by_gradient: how they were corrected.
    """

    which: str
    seed: int
    steps: int
    corrections: int
    weights_sha256: str
    by_gradient: bool = False

    @property
    def words(self) -> str:
        """The same as a text, without the first: "seed 0, 8 steps, 2 corrections, weights sha256 ..."."""
        how = " by gradient" if self.by_gradient else ""
        return (
            f"seed {self.seed}, {self.steps} steps, {self.corrections} corrections{how}, "
            f"generative weights sha256 {self.weights_sha256 or 'none'}"
        )


@dataclass(frozen=True)
class Derivation:
    """The provenance of one result, the same for all scans.

    Attributes:
        model: name of the model or bundle.
        version: version of medrecon and of the model, as the user would report it.
        weights_sha256: hash of the weights file, "" where there are none.
        layers: the layers that the image was made from: "level3", "level2+level4"; "input" for the control
            that went through no network.
        lossy: whether the voxels went through a latent that keeps less than the image.
        values_per_voxel: feature values kept for each voxel; None where it is unknown.
        revision: tells it from what was derived of the same series in the same way when it had fewer
            instances; "" for the first. Part of the UIDs.
        drawn: of an image that a generative decoder drew; None for the one answer of a decoder. Part of the
            UIDs.
    """

    model: str
    version: str
    weights_sha256: str
    layers: str
    lossy: bool
    values_per_voxel: float | None = None
    revision: str = ""
    drawn: Drawn | None = None

    @property
    def name(self) -> str:
        """What SeriesDescription calls it: "level5", "level5 sample 3 of 8"."""
        return self.layers if self.drawn is None else f"{self.layers} {self.drawn.which}"

    @property
    def ratio(self) -> float | None:
        """Voxels for each value that was kept, at least 1: LossyImageCompressionRatio."""
        if not self.lossy or not self.values_per_voxel:
            return None
        return max(1.0, 1.0 / self.values_per_voxel)

    @property
    def description(self) -> str:
        """One sentence for DerivationDescription (PS3.3 C.7.6.1.1.3)."""
        if self.layers == "input":
            text = f"Identity control by medrecon {self.version}: voxels as in the source, no network."
        else:
            kept = (
                f", {self.values_per_voxel:.4g} values kept per voxel"
                if self.values_per_voxel is not None
                else ""
            )
            text = (
                f"Feature reconstruction by medrecon {self.version}: image made from {self.layers} "
                f"of {self.model}{kept}; weights sha256 {self.weights_sha256 or 'none'}. "
                "Not acquired data; not for diagnosis."
            )
        if self.drawn is not None:
            which = self.drawn.which[0].upper() + self.drawn.which[1:]
            text = (
                f"{which}: generated, not measured; what differs between samples is made up "
                f"({self.drawn.words}). {text}"
            )
        if self.revision:
            text += " Made anew after more instances of its source had come."
        return text.encode("ascii", "replace").decode("ascii").replace("\\", "/")

    @staticmethod
    def replacement_uid(keyword: str, source: str) -> UID:
        """A UID for one that the source lacks: the same for all that is derived from that source."""
        return generate_uid(entropy_srcs=["medrecon", keyword, source])

    def uid(self, *source: str) -> UID:
        """A UID that is the same each time the same source is derived in the same way."""
        return generate_uid(
            entropy_srcs=[
                *("medrecon", *source, self.model, self.version, self.weights_sha256, self.layers),
                *([self.revision] if self.revision else []),
                *([self.drawn.which, self.drawn.words] if self.drawn is not None else []),
            ]
        )


def identity_derivation() -> Derivation:
    """The derivation of voxels that went through no network."""
    return Derivation("none", __version__, "", "input", lossy=False)
